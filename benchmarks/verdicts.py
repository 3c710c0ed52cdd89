"""Simulate comparisons of recipes: how often the verdict of ``imgpipe compare`` is false, and how often it is right.

An image is right in a run where a sum is above 0: the recipe's level, the image's difficulty and its group's, what the
recipe makes of this image and of this group, the run's luck, and chance. Where both recipes have one level their
expected accuracies are equal, and each verdict but "not yet known" is false. ``make bench-verdicts``.
"""

from collections.abc import Iterator
from dataclasses import dataclass, replace

import numpy as np
import typer
from scipy.stats import norm

from imgpipe.commands.comparing.crossed import Array, CrossedEstimate, crossed, strata_of
from imgpipe.commands.comparing.paired import sign_flips

REPETITIONS = 2000
IMAGES = 400
LEVEL = 1.2
RUNS = (2, 3, 5, 10)


@dataclass(frozen=True)
class World:
    """Standard deviations of the terms of the sum."""

    name: str
    image: float = 1.0
    recipe_by_image: float = 0.4
    run: float = 0.02
    chance: float = 0.2
    group: float = 0.0
    recipe_by_group: float = 0.0
    groups: int = 0

    @property
    def of_one(self) -> float:
        """Of the whole sum."""
        parts = (self.image, self.recipe_by_image, self.run, self.chance, self.group, self.recipe_by_group)
        return float(np.sqrt(np.square(parts).sum()))

    def accuracy(self, level: float) -> float:
        """Return the expected accuracy of a recipe of this level."""
        return float(norm.cdf(level / self.of_one))

    def level(self, accuracy: float) -> float:
        """Return the level of a recipe of this expected accuracy."""
        return float(norm.ppf(accuracy) * self.of_one)


STABLE = World("stable training")
NOISY = World("noisy training", run=0.15, chance=0.7, recipe_by_image=0.2)
WORLDS = (
    STABLE,
    NOISY,
    replace(STABLE, name="stable, 40 groups", group=0.5, recipe_by_group=0.25, groups=40),
    replace(NOISY, name="noisy, 40 groups", group=0.5, recipe_by_group=0.25, groups=40),
)


def trials(world: World, runs: int, levels: tuple[float, float], seed: int) -> Iterator[tuple[Array, Array, Array]]:
    """Yield scores of A and of B, float64 (runs, IMAGES), and the groups of the images, of REPETITIONS comparisons."""
    random = np.random.default_rng(seed)
    for _ in range(REPETITIONS):
        groups = random.permutation(np.arange(IMAGES) % world.groups) if world.groups else np.arange(IMAGES)
        count = groups.max() + 1
        shared = random.normal(0, world.image, IMAGES) + random.normal(0, world.group, count)[groups]
        sides = []
        for level in levels:
            of_recipe = random.normal(0, world.recipe_by_image, IMAGES)
            of_recipe = of_recipe + random.normal(0, world.recipe_by_group, count)[groups]
            luck = random.normal(0, world.run, (runs, 1)) + random.normal(0, world.chance, (runs, IMAGES))
            sides.append((level + shared + of_recipe + luck > 0).astype(np.float64))
        yield sides[0], sides[1], groups


def estimates(world: World, runs: int, levels: tuple[float, float], seed: int) -> list[CrossedEstimate]:
    """Return the command's estimate of the accuracy's difference in each trial."""
    weights, strata = np.full(IMAGES, 1 / IMAGES), np.zeros(IMAGES, np.int64)
    return [crossed(a, b, weights, strata, groups) for a, b, groups in trials(world, runs, levels, seed)]


def false_verdicts_balanced(world: World, runs: int, seed: int) -> float:
    """Return the share of false verdicts on balanced accuracy: of 5 classes the rarest has 5 % of the images."""
    classes = np.repeat(np.arange(5), (np.array([0.4, 0.3, 0.15, 0.1, 0.05]) * IMAGES).round().astype(np.int64))
    weights = 1 / 5 / np.bincount(classes)[classes]
    level = world.level(0.9)
    false = 0
    for a, b, groups in trials(world, runs, (level, level), seed):
        false += crossed(a, b, weights, strata_of(classes), groups).p_value <= 0.05
    return false / REPETITIONS


def share(values: Iterator[bool]) -> str:
    return f"{100 * sum(values) / REPETITIONS:5.1f} %"


def main() -> None:
    """Print three tables: false verdicts, power, and coverage."""
    typer.echo(f"{REPETITIONS:,} comparisons each, {IMAGES} images, expected accuracy 0.90\n")
    typer.echo("False verdicts at 5 %, no difference, by runs a side (and of single models, by McNemar's test)\n")
    typer.echo(f"{'':22}" + "".join(f"{runs:>9}" for runs in RUNS) + "   balanced, 5   one model each")
    for number, world in enumerate(WORLDS):
        level = world.level(0.9)
        false = [share(e.p_value <= 0.05 for e in estimates(world, runs, (level, level), number)) for runs in RUNS]
        balanced = f"{100 * false_verdicts_balanced(world, 5, number):5.1f} %"
        single = share(
            sign_flips(np.bincount(groups, weights=(b - a)[0]).round().astype(np.int64)) <= 0.05
            for a, b, groups in trials(world, 1, (level, level), number)
        )
        typer.echo(f"{world.name:22}" + "".join(f"{cell:>9}" for cell in false) + f"{balanced:>14}{single:>17}")
    typer.echo("\nDifference found (power) and 95 % interval that holds it (coverage), 5 runs a side\n")
    differences = (0.01, 0.02, 0.04)
    typer.echo(f"{'':22}" + "".join(f"  +{d:.2f}: found, held" for d in differences))
    for number, world in enumerate(WORLDS):
        line = f"{world.name:22}"
        for difference in differences:
            found = estimates(world, 5, (world.level(0.9), world.level(0.9 + difference)), 10 + number)
            right = share(e.p_value <= 0.05 and e.difference > 0 for e in found)
            held = share(e.interval[0] <= difference <= e.interval[1] for e in found)
            line += f"{right:>12}{held:>9}"
        typer.echo(line)


if __name__ == "__main__":
    main()
