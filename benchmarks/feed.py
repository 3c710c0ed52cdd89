"""How much of its time a GPU waits for batches, with a sleep in place of its steps; this needs no GPU.

    make bench-feed DATA=images.tar

A step sleeps 85 ms for 256 images of 224 px, which stands for ResNet-50 on one H100 in bf16. As a GPU's work does, that
takes no core, and leaves Python's lock to the threads that make batches. What more cores would give is computed: each
thread makes what the one makes that is alone, until Python's lock is held all of the time. It is held while Python
itself runs, which is timed on images of 8 pixels, and where Pillow hands out its pixels, which is timed as it happens.
"""

import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from functools import partial
from itertools import count, islice
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT / "src"))

from imgpipe.common.kernels import fix_for_images  # noqa: E402

fix_for_images()

import cv2  # noqa: E402
import numpy as np  # noqa: E402
import torch  # noqa: E402
import typer  # noqa: E402
from loader import FORM, as_trees, pack_splits  # noqa: E402
from PIL import Image  # noqa: E402

from imgpipe.data.packed import Pixels, Split, read_split  # noqa: E402
from imgpipe.data.parallel import cores  # noqa: E402
from imgpipe.model.devices import keep_freed_memory  # noqa: E402
from imgpipe.model.predict import Batch, batches  # noqa: E402
from imgpipe.model.randomness import random_rows  # noqa: E402
from imgpipe.train import policies  # noqa: E402
from imgpipe.train.augment import DRAWS, Augment, augmentation, no_policy, resized  # noqa: E402

SIZE, PACKED = 224, 256
"""Sides of the squares, and of the packed images, in pixels."""
BATCH, PARTS, STEP = 256, 4, 0.085
"""Images of a step, micro-batches that these come in, and seconds that a step takes."""
SECONDS = 3.0
"""Of a measurement, at least."""
CORES = 16
"""Of the machine that is computed."""
POLICIES: dict[str, Callable[..., Pixels]] = {
    "crop and flip": no_policy,
    "and RandAugment": partial(policies.rand_augment, operations=2, magnitude=9),
    "and TrivialAugment": policies.trivial_augment,
    "and colour jitter": partial(policies.colour_jitter, brightness=0.4, contrast=0.4, saturation=0.4, hue=0.1),
}
Policy = Callable[..., Pixels]
Fill = Callable[[slice, Pixels], None]


def main(data: Path) -> None:
    """Prints for each policy and encoding how many images a second come, and how long a step waits for them."""
    keep_freed_memory()
    with tempfile.TemporaryDirectory() as scratch:
        images = as_trees(data, Path(scratch), pattern="auto", val_fraction=0.1, test_fraction=0.1)
        form = replace(FORM, image_size=PACKED)
        pack_splits(images, Path(scratch), Path(scratch, "packed"), form)
        raw = read_split(Path(scratch, "packed/train"), form)
        typer.echo(
            f"{len(raw)} images; a step takes {BATCH / STEP:,.0f} a second; {CORES} cores have {CORES - 2} threads"
        )
        columns = (
            "1 thread",
            f"{cores()} threads",
            "ratio",
            "a step waits",
            "lock held",
            f"{CORES} cores",
            "a step waits",
        )
        typer.echo(" " * 24 + "".join(f"{column:>13}" for column in columns))
        for encoding, split in (("raw", raw), ("JPEG", as_jpeg(raw))):
            for name, policy in POLICIES.items():
                cells = measured(split, policy)
                typer.echo(f"{encoding:5}{name:19}" + "".join(f"{cell:>13}" for cell in cells))


def measured(split: Split, policy: Policy) -> list[str]:
    """The cells of a row."""
    fill, threads = filling(split, policy), cores()
    alone, locked = rate(split, fill, threads=1)
    locked += python_alone(split, policy)
    together, _ = rate(split, fill, threads=threads)
    waits = share_waited(split, fill, threads=threads)
    there = min((CORES - 2) * alone, 1 / locked)
    return [
        f"{alone:,.0f}/s",
        f"{together:,.0f}/s",
        f"{together / alone:.2f}",
        f"{waits:.0%}",
        f"{locked * 1e6:.0f} us",
        f"{there:,.0f}/s",
        f"{max(0.0, 1 - there * STEP / BATCH):.0%}",
    ]


