"""Whether the loader's speed is paid for in accuracy: one recipe, trained on the same images in several ways.

    make bench-accuracy EXPERIMENT=photos DATA=images.tar RESULTS=folder
    make bench-accuracy EXPERIMENT=small DATA=cifar10.tar.gz RESULTS=folder

photos: EfficientNet-Lite0 is fine-tuned at 160 px, as recipes/finetune.yaml has it. small: SimpleCNN is trained from
scratch at 32 px. The archive has a folder for each class; 45 % of its images are held out, whatever it calls them.

The reference is torchvision's: ImageFolder decodes the original files with PIL in every epoch; RandomResizedCrop and
Resize are antialiased. Ours cuts from packed images: their short sides have 8/7 of what the network sees, or as many
pixels as the smallest crop needs not to be enlarged, as far as the images have them; small images are as they are. All
else is the same: first weights, number of updates, learning rate. Each run is a process of its own and leaves a file,
so that what was interrupted goes on, and seeds or ways can be added. The verdicts are those of ``imgpipe compare``.
"""

import json
import math
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Annotated, Any, Literal

import cv2
import numpy as np
import torch
import typer
from loader import FORM, ROOT, WORKERS, as_trees, mean_longer, pack_splits
from omegaconf import OmegaConf
from torch import Tensor
from torch.nn.functional import cross_entropy

from imgpipe.commands.comparing.judging import judge
from imgpipe.commands.comparing.outcomes import Outcome
from imgpipe.commands.comparing.revisions import Revision
from imgpipe.commands.comparing.runs import SEED, Run, RunSet
from imgpipe.commands.comparing.text import sentence
from imgpipe.commands.plan import levels_of, sharp_size
from imgpipe.common import params
from imgpipe.common.files import sha256_of, write_text
from imgpipe.data.packed import Form, Integers, Pixels, Split, Statistics, read_packed, write_statistics
from imgpipe.model.crops import fill_squares
from imgpipe.model.predict import batches, predict_batch
from imgpipe.model.randomness import random_rows
from imgpipe.prepare.prepare import PreparedImage
from imgpipe.train.augment import DRAWS, augmentation
from imgpipe.train.loop import batch_loss, set_lr
from imgpipe.train.params import Model, Train
from imgpipe.train.sampling import shuffled
from imgpipe.train.start import new_state, untrained_classifier

EXPERIMENTS: dict[str, tuple[str, dict[str, Any]]] = {
    "photos": ("finetune", {"epochs": 3}),
    "small": ("mnist-simplecnn", {"epochs": 8, "kernels": "native"}),
}
"""The recipe of each, and what of its section ``train`` is another here; crops and flips are those of finetune."""
REFERENCE = "reference"
HELD_OUT = ("val", "test")
CLASS_FOLDERS = r"(?P<label>[^/]+)/[^/]+$"
"""Of an archive in which each class is a folder, whatever stands above it."""
MARGIN = 0.01
"""The difference in accuracy below which nobody cares."""

Experiment = Literal["photos", "small"]
Batches = Iterable[tuple[Tensor, Tensor]]
"""Squares, uint8 (n, size, size, 3), and the numbers of their classes."""

app = typer.Typer(add_completion=False, pretty_exceptions_enable=False)


@dataclass(frozen=True)
class Loader:
    """One way to load the images."""

    epoch: Callable[[int], Batches]
    """Random crops of all training images, by the number of the epoch."""
    held_out: Batches
    files: list[str]
    """Of the held-out images, in their order."""


