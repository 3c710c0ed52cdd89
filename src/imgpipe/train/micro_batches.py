"""The micro-batches of an epoch: how it is cut into batches and these into micro-batches, and what is in each.

Every batch, that is every step of the optimizer, has the same number of micro-batches. They are shared out among the
processes in order, and their gradients are summed in a fixed tree (``reduction.py``). Random numbers are computed from
the seed and from the place in the training, not from a generator's state, so they depend neither on the number of
processes nor on where the training was resumed.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

from torch import Tensor

from imgpipe.common.errors import InputError
from imgpipe.data.packed import Pixels, Split, Statistics, check_content, read_packed
from imgpipe.model.crops import fitted
from imgpipe.model.predict import batches
from imgpipe.model.randomness import generator, random_rows
from imgpipe.model.runtime import place_on_machine
from imgpipe.train.augment import DRAWS, augmentation
from imgpipe.train.params import Train
from imgpipe.train.run import Run
from imgpipe.train.sampling import ORDERS, Floats

Plan = list[list[tuple[slice, float]]]
"""For each batch of an epoch its micro-batches: a slice of the epoch's order of images, and its weight in the batch."""


@dataclass(frozen=True)
class Splits:
    """The packed splits that are trained and validated on."""

    train: Split
    val: Split
    statistics: Statistics
    class_weights: Floats | None
    """Of each class in the training loss, float32 (classes,); None where every image counts as much as another."""


def read_splits(folder: Path, recipe: Train, *, fit: str) -> Splits:
    """Read the packed splits that are trained and validated on.

    fit: how an image becomes a square, one of ``crops.FITS``.

    Raises InputError where they can't be read, the training split does not fill a batch, or class weights name what is
    no class.
    """
    statistics, packed = read_packed(folder, ("train", "val"))
    train, val = packed["train"], packed["val"]
    if recipe.batch_size > len(train):
        raise InputError(
            f"params.yaml: train.batch_size is {recipe.batch_size}, more than the {len(train)} images of the "
            f"training split; at most {len(train) // recipe.micro_batches * recipe.micro_batches} fit"
        )
    return Splits(fitted(train, fit), val, statistics, recipe.class_weights(train.labels, statistics.classes))


def check_splits(splits: Splits, folder: Path) -> None:
    """Check this process's share of the packed images: see ``packed.check_content``. Each machine has its own copy."""
    part, parts = place_on_machine()
    for name, split in (("train", splits.train), ("val", splits.val)):
        check_content(split, folder / name, part=part, parts=parts)


@dataclass(frozen=True)
class Mix:
    """How each image of a micro-batch is mixed with the one before it."""

    kept: float
    """How much of an image is kept: of its values where they are blended, of its area where a box is pasted."""
    box: tuple[int, int, int, int] | None
    """Top, left, bottom and right of what is pasted, in pixels; None to blend."""


@dataclass(frozen=True)
class MicroBatch:
    """The images of a micro-batch, and all that is random about it."""

    images: Tensor
    """uint8 (n, size, size, channels)."""
    labels: Tensor
    """Numbers of the classes, int64 (n,)."""
    weight: float
    """Its share of the batch's images; 0 for a filler without images of its own."""
    mix: Mix | None
    dropout_seed: int


def cut(images: int, recipe: Train) -> Plan:
    """Plan an epoch of so many images: slices of its order for each batch and micro-batch. No image is read yet.

    The images that do not fill a batch are dropped or kept as ``recipe.last_batch`` says. A kept last batch has as many
    micro-batches as the others, so that every process has its own: they are filled in order, and those that stay empty
    are fillers, which repeat the first one's images with a weight of 0.

    With batches of 8 in 4 micro-batches, 11 images make a last batch of 3::

        [(slice(8, 10), 2 / 3), (slice(10, 11), 1 / 3), (slice(8, 10), 0.0), (slice(8, 10), 0.0)]
    """
    last = images if recipe.last_batch == "keep" else images // recipe.batch_size * recipe.batch_size
    plan: Plan = []
    for start in range(0, last, recipe.batch_size):
        end = min(start + recipe.batch_size, images)
        batch: list[tuple[slice, float]] = []
        for low in range(start, start + recipe.batch_size, recipe.micro_batch_size):
            high = min(low + recipe.micro_batch_size, end)
            if low < end:
                batch.append((slice(low, high), (high - low) / (end - start)))
            else:
                first, _ = batch[0]
                batch.append((first, 0.0))  # a filler
        plan.append(batch)
    return plan


