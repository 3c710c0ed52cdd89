"""A training on synthetic images for the checks, by the code that trains, and digests of all that it changes."""

import hashlib
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from functools import partial
from itertools import cycle
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.distributed as dist
from torch import Tensor

from imgpipe.commands.gpu_checking.plan import Scale
from imgpipe.data.packed import Form, Split, Statistics
from imgpipe.model.devices import World, of_first_process
from imgpipe.model.runtime import Runtime
from imgpipe.train import optim, schedules
from imgpipe.train.augment import Augment, no_policy, resized
from imgpipe.train.loop import fit
from imgpipe.train.micro_batches import MicroBatch, Splits, cut, micro_batches_of
from imgpipe.train.params import Model, Train
from imgpipe.train.run import Run, opened_run
from imgpipe.train.sampling import unweighted
from imgpipe.train.start import new_state, untrained_classifier
from imgpipe.train.state import TrainingState
from imgpipe.train.watching import Clock

CLASSES = [f"class {i}" for i in range(10)]

Values = dict[str, Tensor | str]
"""All that a training changes, by its path in the state: tensors, and other values as texts."""


def recipe_of(scale: Scale) -> Train:
    """Make the recipe of a training: SGD with momentum, random crops and flips, mixup and CutMix."""
    augment = Augment(
        crop=partial(resized, scale_low=0.3, scale_high=1.0, ratio_low=0.75, ratio_high=4 / 3),
        horizontal_flip=0.5,
        vertical_flip=0.0,
        rotation=0.0,
        policy=no_policy,
        erasing=0.0,
    )
    return Train(
        seed=1,
        epochs=scale.epochs,
        batch_size=scale.batch,
        micro_batches=scale.parts,
        precision=scale.precision,  # type: ignore[arg-type]  # of JSON
        kernels="native",
        cpu_threads=1,
        channels_last=True,
        compile=scale.compile,
        gradient_checkpointing=False,
        label_smoothing=0.1,
        optimizer=partial(optim.sgd, lr=0.05, momentum=0.9, weight_decay=0.0005, nesterov=True),
        backbone_lr_factor=1.0,
        decay_norms_and_biases=False,
        schedule=partial(schedules.cosine, warmup_epochs=0),
        last_batch="keep",
        class_weights=unweighted,
        clip_grad_norm=None,
        ema_decay=scale.ema_decay,
        monitor="loss",
        early_stop_epochs=None,
        order="shuffled",
        augment=augment,
        mixup_alpha=0.2,
        cutmix_alpha=1.0,
    )


def model_of(scale: Scale) -> Model:
    """Make the section ``model`` of a training from random weights."""
    return Model(
        name=scale.network,
        image_size=scale.side,
        crop_fraction=1.0,
        fit="crop",
        dropout=scale.dropout,
        weights="none",
        weights_sha256=None,
        freeze="none",
        unfreeze_epoch=None,
        normalise="training",
    )