@app.command()
def compare(
    experiment: Experiment,
    data: Path,
    results: Path,
    seeds: Annotated[int, typer.Option(min=2)] = 5,
    ways: Annotated[list[str] | None, typer.Option()] = None,
    epochs: int | None = None,
    weights: Path | None = None,
) -> None:
    """Print accuracies and sharpness of each way, and what the test for recipes says of its difference.

    results: folder of a file for each run; runs that are there are not run again.

    ways: such as "reference" and "ours, 8/7"; all where none is given. weights: of photos, a file in the place of the
    package's.
    """
    settings = {"experiment": experiment, "epochs": epochs, "weights": str(weights) if weights else None}
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        images = as_trees(data, folder, pattern=CLASS_FOLDERS, val_fraction=0.05, test_fraction=0.4)
        classes = sorted({image.label for image in images})
        forms = {name: form for name, form in all_ways(experiment, images).items() if not ways or name in ways}
        asked = [
            {**settings, "way": name, "packed": form and form.image_size, "seed": seed}
            for seed in range(seeds)
            for name, form in forms.items()
        ]
        to_do = [one for one in asked if not is_there(result_of(results, one), one)]
        for name, form in forms.items():
            if form and any(one["way"] == name for one in to_do):
                pack_splits(images, folder, folder / plain(name), form)
                described = Statistics(classes, form, mean=[0.5] * 3, std=[0.5] * 3)
                write_statistics(folder / plain(name) / "statistics.json", described)
        for one in to_do:
            run_once(one, folder, result_of(results, one))
    trained_on = sum(image.split == "train" for image in images)
    typer.echo(f"{trained_on} images to train on, {len(images) - trained_on} held out, {seeds} runs of each way")
    sets = []
    for name in forms:
        runs = [json.loads(result_of(results, one).read_text()) for one in asked if one["way"] == name]
        print_runs(name, runs)
        sets.append(run_set(name, runs, classes, trained_on))
    judgement = judge(sets, split="test", metric="accuracy", margin=MARGIN)
    for candidate in judgement.candidates:
        typer.echo(f"\n{sentence(judgement, candidate)}")


def all_ways(experiment: Experiment, images: Sequence[PreparedImage]) -> dict[str, Form | None]:
    """How each way packs the images; None where it does not."""
    model, recipe = sections(experiment)
    size = model.image_size
    if experiment == "small":
        return {REFERENCE: None, "ours": replace(FORM, image_size=size)}
    longer = mean_longer(images)
    advised = sharp_size(size, crop_of(recipe)["scale_low"], longer)
    return {
        REFERENCE: None,
        "ours, 8/7": replace(FORM, image_size=round(size * 8 / 7)),
        "ours, advised": replace(FORM, image_size=advised, levels=levels_of(advised, size, longer)),
    }


def sections(
    experiment: Experiment, *, seed: int = 0, epochs: int | None = None, weights: str | None = None
) -> tuple[Model, Train]:
    """The sections ``model`` and ``train`` of an experiment."""
    name, changed = EXPERIMENTS[experiment]
    base, finetune, own = (ROOT / file for file in ("params.yaml", "recipes/finetune.yaml", f"recipes/{name}.yaml"))
    train = {**changed, "seed": seed, "augment": params.load(finetune)["train"]["augment"]}
    train |= {"epochs": epochs} if epochs else {}
    model = {"normalise": "half", **({"image_size": 32} if experiment == "small" else {})}
    model |= {"weights": weights, "weights_sha256": sha256_of(Path(weights))} if weights else {}
    merged = OmegaConf.merge(params.load(base), params.load(own), {"model": model, "train": train})
    values: Any = OmegaConf.to_container(merged)
    return params.typed(values["model"], Model, "model"), params.typed(values["train"], Train, "train")


def crop_of(recipe: Train) -> dict[str, float]:
    """The keys of a recipe's random resized crops."""
    assert isinstance(recipe.augment.crop, partial)
    keys: dict[str, float] = recipe.augment.crop.keywords
    return keys


def result_of(results: Path, asked: dict[str, Any]) -> Path:
    """The file of a run."""
    return results / f"{plain(asked['way'])}-{asked['seed']}.json"


def plain(name: str) -> str:
    """The name of a way as files have it."""
    return name.replace(", ", "-").replace("/", "_")


