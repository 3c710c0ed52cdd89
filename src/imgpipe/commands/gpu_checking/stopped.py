"""Part: a training that is brought to fail or waits to be stopped, for ``failures``."""

import time
from pathlib import Path
from typing import Any

import torch
from torch import nn

from imgpipe.commands.gpu_checking.launching import Say
from imgpipe.commands.gpu_checking.outcome import Facts
from imgpipe.commands.gpu_checking.plan import Scale
from imgpipe.commands.gpu_checking.training import trained
from imgpipe.model.devices import World
from imgpipe.train.processes import deferred_signals
from imgpipe.train.state import TrainingState

BEFORE = 2
"""Steps before."""
TOO_MUCH = 2**50
"""Bytes that no machine has."""


def found(world: World, settings: Facts, say: Say) -> Facts:
    """Train, and after some steps write a file for each process: ``there-RANK``, in the folder.

    settings: scale; folder; checkpoints, their folder; out_of_memory, whether the last process then asks for more
        memory than there is; pause, seconds by which each forward pass from then on is longer.
    """
    steps = 0

    def prepare(state: TrainingState) -> None:
        state.classifier.network.register_forward_pre_hook(before_forward)

    def count() -> None:
        nonlocal steps
        steps += 1

    def before_forward(module: nn.Module, images: Any) -> None:
        if steps < BEFORE:
            return
        Path(settings["folder"], f"there-{world.rank}").touch()
        if settings["out_of_memory"] and world.rank == world.size - 1:
            torch.empty(TOO_MUCH, dtype=torch.uint8, device=world.device)
        time.sleep(settings["pause"])

    with deferred_signals() as stop_signal:
        trained(
            Scale(**settings["scale"]),
            world,
            Path(settings["checkpoints"]),
            stop_signal=stop_signal,
            prepare=prepare,
            after_step=count,
        )
    return {}
