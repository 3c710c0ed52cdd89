"""Use a finished model from a program: what ``imgpipe.load`` returns."""

import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from itertools import islice
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image

import imgpipe
from imgpipe.commands.inference import (
    content_of,
    decoded_input,
    network_input,
    probabilities_of,
)
from imgpipe.commands.selection import set_threshold
from imgpipe.common.errors import InputError
from imgpipe.common.rules import one_of
from imgpipe.data.images import upright
from imgpipe.data.packed import Pixels
from imgpipe.data.parallel import by_threads, cores
from imgpipe.model.classifier import Classifier, load_classifier
from imgpipe.model.description import Description
from imgpipe.model.devices import device_type

Picture = str | os.PathLike[str] | bytes | Image.Image | NDArray[np.uint8]
"""A path, the bytes of a file, a Pillow image, or pixels: uint8, (height, width, 3) in RGB or (height, width)."""

DEVICES = ("auto", "cpu", "cuda")
BATCH = 64
"""Images that go through the network at once."""


class LoadedModel:
    """A classifier ready for use. Objects of it share nothing, but one predicts for one thread at a time."""

    def __init__(self, classifier: Classifier) -> None:
        """Take a classifier that is on the device where it shall compute, ready for evaluation."""
        self._classifier = classifier

    @property
    def classes(self) -> list[str]:
        """Names of the classes."""
        return list(self._classifier.description.classes)

    @property
    def threshold(self) -> float | None:
        """Confidence from which on answers are precise: see ``imgpipe.Model``."""
        return self._classifier.description.threshold

    def predict(
        self, images: Picture | Sequence[Picture], *, coverage: float | None = None
    ) -> list[imgpipe.Prediction]:
        """Say what is on images: see ``imgpipe.Model``."""
        several = list(images) if isinstance(images, Sequence) and not isinstance(images, str | bytes) else [images]
        description = self._classifier.description
        at_least = None if coverage is None else set_threshold(description, coverage, asked_by="coverage is")

        def prepared(numbered: tuple[int, Picture]) -> Pixels:
            number, image = numbered
            try:
                return _network_input(image, description)
            except InputError as error:
                raise InputError(f"{_name(number, image)}: {error}") from None

        predictions = []
        squares = by_threads(prepared, enumerate(several), threads=cores())
        with _threads(description.cpu_threads):
            while batch := list(islice(squares, BATCH)):
                rows = probabilities_of(batch, self._classifier)
                predictions += [_prediction(row.tolist(), description.classes, at_least) for row in rows]
        return predictions


def open_model(path: str | os.PathLike[str], device: str) -> LoadedModel:
    """Open a model file for use: see ``imgpipe.load``, which calls this."""
    if device not in DEVICES:
        raise InputError(f"device is '{device}'; it must be {one_of(DEVICES)}")
    where = device_type(device, asked_by="device is")
    return LoadedModel(load_classifier(Path(path)).to(where))


def _network_input(image: Picture, description: Description) -> Pixels:
    """Make what the network sees of an image: see ``inference.network_input``, whose steps it takes."""
    if isinstance(image, bytes):
        return network_input(image, description)
    if isinstance(image, str | os.PathLike):
        return network_input(content_of(os.fspath(image)), description)
    if isinstance(image, Image.Image):
        return decoded_input(upright(image), description)
    if not isinstance(image, np.ndarray):
        raise InputError(f"it is of type {type(image).__name__}; give a path, bytes, a Pillow image or a numpy array")
    pixels = image.ndim == 2 or (image.ndim == 3 and image.shape[2] == 3)
    if image.dtype != np.uint8 or not pixels:
        raise InputError(
            f"it is an array of {image.dtype} {image.shape}; it must be uint8 (height, width, 3) or (height, width)"
        )
    return decoded_input(upright(Image.fromarray(image)), description)


def _name(number: int, image: Picture) -> str:
    """Return what an error calls an image: its path, or else its place among those given, from 0."""
    return os.fspath(image) if isinstance(image, str | os.PathLike) else f"images[{number}]"


def _prediction(probabilities: Sequence[float], classes: Sequence[str], at_least: float | None) -> imgpipe.Prediction:
    """Return the likeliest class, and the set of those with a probability of ``at_least``, unless it is None."""
    of_class = dict(zip(classes, probabilities, strict=True))
    ranked = sorted(classes, key=lambda name: -of_class[name])  # of equal ones the first, as predict has it
    named = ranked[:1] if at_least is None else [name for name in ranked if of_class[name] >= at_least]
    return imgpipe.Prediction(ranked[0], of_class[ranked[0]], of_class, named)


@contextmanager
def _threads(count: int) -> Iterator[None]:
    """Compute with so many threads on a CPU, as the test did, and leave the program's own number as it was."""
    before = torch.get_num_threads()
    torch.set_num_threads(count)
    try:
        yield
    finally:
        torch.set_num_threads(before)
