"""A network with the normalisation in front of it, and its file: safetensors, with all that is needed to use it."""

import json
from dataclasses import asdict, dataclass
from pathlib import Path

import torch
from safetensors import safe_open
from safetensors.torch import save
from torch import Tensor, nn

from imgpipe.common.files import replacing
from imgpipe.model.networks import build_model


@dataclass(frozen=True)
class Description:
    """What a classifier is and how it computed: enough to build it again and to use it in the same way.

    classes: the names, in the order of the logits.
    packed_size, enlarge, channels, encoding, jpeg_quality: how images were packed, as ``pack`` takes them.
    size: side of the square images, in pixels, each the middle of a packed one with crop_fraction of its short side.
    channels_last: the order of the numbers in memory, which shows in their rounding.
    device, precision, cpu_threads: a CPU and a GPU, and other threads on a CPU, agree to rounding only.
    flips: the logits are means over an image and its mirror image.
    temperature: by which logits are divided before they become probabilities.
    """

    model: str
    dropout: float
    classes: list[str]
    packed_size: int
    enlarge: bool
    channels: int
    encoding: str
    jpeg_quality: int
    size: int
    crop_fraction: float
    channels_last: bool
    device: str
    precision: str
    cpu_threads: int
    flips: bool
    temperature: float


class Classifier(nn.Module):
    """Images on the scale 0-255, (n, size, size, channels), uint8 or float, to logits, float32 (n, classes)."""

    mean: Tensor
    std: Tensor

    def __init__(self, network: nn.Module, mean: list[float], std: list[float], *, channels_last: bool) -> None:
        """mean, std: of each channel of the training images, on the scale 0-1.

        channels_last: the order in memory in which the network computes. It is that in which images come.
        """
        super().__init__()
        self._order = torch.channels_last if channels_last else torch.contiguous_format
        self.network = network.to(memory_format=self._order)
        self.register_buffer("mean", torch.tensor(mean))
        self.register_buffer("std", torch.tensor(std))

    def forward(self, images: Tensor) -> Tensor:
        logits: Tensor = self.network(normalised(images, self.mean, self.std).contiguous(memory_format=self._order))
        return logits.float()


def normalised(images: Tensor, mean: Tensor, std: Tensor) -> Tensor:
    """Less the mean and by the standard deviation of each channel: float32 (n, channels, size, size), channels last.

    images: (n, size, size, channels), on the scale 0-255. mean, std: (channels,), on 0-1.
    """
    n, height, width, channels = images.shape
    flat = images.reshape(n, -1).to(torch.float32, copy=True)
    for_each_pixel = [(levels * 255).repeat(height * width) for levels in (mean, std)]  # 5 times as fast
    flat.sub_(for_each_pixel[0]).div_(for_each_pixel[1])
    return flat.view(n, height, width, channels).permute(0, 3, 1, 2)


def new_classifier(description: Description, mean: list[float], std: list[float]) -> Classifier:
    """A classifier with random weights, from torch's global generator. Raises InputError as build_model does."""
    network = build_model(
        description.model,
        channels=description.channels,
        classes=len(description.classes),
        size=description.size,
        dropout=description.dropout,
    )
    return Classifier(network, mean, std, channels_last=description.channels_last)


def save_classifier(path: Path, classifier: Classifier, description: Description) -> None:
    """Weights and description in one file. Equal weights give equal bytes."""
    weights = {name: value.contiguous().cpu() for name, value in classifier.state_dict().items()}
    with replacing(path) as draft:  # one metadata key: safetensors keeps no order among several
        draft.write_bytes(save(weights, metadata={"imgpipe": json.dumps(asdict(description))}))


def load_classifier(path: Path) -> tuple[Classifier, Description]:
    """What ``save_classifier`` wrote, on the CPU, ready for evaluation."""
    with safe_open(path, framework="pt") as file:
        description = Description(**json.loads(file.metadata()["imgpipe"]))
        weights = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    classifier = new_classifier(description, [0.0] * description.channels, [1.0] * description.channels)
    state = classifier.state_dict()  # with the versions of its layers' formats, without which MNASNet loads nothing
    assert state.keys() == weights.keys()
    state.update(weights)
    classifier.load_state_dict(state)
    return classifier.eval(), description
