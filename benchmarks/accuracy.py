"""Whether the loader's speed is paid for in accuracy: one network, trained on the same images in two ways.

    make bench-accuracy DATA=images.tar SIZE=64

The reference decodes the original files with PIL in every epoch, crops and resizes with antialiasing; ours cuts from
images that were packed at 8/7 of the size or at twice the size, bilinear. All else is the same: first weights,
updates, number of epochs. Prints the accuracy on the images of val and test together, for each seed.
"""

import statistics
import tempfile
from collections.abc import Callable, Iterable, Iterator
from functools import partial
from pathlib import Path

import numpy as np
import torch
import typer
from loader import FORM, MEAN, STD, WORKERS, prepare
from torch import Tensor, nn

BATCH = 64
CPU = torch.device("cpu")
SCALE, RATIO = (0.2, 1.0), (3 / 4, 4 / 3)
Batches = Iterable[tuple[Tensor, Tensor]]
Way = Callable[[Path, int, int], tuple[Callable[[int], Batches], Batches]]
"""Folder, size and seed to the batches of an epoch, and those of the held-out images."""


def main(data: Path, size: int = 64, epochs: int = 10, seeds: int = 3) -> None:
    """Print the accuracies of each way, their means and the spread of the seeds."""
    ways: list[tuple[str, Way, int]] = [
        ("reference", reference, size * 8 // 7),
        ("ours, packed at 8/7", ours, size * 8 // 7),
        ("ours, packed at 2", ours, size * 2),
    ]
    for name, way, packed_size in ways:
        with tempfile.TemporaryDirectory() as scratch:
            prepare(data, Path(scratch), packed_size)
            accuracies = [trained(way, Path(scratch), size, epochs, seed) for seed in range(seeds)]
        each, mean = " ".join(f"{value:.4f}" for value in accuracies), statistics.mean(accuracies)
        typer.echo(f"{name:20} {each}  mean {mean:.4f}  standard deviation {statistics.stdev(accuracies):.4f}")


def trained(way: Way, folder: Path, size: int, epochs: int, seed: int) -> float:
    """Accuracy of a small network after so many epochs of plain SGD with a cosine schedule."""
    from imgpipe.model.networks import build_model

    torch.manual_seed(seed)
    classes = len(list((folder / "train").iterdir()))
    network = build_model("simple_cnn", channels=3, classes=classes, size=size, dropout=0.0)
    network = network.to(memory_format=torch.channels_last)
    epoch_of, held_out = way(folder, size, seed)
    updater = torch.optim.SGD(network.parameters(), lr=0.03, momentum=0.9, weight_decay=5e-4, nesterov=True)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(updater, epochs)
    for epoch in range(epochs):
        network.train()
        for images, labels in epoch_of(epoch):
            updater.zero_grad()
            nn.functional.cross_entropy(network(images), labels, label_smoothing=0.1).backward()
            updater.step()
        schedule.step()
    network.eval()
    with torch.inference_mode():
        right = [network(images).argmax(1) == labels for images, labels in held_out]
    return torch.cat(right).double().mean().item()


def reference(folder: Path, size: int, seed: int) -> tuple[Callable[[int], Batches], Batches]:
    """torchvision's references/classification: presets for training and evaluation."""
    from torchvision import datasets, transforms

    last = [transforms.PILToTensor(), transforms.ConvertImageDtype(torch.float), transforms.Normalize(MEAN, STD)]
    cut = [transforms.RandomResizedCrop(size, SCALE, RATIO), transforms.RandomHorizontalFlip()]
    middle = [transforms.Resize(size * 8 // 7), transforms.CenterCrop(size)]
    train = datasets.ImageFolder(str(folder / "train"), transforms.Compose([*cut, *last]))
    held_out = [
        datasets.ImageFolder(str(folder / part), transforms.Compose([*middle, *last])) for part in ("val", "test")
    ]
    loader = torch.utils.data.DataLoader
    training = loader(train, BATCH, shuffle=True, num_workers=WORKERS, drop_last=True)
    return lambda epoch: training, loader(torch.utils.data.ConcatDataset(held_out), BATCH, num_workers=WORKERS)


def ours(folder: Path, size: int, seed: int) -> tuple[Callable[[int], Batches], Batches]:
    """This project's loader and its crops for training and evaluation."""
    from imgpipe.data.packed import Integers, Pixels, Split, read_split
    from imgpipe.model.classifier import normalised
    from imgpipe.model.predict import batches
    from imgpipe.model.randomness import random_rows
    from imgpipe.train.augment import DRAWS, Augment, augmentation, centre, no_policy, resized
    from imgpipe.train.sampling import shuffled

    mean, std = torch.tensor(MEAN), torch.tensor(STD)
    train, val, test = (read_split(folder / "packed" / part, FORM) for part in ("train", "val", "test"))
    cut = partial(resized, scale_low=SCALE[0], scale_high=SCALE[1], ratio_low=RATIO[0], ratio_high=RATIO[1])
    section = Augment(
        crop=cut, horizontal_flip=0.5, vertical_flip=0.0, rotation=0.0, policy=no_policy, erasing=0.0
    )  # fmt: skip
    augment = augmentation(section, colour=[0, 0, 0])

    def made(split: Split, order: Integers, places: list[slice], fill: Callable[[slice, Pixels], None]) -> Batches:
        for picked, labels, _ in batches(split, order, places, fill, size=size, threads=WORKERS, device=CPU):
            yield normalised(picked, mean, std), labels

    def epoch_of(epoch: int) -> Batches:
        order = shuffled(train.labels, seed=seed, epoch=epoch)
        places = [slice(start, start + BATCH) for start in range(0, len(train) - BATCH + 1, BATCH)]

        def fill(place: slice, squares: Pixels) -> None:
            augment(train, order[place], random_rows(place.start, BATCH, DRAWS, seed=seed, epoch=epoch), squares)

        return made(train, order, places, fill)

    def held_out() -> Iterator[tuple[Tensor, Tensor]]:
        for split in (val, test):
            order = np.arange(len(split))

            def middles(place: slice, squares: Pixels, split: Split = split) -> None:
                numbers = np.arange(place.start, place.stop)
                centre(split, numbers, np.empty((len(numbers), 0)), squares, fraction=size / (size * 8 // 7))

            places = [slice(start, min(start + BATCH, len(split))) for start in range(0, len(split), BATCH)]
            yield from made(split, order, places, middles)

    return epoch_of, held_out()


if __name__ == "__main__":
    typer.run(main)
