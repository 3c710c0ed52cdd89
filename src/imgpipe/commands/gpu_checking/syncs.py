"""Part: train for some steps in which nothing may wait for the GPU."""

import tempfile
from pathlib import Path

import torch

from imgpipe.commands.gpu_checking.launching import Say
from imgpipe.commands.gpu_checking.outcome import Facts
from imgpipe.commands.gpu_checking.plan import Scale
from imgpipe.commands.gpu_checking.training import trained
from imgpipe.model.devices import World

WARM_UP = 4
"""Steps before, in which memory is taken and buckets are formed."""
WATCHED = 5


def found(world: World, settings: Facts, say: Say) -> Facts:
    """Train in each way, with torch raising an error in the watched steps where Python waits for the GPU.

    Returns steps, how many were watched, by the name of the way.
    """
    steps = {}
    for name, scale in settings["scales"].items():
        say(name)
        watch = _Watch()
        with tempfile.TemporaryDirectory() as folder:
            trained(Scale(**scale), world, Path(folder), after_step=watch)
        steps[name] = watch.steps - WARM_UP
    return {"steps": steps}


class _Watch:
    """Counts steps, and has torch watch some of them."""

    def __init__(self) -> None:
        self.steps = 0

    def __call__(self) -> None:
        """Note that a step is done."""
        self.steps += 1
        if self.steps == WARM_UP:
            torch.cuda.set_sync_debug_mode("error")
        if self.steps == WARM_UP + WATCHED:
            torch.cuda.set_sync_debug_mode("default")
