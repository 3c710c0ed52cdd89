"""Prove an exported file: every test image goes through it, and it must answer as the test did."""

import importlib
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager, suppress
from dataclasses import dataclass, replace
from functools import partial
from itertools import pairwise
from pathlib import Path
from typing import IO, Any

import numpy as np
from numpy.typing import NDArray

from imgpipe.commands.exported import INPUT, OUTPUT
from imgpipe.common.errors import InputError, one_line
from imgpipe.common.files import read_table
from imgpipe.common.progress import counting_where_long
from imgpipe.data.packed import Pixels, Split, read_split, read_statistics
from imgpipe.data.parallel import by_threads, cores
from imgpipe.model.crops import evaluation_squares
from imgpipe.model.description import Description

PACKED = Path("data/packed")
METRICS = Path("metrics/test")
PREDICTIONS, PROBABILITIES = METRICS / "predictions.csv", METRICS / "probabilities.npy"

Floats = NDArray[np.floating[Any]]
Run = Callable[[Pixels], Floats]
"""Gives the probabilities, float32 (n, classes), that a file computes of images, uint8 (n, size, size, channels)."""

SIZES = (1, 3)
"""Of the first batches. They are not the two images with which a file is made: any number must do."""
BATCH = 64
"""Images of each further batch."""
SAMPLE = 63
"""Test images, from all over the split, whose probabilities are computed here, too."""
NAMED = 3
"""Images that an error names at most."""
ROUNDING = 1.01
"""The largest factor between a probability and what the classifier computes here, too, in fp32 on a CPU. It is a factor
so that a wrong normalisation shows also where a model is very sure, and all probabilities are near 0 and 1."""
SMALLEST = 1e-30
"""Probability, to which smaller ones are raised before: near float32's smallest number digits are lost."""
ROUNDING_OF_TEST = {"cpu": 0.01, "cuda": 0.05}
"""The most by which it may differ from the test's, in fp32; a GPU's kernels may take factors of 10 bits (TF32)."""


@dataclass(frozen=True)
class Tested:
    """What the test found of each image."""

    split: Split
    predicted: list[str]
    """The classes that it gave the images, in the order of the split."""
    probabilities: Floats
    """float32 (images, classes)."""


@dataclass(frozen=True)
class Proof:
    """How an exported file answers, compared with the test."""

    images: int
    flips: list[str]
    """The images to which it gives another class, each with the two classes."""
    difference: float
    """The largest difference between two probabilities of one class and image."""
    furthest: str
    """The image where that is."""
    here: float
    """The largest factor between a probability and what the classifier itself computes here, in fp32, of a sample."""

    def __str__(self) -> str:
        flips = f"{len(self.flips)} of {self.images} test images flip"
        return f"{flips}; probabilities differ by {self.difference:.1e} at most"


def read_tested(description: Description) -> Tested:
    """Read what the test found of this model. Raises InputError where it is missing or is of another model."""
    packed = (PACKED / name for name in ("statistics.json", "test/index.csv", "test/images.npy"))
    needed = (*packed, PREDICTIONS, PROBABILITIES)
    for path in needed:
        if not path.exists():
            raise InputError(
                f"there is no {path}, with which an export is compared; dvc repro makes it, dvc pull brings it"
            )
    anew = "dvc repro makes both anew"
    try:
        statistics = read_statistics(needed[0])
        split = read_split(PACKED / "test", statistics.form)
        rows, probabilities = read_table(PREDICTIONS), np.load(PROBABILITIES)
        tested = Tested(split, [row["predicted"] for row in rows], probabilities)
        files = [row["file"] for row in rows]
    except (OSError, ValueError, KeyError, TypeError, EOFError) as error:
        raise InputError(f"{PACKED} or {METRICS} can't be read ({one_line(error, named=True)}); {anew}") from None
    if statistics.classes != description.classes:
        raise InputError(
            f"the model knows {len(description.classes)} classes ({_first(description.classes)}), and {PACKED} has "
            f"{len(statistics.classes)} ({_first(statistics.classes)}); {anew}"
        )
    if replace(statistics.form, levels=1) != description.form:
        raise InputError(f"the model was trained on images that were packed in another way than {PACKED}; {anew}")
    if files != split.files:
        raise InputError(f"{PREDICTIONS} has other images ({len(files)}) than {PACKED / 'test'} ({len(split)}); {anew}")
    if probabilities.shape != (len(split), len(description.classes)):
        raise InputError(
            f"{PROBABILITIES} has the shape {probabilities.shape}, and not "
            f"({len(split)}, {len(description.classes)}) as images and classes are many; {anew}"
        )
    return tested


