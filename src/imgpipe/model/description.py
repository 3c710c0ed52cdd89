"""What a classifier is and how it computes, as the head of its file has it. Importing this takes no torch."""

import json
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any, Self

from safetensors import safe_open

from imgpipe.data.packed import Form

PACKING = {"packed_size": "image_size", **{name: name for name in ("enlarge", "channels", "encoding", "jpeg_quality")}}
"""What the model file calls the fields of Form."""


@dataclass(frozen=True)
class Description:
    """What a classifier is and how it computes: enough to build it again and to use it in the same way."""

    model: str
    """The network's name."""
    dropout: float
    """Probability of dropping each input of the head in training."""
    classes: list[str]
    """Their names, in the order of the logits."""
    form: Form
    """How images are packed."""
    size: int
    """Side of the squares that the network sees, in pixels."""
    crop_fraction: float
    """How much of a packed image's short side a square shows, from the middle."""
    fit: str
    """How a packed image becomes a square: see ``crops.FITS``."""
    initial_weights: str
    """What training started from: none, or the weights' name and the SHA-256 of their file."""
    channels_last: bool
    """The order of the numbers in memory, which shows in their rounding."""
    device: str
    """Where it was trained: a CPU and a GPU agree to rounding only."""
    precision: str
    """Of the forward pass: fp32, bf16 or fp16."""
    kernels: str
    """Code that computes it on a CPU: ``portable`` or ``native``, see ``kernels.fix_for_network``."""
    cpu_threads: int
    """Of a process on a CPU, among which sums are split: others agree to rounding only."""
    flips: bool
    """Whether logits are means over an image and its mirror image."""
    temperature: float
    """Number by which logits are divided before they become probabilities."""
    threshold: float | None
    """Confidence from which on answers are as precise as was asked for on the val split; None where none is."""
    set_thresholds: dict[str, float]
    """Probability from which on a class belongs to an image's prediction set, by coverage: see ``prediction_sets``."""
    val_images: int
    """Images of the val split on which evaluation chose both; 0 before it."""

    def as_json(self) -> dict[str, Any]:
        """Return the description as the model file has it, flat."""
        flat: dict[str, Any] = {}
        for name, value in asdict(self).items():
            flat |= {key: value[field] for key, field in PACKING.items()} if name == "form" else {name: value}
        return flat

    @classmethod
    def from_json(cls, flat: dict[str, Any]) -> Self:
        """Return the description that ``as_json`` wrote, whatever else stands beside it."""
        form = Form(**{field: flat[key] for key, field in PACKING.items()})
        return cls(form=form, **{one.name: flat[one.name] for one in fields(cls) if one.name != "form"})


def read_head(path: Path) -> dict[str, Any]:
    """Read what the head of a file of ``save_classifier`` says: the description, and what stands beside it."""
    with safe_open(path, framework="np") as file:
        head: dict[str, Any] = json.loads(file.metadata()["imgpipe"])
    return head


def read_description(path: Path) -> Description:
    """Read the description of the classifier in a file that ``save_classifier`` wrote."""
    return Description.from_json(read_head(path))