def images_in(plan: Plan) -> int:
    """Return how many images these batches show."""
    return sum(span.stop - span.start for batch in plan for span, weight in batch if weight)


def micro_batches_of(
    splits: Splits, plan: Plan, epoch: int, recipe: Train, run: Run, *, size: int, first_step: int
) -> Iterator[tuple[int, list[MicroBatch]]]:
    """Make this process's micro-batches of an epoch.

    plan: the epoch as ``cut`` made it.
    epoch: counted from 0.
    size: side of the square images, in pixels.
    first_step: the first that is wanted, where the epoch is resumed.

    Yields the number of each step and its micro-batches. Waiting for them counts as ``data`` on the clock.
    """
    train, mine = splits.train, run.world.micro_batches_of_rank(recipe.micro_batches)
    order = ORDERS[recipe.order](train.labels, seed=recipe.seed, epoch=epoch)
    augment = augmentation(recipe.augment, [round(255 * level) for level in splits.statistics.mean])

    def fill(span: slice, squares: Pixels) -> None:
        rows = random_rows(span.start, span.stop - span.start, DRAWS, seed=recipe.seed, epoch=epoch)
        augment(train, order[span], rows, squares)

    # the loader makes them one after the other, also across steps; each step takes as many as are this process's
    spans = [span for batch in plan[first_step:] for span, _ in batch[mine]]
    loader = batches(train, order, spans, fill, size=size, threads=run.threads, device=run.world.device)
    dropout_seeds = generator("dropout", recipe.seed, epoch).integers(2**63, size=(len(plan), recipe.micro_batches))
    for step in range(first_step, len(plan)):
        with run.clock("data"):
            loaded = list(islice(loader, mine.stop - mine.start))
        made = []
        for number, (images, labels, _) in zip(range(mine.start, mine.stop), loaded, strict=True):
            _, weight = plan[step][number]
            mix = draw_mix(recipe, size, epoch, step * recipe.micro_batches + number)
            made.append(MicroBatch(images, labels, weight, mix, int(dropout_seeds[step, number])))
        yield step, made


def draw_mix(recipe: Train, size: int, epoch: int, number: int) -> Mix | None:
    """Draw mixup or CutMix for a micro-batch; either with the same probability where both are on.

    size: side of the images, in pixels.
    epoch, number: the place in the training: the micro-batch's number among all of its epoch.

    Returns None where both are off.

    Source: mixup, Zhang et al. 2017, section 2; CutMix, Yun et al. 2019, section 3.1. As there, what a CutMix keeps is
    recomputed from the box as it is cut off at the image's edges.
    """
    alphas = [alpha for alpha in (recipe.mixup_alpha, recipe.cutmix_alpha) if alpha]
    if not alphas:
        return None
    random = generator("mixing", recipe.seed, epoch, number)
    cutmix = random.random() < 0.5 if len(alphas) == 2 else recipe.cutmix_alpha > 0
    alpha = recipe.cutmix_alpha if cutmix else recipe.mixup_alpha
    kept = float(random.beta(alpha, alpha))
    if not cutmix:
        return Mix(kept, None)
    half = size * (1 - kept) ** 0.5 / 2
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
        return images.float() * mix.kept + others.float() * (1 - mix.kept)
    top, left, bottom, right = mix.box
    pasted = images.clone()
    pasted[:, top:bottom, left:right] = others[:, top:bottom, left:right]
    return pasted