def splits_of(scale: Scale) -> Splits:
    """Make images of noise: those of an epoch, and half a batch to validate."""
    statistics = statistics_of(scale)
    train = _noise(scale.batch * scale.steps + scale.rest, statistics.form)
    return Splits(train, _noise(scale.batch // 2, statistics.form), statistics, None)


def statistics_of(scale: Scale) -> Statistics:
    """Return the statistics of noise, in images an eighth larger than what the network sees."""
    form = Form(image_size=scale.side * 9 // 8, enlarge=True, channels=3, encoding="raw", jpeg_quality=90, levels=1)
    return Statistics(CLASSES, form, mean=[0.5] * 3, std=[0.29] * 3)


def _noise(images: int, form: Form) -> Split:
    """Make a split of noise, the same for the same number of images."""
    numbers, side = np.random.default_rng(images), form.image_size
    each = side * side * form.channels
    return Split(
        form=form,
        content=numbers.integers(0, 256, images * each, dtype=np.uint8),
        offsets=np.arange(images) * each,
        lengths=np.full(images, each),
        heights=np.full(images, side),
        widths=np.full(images, side),
        labels=numbers.integers(0, len(CLASSES), images),
        checksums=np.zeros(images, np.int64),
        files=[f"{i}.png" for i in range(images)],
    )


def new_training(scale: Scale, world: World) -> TrainingState:
    """Make the state of a training before its first step."""
    recipe = recipe_of(scale)
    classifier = untrained_classifier(model_of(scale), recipe, statistics_of(scale), device=world.device.type)
    return new_state(classifier.to(world.device), recipe)


def batches_of(scale: Scale, world: World, *, threads: int) -> Iterator[list[MicroBatch]]:
    """Make this process's micro-batches of each step as training does, epoch after epoch without end."""
    recipe, splits = recipe_of(scale), splits_of(scale)
    run = Run(world, threads, lambda: 0, lambda stopped_by: None, Clock(), lambda: None)
    plan = cut(len(splits.train), recipe)
    for epoch in cycle(range(2)):
        for _, parts in micro_batches_of(splits, plan, epoch, recipe, run, size=scale.side, first_step=0):
            yield parts


def trained(
    scale: Scale,
    world: World,
    checkpoints: Path,
    *,
    stop_signal: Callable[[], int] = lambda: 0,
    prepare: Callable[[TrainingState], None] = lambda state: None,
    after_step: Callable[[], None] = lambda: None,
) -> TrainingState:
    """Train, from the newest checkpoint where there is one, and return the state at the end.

    checkpoints: their folder.
    stop_signal: see ``Run``.
    prepare: is called with the state before the first step.
    after_step: is called after each step.

    Raises what ``fit`` raises: Interrupted, once the state is saved, where a signal stops it.
    """
    state = new_training(scale, world)
    prepare(state)
    runtime = Runtime(
        processes=world.size,
        threads=1,
        device=world.device.type,  # type: ignore[arg-type]  # of torch
        checkpoint_every=1e9,
        checkpoint_every_steps=None,
        tensorboard=False,
        profile_steps=0,
    )
    with opened_run(state, runtime, world, stop_signal, checkpoints=checkpoints, folder=checkpoints) as run:
        watched: Run = replace(run, profile_step=after_step)
        for _ in fit(state, splits_of(scale), model_of(scale), recipe_of(scale), watched):
            pass
    return state


def values_of(state: TrainingState) -> Values:
    """Return all that a training changes, on the CPU."""
    return dict(_flat("", state.saved()))


def _flat(path: str, value: Any) -> list[tuple[str, Tensor | str]]:
    """Return what is in nested dicts and lists, by paths such as ``classifier.network.conv1.weight``."""
    if isinstance(value, Tensor):
        return [(path, value.detach().cpu())]
    items = value.items() if isinstance(value, Mapping) else enumerate(value) if isinstance(value, list) else None
    if items is None:
        return [(path, repr(value))]
    return [one for key, inner in items for one in _flat(f"{path}.{key}" if path else str(key), inner)]


def digest_of(values: Values) -> str:
    """Digest values: two are equal where all bits are."""
    digest = hashlib.sha256()
    for name, value in values.items():
        digest.update(name.encode())
        digest.update(value.encode() if isinstance(value, str) else _bits(value).numpy().tobytes())
    return digest.hexdigest()


def _bits(tensor: Tensor) -> Tensor:
    """Return the bytes of a tensor, in the order of its elements."""
    return tensor.contiguous().flatten().view(torch.uint8) if tensor.numel() else tensor.new_empty(0, dtype=torch.uint8)


def difference(mine: Values, other: Values) -> str | None:
    """Say which value first differs between two trainings, and by how much; None where none does."""
    for name in [*mine, *(name for name in other if name not in mine)]:
        a, b = mine.get(name, "absent"), other.get(name, "absent")
        if isinstance(a, Tensor) and isinstance(b, Tensor) and a.shape == b.shape:
            if not torch.equal(_bits(a), _bits(b)):
                apart = (a.double() - b.double()).abs()
                count = int((apart != 0).sum())
                return f"first in {name}: {count:,} of {a.numel():,} numbers, by {float(apart.max()):.3g} at most"
        elif isinstance(a, Tensor) or isinstance(b, Tensor) or a != b:
            return f"first in {name}: {_short(a)} and {_short(b)}"
    return None


def _short(value: Tensor | str) -> str:
    return f"a tensor of {list(value.shape)}" if isinstance(value, Tensor) else f"{value:.60}"


def gathered(value: Any, world: World) -> list[Any]:
    """Return the value of every process, in the order of their ranks."""
    every = [value] * world.size
    if world.size > 1:
        dist.all_gather_object(every, value)
    return every


def differences_from_first(values: Values, world: World) -> dict[str, str]:
    """Compare what the processes have. Every process calls it.

    Returns, by the number of a process that has not what the first has, what differs.
    """
    digests = gathered(digest_of(values), world)
    if len(set(digests)) == 1:
        return {}
    mine = difference(values, of_first_process(values, world))
    return {str(rank): said for rank, said in enumerate(gathered(mine, world)) if said}
