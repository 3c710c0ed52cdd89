"""Watch a training: where its time goes, a profiler's trace, curves in TensorBoard. All of it into a run's folder.

Nothing of it is an output of the pipeline: times and hosts differ between equal runs.
"""

import importlib.util
import json
import logging
import os
import platform
import resource
import socket
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from time import perf_counter

import torch

from imgpipe.common.errors import InputError
from imgpipe.common.files import write_text
from imgpipe.data.parallel import cores
from imgpipe.train.state import Epoch, TrainingState

WriteScalars = Callable[[Mapping[str, float], int], None]
"""Takes values by the names of their curves, and the epoch that they belong to."""

LIBRARIES = ("numpy", "opencv-python-headless", "torchvision")
"""Packages whose versions are written down beside Python's and torch's."""


def new_run_folder(home: Path) -> Path:
    """Make a folder in ``home``, named for the time (UTC), the host and the process."""
    started = datetime.now(UTC).strftime("%Y%m%dT%H%M%S.%fZ")
    folder = home / f"{started}-{socket.gethostname()}-{os.getpid()}"
    folder.mkdir(parents=True)
    return folder


class Clock:
    """Adds up the seconds spent in each of several parts of the work: ``with clock("data"): ...``, one at a time.

    images: trained on so far, by all processes together; the training counts them.

    A GPU computes on while Python goes on: its time is that of the part that waits for it.
    """

    def __init__(self, now: Callable[[], float] = perf_counter) -> None:
        """Start the clock. now: gives the time in seconds, from any start."""
        self.seconds: dict[str, float] = {}
        self.images = 0
        self._now = now
        self._started = now()
        self._lap = 0, 0.0
        self._running = False

    @contextmanager
    def __call__(self, part: str) -> Iterator[None]:
        """Add the time that the block takes to the part's, also where the block fails."""
        assert not self._running, f"{part} within another part would be counted twice"
        self._running, start = True, self._now()
        try:
            yield
        finally:
            self._running = False
            self.seconds[part] = self.seconds.get(part, 0.0) + self._now() - start

    def __str__(self) -> str:
        parts = ", ".join(f"{part} {seconds:.1f} s" for part, seconds in self.seconds.items())
        return f"this run took {self.total:.1f} s: {parts}; {self.rate:.0f} images/s"

    @property
    def rate(self) -> float:
        """Images per second of the parts ``data`` and ``step``."""
        return self.images / self._training if self.images else 0.0

    def lap(self) -> float:
        """Return the rate since the last call, or since the start."""
        images, seconds = self._lap
        self._lap = self.images, self._training
        return (self.images - images) / (self._training - seconds) if self.images > images else 0.0

    @property
    def _training(self) -> float:
        return self.seconds.get("data", 0.0) + self.seconds.get("step", 0.0)

    @property
    def total(self) -> float:
        """Seconds since the clock was started, those in none of the parts among them."""
        return self._now() - self._started


HEADER = "epoch  train loss  accuracy  val loss  accuracy       lr  images/s  best so far"
LINES = 20
"""Epochs below a header, before there is another."""


def logged(epochs: Iterable[Epoch], state: TrainingState, clock: Clock) -> Iterator[Epoch]:
    """Yield the epochs of a training, and log a line for each, which one did best, and where the time went."""
    for i, epoch in enumerate(epochs):
        if i % LINES == 0:
            logging.info(HEADER)
        logging.info(epoch_line(state, clock.lap()))
        yield epoch
    assert state.best, "there is at least one epoch"
    number, accuracy, loss = state.best.epoch, state.best.val_accuracy, state.best.val_loss
    logging.info("epoch %d did best on the validation split: accuracy %.4f, loss %.4f", number, accuracy, loss)
    logging.info("%s", clock)


