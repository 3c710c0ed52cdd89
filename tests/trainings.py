"""A training that takes a moment: random images of 8 x 8 pixels in 3 classes, a small network, a plain recipe."""

from dataclasses import replace
from functools import partial
from itertools import count
from pathlib import Path
from signal import SIGTERM
from typing import Any

import numpy as np
import torch
from samples import described, form
from torch import nn

from imgpipe.data.packed import Integers, Pixels, Split, Statistics
from imgpipe.model.classifier import Classifier
from imgpipe.model.devices import World
from imgpipe.train import optim, schedules
from imgpipe.train.augment import Augment, no_policy, padded
from imgpipe.train.checkpoints import resumed
from imgpipe.train.loop import fit
from imgpipe.train.micro_batches import Splits
from imgpipe.train.params import Model, Train
from imgpipe.train.processes import Interrupted
from imgpipe.train.run import Run
from imgpipe.train.sampling import unweighted
from imgpipe.train.start import new_state
from imgpipe.train.state import TrainingState
from imgpipe.train.watching import Clock

ALONE = World(0, 1, torch.device("cpu"))
CLASSES = ["a", "b", "c"]
SGD = partial(optim.sgd, lr=0.1, momentum=0.9, weight_decay=0.01, nesterov=False)

MODEL = Model(
    name="simple_cnn",
    image_size=8,
    crop_fraction=1.0,
    fit="crop",
    dropout=0.0,
    weights="none",
    weights_sha256=None,
    freeze="none",
    unfreeze_epoch=None,
    normalise="training",
)
AUGMENT = Augment(
    crop=partial(padded, padding=1),
    horizontal_flip=0.5,
    vertical_flip=0.0,
    rotation=0.0,
    policy=no_policy,
    erasing=0.0,
)
RECIPE = Train(
    seed=0,
    epochs=3,
    batch_size=8,
    micro_batches=2,
    precision="fp32",
    kernels="native",
    cpu_threads=1,
    channels_last=True,
    compile=False,
    gradient_checkpointing=False,
    label_smoothing=0.0,
    optimizer=SGD,
    backbone_lr_factor=1.0,
    decay_norms_and_biases=True,
    schedule=partial(schedules.constant, warmup_epochs=0),
    last_batch="drop",
    class_weights=unweighted,
    clip_grad_norm=None,
    ema_decay=None,
    monitor="accuracy",
    early_stop_epochs=None,
    order="shuffled",
    augment=AUGMENT,
    mixup_alpha=0.0,
    cutmix_alpha=0.0,
)


def classifier(*layers: nn.Module, precision: str = "fp32") -> Classifier:
    """A convolution and a linear layer, and what is between them, always with the same weights."""
    torch.manual_seed(1)
    network = nn.Sequential(nn.Conv2d(1, 4, 3), nn.ReLU(), *layers, nn.Flatten(), nn.Linear(4 * 6 * 6, 3))
    return Classifier(network, [0.4], [0.3], described(classes=CLASSES, precision=precision))


def random_split(images: int) -> Split:
    """Images of noise, always the same, with labels at random."""
    random = np.random.default_rng(0)
    return split_of(random.integers(0, 256, images * 64, dtype=np.uint8), random.integers(0, 3, images))


def split_of(content: Pixels, labels: Integers) -> Split:
    """Grey images of 8 x 8 pixels with these labels."""
    images = len(labels)
    return Split(
        form=form(),
        content=content.ravel(),
        offsets=np.arange(images) * 64,
        lengths=np.full(images, 64),
        heights=np.full(images, 8),
        widths=np.full(images, 8),
        labels=labels,
        checksums=np.zeros(images, np.int64),
        files=[f"{i}.png" for i in range(images)],
    )


def splits(recipe: Train = RECIPE, train: int = 21, val: int = 5) -> Splits:
    """Random splits of so many images."""
    training = random_split(train)
    statistics = Statistics(CLASSES, form(), mean=[0.5], std=[0.3])
    return Splits(training, random_split(val), statistics, recipe.class_weights(training.labels, CLASSES))


def run(**changes: Any) -> Run:
    """One process that saves nothing, but for the changes."""
    alone = Run(
        world=ALONE,
        threads=1,
        stop_signal=lambda: 0,
        save=lambda stopped_by: None,
        clock=Clock(),
        profile_step=lambda: None,
    )
    return replace(alone, **changes)


def trained(recipe: Train, *layers: nn.Module, model: Model = MODEL, threads: int = 1) -> TrainingState:
    """The state at the end of a training on random splits."""
    state = new_state(classifier(*layers, precision=recipe.precision), recipe)
    history = list(fit(state, splits(recipe), model, recipe, run(threads=threads)))
    assert history == state.history
    return state


def goes_on(
    state: TrainingState,
    recipe: Train,
    folder: Path,
    *,
    images: int = 21,
    world: World = ALONE,
    leave_after: int | None = None,
    every_steps: int | None = None,
) -> bool:
    """Trains the state from the folder's newest checkpoint, for so many steps or to the end; whether it came there."""
    steps = count(1)

    def asked() -> int:
        return SIGTERM if next(steps) == leave_after else 0

    try:
        with resumed(state, folder, world, every_seconds=1e9, every_steps=every_steps, stop_signal=lambda: 0) as save:
            here = run(world=world, stop_signal=asked, save=save)
            list(fit(state, splits(recipe, train=images, val=4), MODEL, recipe, here))
    except Interrupted as interrupted:
        assert interrupted.code == 143
        return False
    return True


def weights_of(state: TrainingState) -> list[torch.Tensor]:
    """Copies of the weights that the training gives."""
    return [parameter.detach().clone() for parameter in state.used.parameters()]
