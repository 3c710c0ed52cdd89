"""The sections ``model`` and ``train`` of params.yaml. Importing this takes no torch."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal

from imgpipe.common.errors import InputError
from imgpipe.common.rules import SHA256, Choice, Interval, Rule, one_of, one_of_table
from imgpipe.model.crops import FITS
from imgpipe.model.description import THREADS
from imgpipe.model.names import MODEL_NAME, timm_problem
from imgpipe.train.augment import Augment
from imgpipe.train.normalisation import NORMALISATIONS
from imgpipe.train.optim import OPTIMIZERS
from imgpipe.train.processes import divisors
from imgpipe.train.sampling import CLASS_WEIGHTS, ORDERS
from imgpipe.train.schedules import SCHEDULES
from imgpipe.train.weight_names import WEIGHTS, is_a_file, is_timm_s, weights_problem

POWER_OF_TWO = Rule("a power of two (1, 2, 4, 8, ...)", lambda number: number > 0 and number & (number - 1) == 0)


@dataclass(frozen=True)
class Model:
    """The section ``model``: the network, what it sees, and the weights that training starts from."""

    name: Annotated[str, MODEL_NAME]
    image_size: Annotated[int, Interval(low=8, high=4096)]
    """Side of the square that the network sees, in pixels."""
    crop_fraction: Annotated[float, Interval(0, 1, open_low=True)]
    """In evaluation the square shows this share of an image's short side, from the middle."""
    fit: Annotated[str, one_of_table(FITS)]
    """How an image becomes a square: by its middle, or the whole of it."""
    dropout: Annotated[float, Interval(0, 1, open_high=True)]
    """Probability of dropping each input of the head."""
    weights: Annotated[str, WEIGHTS]
    weights_sha256: Annotated[str, SHA256] | None
    freeze: Literal["none", "batchnorm", "backbone"]
    """What is not trained: see ``start.freeze``."""
    unfreeze_epoch: Annotated[int, Interval(low=2)] | None
    """The first epoch, counted from 1, in which nothing is frozen."""
    normalise: Annotated[str, one_of_table(NORMALISATIONS)]

    def __post_init__(self) -> None:
        if problem := timm_problem(self.name):
            raise InputError(f"name is '{self.name}', {problem}")
        if problem := weights_problem(self.weights, self.name):
            raise InputError(f"weights is '{self.weights}', {problem}")
        if self.fit != "crop" and self.crop_fraction != 1.0:
            raise InputError(
                f"crop_fraction is {self.crop_fraction}, and fit is {self.fit}, which shows the whole image; "
                "make it 1.0"
            )
        if is_a_file(self.weights) and Path(self.weights).parts[0] == "models":
            raise InputError(
                f"weights is '{self.weights}', and DVC empties models before this stage runs; copy the file elsewhere"
            )
        if self.weights_sha256 is not None and not (is_a_file(self.weights) or is_timm_s(self.weights)):
            raise InputError(
                f"weights_sha256 is '{self.weights_sha256}', and weights is '{self.weights}', which takes none; "
                "make it null"
            )
        if self.unfreeze_epoch is not None and self.freeze == "none":
            raise InputError(f"unfreeze_epoch is {self.unfreeze_epoch}, and freeze is none; make it null")

    def frozen_in(self, epoch: int) -> str:
        """Return what is frozen in an epoch, counted from 1: ``freeze``, or from ``unfreeze_epoch`` on ``none``."""
        return "none" if self.unfreeze_epoch is not None and epoch >= self.unfreeze_epoch else self.freeze


@dataclass(frozen=True)
class Train:
    """The section ``train``: the recipe."""

    seed: Annotated[int, Interval(0, 2**32 - 1)]
    """Of the first weights, the order of the images, augmentation and dropout."""
    epochs: Annotated[int, Interval(low=1)]
    batch_size: Annotated[int, Interval(1, 2**20)]
    """Images of one update, over all processes."""
    micro_batches: Annotated[int, POWER_OF_TWO]
    """How many micro-batches of equal size a batch is cut into; the processes share them out."""
    precision: Literal["fp32", "tf32", "bf16", "fp16"]
    """Of the forward pass; fp16 with gradient scaling. tf32, also of the backward pass, is fp32 where there is none."""
    kernels: Literal["portable", "native"]
    """Code that computes the network on a CPU: see ``kernels.fix_for_network``."""
    cpu_threads: Annotated[int, THREADS]
    """Of each process on a CPU; part of the result, since sums are split among threads."""
    channels_last: bool
    compile: bool
    gradient_checkpointing: bool
    label_smoothing: Annotated[float, Interval(0, 1, open_high=True)]
    optimizer: Annotated[Callable[..., Any], Choice(OPTIMIZERS)]
    backbone_lr_factor: Annotated[float, Interval(low=0)]
    """By which the learning rate of all but the head is multiplied."""
    decay_norms_and_biases: bool
    schedule: Annotated[Callable[..., float], Choice(SCHEDULES)]
    last_batch: Literal["drop", "keep"]
    """What becomes of the images of an epoch that do not fill a batch."""
    class_weights: Annotated[Callable[..., Any], Choice(CLASS_WEIGHTS)]
    clip_grad_norm: Annotated[float, Interval(low=0, open_low=True)] | None
    """The most that the norm of the whole gradient may be."""
    ema_decay: Annotated[float, Interval(0, 1, open_high=True)] | None
    """Share that a moving average of the weights, which is then used, keeps in each step, and less in the first."""
    monitor: Literal["accuracy", "loss"]
    """What of the validation split decides which epoch is better: for the best one, early stopping and plateau."""
    early_stop_epochs: Annotated[int, Interval(low=1)] | None
    """Epochs without a better one after which training ends."""
    order: Annotated[str, one_of_table(ORDERS)]
    augment: Augment
    mixup_alpha: Annotated[float, Interval(low=0)]
    """Of the beta distribution; 0 for no mixup."""
    cutmix_alpha: Annotated[float, Interval(low=0)]
    """Of the beta distribution; 0 for no CutMix."""

    def __post_init__(self) -> None:
        if self.batch_size % self.micro_batches:
            raise InputError(
                f"micro_batches is {self.micro_batches}, which does not divide the batch_size of {self.batch_size}; "
                f"it must be {one_of(n for n in divisors(self.batch_size) if POWER_OF_TWO.allows(n))}"
            )
        if self.order == "balanced" and self.class_weights is CLASS_WEIGHTS["balanced"]:
            raise InputError(
                "order is balanced, and so is class_weights.name; either makes every class count as much as another, "
                "and both make rare ones count for more; make order shuffled or class_weights.name none"
            )

        if self.kernels == "portable" and self.precision != "fp32":
            raise InputError(
                f"precision is {self.precision}, and kernels is portable, which is for fp32 alone; make kernels native "
                "or precision fp32"
            )
        if self.kernels == "portable" and self.compile:
            raise InputError(
                "compile is true, which writes code for this processor, and kernels is portable; make kernels native "
                "or compile false"
            )

    @property
    def micro_batch_size(self) -> int:
        """Images of a micro-batch."""
        return self.batch_size // self.micro_batches
