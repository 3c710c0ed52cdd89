"""What a stage costs for each image, from a thousand images to a million: seconds, memory, and the wait for a batch.

    make bench-million IMAGES=1000000

It makes so many small JPEGs, ten times fewer, and so on down to a thousand; runs download, prepare and pack on each, as
the project's params.yaml says but for the source and the size; and starts a training, which ends at its first batch.
Where a stage scales, its microseconds and bytes for each image stay the same from row to row. On the disk it takes
about 20 kB for each of the most images.
"""

import importlib
import os
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import typer
from omegaconf import OmegaConf

ROOT = Path(__file__).resolve().parent.parent
sys.path[:0] = [str(ROOT), str(ROOT / "src")]

SIDE = 32
"""Of an image, in pixels."""
WAVES = 8
"""Cosines along each side that an image is the sum of."""
CLASSES = 100
AT_ONCE = 1000
"""Images that are made at a time."""
FEWEST = 1000
EACH = 0.05
"""Seconds between two looks at a stage's memory."""
STAGES = ("download", "prepare", "pack")

app = typer.Typer(add_completion=False, pretty_exceptions_enable=False)


@app.command()
def table(images: int = 1_000_000, folder: Path | None = None) -> None:
    """Print a row for each number of images.

    folder: on whose disk all is made, and removed again; else the system's for temporary files.
    """
    from imgpipe.common.kernels import NETWORK

    typer.echo(f"{'images':>9} {'stage':9} {'s':>8} {'CPU s':>8} {'us/image':>9} {'MB':>7} {'B/image':>8}")
    before: dict[str, tuple[int, int]] = {}
    for number in sizes(images):
        with tempfile.TemporaryDirectory(dir=folder) as scratch:
            project = new_project(Path(scratch), number)
            for stage in STAGES:
                cost = measured(project, ["-m", f"stages.{stage}"])
                typer.echo(row(number, stage, cost, before.get(stage)))
                before[stage] = number, cost.memory
            cost = measured(project, [__file__, "first-batch", str(time.time())], **NETWORK)
            typer.echo(row(number, "train", cost, before.get("train")))
            before["train"] = number, cost.memory
            typer.echo(f"{number:9,} {(project / 'first-batch').read_text()}")


def sizes(images: int) -> list[int]:
    """A thousand, ten thousand and so on, and the most."""
    powers = [10**power for power in range(3, 10)]
    return [*(number for number in powers if FEWEST <= number < images), images]


@dataclass(frozen=True)
class Cost:
    """What a stage took."""

    seconds: float
    cpu: float
    """Seconds of all cores, of all its processes."""
    memory: int
    """The most bytes that its processes had together and the system could not take back: without what is mapped of
    files."""


def row(images: int, stage: str, cost: Cost, before: tuple[int, int] | None) -> str:
    """A line of the table. Bytes an image are those by which memory has grown since the row of fewer images."""
    each = f"{(cost.memory - before[1]) / (images - before[0]):8,.0f}" if before else ""
    micro = f"{cost.cpu / images * 1e6:9,.0f}"
    return f"{images:9,} {stage:9} {cost.seconds:8.1f} {cost.cpu:8.1f} {micro} {cost.memory / 1e6:7,.0f} {each}"


def measured(folder: Path, command: list[str], **variables: str) -> Cost:
    """Run Python in a folder with these variables set; the stages are those of this project."""
    environment = {**os.environ, "PYTHONPATH": f"{ROOT}{os.pathsep}{ROOT / 'src'}", **variables}
    environment.pop("DVC_ROOT", None)
    start, used = time.monotonic(), cpu_seconds()
    process = subprocess.Popen([sys.executable, *command], cwd=folder, env=environment, stdout=subprocess.DEVNULL)
    most = 0
    while process.poll() is None:
        most = max(most, sum(map(anonymous, family(process.pid))))
        time.sleep(EACH)
    if process.returncode:
        sys.exit(f"error: {' '.join(command)} failed")
    return Cost(time.monotonic() - start, cpu_seconds() - used, most)


