"""A classifier: a network with the normalisation in front of it, and the file of its weights and description."""

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import safe_open
from safetensors.torch import save
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from imgpipe.common.errors import InputError
from imgpipe.common.files import replacing
from imgpipe.model.description import Description, read_head, reading
from imgpipe.model.networks import build_model, check_takes_images, unchecked_network

BESIDE_WEIGHTS = 2**29
"""Bytes of tensors that building a network may take beyond those of its file: layers that are replaced."""


class Classifier(nn.Module):
    """Computes logits, float32 (n, classes), of images (n, size, size, channels) on the scale 0-255, uint8 or float."""

    mean: Tensor
    std: Tensor

    def __init__(self, network: nn.Module, mean: list[float], std: list[float], description: Description) -> None:
        """Put a network and its normalisation together.

        mean, std: of each channel, on the scale 0-1, by which images are normalised.
        """
        super().__init__()
        self.description = description
        self._order = torch.channels_last if description.channels_last else torch.contiguous_format
        self.network = network.to(memory_format=self._order)
        self.register_buffer("mean", torch.tensor(mean))
        self.register_buffer("std", torch.tensor(std))

    def forward(self, images: Tensor) -> Tensor:
        logits: Tensor = self.network(normalised(images, self.mean, self.std).contiguous(memory_format=self._order))
        return logits.float()


def normalised(images: Tensor, mean: Tensor, std: Tensor) -> Tensor:
    """Subtract the mean of each channel and divide by its standard deviation.

    images: (n, size, size, channels), on the scale 0-255.
    mean, std: (channels,), on the scale 0-1.

    Returns float32 (n, channels, size, size), channels last in memory.
    """
    n, height, width, channels = images.shape
    flat = images.reshape(n, -1).to(torch.float32, copy=True)
    for_each_pixel = [(levels * 255).repeat(height * width) for levels in (mean, std)]  # 5 times as fast
    flat.sub_(for_each_pixel[0]).div_(for_each_pixel[1])
    return flat.view(n, height, width, channels).permute(0, 3, 1, 2)


def new_classifier(description: Description, mean: list[float], std: list[float]) -> Classifier:
    """Build a classifier with random weights, from torch's global generator. Raises InputError as build_model does."""
    network = build_model(**_of_network(description))
    return Classifier(network, mean, std, description)


def _of_network(description: Description) -> dict[str, Any]:
    """Return the arguments of build_model for the network of a classifier."""
    return {
        "name": description.model,
        "channels": description.form.channels,
        "classes": len(description.classes),
        "size": description.size,
        "dropout": description.dropout,
    }


def save_classifier(path: Path, classifier: Classifier, beside: Mapping[str, Any] | None = None) -> None:
    """Write weights and description to one safetensors file. Equal weights give equal bytes.

    beside: what else the file shall say, by keys that are none of the description's.
    """
    described = {**classifier.description.as_json(), **(beside or {})}
    weights = {name: value.contiguous().cpu() for name, value in classifier.state_dict().items()}
    with replacing(path) as draft:  # one metadata key: safetensors keeps no order among several
        draft.write_bytes(save(weights, metadata={"imgpipe": json.dumps(described)}))


def load_classifier(path: Path) -> Classifier:
    """Read what ``save_classifier`` wrote, onto the CPU, ready for evaluation.

    Raises InputError where it is no such file, its description does not fit, or its tensors are not those of the
    network that this names.
    """
    with reading(path):
        return _read(path)


def _read(path: Path) -> Classifier:
    description = Description.from_json(read_head(path))
    channels = description.form.channels
    with _Bounded(path.stat().st_size + BESIDE_WEIGHTS):
        network = unchecked_network(**_of_network(description))
    classifier = Classifier(network, [0.0] * channels, [1.0] * channels, description)
    state = classifier.state_dict()  # with the versions of its layers' formats, without which MNASNet loads nothing
    with safe_open(path, framework="pt") as file:
        shapes = {name: tuple(file.get_slice(name).get_shape()) for name in file.keys()}  # noqa: SIM118
        for name in shapes:
            if name not in state:
                raise InputError(f"its tensor {name!r:.200} is none of a {description.model}'s")
        for name, like in state.items():
            if shapes.get(name) != tuple(like.shape):
                raise InputError(f"its tensor {name} has shape {shapes.get(name)}, and it must be {tuple(like.shape)}")
            state[name] = _checked(name, file.get_tensor(name), like)
    if not (state["std"] > 0).all():
        raise InputError("its tensor std holds a number that is not above 0")
    classifier.load_state_dict(state)
    check_takes_images(network, description.model, channels=channels, size=description.size)
    return classifier.eval()


def _checked(name: str, tensor: Tensor, like: Tensor) -> Tensor:
    """Return a tensor of a file. Raises InputError where it is not of the dtype of the network's, or not finite."""
    if tensor.dtype != like.dtype:
        raise InputError(f"its tensor {name} is of {tensor.dtype}, and it must be of {like.dtype}")
    if not tensor.isfinite().all():
        raise InputError(f"its tensor {name} is not finite")
    return tensor


class _Bounded(TorchFunctionMode):
    """Raises InputError, within the block, before tensors are made that are more than so many bytes together."""

    MAKERS = (torch.empty, torch.zeros, torch.ones, torch.full, torch.rand, torch.randn)

    def __init__(self, most: int) -> None:
        super().__init__()
        self.left = most

    def __torch_function__(
        self, function: Callable[..., Any], types: Any, args: tuple[Any, ...] = (), kwargs: Any = None
    ) -> Any:
        kwargs = kwargs or {}
        if function in self.MAKERS:
            self.left -= function(*args, **{**kwargs, "device": "meta"}).nbytes
            if self.left < 0:
                raise InputError("the network that it describes is larger than the file")
        return function(*args, **kwargs)
