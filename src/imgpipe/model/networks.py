"""Build networks by name.

To add one, write a function ``(channels, classes, size)`` that returns a module, and a line in MODELS. It takes float
images (n, channels, size, size), normalised, and returns logits, float (n, classes).
"""

import functools
import importlib
from collections import OrderedDict
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import MethodType

import torch
from torch import Tensor, nn

from imgpipe.common.errors import InputError, one_line
from imgpipe.model.names import TIMM, timm_problem


def simple_cnn(channels: int, classes: int, size: int) -> nn.Module:
    """Build two convolutions (32 and 64 features, 3 x 3), each with ReLU and 2 x 2 max-pooling, and two linear layers.

    channels: of the images.
    classes: how many logits it gives.
    size: side of the images in pixels.
    """
    return nn.Sequential(
        nn.Conv2d(channels, 32, 3, padding=1),
        nn.MaxPool2d(2),  # before ReLU, which gives the same numbers from a quarter of the work
        nn.ReLU(),
        nn.Conv2d(32, 64, 3, padding=1),
        nn.MaxPool2d(2),
        nn.ReLU(),
        nn.Flatten(),
        nn.Linear(64 * (size // 4) ** 2, 128),
        nn.ReLU(),
        nn.Linear(128, classes),
    )


def resnet9(channels: int, classes: int, size: int, *, width: int = 64, pool_first: bool = False) -> nn.Module:
    """Build the residual network of nine layers that led DAWNBench's CIFAR-10 table in 2018, made for 32 pixels.

    width: features of the first layer; the last has eight times as many.
    pool_first: whether to pool before BatchNorm and ReLU, which then have a quarter of the numbers to go through.

    Source: Page 2018, How to Train Your ResNet, part 4, and its code, cifar10-fast: ``net()`` with BatchNorm.
    """

    def convolution(inputs: int, outputs: int, *pool: nn.Module) -> nn.Sequential:
        kernels, rest = nn.Conv2d(inputs, outputs, 3, padding=1, bias=False), (nn.BatchNorm2d(outputs), nn.ReLU())
        return nn.Sequential(kernels, *pool, *rest) if pool_first else nn.Sequential(kernels, *rest, *pool)

    def residual(features: int) -> Residual:
        return Residual(convolution(features, features), convolution(features, features))

    return nn.Sequential(
        OrderedDict(
            prep=convolution(channels, width),
            layer1=nn.Sequential(convolution(width, 2 * width, nn.MaxPool2d(2)), residual(2 * width)),
            layer2=convolution(2 * width, 4 * width, nn.MaxPool2d(2)),
            layer3=nn.Sequential(convolution(4 * width, 8 * width, nn.MaxPool2d(2)), residual(8 * width)),
            pool=nn.MaxPool2d(size // 8),  # all that is left; the adaptive one's backward pass is random on a GPU
            flatten=nn.Flatten(),
            linear=nn.Linear(8 * width, classes, bias=False),
            scale=Scaled(0.125),
        )
    )


def vgg_funnel(channels: int, classes: int, size: int) -> nn.Module:
    """Build torchvision's VGG-16 with its last layer replaced by 4096-512, ReLU, dropout 0.6 and 512-classes."""
    network = _torchvision("vgg16", channels, classes, size)
    funnel = Head(nn.Linear(4096, 512), nn.ReLU(), nn.Dropout(0.6), nn.Linear(512, classes))
    network.set_submodule("classifier.6", funnel)
    return network


MODELS: dict[str, Callable[[int, int, int], nn.Module]] = {
    "simple_cnn": simple_cnn,
    "resnet9": resnet9,
    "resnet9_narrow": functools.partial(resnet9, width=24, pool_first=True),
    "vgg_funnel": vgg_funnel,
}


def build_model(name: str, *, channels: int, classes: int, size: int, dropout: float) -> nn.Module:
    """Build a network with random weights, from torch's global generator.

    name: one of ours, of torchvision's, or of timm's after ``timm/``.
    channels: of the images, which are float (n, channels, size, size), normalised.
    classes: how many logits it gives: float (n, classes).
    size: side of the images in pixels.
    dropout: probability of dropping each input of the head, on top of the network's own dropout.

    In mixed precision its last layer computes in fp32, as ``keep_in_fp32`` has it.

    Raises InputError where the network does not take such images, or is timm's and that is not installed.
    """
    network = unchecked_network(name, channels=channels, classes=classes, size=size, dropout=dropout)
    check_takes_images(network, name, channels=channels, size=size)
    return network


def unchecked_network(name: str, *, channels: int, classes: int, size: int, dropout: float) -> nn.Module:
    """Build a network as ``build_model`` does, without the check that it takes such images, which may be large."""
    if problem := timm_problem(name):
        raise InputError(f"params.yaml: model.name is '{name}', {problem}")
    with _explained(name, channels, size):
        network = _network(name, channels, classes, size, dropout)
    keep_in_fp32(last_layer_of(network))
    return network


def check_takes_images(network: nn.Module, name: str, *, channels: int, size: int) -> None:
    """Raise InputError where a network of ``build_model``'s arguments does not take such images."""
    with _explained(name, channels, size), torch.no_grad():
        network.eval()(torch.zeros(1, channels, size, size))


@contextmanager
def _explained(name: str, channels: int, size: int) -> Iterator[None]:
    """Raise InputError for what networks raise where they do not take such images."""
    try:
        yield
    except InputError:
        raise
    except (RuntimeError, ValueError, ArithmeticError, AssertionError) as error:
        raise InputError(
            f"params.yaml: model.name is '{name}', which does not take {channels} channels of {size} x {size} pixels "
            f"({one_line(error)}); change model.image_size or pack.channels"
        ) from None


def keep_in_fp32(layer: nn.Module) -> None:
    """Make the layer compute in fp32 where all else is in mixed precision, in place.

    The last layer needs it: in the 8 bits of bf16 the logits of an image's two best classes are often equal.
    """
    layer.forward = MethodType(_forward_in_fp32, layer)  # which keeps the names of the weights


def _forward_in_fp32(layer: nn.Module, features: Tensor) -> Tensor:
    forward: Callable[[nn.Module, Tensor], Tensor] = type(layer).forward
    device = features.device.type
    if not torch.is_autocast_enabled(device):  # else an exported file would have a step that turns it off
        return forward(layer, features)
    with torch.autocast(device, enabled=False):
        return forward(layer, features.float())


def head_of(network: nn.Module) -> str:
    """Return where the head is, what makes logits of features, as a path for ``get_submodule``.

    It is the last linear layer or convolution, or the ``Head`` that stands in its place.
    """
    heads = [path for path, layer in network.named_modules() if isinstance(layer, Head)]
    last: str = [path for path, layer in network.named_modules() if isinstance(layer, nn.Linear | nn.Conv2d)][-1]
    return heads[0] if heads else last


def last_layer_of(network: nn.Module) -> nn.Module:
    """Return the last linear layer or convolution, which makes the logits; it is the head, or the last one of its."""
    head = network.get_submodule(head_of(network))
    return [layer for layer in head.modules() if isinstance(layer, nn.Linear | nn.Conv2d)][-1]


def _network(name: str, channels: int, classes: int, size: int, dropout: float) -> nn.Module:
    if name.startswith(TIMM):
        network = _timm(name.removeprefix(TIMM), channels, classes, size)
    else:
        network = (MODELS.get(name) or functools.partial(_torchvision, name))(channels, classes, size)
    if dropout:
        path = head_of(network)
        network.set_submodule(path, Head(nn.Dropout(dropout), network.get_submodule(path)))
    return network


def _torchvision(name: str, channels: int, classes: int, size: int) -> nn.Module:
    from torchvision.models import get_model  # takes seconds, and our own networks do without

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


def _timm(name: str, channels: int, classes: int, size: int) -> nn.Module:
    timm = importlib.import_module("timm")  # an extra, of which the type checker need not know
    fixed = timm.models.get_pretrained_cfg(name).fixed_input_size
    options = {"img_size": size} if fixed else {}
    network: nn.Module = timm.create_model(name, pretrained=False, num_classes=classes, in_chans=channels, **options)
    if isinstance(network.get_classifier(), tuple):  # type: ignore[operator]
        raise InputError(
            f"params.yaml: model.name is '{TIMM}{name}', which has two heads; only one can be trained here"
        )
    return network


class Head(nn.Sequential):
    """Layers that stand in the place of a network's last one: together they are its head."""


class Residual(nn.Module):
    """Layers in a row whose result is added to what they were given."""

    def __init__(self, *layers: nn.Module) -> None:
        super().__init__()
        self.layers = nn.Sequential(*layers)

    def forward(self, features: Tensor) -> Tensor:
        changed: Tensor = self.layers(features)
        return features + changed


class Scaled(nn.Module):
    """Multiplies its input by a fixed number."""

    def __init__(self, factor: float) -> None:
        super().__init__()
        self.factor = factor

    def forward(self, features: Tensor) -> Tensor:
        return features * self.factor


class MeanPool(nn.Module):
    """Computes what ``nn.AdaptiveAvgPool2d(side)`` does, from slices and means.

    torch refuses the backward pass of its own on a GPU where kernels must be deterministic.
    It takes float (n, channels, height, width) and returns (n, channels, side, side).
    """

    def __init__(self, side: int) -> None:
        super().__init__()
        self.side = side

    def forward(self, features: Tensor) -> Tensor:
        for axis in (2, 3):
            length = features.shape[axis]
            starts = [i * length // self.side for i in range(self.side)]
            ends = [-(-(i + 1) * length // self.side) for i in range(self.side)]
            windows = [features.narrow(axis, start, end - start) for start, end in zip(starts, ends, strict=True)]
            features = torch.cat([window.mean(axis, keepdim=True) for window in windows], axis)
        return features
