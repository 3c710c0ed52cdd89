"""Networks by name. To add one: a function ``(channels, classes, size)`` that returns a module, and a line in MODELS.

torch is imported inside the functions: the names are also needed where params.yaml is checked, which takes no torch.
"""

import functools
import importlib.util
import re
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from imgpipe.errors import InputError

if TYPE_CHECKING:
    from torch import nn


def simple_cnn(channels: int, classes: int, size: int) -> "nn.Module":
    """Two convolutions (32 and 64 features, 3 x 3), each with ReLU and 2 x 2 max-pooling, and two linear layers."""
    from torch import nn

    return nn.Sequential(
        nn.Conv2d(channels, 32, 3, padding=1),
        nn.ReLU(),
        nn.MaxPool2d(2),
        nn.Conv2d(32, 64, 3, padding=1),
        nn.ReLU(),
        nn.MaxPool2d(2),
        nn.Flatten(),
        nn.Linear(64 * (size // 4) ** 2, 128),
        nn.ReLU(),
        nn.Linear(128, classes),
    )


MODELS: "dict[str, Callable[[int, int, int], nn.Module]]" = {"simple_cnn": simple_cnn}


def model_names() -> list[str]:
    """Our own models and every classifier of torchvision."""
    return [*MODELS, *_torchvision_classifiers()]


def build_model(name: str, *, channels: int, classes: int, size: int, dropout: float) -> "nn.Module":
    """A network with random weights, from torch's global generator.

    It takes float (n, channels, size, size), normalised, and gives logits, float (n, classes).
    dropout: probability of dropping each input of the last linear layer, on top of the network's own dropout.

    Raises InputError where the network does not take such pictures.
    """
    import torch

    try:
        network = _network(name, channels, classes, size, dropout)
        with torch.no_grad():
            network.eval()(torch.zeros(1, channels, size, size))
    except (RuntimeError, ValueError, AssertionError) as error:
        reason = " ".join(str(error).split())
        raise InputError(
            f"params.yaml: model.name is '{name}', which does not take {channels} channels of {size} x {size} pixels "
            f"({reason}); change model.image_size or pack.channels"
        ) from None
    return network


def _network(name: str, channels: int, classes: int, size: int, dropout: float) -> "nn.Module":
    from torch import nn

    network = (MODELS.get(name) or functools.partial(_torchvision, name))(channels, classes, size)
    if dropout:
        layers = [(path, layer) for path, layer in network.named_modules() if isinstance(layer, nn.Linear | nn.Conv2d)]
        path, last = layers[-1]
        network.set_submodule(path, nn.Sequential(nn.Dropout(dropout), last))
    return network


def _torchvision_classifiers() -> list[str]:
    """Names that torchvision registers in its classification modules, read from the source: importing takes seconds."""
    package = importlib.util.find_spec("torchvision")
    assert package and package.origin, "torchvision is a dependency"
    modules = sorted((Path(package.origin).parent / "models").glob("*.py"))
    found = (re.findall(r"@register_model\(\)\n(?:@.*\n)*def (\w+)\(", m.read_text(encoding="utf-8")) for m in modules)
    return sorted(name for names in found for name in names)


def _torchvision(name: str, channels: int, classes: int, size: int) -> "nn.Module":
    from torch import nn
    from torchvision.models import get_model

    from imgpipe.pooling import MeanPool

    options: dict[str, int | bool] = {"num_classes": classes}
    if name.startswith("vit_"):
        options["image_size"] = size
    if name in ("googlenet", "inception_v3"):
        options |= {"aux_logits": False, "init_weights": True}
    network: nn.Module = get_model(name, weights=None, **options)
    for path, layer in list(network.named_modules()):
        if isinstance(layer, nn.AdaptiveAvgPool2d) and layer.output_size in ((6, 6), (7, 7)):  # of AlexNet and VGG
            network.set_submodule(path, MeanPool(7 if layer.output_size == (7, 7) else 6))
    return network
