"""imgpipe: from images to a trained classifier that anybody can make again.

``imgpipe.load`` opens a finished one for use in a program. Stages use nothing of this module, and importing it imports
nothing of imgpipe nor of torch.
"""

import importlib
import os
from dataclasses import dataclass
from typing import Any, Protocol


@dataclass(frozen=True)
class Prediction:
    """What a model says of an image."""

    label: str
    """The likeliest class."""
    confidence: float
    """Its probability."""
    probabilities: dict[str, float]
    """Of every class, by name, in the order of the model's classes."""
    classes: list[str]
    """The prediction set, the likeliest class first; it may be empty. Without a coverage the label alone."""


class Model(Protocol):
    """A finished classifier: what ``load`` returns."""

    @property
    def classes(self) -> list[str]:
        """Names of the classes."""

    @property
    def threshold(self) -> float | None:
        """Confidence from which on answers were shown to be as precise as ``evaluate.target_precision``, or None."""

    def predict(self, images: Any, *, coverage: float | None = None) -> list[Prediction]:
        """Say what is on images, each prepared as the test images were.

        images: one or a list, each a path, the bytes of a file, a Pillow image, or a numpy array, uint8
            (height, width, 3) in RGB or (height, width) in grey.
        coverage: the probability that a prediction set holds the true class, 0.50 to 0.99; None for no sets.

        Returns a prediction for each image, in their order. Raises imgpipe.common.errors.InputError, a ValueError,
        that names the first image that can't be read, or says why there are no such sets.
        """


def load(path: str | os.PathLike[str], *, device: str = "auto") -> Model:
    """Open a model file for use.

    path: the file, models/classifier.safetensors of a finished pipeline or a copy of it.
    device: where to compute: cpu, cuda, or auto, which is cuda where there is one.

    Raises imgpipe.common.errors.InputError, a ValueError, where the file is missing or no classifier, or the device is
    not there.
    """
    # Not an import statement: torch takes seconds, and every stage would depend on what only users of a model run.
    opened: Model = importlib.import_module("imgpipe.commands.loading").open_model(path, device)
    return opened
