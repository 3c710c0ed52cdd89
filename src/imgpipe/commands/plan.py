"""Plan params.yaml for images: rules that go from what was seen to values, each with its reason.

So nnU-Net plans segmentation (Isensee et al. 2021): a fingerprint of the data, then rules, then a plan on paper. To add
a rule, write a function that makes choices and a line in RULES; docs/start.md has the table.
"""

import math
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from imgpipe.commands.fingerprint import Fingerprint
from imgpipe.commands.params_file import values_of
from imgpipe.common.wording import are, counted
from imgpipe.data.packed import MOST_LEVELS
from imgpipe.model.crops import levels_for

PHOTO_SIDE = 64
"""Pixels of the short side above which images are taken for photos."""
GREY = 0.99
"""Share of grey images from which all are taken for grey."""
SHOWN_IN_TUNING = 24_000
"""Images that fine-tuning shows in all its epochs, about."""
SHOWN_FROM_SCRATCH = 700_000
"""Images that training from scratch shows, about."""
BATCHES = 16
"""Batches of an epoch at least."""
PACK_MARGIN = 8 / 7
"""By which a photo is packed larger than the network sees it at the least: evaluation then shows 0.875 of it."""
MIRRORED = re.compile(r"[0-9a-z]|(.*[^a-z])?(left|right)([^a-z].*)?", flags=re.IGNORECASE)
"""What a class is called that may be another, or none, in the mirror."""


@dataclass(frozen=True)
class Machine:
    """The computer for which the plan is made."""

    cores: int
    gpus: int
    memory: int
    """Bytes."""


@dataclass
class Plan:
    """Values for params.yaml, chosen one after the other."""

    seen: Fingerprint
    machine: Machine
    recipes: Mapping[str, Mapping[str, Any]]
    """Sections by the name of the recipe."""
    written: Mapping[str, Any]
    """Values that a user wrote and that stay, by their keys in full."""
    values: dict[str, Any] = field(default_factory=dict)
    """What is chosen."""
    reasons: dict[str, str] = field(default_factory=dict)
    by_recipe: set[str] = field(default_factory=set)
    """The keys whose values are as a recipe has them."""

    def choose(self, key: str, value: Any, reason: str) -> None:
        """Choose a value, unless a user wrote one."""
        if key not in self.written:
            self.values[key], self.reasons[key] = value, reason
            self.by_recipe.discard(key)

    def __getitem__(self, key: str) -> Any:
        """Return the value that holds, a user's or the one chosen."""
        return self.written[key] if key in self.written else self.values[key]

    @property
    def images(self) -> int:
        """How many images there are to train on, once missing splits are cut."""
        cut = [self[f"prepare.{name}_fraction"] for name in ("val", "test") if not self.seen.splits[name]]
        return self.seen.for_training - sum(round(float(share) * self.seen.for_training) for share in cut)

    @property
    def of_photos(self) -> bool:
        """Whether the images are photos, or the like, rather than small."""
        return self.seen.median_side > PHOTO_SIDE


def source(plan: Plan) -> None:
    """Images come from the path that was given."""
    seen = plan.seen
    plan.choose("download.source", seen.source, f"what {seen.location} is")
    plan.choose("download.location", seen.location, "as given")
    plan.choose("download.sha256", None, "DVC watches the path itself")


def layout(plan: Plan) -> None:
    """A table tells classes apart, else folders, else file names: the first of them that does."""
    for key, value in plan.seen.layout.values.items():
        plan.choose(f"prepare.{key}", value, f"classes are told apart {plan.seen.layout.says}")


