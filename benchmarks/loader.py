"""Training batches: this project's loader against torchvision's reference, on the same images.

    make bench-loader DATA=images.tar SIZE=224

The two alternate in one run, each in a process of its own, with the reference a second time as control: how far its
ratio is from 1 is the noise. Both crop and flip at random, and give normalised float32 in batches; both get two cores.
"""

import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import asdict, replace
from pathlib import Path

import typer

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT / "src"))

from imgpipe.data.packed import Form  # noqa: E402

WORKERS = 2
WARM_UP, AT_LEAST = 20, 5.0
"""Batches before a measurement, and seconds that it takes at least."""
FORM = Form(image_size=256, enlarge=False, channels=3, encoding="raw", jpeg_quality=90)
MEAN, STD = [0.5, 0.5, 0.5], [0.25, 0.25, 0.25]

app = typer.Typer(add_completion=False, pretty_exceptions_enable=False)


@app.command()
def compare(
    data: Path, size: int = 224, crop: str = "resized", batch: int = 32, rounds: int = 5, packed: int | None = None
) -> None:
    """Prints images a second and the medians of the paired ratios. crop: resized or padded (by an eighth).

    packed: size of the packed images; 8/7 of the size, or the same up to 32 pixels.

    ours: converted to normalised float32 on the CPU, as where there is no GPU. "before converting": uint8, as it is
    sent to a GPU, which converts it.
    """
    with tempfile.TemporaryDirectory() as scratch:
        prepare(data, Path(scratch), packed or (size if size <= 32 else size * 8 // 7))
        rates: dict[str, list[float]] = {"reference": [], "ours": [], "ours, before converting": [], "control": []}
        for _ in range(rounds):
            for name, rate in rates.items():
                way = "reference" if name == "control" else name
                command = [sys.executable, __file__, "measure", scratch, way, str(size), crop, str(batch)]
                rate.append(float(subprocess.run(command, capture_output=True, text=True, check=True).stdout))
                typer.echo(f"  {name:24} {rate[-1]:10.0f} images/s", err=True)
    typer.echo(f"{size} px, {crop} crops, batches of {batch}, {rounds} rounds: medians")
    for name, rate in rates.items():
        ratio = statistics.median(a / b for a, b in zip(rate, rates["reference"], strict=True))
        typer.echo(f"{name:24} {statistics.median(rate):10.0f} images/s  ratio {ratio:6.2f}")


def prepare(data: Path, folder: Path, packed_size: int) -> None:
    """The images of an archive as ImageFolder trees, <split>/<class>, and packed at this size: packed/<split>."""
    from imgpipe.data.parallel import cores
    from imgpipe.pack.pack import pack
    from imgpipe.prepare.formats import FORMATS
    from imgpipe.prepare.params import Columns, Prepare
    from imgpipe.prepare.prepare import contents, prepare_images
    from imgpipe.prepare.reading import read_archive
    from imgpipe.prepare.splits import SPLITS

    spool = folder / "spool"
    section = Prepare(
        pattern="auto", table=None, columns=Columns(file="file", label="label", split=None, group=None),
        class_names=None, class_map=None, split="stratified", val_fraction=0.1, test_fraction=0.1,
        folds=None, fold=0,
        seed=0, duplicates="drop", near_duplicates="report", near_correlation=0.97, max_rejected=1.0, format="tree",
    )  # fmt: skip
    found, _ = read_archive(data, spool, pattern=section.pattern, tables=None, processes=cores())
    images, _ = prepare_images(found, section)
    FORMATS[section.format](folder, contents(spool, found, images))
    start = time.perf_counter()
    for split in SPLITS:
        (folder / "packed" / split).mkdir(parents=True)
        pack(
            [{name: str(value) for name, value in asdict(image).items()} for image in images if image.split == split],
            lambda file: (folder / file).read_bytes(), folder / "packed" / split,
            classes=sorted({image.label for image in images}),
            form=replace(FORM, image_size=packed_size), processes=cores(),
        )  # fmt: skip
    took = time.perf_counter() - start
    before = sum(image.bytes for image in images)
    after = sum(file.stat().st_size for file in (folder / "packed").rglob("*.npy"))
    typer.echo(
        f"{len(images)} images; packing them took {took:.1f} s and {after / 1e6:.0f} MB of disk "
        f"(the files themselves: {before / 1e6:.0f} MB)"
    )


@app.command()
def measure(folder: Path, way: str, size: int, crop: str, batch: int) -> None:
    """Prints how many images a second one of the two delivers."""
    made = (
        reference(folder / "train", size, crop, batch)
        if way == "reference"
        else ours(folder / "packed/train", size, crop, batch, convert=way == "ours")
    )
    for _ in range(WARM_UP):
        next(made)
    start, images = time.perf_counter(), 0
    while time.perf_counter() - start < AT_LEAST:
        images += next(made)
    typer.echo(images / (time.perf_counter() - start))


def reference(folder: Path, size: int, crop: str, batch: int) -> Iterator[int]:
    """Sizes of batches of torchvision's reference: ImageFolder, transforms on PIL images, worker processes."""
    import torch
    from torchvision import datasets, transforms
    from torchvision.transforms import autoaugment  # noqa: F401, as the reference imports it

    torch.set_num_threads(1)
    cut = transforms.RandomResizedCrop(size) if crop == "resized" else transforms.RandomCrop(size, padding=size // 8)
    steps = [cut, transforms.RandomHorizontalFlip(), transforms.PILToTensor()]
    steps += [transforms.ConvertImageDtype(torch.float), transforms.Normalize(MEAN, STD)]
    dataset = datasets.ImageFolder(str(folder), transforms.Compose(steps))
    loader = torch.utils.data.DataLoader(
        dataset, batch_size=batch, shuffle=True, num_workers=WORKERS, drop_last=True, persistent_workers=True
    )
    while True:
        for images, _ in loader:
            yield len(images)


def ours(folder: Path, size: int, crop: str, batch: int, *, convert: bool) -> Iterator[int]:
    """Sizes of batches of this project's loader; ``convert``: to normalised float32, as the model does."""
    from functools import partial

    import torch

    from imgpipe.data.packed import Integers, Pixels, read_split
    from imgpipe.model.classifier import normalised
    from imgpipe.model.predict import batches
    from imgpipe.model.randomness import random_rows
    from imgpipe.train.augment import DRAWS, Augment, augmentation, no_policy, padded, resized
    from imgpipe.train.sampling import shuffled

    torch.set_num_threads(1)
    split = read_split(folder, FORM)
    cut = partial(resized, scale_low=0.08, scale_high=1.0, ratio_low=3 / 4, ratio_high=4 / 3)
    section = Augment(
        crop=cut if crop == "resized" else partial(padded, padding=size // 8),
        horizontal_flip=0.5, vertical_flip=0.0, rotation=0.0, policy=no_policy, erasing=0.0,
    )  # fmt: skip
    augment = augmentation(section, colour=[0, 0, 0])
    mean, std = torch.tensor(MEAN), torch.tensor(STD)
    places = [slice(start, start + batch) for start in range(0, len(split) - batch + 1, batch)]
    epoch = 0
    while True:
        order = shuffled(split.labels, seed=0, epoch=epoch)

        def fill(place: slice, squares: Pixels, order: Integers = order, epoch: int = epoch) -> None:
            augment(split, order[place], random_rows(place.start, batch, DRAWS, seed=0, epoch=epoch), squares)

        for made, _, _ in batches(split, order, places, fill, size=size, threads=WORKERS, device=torch.device("cpu")):
            if convert:
                normalised(made, mean, std)
            yield len(made)
        epoch += 1


if __name__ == "__main__":
    app()
