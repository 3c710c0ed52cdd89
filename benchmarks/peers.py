"""This project beside torchvision's reference script, timm's and Ultralytics': speed, memory and accuracy.

    make bench-peers DATA=images.tar PEERS=../peers

One network is trained on the same images by the same recipe in each way, by its own command; docs/peers.md says how to
fill the folder of the peers, and how the ways differ all the same. They alternate in one run on two cores. Ours is
measured twice, as a control: how far its two numbers are apart is the noise.
"""

import json
import os
import re
import statistics
import subprocess
import sys
import tempfile
import time
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import typer
from loader import as_trees
from million import family
from peer_ways import CORES, MARGIN, ROOT, WAYS, Network, Task, Way, environment, versions

RESULTS, FIGURE = ROOT / "docs/figures/peers.json", ROOT / "docs/figures/peers.svg"
EACH, MEMORY_EACH = 0.1, 2.0
"""Seconds between two looks at what a run has printed, and at its memory, which takes some hundredths of a second."""
PANELS = {
    "images_per_second": ("images a second", 1.0, "{:.1f}"),
    "seconds": ("seconds in all", 1.0, "{:.0f}"),
    "memory": ("peak memory, GB", 1e9, "{:.2f}"),
    "accuracy": ("test accuracy", 1.0, "{:.3f}"),
}
"""Title of each measurement, what it is divided by, and how it is written."""
CELL = 15
"""Characters of a cell of the table."""

app = typer.Typer(add_completion=False, pretty_exceptions_enable=False)


@dataclass(frozen=True)
class Measurement:
    """What one training gave."""

    images_per_second: float
    """From the end of the first epoch to that of the last, with the validation after each."""
    seconds: float
    """Of the whole command."""
    memory: int
    """The most bytes that all of its processes had together; without mapped files, which can be read again."""
    accuracy: float
    """Of the last epoch's weights, on the test images."""


@app.command()
def compare(
    data: Path,
    peers: Path = Path("../peers"),
    size: int = 96,
    batch: int = 32,
    epochs: int = 3,
    train: int = 960,
    val: int = 128,
    test: int = 1000,
    seeds: int = 2,
    results: Path = RESULTS,
    figure: Path = FIGURE,
) -> None:
    """Run all ways by turns, print a table, and write the numbers and their figure.

    train, val, test: the most images of each split. Those of train fill their batches, so that none is left over.
    """
    if epochs < 2 or train % batch:
        sys.exit("error: --epochs must be 2 or more, and --train a multiple of --batch")
    used = versions(peers)
    os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[:CORES])
    measured: dict[str, list[Measurement]] = {name: [] for name in WAYS}
    settings: dict[str, int] = {}
    with tempfile.TemporaryDirectory() as scratch:
        images = Path(scratch) / "images"
        images.mkdir()
        as_trees(data, images, pattern="auto", val_fraction=0.1, test_fraction=0.1)
        (images / "spool").unlink()
        counts = {
            split: thinned(images / split, most) for split, most in (("train", train), ("val", val), ("test", test))
        }
        if counts["train"] != train:
            sys.exit(f"error: there are {counts['train']} images to train on, and --train is {train}")
        classes = len(list((images / "train").iterdir()))
        for seed in range(seeds):
            task = Task(images, peers.resolve(), classes, train, size, batch, epochs, seed)
            for name, way_in in WAYS.items():
                with tempfile.TemporaryDirectory(dir=scratch) as folder:
                    way = way_in(task, Path(folder))
                    settings[name] = way.settings
                    measured[name].append(measure(way, task, Path(folder)))
                typer.echo(f"  {name:28} {written(measured[name][-1:])}", err=True)
    record = {
        "processor": processor(),
        "recipe": {"size": size, "batch": batch, "epochs": epochs, **counts},
        "versions": used,
        "settings": settings,
        "measured": {name: [asdict(one) for one in several] for name, several in measured.items()},
    }
    results.write_text(json.dumps(record, indent=1) + "\n")
    show(results, figure)


@app.command()
def show(results: Path = RESULTS, figure: Path = FIGURE) -> None:
    """Print what was measured as a table, and draw it."""
    record = json.loads(results.read_text())
    measured = {name: [Measurement(**one) for one in several] for name, several in record["measured"].items()}
    for key in ("processor", "recipe", "versions"):
        typer.echo(f"{key}: {record[key]}")
    heads = "  ".join(f"{title:>{CELL}}" for title, _, _ in PANELS.values())
    typer.echo(f"{'medians':28} {heads}  settings  accuracy of each seed")
    for name, several in measured.items():
        each = " ".join(f"{one.accuracy:.3f}" for one in several)
        typer.echo(f"{name:28} {written(several)}  {record['settings'][name]:8}  {each}")
    draw(measured, figure)