def splits(plan: Plan) -> None:
    """Given splits stay; missing ones are cut from train, by groups where there are any: 15 %, of few images 20 %."""
    seen = plan.seen
    given = [name for name in ("val", "test") if seen.splits[name]]
    says = f"{' and '.join(given)} given" if given else "the source gives no splits"
    if seen.groups:
        plan.choose("prepare.split", "grouped", f"{counted(seen.groups, 'group')}, none of which may be on two sides")
    else:
        cut = "" if len(given) == 2 else "; what is missing is cut from train, each class in proportion"
        plan.choose("prepare.split", "stratified", f"{says}{cut}")
    one_of_each_class = math.ceil(100 * len(seen.classes) / seen.for_training) / 100 if seen.for_training else 0.0
    fraction = max(0.2 if seen.for_training < 500 else 0.15, one_of_each_class)
    for name in ("val", "test"):
        cut = f"{round(fraction * seen.for_training):,} of {seen.for_training:,} images"
        given_already = f"not used: {name} is given, {counted(seen.splits[name], 'image')}"
        plan.choose(f"prepare.{name}_fraction", fraction, given_already if name in given else cut)
    all_images = len(seen.looks) + len(seen.unreadable)
    share = len(seen.unreadable) / all_images
    if share > 0.01:
        reason = f"{len(seen.unreadable)} of {all_images:,} can't be read and {are(len(seen.unreadable))} left out"
        plan.choose("prepare.max_rejected", round(share + 0.01, 2), reason)
    else:
        plan.choose("prepare.max_rejected", 0.01, f"{len(seen.unreadable)} of {all_images:,} can't be read")


def recipe(plan: Plan) -> None:
    """Photos (short sides above 64 pixels) are fine-tuned; smaller images are trained on from scratch."""
    seen = plan.seen
    if plan.of_photos:
        name, why = "finetune", f"photos: short sides of {seen.median_side} pixels"
    elif seen.grey_count >= GREY * len(seen.looks):
        name, why = "mnist-simplecnn", f"small grey images: short sides of {seen.median_side} pixels"
    else:
        name, why = "cifar10-resnet9-narrow", f"small images in colour: short sides of {seen.median_side} pixels"
    sections = {section: plan.recipes[name][section] for section in ("pack", "model", "train")}
    for key, value in values_of(sections):
        plan.choose(key, value, f"recipe {name}")
    plan.by_recipe = set(plan.values) & {key for key, _ in values_of(sections)}
    plan.choose("model.name", plan["model.name"], f"recipe {name}, for {why}")


def sizes(plan: Plan) -> None:
    """Photos are seen at 224 pixels on a GPU and 160 on a CPU, small images at their own size."""
    side = plan.seen.median_side
    if not plan.of_photos:
        size = max(8, round(side / 4) * 4)
        plan.choose("model.image_size", size, f"short sides: median {side}")
        plan.choose("model.crop_fraction", 1.0, "small images are seen whole")
        plan.choose("pack.image_size", plan["model.image_size"], "as the network sees them")
        return
    on, size = ("a GPU", 224) if plan.machine.gpus else ("a CPU", 160)
    if side < 0.8 * size:
        size = max(96, 32 * round(1.28 * side / 32))
        plan.choose("model.image_size", size, f"short sides: median {side}, enlarged by a quarter at most")
    else:
        plan.choose("model.image_size", size, f"what {on} trains on in minutes; short sides: median {side}")
    size = plan["model.image_size"]
    packed, why = round(size * PACK_MARGIN), f"8/7 of the {size} pixels that the network sees"
    plan.choose("model.crop_fraction", 0.875, f"{size} of {packed} pixels")
    if plan["train.augment.crop.name"] == "resized":
        scale_low = plan["train.augment.crop.resized.scale_low"]
        sharp = sharp_size(size, scale_low, plan.seen.longer)
        if packed < sharp <= side:
            packed, why = sharp, f"no crop is enlarged: {scale_low} of an image has the {size} x {size} pixels seen"
        elif packed < side < sharp:
            packed, why = side, f"short sides: median {side}; random crops are no sharper than the images"
    plan.choose("pack.image_size", packed, why)
    levels = levels_of(plan["pack.image_size"], size, plan.seen.longer)
    plan.choose("pack.levels", levels, f"the whole of an image, too, is a crop of {size} x {size} pixels")


def sharp_size(size: int, scale_low: float, longer: float) -> int:
    """Return the short side in pixels of which no random crop is enlarged.

    size: side of the square that the network sees, in pixels.
    scale_low: smallest share of an image's area that a crop has.
    longer: times that an image's long side is as long as its short side.

    >>> sharp_size(160, 0.25, 4 / 3)
    278
    """
    return math.ceil(size / math.sqrt(scale_low * longer))


def levels_of(packed: int, size: int, longer: float) -> int:
    """Return how many levels an image pyramid needs for the largest crop, the whole of an image.

    packed: short side of the packed images, in pixels.
    size: side of the square that the network sees, in pixels.
    longer: times that an image's long side is as long as its short side.

    >>> levels_of(183, 160, 4 / 3), levels_of(234, 160, 4 / 3)
    (1, 2)
    """
    whole = np.array([round(packed**2 * longer)])
    return 1 + int(levels_for(whole, size, MOST_LEVELS)[0])


