"""What a rerun of nothing costs: ``dvc repro`` here against that of six stages that do nothing.

The two alternate in one run, with a second empty pipeline as control: how far its ratio is from 1 is the noise.

    make bench-noop
"""

import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import typer

PIPELINE = """stages:
  s0:
    cmd: echo 0 > 0
    outs: ["0"]
""" + "".join(
    f"""  s{i}:
    cmd: echo {i} > {i}
    deps: ["{i - 1}"]
    outs: ["{i}"]
"""
    for i in range(1, 6)
)


def seconds(folder: Path) -> float:
    """Time of ``dvc repro`` in a folder; it must run nothing."""
    start = time.perf_counter()
    done = subprocess.run(
        [sys.executable, "-m", "dvc", "repro"], cwd=folder, capture_output=True, text=True, check=True
    )
    if "Running stage" in done.stdout:
        sys.exit("error: something ran; run dvc repro first")
    return time.perf_counter() - start


def empty_pipeline(folder: Path) -> Path:
    folder.mkdir()
    (folder / "dvc.yaml").write_text(PIPELINE)
    for command in (["git", "init", "--quiet"], [sys.executable, "-m", "dvc", "init", "--quiet"]):
        subprocess.run(command, cwd=folder, check=True)
    for key in ("core.analytics", "core.check_update"):
        subprocess.run([sys.executable, "-m", "dvc", "config", key, "false"], cwd=folder, check=True)
    subprocess.run([sys.executable, "-m", "dvc", "repro", "--quiet"], cwd=folder, check=True, capture_output=True)
    return folder


def main(rounds: int = 9) -> None:
    """Print the medians and the medians of the paired ratios."""
    with tempfile.TemporaryDirectory() as scratch:
        folders = {
            "six empty stages": empty_pipeline(Path(scratch) / "a"),
            "the same again": empty_pipeline(Path(scratch) / "b"),
            "this project": Path.cwd(),
        }
        times: dict[str, list[float]] = {name: [] for name in folders}
        for _ in range(rounds):
            for name, folder in folders.items():
                times[name].append(seconds(folder))
    base = times["six empty stages"]
    for name, values in times.items():
        ratios = [value / empty for value, empty in zip(values, base, strict=True)]
        typer.echo(f"{name:18} {statistics.median(values):6.2f} s  ratio {statistics.median(ratios):.2f}")


if __name__ == "__main__":
    typer.run(main)
