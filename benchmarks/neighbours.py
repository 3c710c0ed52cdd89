"""Threads that wait for one another, beside other work: what a training loses by how libgomp's threads wait.

    make bench-neighbours DATA=images.tar MODEL=simple_cnn SIZE=32 CROP=padded BATCH=128

An operator on a CPU is split among threads, and each waits at its end for the others: by default libgomp lets it spin
for a while, which holds up whoever needs its core. The ways to wait alternate in one run; the first one is measured
twice, as a control. Each is measured three times: alone on images from memory, with the loader's own threads, and
beside one process that computes all the time.
"""

import statistics
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from pathlib import Path

import typer
from training import ROOT, pack_images, run, write_params

WAYS: dict[str, dict[str, str]] = {
    "as libgomp waits": {},
    "passive": {"OMP_WAIT_POLICY": "passive"},
    "spins 1,000 times": {"GOMP_SPINCOUNT": "1000"},
    "spins 10,000 times": {"GOMP_SPINCOUNT": "10000"},
    "as libgomp waits, again": {},
}
CONDITIONS = {"alone": "ours, from memory", "with the loader": "ours", "beside a busy process": "ours"}


@contextmanager
def busy() -> Iterator[None]:
    """One process that computes all the time."""
    with subprocess.Popen([sys.executable, "-c", "while True: pass"]) as process:
        try:
            yield
        finally:
            process.kill()


def main(
    data: Path,
    model: str = "resnet18",
    size: int = 128,
    crop: str = "resized",
    batch: int = 32,
    rounds: int = 5,
    seconds: float = 6.0,
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
                with busy() if condition.startswith("beside") else nullcontext():
                    command = [str(ROOT / "benchmarks/training.py"), "measure", CONDITIONS[condition], model]
                    out = run(folder, [*command, str(size), crop, str(batch), str(seconds)], **WAYS[way])
                measured.append(float(out.split()[-1]))
                typer.echo(f"  {condition:24} {way:24} {measured[-1]:10.1f} images/s", err=True)
    typer.echo(f"{model}, {size} px, {crop} crops, batches of {batch}, fp32; medians of {rounds} rounds")
    first = next(iter(WAYS))
    for (condition, way), measured in rates.items():
        ratios = [one / other for one, other in zip(measured, rates[condition, first], strict=True)]
        spread = f"{statistics.median(ratios):6.3f}  {min(ratios):.3f} to {max(ratios):.3f}"
        typer.echo(f"{condition:24} {way:24} {statistics.median(measured):10.1f} images/s  {spread}")


if __name__ == "__main__":
    typer.run(main)