def channels(plan: Plan) -> None:
    """Grey images are packed grey, unless the weights to start from are of colour."""
    grey = f"{plan.seen.grey_count:,} of {len(plan.seen.looks):,} images {are(plan.seen.grey_count)} grey"
    if plan["model.weights"] != "none":
        plan.choose("pack.channels", 3, f"the weights to start from take colour; {grey}")
    else:
        plan.choose("pack.channels", 1 if plan.seen.grey_count >= GREY * len(plan.seen.looks) else 3, grey)


def batches(plan: Plan) -> None:
    """A batch is as large as the recipe's, or as leaves 16 batches an epoch; the last one is kept."""
    images = plan.images
    size = plan["train.batch_size"]
    if size > images / BATCHES:
        size = max(4, 2 ** int(max(2, images / BATCHES)).bit_length() // 2)
        plan.choose("train.batch_size", size, f"{images:,} images to train on: {BATCHES} batches an epoch or more")
    parts = plan["train.micro_batches"]
    while parts < plan.machine.gpus:
        parts *= 2
    plan.choose("train.micro_batches", min(parts, size), "a power of two that GPUs or processes share out")
    plan.choose("train.last_batch", "keep", "no image is left out of an epoch")


def epochs(plan: Plan) -> None:
    """Epochs show about 24,000 images in fine-tuning (5 to 30 epochs) and 700,000 from scratch (15 to 60)."""
    images = plan.images
    fewest, most, shown = (5, 30, SHOWN_IN_TUNING) if plan.of_photos else (15, 60, SHOWN_FROM_SCRATCH)
    count = min(most, max(fewest, round(shown / images)))
    plan.choose("train.epochs", count, f"{images:,} images an epoch; {fewest} to {most} epochs that show {shown:,}")


def flips(plan: Plan) -> None:
    """Images are mirrored, unless classes are single digits or letters, or are called left or right."""
    odd = [name for name in plan.seen.classes if MIRRORED.fullmatch(name)]
    if odd:
        plan.choose("train.augment.horizontal_flip", 0.0, f"class '{odd[0]}' may be another, or none, in the mirror")
        plan.choose("evaluate.flips", False, "images are not mirrored")
    else:
        plan.choose("train.augment.horizontal_flip", 0.5, "no class's name says that it has a side")


def hardware(plan: Plan) -> None:
    """On a GPU bf16, whose kernels are its own; on a CPU fp32, and one process that has all cores, 8 at most."""
    machine = plan.machine
    if machine.gpus:
        plan.choose("train.precision", "bf16", f"{machine.gpus} GPUs")
        plan.choose("train.kernels", "native", "portable ones are for fp32")
        return
    plan.choose("train.precision", "fp32", "no GPU")
    plan.choose("train.cpu_threads", min(8, machine.cores), f"{machine.cores} cores; part of the result")


def storage(plan: Plan) -> None:
    """Images are packed raw, or as JPEG where they would take more than half of the memory."""
    size, n = plan["pack.image_size"], len(plan.seen.looks)
    pixels = size * size * plan.seen.longer * sum(4**-level for level in range(plan["pack.levels"]))
    raw = round(n * pixels * plan["pack.channels"])
    fits = raw <= plan.machine.memory / 2
    reason = f"{raw / 1e6:,.0f} MB as raw pixels; memory is {plan.machine.memory / 1e6:,.0f} MB"
    plan.choose("pack.encoding", "raw" if fits else "jpeg", reason)


RULES: tuple[Callable[[Plan], None], ...] = (
    source, layout, splits, recipe, sizes, channels, batches, epochs, flips, hardware, storage,
)  # fmt: skip
"""In their order; a later one may choose anew what an earlier one chose."""


def planned(
    seen: Fingerprint,
    machine: Machine,
    recipes: Mapping[str, Mapping[str, Any]],
    written: Mapping[str, Any],
) -> Plan:
    """Return the plan for images on a machine.

    recipes: sections by the name of the recipe.
    written: values that a user wrote and that stay, by their keys in full.
    """
    plan = Plan(seen, machine, recipes, written)
    for rule in RULES:
        rule(plan)
    return plan