def epoch_line(state: TrainingState, images_per_second: float) -> str:
    """Return the numbers of the epoch that was done last, below those that HEADER names.

    The best so far is what is monitored of the validation split, and the epoch that had it.
    """
    assert state.best, "an epoch is done"
    done = state.history[-1]
    best = f"{abs(state.best.merit(state.monitor)[0]):.4f} ({state.best.epoch})"
    return (
        f"{done.epoch:5}  {done.train_loss:10.4f}  {done.train_accuracy:8.4f}  {done.val_loss:8.4f}  "
        f"{done.val_accuracy:8.4f}  {done.lr:7.2g}  {images_per_second:8.0f}  {best}"
    )


def write_account(folder: Path, clock: Clock, *, processes: int, device: torch.device) -> None:
    """Write training.json: seconds, rate and memory of this process's part in a training, and where it ran."""
    versions = {"python": platform.python_version(), "torch": torch.__version__}
    account = {
        "host": socket.gethostname(),
        "processes": processes,
        "hardware": _hardware(device),
        "versions": versions | {name: version(name) for name in LIBRARIES},
        "seconds": {part: round(seconds, 3) for part, seconds in {**clock.seconds, "total": clock.total}.items()},
        "images": clock.images,
        "images_per_second": round(clock.rate, 1),
        "peak_memory_bytes": peak_memory(device),
    }
    write_text(folder / "training.json", json.dumps(account, indent=2) + "\n")


def peak_memory(device: torch.device) -> dict[str, int]:
    """Return the most bytes that this process had: of main memory (man getrusage), and of the GPU's for tensors."""
    unit = 1 if sys.platform == "darwin" else 1024
    found = {"main": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit}
    return found | ({"gpu": torch.cuda.max_memory_allocated(device)} if device.type == "cuda" else {})


@contextmanager
def profiled(folder: Path, *, steps: int) -> Iterator[Callable[[], None]]:
    """Record so many steps with torch's profiler, and write trace.json, for ui.perfetto.dev or chrome://tracing.

    steps: 0 for no profile. The two steps before those recorded are left out: they are not like the others.

    Yields what is to be called after each step.
    """
    if steps == 0:
        yield lambda: None
        return
    with torch.profiler.profile(
        schedule=torch.profiler.schedule(wait=1, warmup=1, active=steps, repeat=1),
        on_trace_ready=lambda profile: profile.export_chrome_trace(str(folder / "trace.json")),
    ) as profile:
        yield profile.step


def check_tensorboard() -> None:
    """Raise InputError where TensorBoard is not installed."""
    if importlib.util.find_spec("tensorboard") is None:
        raise InputError(
            "params.yaml: runtime.tensorboard is true, but the package is not installed; pip install tensorboard"
        )


@contextmanager
def scalars(folder: Path, *, wanted: bool) -> Iterator[WriteScalars]:
    """Open TensorBoard's file of curves for the length of the block.

    folder: of the run; ``tensorboard --logdir runs`` shows all of them.

    Yields a function that writes the next values of curves, or, unless wanted, does nothing.

    Raises InputError where TensorBoard is wanted and not installed.
    """
    if not wanted:
        yield lambda values, epoch: None
        return
    check_tensorboard()
    from torch.utils.tensorboard import SummaryWriter  # fails without TensorBoard, which is optional

    with SummaryWriter(str(folder)) as writer:

        def write(values: Mapping[str, float], epoch: int) -> None:
            for name, value in values.items():
                writer.add_scalar(name, value, epoch)

        yield write


def _hardware(device: torch.device) -> dict[str, str | int]:
    """Return the processor's model and number of cores, and the GPU's model where that is the device."""
    found: dict[str, str | int] = {"processor": _processor(), "cores": cores()}
    return found | ({"gpu": torch.cuda.get_device_name(device)} if device.type == "cuda" else {})


def _processor() -> str:
    """Return Linux's name of the processor's model (man proc_cpuinfo), elsewhere Python's of its kind."""
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        lines = []
    names = (line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
    return next(names, platform.machine())
