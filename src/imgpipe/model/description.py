"""What a classifier is and how it computes, as the head of its file has it. Importing this takes no torch."""

import json
import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Annotated, Any, Self

from safetensors import safe_open

from imgpipe.common.errors import InputError, one_line
from imgpipe.common.params import fitted
from imgpipe.common.rules import Interval, Rule, one_of_table
from imgpipe.data.packed import Form
from imgpipe.model.crops import FITS
from imgpipe.model.names import MODEL_NAME

PACKING = {"packed_size": "image_size", **{name: name for name in ("enlarge", "channels", "encoding", "jpeg_quality")}}
"""What the model file calls the fields of Form; but for its levels, of which predictions have one."""
THREADS = Interval(1, 1024)
"""Of a process on a CPU; a system ends one that asks for many more."""


def _are_names(names: list[str]) -> bool:
    """Return whether these are one name or more, all different, which UTF-8 can write."""
    return 0 < len(names) == len(set(names)) and all(name.encode(errors="ignore").decode() == name for name in names)


CLASSES = Rule("a list of different names", _are_names)
THRESHOLDS = Rule(
    "probabilities by coverage such as {'0.90': 0.2}",
    lambda found: all(re.fullmatch(r"0\.[5-9]\d", key) and 0 <= value <= 1 for key, value in found.items()),
)


@dataclass(frozen=True)
class Description:
    """What a classifier is and how it computes: enough to build it again and to use it in the same way."""

    model: Annotated[str, MODEL_NAME]
    """The network's name."""
    dropout: Annotated[float, Interval(0, 1, open_high=True)]
    """Probability of dropping each input of the head in training."""
    classes: Annotated[list[str], CLASSES]
    """Their names, in the order of the logits."""
    form: Form
    """How images are packed."""
    size: Annotated[int, Interval(8, 4096)]
    """Side of the squares that the network sees, in pixels."""
    crop_fraction: Annotated[float, Interval(0, 1, open_low=True)]
    """How much of a packed image's short side a square shows, from the middle."""
    fit: Annotated[str, one_of_table(FITS)]
    """How a packed image becomes a square: see ``crops.FITS``."""
    initial_weights: str
    """What training started from: none, or the weights' name and the SHA-256 of their file."""
    channels_last: bool
    """The order of the numbers in memory, which shows in their rounding."""
    device: Annotated[str, one_of_table(("cpu", "cuda"))]
    """Where it was trained: a CPU and a GPU agree to rounding only."""
    precision: Annotated[str, one_of_table(("fp32", "tf32", "bf16", "fp16"))]
    """Of the forward pass."""
    kernels: Annotated[str, one_of_table(("portable", "native"))]
    """Code that computes it on a CPU: see ``kernels.fix_for_network``."""
    cpu_threads: Annotated[int, THREADS]
    """Of a process on a CPU, among which sums are split: others agree to rounding only."""
    flips: bool
    """Whether logits are means over an image and its mirror image."""
    temperature: Annotated[float, Interval(low=0, open_low=True)]
    """Number by which logits are divided before they become probabilities."""
    threshold: Annotated[float, Interval(0, 1)] | None
    """Confidence from which on answers are as precise as was asked for on the val split; None where none is."""
    set_thresholds: Annotated[dict[str, float], THRESHOLDS]
    """Probability from which on a class belongs to an image's prediction set, by coverage: see ``prediction_sets``."""
    val_images: Annotated[int, Interval(low=0)]
    """Images of the val split on which evaluation chose both; 0 before it."""

    def as_json(self) -> dict[str, Any]:
        """Return the description as the model file has it, flat."""
        flat: dict[str, Any] = {}
        for name, value in asdict(self).items():
            flat |= {key: value[field] for key, field in PACKING.items()} if name == "form" else {name: value}
        return flat

    @classmethod
    def from_json(cls, flat: dict[str, Any]) -> Self:
        """Return the description that ``as_json`` wrote, whatever else stands beside it.

        Raises InputError at the first value that does not fit.
        """
        form = {field: flat[key] for key, field in PACKING.items() if key in flat} | {"levels": 1}
        given = {one.name: flat[one.name] for one in fields(cls) if one.name in flat}
        described: Self = fitted({**given, "form": form}, cls, "description")
        return described


@contextmanager
def reading(path: Path) -> Iterator[None]:
    """Turn an error of reading a model file within the block into an InputError that says what to do."""
    if not path.is_file():
        raise InputError(f"there is no model file '{path}'; dvc repro makes one, dvc pull brings one; or name another")
    try:
        yield
    except Exception as error:  # whatever is in the file decides what fails
        reason = one_line(error, named=not isinstance(error, InputError))
        raise InputError(
            f"'{path}' is no classifier that this imgpipe can read ({reason}); take what dvc repro leaves in models/"
        ) from None


def read_head(path: Path) -> dict[str, Any]:
    """Read what the head of a file of ``save_classifier`` says: the description, and what stands beside it.

    To be called within ``reading``.
    """
    with safe_open(path, framework="np") as file:
        head: dict[str, Any] = json.loads(file.metadata()["imgpipe"])
    return head


def read_description(path: Path) -> Description:
    """Read the description of the classifier in a file of ``save_classifier``. Raises InputError where it is none."""
    with reading(path):
        return Description.from_json(read_head(path))
