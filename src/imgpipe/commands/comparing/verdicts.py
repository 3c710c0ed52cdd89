"""Turn estimates into verdicts: better, worse, equivalent or not yet known, and what it would take to know."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from math import ceil, sqrt

from imgpipe.commands.comparing.crossed import CrossedEstimate, Estimate, ResampledEstimate
from imgpipe.commands.comparing.paired import BETTER, NOT_DISTINGUISHABLE, WORSE
from imgpipe.evaluate.intervals import LEVEL

EQUIVALENT, NOT_YET_KNOWN = "equivalent", "not yet known"
MOST_RUNS = 100
"""More runs a side than these are not thought of."""


@dataclass(frozen=True)
class Verdict:
    """What a candidate is beside the base."""

    verdict: str
    """BETTER, WORSE, EQUIVALENT or NOT_YET_KNOWN; of a single model BETTER, WORSE or NOT_DISTINGUISHABLE."""
    p_value: float
    """Of no difference, corrected for the number of candidates."""
    p_outside_margin: float | None
    """Of a difference of the margin or more, corrected likewise; None where no margin was given."""
    detectable: float | None
    """The difference that would have been found in POWER of such comparisons; None of single models."""


def verdicts(estimates: Sequence[Estimate], *, margin: float | None, higher_is_better: bool) -> list[Verdict]:
    """Judge several candidates, each against the same base.

    In all comparisons together a recipe that makes no difference is called better or worse in at most 5 % (Holm 1979),
    and one whose difference is as large as the margin equivalent in at most 5 %.

    margin: the difference below which nobody cares; None to judge no equivalence.
    """
    p_values = holm([estimate.p_value for estimate in estimates])
    outside = [None if margin is None else estimate.p_outside(margin) for estimate in estimates]
    p_outside: Sequence[float | None] = outside if margin is None else holm([p for p in outside if p is not None])
    found = []
    for estimate, p_value, p_margin in zip(estimates, p_values, p_outside, strict=True):
        if p_margin is not None and p_margin <= 1 - LEVEL:
            verdict = EQUIVALENT
        elif p_value <= 1 - LEVEL:
            verdict = BETTER if (estimate.difference > 0) == higher_is_better else WORSE
        else:
            verdict = NOT_YET_KNOWN
        level = (1 - LEVEL) / len(estimates)
        found.append(Verdict(verdict, p_value, p_margin, estimate.detectable(level)))
    return found


def holm(p_values: Sequence[float]) -> list[float]:
    """Correct p-values for their number by Holm's step-down method (Holm 1979).

    >>> holm([0.01, 0.04, 0.03])
    [0.03, 0.06, 0.06]
    """
    order = sorted(range(len(p_values)), key=lambda i: p_values[i])
    corrected, highest = [0.0] * len(p_values), 0.0
    for place, i in enumerate(order):
        highest = max(highest, min(1.0, (len(p_values) - place) * p_values[i]))
        corrected[i] = highest
    return corrected


def model_verdicts(found: Sequence[tuple[float, int]]) -> list[Verdict]:
    """Judge several single models, each against the same one.

    found: of each the p-value of no difference, and how many more images it got right.
    """
    p_values = holm([p_value for p_value, _ in found])
    sides = [NOT_DISTINGUISHABLE if p >= 1 - LEVEL else BETTER for p in p_values]
    return [
        Verdict(WORSE if side == BETTER and more < 0 else side, p_value, None, None)
        for side, p_value, (_, more) in zip(sides, p_values, found, strict=True)
    ]


@dataclass(frozen=True)
class Needed:
    """What it would take to settle a comparison in POWER of the cases."""

    difference: float
    """Which is to be found; or the margin, where it is to be shown that the difference is within."""
    equivalence: bool
    """Whether it is the margin."""
    have: int
    """Runs on the side that has fewer, or splits."""
    runs: int | None
    """Runs a side, or splits; None where MOST_RUNS are not enough."""
    images: int | None
    """Independent images (or groups) to test on, where no number of runs is enough and that can be told."""


Reach = Callable[[Estimate], float]
"""What an estimate finds: see ``Estimate.detectable`` and ``Estimate.margin_shown``."""


def needed(estimate: CrossedEstimate | ResampledEstimate, difference: float, *, candidates: int) -> Needed:
    """Return what would find a difference, above 0, if all variances are what they seem.

    candidates: among which the level is shared out.
    """
    level = (1 - LEVEL) / candidates
    return _needed(estimate, difference, lambda one: one.detectable(level), equivalence=False)


def needed_for_equivalence(estimate: CrossedEstimate | ResampledEstimate, margin: float, *, candidates: int) -> Needed:
    """Return what would show that the difference is within the margin, if there is none."""
    level = (1 - LEVEL) / candidates
    return _needed(estimate, margin, lambda one: one.margin_shown(level), equivalence=True)


def _needed(
    estimate: CrossedEstimate | ResampledEstimate, difference: float, reach: Reach, *, equivalence: bool
) -> Needed:
    """Return the fewest runs whose reach is at most the difference, or else the images."""
    enough = (runs for runs in range(2, MOST_RUNS + 1) if reach(estimate.with_runs(runs)) <= difference)
    runs = next(enough, None)
    images = None if runs else _fewest_images(estimate, reach, difference)
    return Needed(difference, equivalence, _have(estimate), runs, images)


def _have(estimate: CrossedEstimate | ResampledEstimate) -> int:
    return min(estimate.runs) if isinstance(estimate, CrossedEstimate) else estimate.splits


def _fewest_images(estimate: CrossedEstimate | ResampledEstimate, reach: Reach, difference: float) -> int | None:
    """Return how many images it takes where those that there are, with runs without end, have a longer reach."""
    if not isinstance(estimate, CrossedEstimate):
        return None
    of_images = Estimate(estimate.a, estimate.b, sqrt(estimate.image_variance), estimate.units - 1)
    times = (reach(of_images) / difference) ** 2
    return ceil(estimate.units * times) if times > 1 else None
