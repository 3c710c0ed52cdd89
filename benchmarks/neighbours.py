"""Threads that wait for one another, beside other work: what libgomp's way to wait costs training and evaluation.

    make bench-neighbours DATA=images.tar MODEL=simple_cnn SIZE=32 CROP=padded BATCH=128

An operator on a CPU is split among threads, and each waits at its end for the others: left alone libgomp lets it spin
for a while, which holds up whoever needs its core; passive, as the stages set it, lets it sleep. The ways alternate in
one run; the first one is measured twice, as a control. Each is measured alone, training also on images from memory,
and beside one process that computes all the time.
"""

import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from pathlib import Path

import typer
from training import ROOT, pack_images, run, write_params

WAYS: dict[str, dict[str, str]] = {
    "as libgomp waits": {"GOMP_SPINCOUNT": "300000"},  # what it takes where nothing is set, by its manual
    "passive": {"OMP_WAIT_POLICY": "passive"},
    "as libgomp waits, again": {"GOMP_SPINCOUNT": "300000"},
}
TRAINING = "ours"
EVALUATION = "evaluation"
CONDITIONS = {
    "training from memory, alone": "ours, from memory",
    "training, alone": TRAINING,
    "training, beside a busy process": TRAINING,
    "evaluation, alone": EVALUATION,
    "evaluation, beside a busy process": EVALUATION,
}

app = typer.Typer(add_completion=False, pretty_exceptions_enable=False)


@contextmanager
def busy() -> Iterator[None]:
    """One process that computes all the time."""
    with subprocess.Popen([sys.executable, "-c", "while True: pass"]) as process:
        try:
            yield
        finally:
            process.kill()


@app.command()
def compare(
    data: Path,
    model: str = "resnet18",
    size: int = 128,
    crop: str = "resized",
    batch: int = 32,
    rounds: int = 5,
    seconds: float = 5.0,
) -> None:
    """Prints images a second, and the medians of the paired ratios to the first way."""
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        write_params(
            folder,
            data,
            model=model,
            size=size,
            crop=crop,
            batch=batch,
            micro_batches=1,
            precision="fp32",
            kernels="native",
            cpu_threads=2,
        )
        pack_images(folder)
        rates: dict[tuple[str, str], list[float]] = {(c, w): [] for c in CONDITIONS for w in WAYS}
        for _ in range(rounds):
            for (condition, way), measured in rates.items():
                training = ["measure", CONDITIONS[condition], model, str(size), crop, str(batch), str(seconds)]
                command = [str(ROOT / "benchmarks/training.py"), *training]
                if CONDITIONS[condition] == EVALUATION:
                    command = [__file__, "evaluate", str(batch), str(seconds)]
                with busy() if "beside" in condition else nullcontext():
                    measured.append(float(run(folder, command, **WAYS[way]).split()[-1]))
                typer.echo(f"  {condition:34} {way:24} {measured[-1]:10.1f} images/s", err=True)
    typer.echo(f"{model}, {size} px, {crop} crops, batches of {batch}, fp32; medians of {rounds} rounds")
    first = next(iter(WAYS))
    for (condition, way), measured in rates.items():
        ratios = [one / other for one, other in zip(measured, rates[condition, first], strict=True)]
        spread = f"{statistics.median(ratios):6.3f}  {min(ratios):.3f} to {max(ratios):.3f}"
        typer.echo(f"{condition:34} {way:24} {statistics.median(measured):10.1f} images/s  {spread}")


@app.command()
def evaluate(batch: int, seconds: float) -> None:
    """Prints how many images a second the network of the folder's params.yaml predicts, as the evaluate stage does."""
    import torch

    from imgpipe.common import params
    from imgpipe.data.packed import read_packed
    from imgpipe.model.devices import World
    from imgpipe.model.predict import predict_split
    from imgpipe.train.params import Model, Train
    from imgpipe.train.start import untrained_classifier

    statistics_of_train, splits = read_packed(Path("data/packed"), ["train"])
    classifier = untrained_classifier(
        params.read("model", Model), params.read("train", Train), statistics_of_train, device="cpu"
    )
    world, split = World(0, 1, torch.device("cpu")), splits["train"]
    images, start = 0, 0.0
    while not start or time.perf_counter() - start < seconds:
        predict_split(classifier, split, world, batch_size=batch, threads=1, says="testing")
        images, start = (images + len(split), start) if start else (0, time.perf_counter())  # the first one warms up
    typer.echo(images / (time.perf_counter() - start))


if __name__ == "__main__":
    app()