def cpu_seconds() -> float:
    """Of all processes that this one has waited for, and those that they have."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def family(process: int) -> Iterator[int]:
    """A process and all below it."""
    yield process
    try:
        tasks = list(Path(f"/proc/{process}/task").iterdir())
        children = [int(child) for task in tasks for child in (task / "children").read_text().split()]
    except OSError:  # it has ended
        return
    for child in children:
        yield from family(child)


def anonymous(process: int) -> int:
    """Bytes of a process's memory that are of no file."""
    try:
        status = Path(f"/proc/{process}/status").read_text()
    except OSError:  # it has ended
        return 0
    return sum(int(line.split()[1]) * 1024 for line in status.splitlines() if line.startswith("RssAnon"))


def new_project(folder: Path, images: int) -> Path:
    """A folder with the images and a params.yaml for them, where the stages can run."""
    for name in ("dvc.yaml", "packages.yaml", "src", "stages"):
        (folder / name).symlink_to(ROOT / name)
    (folder / ".dvc").mkdir()
    write_images(folder / "source.tar", images)
    params: Any = OmegaConf.load(ROOT / "params.yaml")
    params.runtime.processes, params.runtime.device = 1, "cpu"
    params.download.source, params.download.location = "archive", "source.tar"
    params.pack.image_size, params.pack.channels = SIDE, 3
    params.model.image_size = SIDE
    OmegaConf.save(params, folder / "params.yaml")
    return folder


def write_images(path: Path, images: int) -> None:
    """Write a tar of small JPEGs, no two alike, in folders of their classes.

    Each is a sum of cosines with random amplitudes that fall with the frequency, as those of photos do.
    """
    from imgpipe.data.archives import write_tar

    x = (np.arange(SIDE) + 0.5) * np.pi / SIDE
    waves = np.cos(x * np.arange(WAVES)[:, None]).astype(np.float32)
    frequency = np.hypot(*np.meshgrid(np.arange(WAVES), np.arange(WAVES)))
    strength = (64 / (1 + frequency)).astype(np.float32)[..., None]
    random = np.random.default_rng(0)

    def files() -> Iterator[tuple[str, bytes]]:
        for start in range(0, images, AT_ONCE):
            count = min(AT_ONCE, images - start)
            amplitudes = random.standard_normal((count, WAVES, WAVES, 3), dtype=np.float32) * strength
            rows = np.einsum("nuvc,uy->nvcy", amplitudes, waves, optimize=True)
            levels = np.einsum("nvcy,vx->nyxc", rows, waves, optimize=True) + 128
            for number, image in enumerate(levels.clip(0, 255).astype(np.uint8), start):
                label = number * CLASSES // images
                yield f"class{label:02}/{number:07}.jpg", cv2.imencode(".jpg", image)[1].tobytes()

    write_tar(path, files())


@app.command()
def first_batch(started: float) -> None:
    """Run the train stage up to its first step, and write to a file how long what took. started: time.time()."""
    from imgpipe.common import stage

    feeding: Any = importlib.import_module("imgpipe.train.micro_batches")
    training: Any = importlib.import_module("imgpipe.train.loop")
    spent: dict[str, float] = {}

    def timed(name: str, function: Callable[..., Any]) -> Callable[..., Any]:
        def run(*arguments: Any, **options: Any) -> Any:
            start = time.monotonic()
            result = function(*arguments, **options)
            spent[name] = spent.get(name, 0) + time.monotonic() - start
            return result

        return run

    def step(*_: Any) -> None:
        spent["start to first batch"] = time.time() - started
        Path("first-batch").write_text(", ".join(f"{name}: {seconds:.1f} s" for name, seconds in spent.items()))
        os._exit(0)

    feeding.read_packed = timed("reading the index", feeding.read_packed)
    feeding.check_content = timed("checking the images", feeding.check_content)
    training.train_step = step
    from stages.train import train

    sys.argv[1:] = []
    stage.run(train)


if __name__ == "__main__":
    app()
