"""How the hardware is used. No stage depends on these values: none may change a result, save that of the device."""

import os
from dataclasses import dataclass
from typing import Annotated, Literal

from imgpipe.common.rules import Interval
from imgpipe.data.parallel import cores


@dataclass(frozen=True)
class Runtime:
    """params.yaml: runtime."""

    processes: Literal["auto"] | Annotated[int, Interval(low=1)]
    threads: Literal["auto"] | Annotated[int, Interval(low=1)]
    device: Literal["auto", "cpu", "cuda"]
    log_every: Annotated[int, Interval(low=1)]
    checkpoint_every: Annotated[float, Interval(low=0)]
    checkpoint_every_steps: Annotated[int, Interval(low=1)] | None
    tensorboard: bool
    profile_steps: Annotated[int, Interval(low=0)]

    @property
    def loader_threads(self) -> int:
        """Threads of this process that make batches: as asked, or half of its share of the cores."""
        processes = int(os.environ.get("LOCAL_WORLD_SIZE", "1"))
        return max(1, cores() // processes // 2) if self.threads == "auto" else int(self.threads)


def started_by_torchrun() -> bool:
    """Return whether torchrun started this process, alone or among others."""
    return "TORCHELASTIC_RUN_ID" in os.environ