def as_jpeg(split: Split) -> Split:
    """The split with its raw images as JPEG files."""
    quality = [cv2.IMWRITE_JPEG_QUALITY, FORM.jpeg_quality]
    files = [cv2.imencode(".jpg", split.image(i)[..., ::-1], quality)[1] for i in range(len(split))]
    lengths = np.array([len(file) for file in files], dtype=np.int64)
    return replace(
        split,
        form=replace(split.form, encoding="jpeg"),
        content=np.concatenate(files).astype(np.uint8),
        offsets=np.cumsum(lengths) - lengths,
        lengths=lengths,
    )


def filling(split: Split, policy: Policy) -> Fill:
    """The function that fills the squares of a run of places, as training has it."""
    augment = augmentation(
        Augment(
            crop=partial(resized, scale_low=0.08, scale_high=1.0, ratio_low=3 / 4, ratio_high=4 / 3),
            horizontal_flip=0.5, vertical_flip=0.0, rotation=0.0, policy=policy, erasing=0.0,
        ),
        colour=[0, 0, 0],
    )  # fmt: skip
    order = np.random.default_rng(0).permutation(len(split))

    def fill(place: slice, squares: Pixels) -> None:
        augment(split, order[place], random_rows(place.start, len(squares), DRAWS, seed=0, epoch=0), squares)

    return fill


def batches_without_end(split: Split, fill: Fill, *, threads: int) -> Iterator[Batch]:
    """Micro-batches; the first ones, which wait for threads to start, are dropped."""
    part = BATCH // PARTS
    places = (slice(start, start + part) for _ in count() for start in range(0, len(split) - part + 1, part))
    made = batches(split, np.arange(len(split)), places, fill, size=SIZE, threads=threads, device=torch.device("cpu"))
    return islice(made, PARTS, None)


def rate(split: Split, fill: Fill, *, threads: int) -> tuple[float, float]:
    """How many images come in a second, and for how many seconds an image holds Python's lock within Pillow."""
    with timed_pillow() as seconds:
        loader = batches_without_end(split, fill, threads=threads)
        next(loader)
        seconds.clear()
        start, images = time.perf_counter(), 0
        while time.perf_counter() - start < SECONDS:
            images += len(next(loader)[0])
        return images / (time.perf_counter() - start), sum(seconds) / images


def share_waited(split: Split, fill: Fill, *, threads: int) -> float:
    """The share of the time in which a step waits for its micro-batches."""
    loader = batches_without_end(split, fill, threads=threads)
    next(loader)
    waited = slept = 0.0
    while waited + slept < SECONDS:
        start = time.perf_counter()
        list(islice(loader, PARTS))
        waited += time.perf_counter() - start
        time.sleep(STEP)
        slept += STEP
    return waited / (waited + slept)


def python_alone(split: Split, policy: Policy) -> float:
    """Seconds of a core that an image of 8 pixels takes, which are Python's own and little else."""
    number = 256
    sides, lengths = np.full(number, 8), np.full(number, 8 * 8 * 3)
    noise = np.random.default_rng(0).integers(0, 256, lengths.sum(), dtype=np.uint8)
    small = replace(
        split, form=replace(split.form, encoding="raw"), content=noise, offsets=np.cumsum(lengths) - lengths,
        lengths=lengths, heights=sides, widths=sides, files=split.files[:number],
    )  # fmt: skip
    fill = filling(small if split.form.encoding == "raw" else as_jpeg(small), policy)
    squares = np.empty((number, 8, 8, 3), np.uint8)
    start, rounds = time.thread_time(), 4
    for _ in range(rounds):
        fill(slice(0, number), squares)
    return (time.thread_time() - start) / (rounds * number)


@contextmanager
def timed_pillow() -> Iterator[list[float]]:
    """Within it, seconds of a core are noted that Pillow takes to hand out pixels, in which it holds Python's lock."""
    untimed, seconds = policies._as_pixels, []

    def timed(image: Image.Image) -> Pixels:
        start = time.thread_time()
        pixels = untimed(image)
        seconds.append(time.thread_time() - start)
        return pixels

    policies._as_pixels = timed
    try:
        yield seconds
    finally:
        policies._as_pixels = untimed


if __name__ == "__main__":
    typer.run(main)
