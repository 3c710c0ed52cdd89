"""Classify image files with a finished model; they are prepared exactly as the test images were, to the bit."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

import cv2
import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image

from imgpipe.commands.gathering import Skipped
from imgpipe.common.errors import InputError
from imgpipe.data import folders
from imgpipe.data.images import decode
from imgpipe.data.packed import Pixels, unpacked
from imgpipe.data.parallel import by_threads
from imgpipe.model.classifier import Classifier, load_classifier
from imgpipe.model.crops import evaluation_square
from imgpipe.model.description import Description
from imgpipe.model.devices import device_type, set_up_computing
from imgpipe.model.predict import predict_batch, softmax
from imgpipe.pack.pack import pack_decoded


@dataclass(frozen=True)
class Prediction:
    """What the model says of an image file."""

    path: str

    probabilities: NDArray[np.float64]
    """Of the classes, (classes,)."""

    image: Pixels
    """What the network saw, uint8 (size, size, channels)."""


def ready_classifier(path: Path, device: str) -> Classifier:
    """Load a classifier onto a device, and set this process up to compute as the test did.

    device: as ``--device`` has it.

    Raises InputError as ``load_classifier`` does, and where the device is not there.
    """
    classifier = load_classifier(path).to(device_type(device, asked_by="--device is"))
    description = classifier.description
    set_up_computing(cpu_threads=description.cpu_threads, precision=description.precision)
    return classifier


def classify(
    paths: Sequence[str], classifier: Classifier, *, batch_size: int, threads: int
) -> Iterator[Prediction | Skipped]:
    """Classify image files.

    classifier: on the device where it computes, ready for evaluation.
    batch_size: images that go through the network at once.
    threads: how many read and prepare images, which changes nothing in the predictions.

    Yields a prediction for each path, in their order, or the reason why it can't be read.
    """
    cv2.setNumThreads(1)  # the threads are ours

    def load(path: str) -> Pixels | Skipped:
        try:
            return network_input(content_of(path), classifier.description)
        except InputError as error:
            return Skipped(path, str(error))

    loaded = zip(paths, by_threads(load, paths, threads=threads), strict=True)
    while batch := list(islice(loaded, batch_size)):
        images = [image for _, image in batch if not isinstance(image, Skipped)]
        probabilities = iter(probabilities_of(images, classifier) if images else ())
        for path, image in batch:
            yield image if isinstance(image, Skipped) else Prediction(path, next(probabilities), image)


def network_input(content: bytes, description: Description) -> Pixels:
    """Make what the network sees of an image file: packed, unpacked and cropped as the test images were.

    content: the bytes of the file.

    Returns uint8 (size, size, channels). Raises InputError with the reason, without a name, if it can't be read.
    """
    return decoded_input(decode(content), description)


def decoded_input(decoded: Image.Image, description: Description) -> Pixels:
    """Make what the network sees of a decoded image: what ``network_input`` does after ``images.decode``."""
    form = description.form
    height, width, packed = pack_decoded(decoded, form)
    image = unpacked(np.frombuffer(packed, np.uint8), height, width, form)
    square = np.empty((description.size, description.size, form.channels), np.uint8)
    evaluation_square(image, square, fit=description.fit, fraction=description.crop_fraction)
    return square


def content_of(path: str) -> bytes:
    """Read an image file. Raises InputError with the reason, without a name, if it can't be read."""
    try:
        return folders.content_of(Path(path))
    except OSError as error:
        raise InputError(f"it can't be read: {error.strerror}") from None


def probabilities_of(images: Sequence[Pixels], classifier: Classifier) -> NDArray[np.float64]:
    """Compute the probabilities of the classes, float64 (images, classes), of images, uint8 (size, size, channels).

    Raises InputError where memory does not suffice, and where the model's numbers make none of an image.
    """
    try:
        logits = predict_batch(classifier, torch.from_numpy(np.stack(images))).cpu().numpy()
    except (MemoryError, RuntimeError) as error:
        if isinstance(error, MemoryError | torch.OutOfMemoryError) or "can't allocate memory" in str(error):
            raise InputError(f"memory does not suffice for {len(images)} images at once; take fewer") from None
        raise
    with np.errstate(all="ignore"):  # a temperature near 0, which the next line refuses
        scaled = logits / classifier.description.temperature
    if not np.isfinite(scaled).all():
        raise InputError("the model makes numbers of an image that are not finite; its file is damaged: take another")
    return softmax(scaled)