def _first(names: list[str]) -> str:
    return ", ".join(names[:NAMED]) + (", ..." if len(names) > NAMED else "")


def sample(tested: Tested, description: Description) -> Pixels:
    """Return test images as the network sees them, evenly from all over the split, uint8 (n, size, size, channels)."""
    split = tested.split
    numbers = np.unique(np.linspace(0, len(split) - 1, SAMPLE).astype(np.int64))
    return evaluation_squares(split, numbers, description.size, fit=description.fit, fraction=description.crop_fraction)


def prove(name: str, run: Run, tested: Tested, description: Description, computed: tuple[Pixels, Floats]) -> Proof:
    """Run a file over all images of the test split, in batches of 1, 3 and then 64, and compare it with the test.

    name: of the file, which stands beside the bar where this takes long.
    computed: images, uint8 (n, size, size, channels), and what the classifier itself gives for them in fp32.
    """
    split, size = tested.split, description.size
    ends = np.cumsum([*SIZES, *[BATCH] * (len(split) // BATCH + 1)]).tolist()
    bounds = [0, *(end for end in ends if end < len(split)), len(split)]
    places = [np.arange(*both) for both in pairwise(bounds)]
    make = partial(evaluation_squares, split, size=size, fit=description.fit, fraction=description.crop_fraction)
    squares = by_threads(make, places, threads=cores())
    found = [run(images) for images in counting_where_long(f"proving {name}", squares, len(places))]
    probabilities = np.concatenate(found)
    now = [description.classes[c] for c in probabilities.argmax(axis=1)]
    compared = zip(split.files, tested.predicted, now, strict=True)
    differences = _differences(probabilities, tested.probabilities)
    images, own = computed
    logarithms = [np.log(np.maximum(given, SMALLEST)) for given in (run(images), own)]
    return Proof(
        images=len(split),
        flips=[f"{file} ({before} became {after})" for file, before, after in compared if before != after],
        difference=float(differences.max()),
        furthest=split.files[int(differences.argmax())],
        here=float(np.exp(_differences(*logarithms).max())),
    )


def _differences(found: Floats, expected: Floats) -> Floats:
    """Return the largest difference of each image, (images,), of (images, classes); where one is NaN, infinity."""
    assert found.shape == expected.shape
    return np.asarray(np.nan_to_num(np.abs(found - expected), nan=np.inf).max(axis=1))


def refuse_unproven(name: str, proof: Proof, description: Description, *, max_flips: int) -> None:
    """Raise InputError where a file answers otherwise than the test or than the classifier itself.

    max_flips: images to which it may give another class than the test.
    """
    problems = []
    if len(proof.flips) > max_flips:
        problems.append(
            f"it gives {len(proof.flips)} of {proof.images} test images another class than {PREDICTIONS}: "
            f"{_first(proof.flips)}"
        )
    limit = ROUNDING_OF_TEST["cpu" if description.device == "cpu" else "cuda"]
    if not proof.difference <= limit and description.precision == "fp32":
        problems.append(
            f"it gives {proof.furthest} a probability that differs by {proof.difference:.2g} from {PROBABILITIES}"
        )
    if not proof.here <= ROUNDING:
        problems.append(
            f"a probability differs by a factor of {proof.here:.3g} from what the model itself computes here"
        )
    if not problems:
        return
    if not proof.here <= ROUNDING:
        advice = "torch exports this network wrongly: try the other --format"
    elif len(problems) == 1 and len(proof.flips) > max_flips and description.precision != "fp32":
        advice = (
            f"the test was computed in {description.precision} and the file computes in fp32, so that an image between "
            f"two classes may flip by rounding: --max-flips {len(proof.flips)} allows it"
        )
    else:
        advice = f"{METRICS} is of another model, or was computed on another machine: dvc repro makes both anew"
        if len(proof.flips) > max_flips:
            advice += f"; --max-flips {len(proof.flips)} allows that many"
    raise InputError(f"{name} is not proven, and nothing was written: {'; '.join(problems)}; {advice}")


@contextmanager
def onnx_runtime(path: Path, description: Description) -> Iterator[Run]:
    """Yield what runs an ONNX file on the CPU, by ONNX Runtime. Raises InputError where that can't."""
    onnxruntime = importlib.import_module("onnxruntime")  # an extra
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4  # nothing but what ends the process
    options.intra_op_num_threads = cores()
    try:
        session = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
    except Exception as error:
        raise InputError(f"ONNX Runtime can't read {path.name} ({one_line(error, named=True)})") from None

    def run(images: Pixels) -> Floats:
        try:
            found: Floats = session.run([OUTPUT], {INPUT: images})[0]
        except Exception as error:
            problem = one_line(error, named=True)
            raise InputError(f"ONNX Runtime can't run {path.name} on {len(images)} images ({problem})") from None
        return found

    yield run


ALONE = """
import sys
import warnings

warnings.simplefilter("ignore")
import numpy as np
import torch

path, *shape, threads = sys.argv[1], *map(int, sys.argv[2:])
torch.set_num_threads(threads)
compute = torch.export.load(path).module()
given, answers = sys.stdin.buffer, sys.stdout.buffer
while header := given.read(8):
    count = int.from_bytes(header, "little")
    images = np.frombuffer(given.read(count * np.prod(shape)), np.uint8).reshape(count, *shape)
    with torch.no_grad():
        answers.write(compute(torch.from_numpy(images.copy())).numpy().tobytes())
    answers.flush()
others = {"imgpipe", "torchvision", "timm"} & {name.partition(".")[0] for name in sys.modules}
assert not others, f"{others} were imported"
"""
"""A program that needs torch and numpy alone: it answers each batch on its input with probabilities."""


@contextmanager
def torch_alone(path: Path, description: Description) -> Iterator[Run]:
    """Yield what runs a .pt2 file on the CPU, in a process of its own that imports torch and numpy alone.

    Raises InputError where that process fails.
    """
    shape = (description.size, description.size, description.form.channels)
    command = [sys.executable, "-I", "-c", ALONE, str(path.resolve()), *map(str, shape), str(cores())]
    with tempfile.TemporaryFile() as said:
        process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=said)
        assert process.stdin and process.stdout
        given, answers = process.stdin, process.stdout

        def run(images: Pixels) -> Floats:
            length = 4 * len(images) * len(description.classes)
            try:
                given.write(len(images).to_bytes(8, "little") + images.tobytes())
                given.flush()
                answer = answers.read(length)
            except OSError:
                answer = b""
            if len(answer) < length:
                process.wait()
                raise InputError(f"torch alone can't run {path.name} on {len(images)} images ({_last_line(said)})")
            return np.frombuffer(answer, np.float32).reshape(len(images), -1)

        try:
            yield run
            with suppress(OSError):  # it ended before
                given.close()
            if process.wait():
                raise InputError(f"torch alone can't run {path.name} ({_last_line(said)})")
        finally:
            process.kill()
            process.wait()
            answers.close()


def _last_line(said: IO[bytes]) -> str:
    said.seek(0)
    lines = said.read().decode("utf-8", "replace").split("\n")
    return next((line.strip() for line in reversed(lines) if line.strip()), "it said nothing")


RUNNERS: Mapping[str, Callable[[Path, Description], AbstractContextManager[Run]]] = {
    ".onnx": onnx_runtime,
    ".pt2": torch_alone,
}
"""What runs a file, by its ending."""
