"""A training in several processes, to be started by the launcher, in one of which something fails.

Arguments: the folder of its checkpoints, what fails, after how many steps of this run, and in which process.
"""

import os
import sys
from dataclasses import replace
from datetime import timedelta
from itertools import count
from pathlib import Path
from signal import SIGKILL, SIGSTOP
from typing import Any

import torch
from torch import nn
from torch.nn.parallel import DistributedDataParallel
from trainings import RECIPE, classifier, goes_on

import stages  # noqa: F401
from imgpipe.common.errors import exit_on_input_error
from imgpipe.model import devices
from imgpipe.train.start import new_state
from imgpipe.train.state import TrainingState

SHORT = replace(RECIPE, epochs=4, batch_size=4)
"""4 epochs of 5 steps."""
PATIENCE = timedelta(seconds=3)


class Failing(nn.Module):
    """Gives what it gets, but for one step of training."""

    def __init__(self, what: str, step: int) -> None:
        super().__init__()
        self.what, self.step, self.steps = what, step, count()

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        if self.training and next(self.steps) == self.step:
            if self.what == "killed":
                os.kill(os.getpid(), SIGKILL)
            if self.what == "stopped":
                os.kill(os.getpid(), SIGSTOP)
            if self.what == "memory":
                raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 20.00 GiB.")
        return images


def fail_in_hook(step: int) -> None:
    """Has the hook of DistributedDataParallel raise an error in this step."""
    register, steps = DistributedDataParallel.register_comm_hook, count()

    def registered(self: DistributedDataParallel, state: object, hook: Any) -> None:
        def failing(state: object, bucket: Any) -> Any:
            if next(steps) == step:
                raise ZeroDivisionError("a fault in the hook")
            return hook(state, bucket)

        failing.__annotations__ = hook.__annotations__
        register(self, state, failing)

    DistributedDataParallel.register_comm_hook = registered  # type: ignore[method-assign]


def begun(what: str, step: int) -> TrainingState:
    return new_state(classifier(nn.BatchNorm2d(4), nn.Dropout(0.2), Failing(what, step)), SHORT)


def train() -> None:
    folder, what, step, process = Path(sys.argv[1]), sys.argv[2], int(sys.argv[3]), sys.argv[4]
    devices.PATIENCE = PATIENCE
    what = what if os.environ["RANK"] == process else "nothing"
    if what == "hook":
        fail_in_hook(step)
    with devices.joined_world("cpu") as world:
        goes_on(begun(what, step), SHORT, folder, world=world, every_steps=1)


if __name__ == "__main__":
    with exit_on_input_error():
        train()
