"""What a stage costs for each image, from a thousand images to a million: seconds, memory, and the wait for a batch.

    make bench-million IMAGES=1000000

It makes so many small JPEGs, ten times fewer, and so on down to a thousand; runs download, prepare and pack on each, as
the project's params.yaml says but for the source and the size; and starts a training, which ends at its first batch.
Where a stage scales, its microseconds and bytes for each image stay the same from row to row. On the disk it takes
about 10 kB for each of the most images.
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
from functools import partial
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
EACH = 0.05
"""Seconds between two looks at a stage's memory."""
FIRST_BATCH = "first-batch"
"""File in which the train stage says how long what took."""
STAGES = ("download", "prepare", "pack")

app = typer.Typer(add_completion=False, pretty_exceptions_enable=False)


@app.command()
def table(images: int = 1_000_000, folder: Path | None = None) -> None:
    """Print a row for each number of images and each stage.

    folder: on whose disk all is made, and removed again; else the system's for temporary files.

    What an image takes is by how much a stage takes more than with fewer images: starting it costs the same each time.
    """
    from imgpipe.common.kernels import NETWORK

    echo(f"{'images':>9}  {'stage':8} {'wall s':>8} {'CPU s':>8} {'us an image':>11} {'peak MB':>8} {'B an image':>10}")
    before = dict.fromkeys((*STAGES, "train"), Cost(0, 0, 0, 0))
    for number in sizes(images):
        with tempfile.TemporaryDirectory(dir=folder) as scratch:
            project = new_project(Path(scratch), number)
            commands = {stage: ["-m", f"stages.{stage}"] for stage in STAGES}
            for stage, command in (commands | {"train": [__file__, "first-batch", FIRST_BATCH]}).items():
                cost = measured(project, command, number, **(NETWORK if stage == "train" else {}))
                echo(row(stage, cost, before[stage]))
                before[stage] = cost
            echo(f"{number:9,}  {(project / FIRST_BATCH).read_text()}")
            outputs = [path for path in (project / "data").rglob("*") if path.is_file()]
            echo(f"{number:9,}  {len(outputs)} files of {sum(path.stat().st_size for path in outputs) / 1e6:,.0f} MB")


echo = partial(print, flush=True)


def sizes(images: int) -> list[int]:
    """A thousand, ten thousand and so on, and the most."""
    return [*(10**power for power in range(3, 10) if 10**power < images), images]


@dataclass(frozen=True)
class Cost:
    """What a stage took."""

    images: int
    seconds: float
    cpu: float
    """Seconds of all cores, of all its processes."""
    memory: int
    """The most bytes that its processes had together and the system could not take back: what is mapped of files does
    not count."""


def row(stage: str, cost: Cost, before: Cost) -> str:
    """Return a line of the table. before: of the same stage with fewer images."""
    each = memory = ""
    if before.images:
        more = cost.images - before.images
        each = f"{(cost.cpu - before.cpu) / more * 1e6:11,.0f}"
        memory = f"{(cost.memory - before.memory) / more:10,.0f}"
    return (
        f"{cost.images:9,}  {stage:8} {cost.seconds:8.1f} {cost.cpu:8.1f} {each:>11} {cost.memory / 1e6:8,.0f} "
        f"{memory:>10}"
    )


def measured(folder: Path, command: list[str], images: int, **variables: str) -> Cost:
    """Run Python in a folder with these variables set; the stages are those of this project."""
    environment = {**os.environ, "PYTHONPATH": f"{ROOT}{os.pathsep}{ROOT / 'src'}", **variables}
    environment |= {"STARTED": str(time.time())}
    environment.pop("DVC_ROOT", None)
    start, used = time.monotonic(), cpu_seconds()
    with (folder / "log").open("w") as log:
        process = subprocess.Popen([sys.executable, *command], cwd=folder, env=environment, stdout=log, stderr=log)
    most = 0
    while process.poll() is None:
        most = max(most, sum(map(anonymous, family(process.pid))))
        time.sleep(EACH)
    if process.returncode:
        sys.exit(f"error: {' '.join(command)} failed:\n{(folder / 'log').read_text()}")
    return Cost(images, time.monotonic() - start, cpu_seconds() - used, most)


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
def first_batch(report: Path) -> None:
    """Run the train stage up to its first step, and write to a file how long what took, from this process's start."""
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
        spent["all up to the first batch"] = time.time() - float(os.environ["STARTED"])
        report.write_text(", ".join(f"{name} {seconds:.1f} s" for name, seconds in spent.items()))
        os._exit(0)

    feeding.read_packed = timed("reading the index", feeding.read_packed)
    feeding.check_content = timed("checking the images", feeding.check_content)
    training.train_step = step
    from stages.train import train

    sys.argv[1:] = []
    stage.run(train)


if __name__ == "__main__":
    app()