def written(several: list[Measurement]) -> str:
    """Return the medians of some measurements as cells of a table."""
    values = {key: statistics.median(getattr(one, key) for one in several) for key in PANELS}
    return "  ".join(f"{form.format(values[key] / unit):>{CELL}}" for key, (_, unit, form) in PANELS.items())


def processor() -> str:
    """Return the processor's name."""
    match = re.search(r"^model name\s*: (.*)", Path("/proc/cpuinfo").read_text(), re.MULTILINE)
    return match[1] if match else "unknown"


def thinned(folder: Path, most: int) -> int:
    """Remove images at even steps until there are at most so many; return how many there are."""
    files = sorted(file for file in folder.glob("*/*"))
    keep = {files[i] for i in np.linspace(0, len(files) - 1, min(most, len(files))).astype(int)}
    for file in files:
        if file not in keep:
            file.unlink()
    return len(keep)


def measure(way: Way, task: Task, folder: Path) -> Measurement:
    """Run a command in its folder, and test the network that it trains."""
    for scanned in task.images.glob("*.cache"):  # where Ultralytics keeps what it knows of the images
        scanned.unlink()
    log, ends, memory = folder / "log", list[float](), list[int]()
    start = time.monotonic()
    with log.open("w") as file:
        process = subprocess.Popen(
            way.command, cwd=folder, env=environment(way.variables), stdout=file, stderr=subprocess.STDOUT
        )
    try:
        while process.poll() is None:
            if time.monotonic() - start > MEMORY_EACH * len(memory):
                memory.append(sum(map(proportional, family(process.pid))))
            printed = log.read_bytes().replace(b"\r", b"\n")
            found = len(re.findall(way.epoch_end, printed, re.MULTILINE))
            ends += [time.monotonic()] * (found - len(ends))
            time.sleep(EACH)
    finally:
        process.terminate()
    seconds = time.monotonic() - start
    if process.returncode or len(ends) < task.epochs:
        sys.exit(f"error: {' '.join(way.command)} failed:\n{log.read_text(errors='replace')[-4000:]}")
    rate = task.train * (task.epochs - 1) / (ends[task.epochs - 1] - ends[0])
    return Measurement(rate, seconds, max(memory), accuracy(way.network(), task))


def proportional(process: int) -> int:
    """Bytes of a process's memory that are of no file; what several share is counted as a part to each."""
    try:
        lines = Path(f"/proc/{process}/smaps_rollup").read_text().splitlines()
    except OSError:  # it has ended
        return 0
    return sum(int(line.split()[1]) * 1024 for line in lines if line.startswith(("Pss_Anon", "Pss_Shmem")))


def accuracy(network: Network, task: Task) -> float:
    """Share of the test images that a network gets right: resized by Pillow, the square in the middle."""
    import torch
    from torchvision import datasets, transforms

    steps = [transforms.Resize(int(task.size * MARGIN)), transforms.CenterCrop(task.size), transforms.PILToTensor()]
    held_out = datasets.ImageFolder(str(task.images / "test"), transforms.Compose(steps))
    right = []
    with torch.inference_mode():
        for squares, labels in torch.utils.data.DataLoader(held_out, task.batch):
            right.append(network(squares.permute(0, 2, 3, 1)).argmax(1) == labels)
    return torch.cat(right).double().mean().item()


def draw(measured: dict[str, list[Measurement]], path: Path) -> None:
    """Draw a panel for each measurement, a row for each way: a bar to the median, a point for each seed."""
    from matplotlib.figure import Figure

    from imgpipe.plot.drawing import ACCENT, FAINT, INK, PAPER, house_style, save

    names = list(measured)
    with house_style():
        figure = Figure(figsize=(8.0, 0.6 + 0.32 * len(names)), layout="constrained")
        for axes, (key, (title, unit, form)) in zip(
            figure.subplots(1, len(PANELS), sharey=True), PANELS.items(), strict=True
        ):
            for row, name in enumerate(names):
                values = [getattr(one, key) / unit for one in measured[name]]
                median = statistics.median(values)
                axes.barh(row, median, height=0.62, color=ACCENT if "imgpipe" in name else FAINT)
                axes.plot(values, [row] * len(values), "o", color=INK, markersize=3, markeredgecolor=PAPER)
                axes.annotate(
                    form.format(median), (max(values), row), xytext=(5, 0), textcoords="offset points", va="center"
                )
            axes.set_title(title, fontsize=9, loc="left")
            axes.margins(x=0.3)
            axes.set_xlim(left=0)
            axes.tick_params(left=False, bottom=False, labelbottom=False)
            for spine in axes.spines.values():
                spine.set_visible(False)
            axes.set_yticks(range(len(names)), names)
        axes.invert_yaxis()
        save(figure, path, dpi=150)


if __name__ == "__main__":
    app()
