"""How large the checks are, on GPUs and on CPUs."""

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Self

from imgpipe.commands.gpu_checking.launching import Job, Say, answers
from imgpipe.commands.gpu_checking.outcome import Facts

PARTS = 8
"""Micro-batches of a batch, at least; as many as there are processes where these are more."""

NETWORKS = (
    *("simple_cnn", "resnet9", "resnet18", "vgg11", "alexnet", "densenet121", "mobilenet_v2", "mobilenet_v3_large"),
    *("efficientnet_b0", "vit_b_16", "convnext_tiny", "swin_t", "swin_v2_t", "maxvit_t", "inception_v3", "googlenet"),
    *("squeezenet1_1", "shufflenet_v2_x1_0", "mnasnet1_0", "regnet_y_400mf"),
)


@dataclass(frozen=True)
class Scale:
    """A training of a check: how large it is, and how it computes."""

    network: str
    side: int
    """Of the square images, in pixels."""
    batch: int
    """Images."""
    steps: int
    """Full batches of an epoch."""
    precision: str
    parts: int = PARTS
    """Micro-batches of a batch."""
    epochs: int = 1
    compile: bool = False
    dropout: float = 0.0
    ema_decay: float | None = None
    rest: int = 0
    """Images beyond the full batches of an epoch, which make a kept last batch."""

    def in_parts(self, parts: int) -> Self:
        """Return the same in so many micro-batches of as many images as before."""
        return replace(self, parts=parts, batch=self.batch // self.parts * parts)


@dataclass(frozen=True)
class Sizes:
    """What is run on a kind of device."""

    networks: tuple[str, ...]
    operators: Scale
    """Of a training of each of the networks."""
    ways: dict[str, Scale]
    """Trainings for same bits and, the first of them, for failures."""
    alone: Scale
    """For cards alike and syncs."""
    lengths: tuple[int, ...]
    """Of tensors to sum and to compare: odd ones, too."""
    megabytes: tuple[int, ...]
    """Of tensors to time."""
    speed: Scale
    """Of one part, of which there is one for each process."""
    speed_steps: int
    """Of a round."""
    most_ratio: float
    """Times a plain loop's seconds that a step may take."""
    seconds: float
    """For one part of a check."""


RESNET = Scale("resnet18", 64, 64, 8, "bf16", epochs=2, dropout=0.2, ema_decay=0.99, rest=21)
SMALL = Scale("resnet9_narrow", 8, 32, 2, "fp32", epochs=2, dropout=0.2, ema_decay=0.99, rest=10)

CUDA = Sizes(
    networks=NETWORKS,
    operators=Scale("", 224, 16, 1, "bf16", parts=2, ema_decay=0.99),
    ways={
        "bf16": RESNET,
        "fp32": replace(RESNET, precision="fp32"),
        "tf32": replace(RESNET, precision="tf32"),
        "fp16": replace(RESNET, precision="fp16"),
        "compiled": replace(RESNET, compile=True),
    },
    alone=Scale("resnet18", 128, 128, 12, "bf16"),
    lengths=(1, 3, 127, 1_000_003, 25_000_000),
    megabytes=(1, 25, 100, 400),
    speed=Scale("resnet50", 224, 128, 2, "bf16", parts=1),
    speed_steps=20,
    most_ratio=1.15,
    seconds=600,
)

CPU = Sizes(
    networks=("simple_cnn", "resnet9_narrow", "squeezenet1_1", "shufflenet_v2_x0_5", "mobilenet_v3_small"),
    operators=Scale("", 32, 8, 1, "fp32", parts=2, ema_decay=0.99),
    ways={"fp32": SMALL, "fp16": replace(SMALL, precision="fp16")},
    alone=Scale("resnet9_narrow", 8, 16, 5, "fp32"),
    lengths=(1, 3, 127, 250_003),
    megabytes=(1,),
    speed=Scale("simple_cnn", 32, 32, 4, "fp32", parts=1),
    speed_steps=6,
    most_ratio=2.0,
    seconds=120,
)

SIZES = {"cuda": CUDA, "cpu": CPU}


@dataclass(frozen=True)
class Machine:
    """Where the checks run."""

    device: str
    """``cpu`` or ``cuda``."""
    processes: int
    """On this machine, and on each of the others; 0 until the GPUs are counted."""
    machines: int
    folder: Path
    """For all that the checks leave, until they have ended."""

    @property
    def world(self) -> int:
        """How many processes there are, on all machines."""
        return self.processes * self.machines

    @property
    def sizes(self) -> Sizes:
        """What is run here."""
        return SIZES[self.device]

    @property
    def parts(self) -> int:
        """Micro-batches of a batch, of which each process has one at least."""
        return max(PARTS, self.world)

    @property
    def ways(self) -> dict[str, Scale]:
        """Return the trainings for same bits, cut into parts for this many processes."""
        return {name: scale.in_parts(self.parts) for name, scale in self.sizes.ways.items()}

    def everywhere(self, part: str, settings: Facts) -> Job:
        """Describe a part in all the processes."""
        return self.job(part, settings, processes=self.processes, machines=self.machines)

    def job(self, part: str, settings: Facts, *, processes: int, machines: int) -> Job:
        """Describe a part in so many processes on so many machines."""
        return Job(part, self.device, processes, machines, self.sizes.seconds, settings)

    def ask(self, name: str, job: Job, say: Say, *, launch: int = 0) -> list[Facts]:
        """Run a part, in a folder of this name: see ``launching.answers``."""
        return answers(job, self.folder / name, say, launch=launch)