def is_there(result: Path, asked: dict[str, Any]) -> bool:
    """Whether a run has left its file; a file of another run ends the program."""
    if not result.exists():
        return False
    if (there := json.loads(result.read_text())["asked"]) != asked:
        sys.exit(f"error: {result} is of {there}, not of {asked}; give another folder, or remove it")
    return True


def run_once(asked: dict[str, Any], folder: Path, result: Path) -> None:
    """Train in a process of its own."""
    start = time.perf_counter()
    environment = {**os.environ, "PYTHONPATH": str(ROOT / "src"), "OMP_WAIT_POLICY": "passive"}
    command = [sys.executable, __file__, "train", json.dumps(asked), str(folder), str(result)]
    subprocess.run(command, env=environment, check=True)
    right = accuracy(json.loads(result.read_text()))
    typer.echo(f"{asked['way']}, seed {asked['seed']}: {right:.4f} in {time.perf_counter() - start:.0f} s")


def accuracy(run: dict[str, Any]) -> float:
    """Share of the held-out images that a run is right on."""
    right: list[bool] = [a == b for a, b in zip(run["actual"], run["predicted"], strict=True)]
    return sum(right) / len(right)


def print_runs(name: str, runs: Sequence[dict[str, Any]]) -> None:
    """Print a line of the accuracies of a way, and one of its squares' sharpness."""
    found = [accuracy(run) for run in runs]
    each, mean, deviation = " ".join(f"{value:.4f}" for value in found), statistics.mean(found), statistics.stdev(found)
    training, held_out = (statistics.mean(run["sharpness"][of] for run in runs) for of in ("training", "held out"))
    typer.echo(f"{name:14} {each}  mean {mean:.4f}  standard deviation {deviation:.4f}")
    typer.echo(f"{'':14} variance of the Laplacian: training {training:.0f}, held out {held_out:.0f}")


def run_set(name: str, runs: Sequence[dict[str, Any]], classes: list[str], trained_on: int) -> RunSet:
    """The runs of a way, as ``imgpipe compare`` judges them."""
    return RunSet(
        name,
        [
            Run(
                revision=Revision(f"{name}, seed {run['asked']['seed']}", None, Path()),
                values={SEED: run["asked"]["seed"]},
                outcome=Outcome(
                    name=f"{name}, seed {run['asked']['seed']}",
                    classes=classes,
                    files=run["files"],
                    pixels=run["files"],  # the same files, so the same pixels
                    actual=[classes[number] for number in run["actual"]],
                    predicted=[classes[number] for number in run["predicted"]],
                    losses=np.array(run["losses"]),
                    groups=[""] * len(run["files"]),
                    trained_on=trained_on,
                ),
            )
            for run in runs
        ],
    )


@app.command()
def train(asked: str, folder: Path, result: Path) -> None:
    """Train once, and write what the network then says of each held-out image."""
    wanted = json.loads(asked)
    model, recipe = sections(
        wanted["experiment"], seed=wanted["seed"], epochs=wanted["epochs"], weights=wanted["weights"]
    )
    loader = (
        ours(folder / plain(wanted["way"]), model, recipe) if wanted["packed"] else reference(folder, model, recipe)
    )
    classes = sorted(path.name for path in (folder / "train").iterdir())
    described = Statistics(classes, FORM, mean=[0.5] * 3, std=[0.5] * 3)
    state = new_state(untrained_classifier(model, recipe, described, device="cpu"), recipe)
    steps = math.ceil(len([*(folder / "train").glob("*/*")]) / recipe.batch_size)
    sharp: dict[str, list[float]] = {"training": [], "held out": []}
    for epoch in range(recipe.epochs):
        state.classifier.train()
        for step, (squares, labels) in enumerate(loader.epoch(epoch)):
            sharp["training"] += sharpness(squares) if epoch == 0 else []
            set_lr(state, recipe.schedule(epoch + (step + 0.5) / steps, recipe.epochs, []))
            state.optimizer.zero_grad()
            batch_loss(state.classifier(squares), labels, None, recipe.label_smoothing, None).backward()
            state.optimizer.step()
    state.classifier.eval()
    actual, logits = [], []
    for squares, labels in loader.held_out:
        sharp["held out"] += sharpness(squares)
        actual.append(labels)
        logits.append(predict_batch(state.classifier, squares).double())
    true, said = torch.cat(actual), torch.cat(logits)
    found = {
        "asked": wanted,
        "sharpness": {of: statistics.mean(values) for of, values in sharp.items()},
        "files": loader.files,
        "actual": true.tolist(),
        "predicted": said.argmax(1).tolist(),
        "losses": cross_entropy(said, true, reduction="none").tolist(),
    }
    result.parent.mkdir(parents=True, exist_ok=True)
    write_text(result, json.dumps(found))


