"""Training batches: this project's loader against torchvision's reference, on the same images.

    make bench-loader DATA=images.tar SIZE=224 POLICY=rand_augment

The reference is ImageFolder, transforms on Pillow's images, and DataLoader's worker processes; with transforms v1, with
v2, and with v1 a second time as control: how far its ratio is from 1 is the noise. Ours comes from raw and from JPEG
packs: of 8/7 of the size; or sharp ones, so large that no crop is enlarged, with a pyramid. All alternate in one run,
each in a process of its own, on two cores. All crop and flip at random, then apply the policy. The reference gives
normalised float32; ours gives uint8, as it is sent to a GPU, which normalises it, or "converted", as a model on the
CPU normalises it.
"""

import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from dataclasses import asdict, replace
from functools import partial
from pathlib import Path

import typer

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT / "src"))

from imgpipe.common.kernels import fix_for_images  # noqa: E402

fix_for_images()  # as the stages do

from imgpipe.data.packed import Form, Statistics, write_statistics  # noqa: E402
from imgpipe.prepare.prepare import PreparedImage  # noqa: E402

WORKERS = 2
WARM_UP, AT_LEAST = 20, 5.0
"""Batches before a measurement, and seconds that it takes at least."""
REFERENCES = ("torchvision", "torchvision v2", "control")
OURS = ("raw", "raw, converted", "sharp raw", "JPEG", "sharp JPEG")
SCALE_LOW = 0.08
JITTER = {"brightness": 0.4, "contrast": 0.4, "saturation": 0.4, "hue": 0.1}
FORM = Form(image_size=256, enlarge=False, channels=3, encoding="raw", jpeg_quality=90, levels=1)
MEAN, STD = [0.5, 0.5, 0.5], [0.25, 0.25, 0.25]

app = typer.Typer(add_completion=False, pretty_exceptions_enable=False)


