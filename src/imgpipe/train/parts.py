"""The micro-batches that an epoch is made of: how it is cut, and for each its images and all that is random about it.

A micro-batch is a *part* of a batch. The parts of a batch are shared out among the processes, in order, and summed in
a fixed tree (``reduction.py``). What is random is a function of the seed and of the part's place in the training, so it
depends neither on the number of processes nor on where the training was resumed.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

from torch import Tensor

from imgpipe.common.errors import InputError
from imgpipe.data.packed import Pixels, Split, Statistics, read_split, read_statistics
from imgpipe.model.predict import batches
from imgpipe.model.randomness import generator, random_rows
from imgpipe.train.augment import DRAWS, augmentation
from imgpipe.train.params import Train
from imgpipe.train.run import Run
from imgpipe.train.sampling import ORDERS, Floats

Plan = list[list[tuple[slice, float]]]
"""For each batch of an epoch its parts: which places of the epoch's order each takes, and its share of the batch."""


@dataclass(frozen=True)
class Splits:
    """What is trained and validated on."""

    train: Split
    val: Split
    statistics: Statistics
    class_weights: Floats | None
    """Of each class in the training loss, float32 (classes,); None where every image counts as much as another."""


def read_splits(folder: Path, recipe: Train) -> Splits:
    """Read the packed splits that are trained and validated on.

    Raises InputError where the training split does not fill a batch, or class weights name what is no class.
    """
    statistics = read_statistics(folder / "statistics.json")
    train, val = (read_split(folder / name, statistics.form) for name in ("train", "val"))
    if recipe.batch_size > len(train):
        raise InputError(
            f"params.yaml: train.batch_size is {recipe.batch_size}, more than the {len(train)} images of the "
            f"training split; at most {len(train) // recipe.micro_batches * recipe.micro_batches} fit"
        )
    return Splits(train, val, statistics, recipe.class_weights(train.labels, statistics.classes))


@dataclass(frozen=True)
class Mix:
    """How each image of a part is mixed with the one before it."""

    share: float
    """How much of an image stays: of its values where they are blended, of its area where a box is pasted."""
    box: tuple[int, int, int, int] | None
    """Top, left, bottom and right of what is pasted, in pixels; None to blend."""


@dataclass(frozen=True)
class Part:
    """A micro-batch, and all that is random about it."""

    images: Tensor
    """uint8 (n, size, size, channels)."""
    labels: Tensor
    """Numbers of the classes, int64 (n,)."""
    share: float
    """Of the images of the batch; 0 for a part that stands in for one without images."""
    mix: Mix | None
    dropout_seed: int


def cut(images: int, recipe: Train) -> Plan:
    """Cut an epoch of so many images into batches and these into parts, as ``recipe.last_batch`` has it.

    A part of a last batch that is kept may be short, and where there are no images left for it, it stands in with the
    first part's images and a share of 0, so that every process has as many parts as ever. With 6 images, batches of 4
    in 2 parts, and the last one dropped::

        [[(slice(0, 2), 0.5), (slice(2, 4), 0.5)]]
    """
    size, whole = recipe.micro_batch_size, images // recipe.batch_size * recipe.batch_size
    plan = []
    for start in range(0, images if recipe.last_batch == "keep" else whole, recipe.batch_size):
        end = min(start + recipe.batch_size, images)
        first = slice(start, min(start + size, end))
        cuts = (slice(place, min(place + size, end)) for place in range(start, start + recipe.batch_size, size))
        plan.append([(c, (c.stop - c.start) / (end - start)) if c.start < end else (first, 0.0) for c in cuts])
    return plan


def images_in(plan: Plan) -> int:
    """Return how many images these batches show."""
    return sum(place.stop - place.start for parts in plan for place, share in parts if share)


def parts_of(
    splits: Splits, plan: Plan, epoch: int, recipe: Train, run: Run, *, size: int, since: int
) -> Iterator[tuple[int, list[Part]]]:
    """Make this process's parts of the batches of an epoch.

    plan: the epoch as ``cut`` made it.
    epoch: counted from 0.
    size: side of the square images, in pixels.
    since: the first step that is wanted, where the epoch is resumed.

    Yields the number of each step and the parts of its batch. The time that they take is the clock's ``data``.
    """
    train, mine = splits.train, run.world.share_of(recipe.micro_batches)
    order = ORDERS[recipe.order](train.labels, seed=recipe.seed, epoch=epoch)
    augment = augmentation(recipe.augment, [round(255 * level) for level in splits.statistics.mean])

    def images(place: slice) -> Pixels:
        rows = random_rows(place.start, place.stop - place.start, DRAWS, seed=recipe.seed, epoch=epoch)
        return augment(train, order[place], rows, size)

    places = [place for parts in plan[since:] for place, _ in parts[mine]]
    loader = batches(train, order, places, images, threads=run.threads, device=run.world.device)
    dropout_seeds = generator("dropout", recipe.seed, epoch).integers(2**63, size=(len(plan), recipe.micro_batches))
    for step in range(since, len(plan)):
        with run.clock("data"):
            loaded = list(islice(loader, mine.stop - mine.start))
        parts = []
        for number, (squares, labels, _) in zip(range(mine.start, mine.stop), loaded, strict=True):
            _, share = plan[step][number]
            mix = draw_mix(recipe, size, epoch, step * recipe.micro_batches + number)
            parts.append(Part(squares, labels, share, mix, int(dropout_seeds[step, number])))
        yield step, parts


def draw_mix(recipe: Train, size: int, epoch: int, part: int) -> Mix | None:
    """Draw mixup or CutMix for a part, each as likely where both are on; None where both are off.

    size: side of the images, in pixels.
    epoch, part: the place in the training: the part's number among all of its epoch.

    Source: mixup, Zhang et al. 2017, section 2; CutMix, Yun et al. 2019, section 3.1. As there, the share of a CutMix
    is in the end that of the area left when the box is cut off at the image's edges.
    """
    alphas = [alpha for alpha in (recipe.mixup_alpha, recipe.cutmix_alpha) if alpha]
    if not alphas:
        return None
    random = generator("mixing", recipe.seed, epoch, part)
    cutmix = random.random() < 0.5 if len(alphas) == 2 else recipe.cutmix_alpha > 0
    alpha = recipe.cutmix_alpha if cutmix else recipe.mixup_alpha
    share = float(random.beta(alpha, alpha))
    if not cutmix:
        return Mix(share, None)
    half = size * (1 - share) ** 0.5 / 2
    y, x = (random.integers(size, size=2)).tolist()
    top, bottom, left, right = (int(min(max(edge, 0), size)) for edge in (y - half, y + half, x - half, x + half))
    return Mix(1 - (bottom - top) * (right - left) / size**2, (top, left, bottom, right))


def mixed(images: Tensor, mix: Mix | None) -> Tensor:
    """Mix each image with the one before it, the first with the last.

    images: uint8 (n, size, size, channels).

    Returns the same, as float32 where they are blended.
    """
    if mix is None:
        return images
    others = images.roll(1, 0)
    if mix.box is None:
        return images.float() * mix.share + others.float() * (1 - mix.share)
    top, left, bottom, right = mix.box
    pasted = images.clone()
    pasted[:, top:bottom, left:right] = others[:, top:bottom, left:right]
    return pasted