def sharpness(squares: Tensor) -> list[float]:
    """The variance of the Laplacian of each square in grey."""
    grey = (cv2.cvtColor(square, cv2.COLOR_RGB2GRAY) for square in squares.numpy())
    return [float(cv2.Laplacian(levels, cv2.CV_64F).var()) for levels in grey]


def reference(folder: Path, model: Model, recipe: Train) -> Loader:
    """torchvision's, as its references/classification has training and evaluation."""
    from torchvision import datasets, transforms

    size, crop = model.image_size, crop_of(recipe)
    scale, ratio = ((crop[f"{of}_low"], crop[f"{of}_high"]) for of in ("scale", "ratio"))
    flip = transforms.RandomHorizontalFlip(recipe.augment.horizontal_flip)
    cut = transforms.Compose([transforms.RandomResizedCrop(size, scale, ratio), flip, np.array])
    shrunk = transforms.Resize(round(size / model.crop_fraction))
    middle = transforms.Compose([shrunk, transforms.CenterCrop(size), np.array])
    held_out = [datasets.ImageFolder(str(folder / part), middle) for part in HELD_OUT]
    load = partial(torch.utils.data.DataLoader, batch_size=recipe.batch_size, num_workers=WORKERS)
    training = load(
        datasets.ImageFolder(str(folder / "train"), cut),
        shuffle=True,
        generator=torch.Generator().manual_seed(recipe.seed),
    )
    files = [Path(file).relative_to(folder).as_posix() for part in held_out for file, _ in part.samples]
    return Loader(lambda epoch: training, load(torch.utils.data.ConcatDataset(held_out)), files)


def ours(packed: Path, model: Model, recipe: Train) -> Loader:
    """This project's, from packed splits."""
    augment = augmentation(recipe.augment, colour=[0, 0, 0])
    _, splits = read_packed(packed, ("train", *HELD_OUT))
    train, held_out = splits["train"], [splits[part] for part in HELD_OUT]

    def made(split: Split, order: Integers, fill: Callable[[slice, Pixels], None]) -> Batches:
        starts = range(0, len(split), recipe.batch_size)
        places = [slice(start, min(start + recipe.batch_size, len(split))) for start in starts]
        made_by_threads = batches(
            split, order, places, fill, size=model.image_size, threads=WORKERS, device=torch.device("cpu")
        )
        return ((squares, labels) for squares, labels, _ in made_by_threads)

    def epoch_of(epoch: int) -> Batches:
        order = shuffled(train.labels, seed=recipe.seed, epoch=epoch)

        def fill(place: slice, squares: Pixels) -> None:
            rows = random_rows(place.start, len(squares), DRAWS, seed=recipe.seed, epoch=epoch)
            augment(train, order[place], rows, squares)

        return made(train, order, fill)

    def middles(split: Split) -> Batches:
        order = np.arange(len(split))

        def fill(place: slice, squares: Pixels) -> None:
            fill_squares(split, order[place], squares, fit="crop", fraction=model.crop_fraction)

        return made(split, order, fill)

    return Loader(
        epoch_of,
        (batch for split in held_out for batch in middles(split)),
        [file for split in held_out for file in split.files],
    )


if __name__ == "__main__":
    app()
