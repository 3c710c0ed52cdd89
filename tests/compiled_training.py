"""A compiled training of few steps; ``compiled_training.py FOLDER RANK`` is one of two processes that begin it."""

import sys
from dataclasses import replace
from pathlib import Path

import torch
import torch.distributed as dist
from torch import Tensor, nn
from trainings import RECIPE, classifier, goes_on

from imgpipe.model.devices import World, set_up_computing
from imgpipe.train.start import new_state
from imgpipe.train.state import TrainingState

COMPILED = replace(RECIPE, compile=True, precision="bf16", epochs=2, batch_size=16, micro_batches=4, last_batch="keep")
"""Two steps an epoch. Of 22 images the second step has micro-batches of 4 and 2 and two fillers; of 18, one of 2."""


class Positions(nn.Module):
    """Adds a table larger than DistributedDataParallel's first bucket: where it is used, optimize_ddp cuts a network.

    What is computed before the cut is then rounded to bf16 on its way.
    """

    def __init__(self) -> None:
        super().__init__()
        self.table = nn.Parameter(torch.linspace(-1, 1, 2**18 + 1))  # a little more than a megabyte

    def forward(self, features: Tensor) -> Tensor:
        first = features[0]
        return features + self.table[: first.numel()].view_as(first)


def begun(*more: nn.Module) -> TrainingState:
    """The training before its first step, of a network with BatchNorm and dropout."""
    layers = nn.BatchNorm2d(4), nn.ReLU(), nn.Dropout(0.2), Positions(), *more
    return new_state(classifier(*layers, precision="bf16"), COMPILED)


if __name__ == "__main__":
    folder, rank = Path(sys.argv[1]), int(sys.argv[2])
    set_up_computing(cpu_threads=1, precision="fp32")
    dist.init_process_group("gloo", init_method=f"file://{folder}.meeting", rank=rank, world_size=2)
    world = World(rank, 2, torch.device("cpu"))
    three_of_four_steps = goes_on(begun(), COMPILED, folder, images=22, world=world, leave_after=3)
    assert not three_of_four_steps
    dist.destroy_process_group()
