"""How many kernels one training step launches on a GPU: ours against a plain loop that does the same work.

    make bench-kernels

No GPU is needed: ``tests/launches.py`` counts them on fake tensors.
"""

import sys
from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path

import typer

ROOT = Path(__file__).resolve().parent.parent
sys.path[:0] = [str(ROOT), str(ROOT / "src"), str(ROOT / "tests")]

from fake_gpu import GPU, fake_gpu, first_of  # noqa: E402
from launches import Launches, ours, plain  # noqa: E402

from imgpipe.common import params  # noqa: E402
from imgpipe.model.devices import World  # noqa: E402
from imgpipe.train.params import Train  # noqa: E402


def main(model: str = "resnet50", size: int = 224, shown: int = 12) -> None:
    """Print the launches of a step in one part and in four, and which operators make up the difference.

    The recipe is that of params.yaml, in bf16. shown: how many operators.
    """
    recipe = replace(params.read("train", Train, ROOT / "params.yaml"), precision="bf16", kernels="native")
    typer.echo(f"{model} at {size} px, bf16: launches of one step, on each process")
    for processes, parts in ((1, 1), (1, 4), (2, 1), (2, 4)):
        in_parts = replace(recipe, micro_batches=processes * parts)
        with fake_gpu(), first_of(processes) if processes > 1 else nullcontext(World(0, 1, GPU)) as world:
            ours_, plain_ = ours(model, size, in_parts, world), plain(model, size, in_parts, world)
        report(f"processes: {processes}, parts of each: {parts}", ours_, plain_, shown)


def report(title: str, ours_: Launches, plain_: Launches, shown: int) -> None:
    """Print the totals and their ratio, and the operators of which ours has the most more, with where it runs them."""
    one, other = ours_.by_place.total(), plain_.by_place.total()
    typer.echo(f"\n{title:32} {'plain':>6} {'ours':>6}  ratio {one / other:.3f}")
    typer.echo(f"{'all':32} {other:6,} {one:6,}")
    here, there = ours_.by_operator, plain_.by_operator
    for name in sorted({*here, *there}, key=lambda name: there[name] - here[name])[:shown]:
        if here[name] > there[name]:
            typer.echo(f"{name:32} {there[name]:6,} {here[name]:6,}")
            for (operator, where), number in ours_.by_place.most_common():
                if operator == name:
                    typer.echo(f"{number:46,}  {where}")


if __name__ == "__main__":
    typer.run(main)
