"""How the hardware is used. No stage depends on these values: none may change a result, save that of the device."""

import os
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

from imgpipe.common.rules import Interval
from imgpipe.data.parallel import cores

DEVICE = "params.yaml: runtime.device is"

LAUNCHER = "IMGPIPE_LAUNCHER"
"""Environment variable by which our launcher of processes (``train.launcher``) tells them its own number."""

DRIVER = Path("/proc/driver/nvidia/version")
"""Is there where the machine has NVIDIA's driver."""


@dataclass(frozen=True)
class Runtime:
    """The section ``runtime`` of params.yaml."""

    processes: Literal["auto"] | Annotated[int, Interval(low=1)]
    """How many train on each machine; auto: one a GPU, or cores / train.cpu_threads."""
    threads: Literal["auto"] | Annotated[int, Interval(low=1)]
    """How many make batches, in each process; auto: half of its share of the cores, or with a GPU all but two."""
    device: Literal["auto", "cpu", "cuda"]
    checkpoint_every: Annotated[float, Interval(low=0)]
    """Seconds between two checkpoints; the first comes after ``checkpoints.FIRST`` at the latest."""
    checkpoint_every_steps: Annotated[int, Interval(low=1)] | None
    """Steps between two checkpoints, in addition."""
    tensorboard: bool
    """Whether curves for TensorBoard are written."""
    profile_steps: Annotated[int, Interval(low=0)]
    """Steps of which torch's profiler writes a trace; 0 for none."""

    def loader_threads(self, device: str) -> int:
        """Return how many threads of this process make batches.

        device: cpu, whose cores compute the network, too; or cuda, where it is one thread that starts what the GPU
            computes, and another in the backward pass.
        """
        if self.threads != "auto":
            return self.threads
        share = cores() // place_on_machine()[1]
        return max(1, share // 2 if device == "cpu" else share - 2)


def place_on_machine() -> tuple[int, int]:
    """Return the number of this process among those that train on this machine, from 0, and how many these are."""
    return int(os.environ.get("LOCAL_RANK", "0")), int(os.environ.get("LOCAL_WORLD_SIZE", "1"))


def first_of_machine() -> bool:
    """Return whether this process is the first of those that train on this machine, or alone."""
    return place_on_machine()[0] == 0


def started_by_torchrun() -> bool:
    """Return whether torchrun started this process, alone or among others."""
    return "TORCHELASTIC_RUN_ID" in os.environ