@app.command()
def compare(
    data: Path,
    size: int = 224,
    crop: str = "resized",
    policy: str = "none",
    batch: int = 32,
    rounds: int = 5,
) -> None:
    """Prints images a second, and the medians of the paired ratios to torchvision with its transforms v1 and v2.

    crop: resized, or padded by an eighth. policy: none, rand_augment, trivial_augment or colour_jitter.

    Sharp packs are not made of images up to 32 pixels, which are packed as they are.
    """
    from imgpipe.commands.plan import levels_of, sharp_size

    with tempfile.TemporaryDirectory() as scratch:
        images = as_trees(data, Path(scratch), pattern="auto", val_fraction=0.1, test_fraction=0.1)
        longer = mean_longer(images)
        side = min(sharp_size(size, SCALE_LOW, longer), max(min(i.width, i.height) for i in images))
        forms = {"raw": replace(FORM, image_size=size if size <= 32 else size * 8 // 7)}
        if size > 32:
            forms["sharp raw"] = replace(FORM, image_size=side, levels=levels_of(side, size, longer))
        forms |= {name.replace("raw", "JPEG"): replace(form, encoding="jpeg") for name, form in forms.items()}
        for name, form in forms.items():
            pack_splits(images, Path(scratch), Path(scratch, name), form)
            statistics_of_train = Statistics(sorted({i.label for i in images}), form, MEAN, STD)
            write_statistics(Path(scratch, name, "statistics.json"), statistics_of_train)
        ours_here = [f"ours, {way}" for way in OURS if way.removesuffix(", converted") in forms]
        rates: dict[str, list[float]] = {way: [] for way in (*REFERENCES, *ours_here)}
        for _ in range(rounds):
            for way, rate in rates.items():
                command = [sys.executable, __file__, "measure", scratch, way, str(size), crop, policy, str(batch)]
                rate.append(float(subprocess.run(command, capture_output=True, text=True, check=True).stdout))
                typer.echo(f"  {way:24} {rate[-1]:10.0f} images/s", err=True)
    typer.echo(f"{size} px, {crop} crops, policy {policy}, batches of {batch}, {rounds} rounds: medians")
    for way, rate in rates.items():
        to_v1, to_v2 = (
            statistics.median(a / b for a, b in zip(rate, rates[base], strict=True)) for base in REFERENCES[:2]
        )
        typer.echo(f"{way:24} {statistics.median(rate):10.0f} images/s  {to_v1:6.2f} x v1  {to_v2:6.2f} x v2")


def as_trees(
    data: Path, folder: Path, *, pattern: str, val_fraction: float, test_fraction: float
) -> list[PreparedImage]:
    """The images of an archive, which are written as ImageFolder trees; the rest is as in the section ``prepare``."""
    from imgpipe.data.parallel import cores
    from imgpipe.prepare.formats import FORMATS
    from imgpipe.prepare.params import Columns, Prepare
    from imgpipe.prepare.prepare import contents, prepare_images
    from imgpipe.prepare.reading import read_archive

    spool = folder / "spool"
    section = Prepare(
        pattern=pattern, table=None, columns=Columns(file="file", label="label", split=None, group=None),
        class_names=None, class_map=None, split="stratified", val_fraction=val_fraction, test_fraction=test_fraction,
        folds=None, fold=0,
        seed=0, duplicates="drop", near_duplicates="report", near_correlation=0.97, max_rejected=1.0, format="tree",
    )  # fmt: skip
    found, _ = read_archive(data, spool, pattern=section.pattern, tables=None, processes=cores())
    images, _ = prepare_images(found, section)
    FORMATS[section.format](folder, contents(spool, found, images))
    before = sum(image.bytes for image in images)
    typer.echo(
        f"{len(images)} images; their files take {before / 1e6:.0f} MB, {before / len(images):,.0f} bytes an image"
    )
    return images


def mean_longer(images: Sequence[PreparedImage]) -> float:
    """Times that long sides are as long as short sides, the mean."""
    return statistics.mean(max(i.width, i.height) / min(i.width, i.height) for i in images)


def pack_splits(images: Sequence[PreparedImage], folder: Path, packed: Path, form: Form) -> None:
    """Pack the images of the trees in a folder, each split to a folder of its name."""
    from imgpipe.data.parallel import cores
    from imgpipe.pack.pack import pack
    from imgpipe.prepare.splits import SPLITS

    start = time.perf_counter()
    for split in SPLITS:
        (packed / split).mkdir(parents=True)
        pack(
            [{name: str(cell) for name, cell in asdict(image).items()} for image in images if image.split == split],
            lambda file: (folder / file).read_bytes(), packed / split,
            images=sum(image.split == split for image in images),
            classes=sorted({image.label for image in images}),
            form=form, processes=cores(),
        )  # fmt: skip
    took = time.perf_counter() - start
    after = sum(file.stat().st_size for file in packed.rglob("*.npy"))
    typer.echo(
        f"packed as {form.encoding} at {form.image_size} px in {took:.1f} s, "
        f"they take {after / 1e6:.0f} MB, {after / len(images):,.0f} bytes an image"
    )


@app.command()
def measure(folder: Path, way: str, size: int, crop: str, policy: str, batch: int) -> None:
    """Prints how many images a second one way delivers."""
    packs, _, converted = way.removeprefix("ours, ").partition(", ")
    made = (
        ours(folder / packs, size, crop, policy, batch, convert=bool(converted))
        if way.startswith("ours")
        else reference(folder / "train", size, crop, policy, batch, v2="v2" in way)
    )
    for _ in range(WARM_UP):
        next(made)
    start, images = time.perf_counter(), 0
    while time.perf_counter() - start < AT_LEAST:
        images += next(made)
    typer.echo(images / (time.perf_counter() - start))


def reference(folder: Path, size: int, crop: str, policy: str, batch: int, *, v2: bool) -> Iterator[int]:
    """Sizes of batches of torchvision's reference."""
    import torch
    from torchvision import datasets
    from torchvision import transforms as first
    from torchvision.transforms import v2 as second

    torch.set_num_threads(1)
    kind = second if v2 else first
    steps = [
        kind.RandomResizedCrop(size) if crop == "resized" else kind.RandomCrop(size, padding=size // 8),
        kind.RandomHorizontalFlip(),
    ]
    if policy != "none":
        made = {"rand_augment": kind.RandAugment(), "trivial_augment": kind.TrivialAugmentWide()}
        steps.append((made | {"colour_jitter": kind.ColorJitter(**JITTER)})[policy])
    to_float = second.ToDtype(torch.float, scale=True) if v2 else first.ConvertImageDtype(torch.float)
    steps += [kind.PILToTensor(), to_float, kind.Normalize(MEAN, STD)]
    dataset = datasets.ImageFolder(str(folder), kind.Compose(steps))
    loader = torch.utils.data.DataLoader(
        dataset, batch_size=batch, shuffle=True, num_workers=WORKERS, drop_last=True, persistent_workers=True
    )
    while True:
        for images, _ in loader:
            yield len(images)


def ours(folder: Path, size: int, crop: str, policy: str, batch: int, *, convert: bool) -> Iterator[int]:
    """Sizes of batches of this project's loader; ``convert``: to normalised float32, as the model does."""
    import torch

    from imgpipe.data.packed import Integers, Pixels, read_packed
    from imgpipe.model.classifier import normalised
    from imgpipe.model.devices import keep_freed_memory
    from imgpipe.model.predict import batches
    from imgpipe.model.randomness import random_rows
    from imgpipe.train.augment import DRAWS, POLICIES, Augment, augmentation, padded, resized
    from imgpipe.train.sampling import shuffled

    torch.set_num_threads(1)
    keep_freed_memory()  # as training does
    split = read_packed(folder, ["train"])[1]["train"]
    policies = POLICIES | {
        "rand_augment": partial(POLICIES["rand_augment"], operations=2, magnitude=9),
        "colour_jitter": partial(POLICIES["colour_jitter"], **JITTER),
    }
    cut = partial(resized, scale_low=SCALE_LOW, scale_high=1.0, ratio_low=3 / 4, ratio_high=4 / 3)
    section = Augment(
        crop=cut if crop == "resized" else partial(padded, padding=size // 8),
        horizontal_flip=0.5, vertical_flip=0.0, rotation=0.0, policy=policies[policy], erasing=0.0,
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
