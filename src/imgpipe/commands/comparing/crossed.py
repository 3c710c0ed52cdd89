"""Estimate by how much one recipe is better than another, from runs of both: over training seeds, images and splits."""

from collections.abc import Sequence
from dataclasses import dataclass
from math import sqrt
from typing import Any

import numpy as np
from scipy.special import stdtr, stdtrit

from imgpipe.evaluate.intervals import LEVEL

Array = np.ndarray[Any, Any]

POWER = 0.8
"""The share of comparisons that should find the smallest difference that counts as found."""


@dataclass(frozen=True)
class Estimate:
    """The difference of a metric, B - A, and how well it is known."""

    a: float
    """Mean of A over its runs."""
    b: float
    """Mean of B over its runs."""
    standard_error: float
    degrees: float
    """Degrees of freedom of the t distribution that the error of the difference has."""

    @property
    def difference(self) -> float:
        return self.b - self.a

    @property
    def interval(self) -> tuple[float, float]:
        """The 95 % interval of the difference."""
        reach = self._quantile((1 + LEVEL) / 2) * self.standard_error
        return self.difference - reach, self.difference + reach

    @property
    def p_value(self) -> float:
        """Of no difference, two-sided."""
        return min(1.0, 2 * self._beyond(abs(self.difference)))

    def p_outside(self, margin: float) -> float:
        """Return the p-value of a difference of at least ``margin``, either way: of two one-sided tests the larger.

        Source: Schuirmann 1987.
        """
        return self._beyond(margin - abs(self.difference))

    def detectable(self, level: float) -> float:
        """Return the true difference that such a comparison finds at this level in POWER of the cases."""
        return (self._quantile(1 - level / 2) + self._quantile(POWER)) * self.standard_error

    def margin_shown(self, level: float) -> float:
        """Return the margin within which such a comparison shows no difference to be, in POWER of the cases."""
        return (self._quantile(1 - level) + self._quantile((1 + POWER) / 2)) * self.standard_error

    def _beyond(self, distance: float) -> float:
        """Return how likely an error above this distance is."""
        if self.standard_error == 0:
            return 0.5 if distance == 0 else float(distance < 0)
        return float(stdtr(self.degrees, -distance / self.standard_error))

    def _quantile(self, share: float) -> float:
        return float(stdtrit(self.degrees, share))


@dataclass(frozen=True)
class CrossedEstimate(Estimate):
    """An estimate from runs that were tested on the same images, and where its error comes from."""

    seed_variances: tuple[float, float]
    """Of a single run's metric, of A and B: the training seed's and chance on single images, and chance at least."""
    image_variance: float
    """What the images alone leave, however many runs there are."""
    runs: tuple[int, int]
    """How many, of A and B."""
    units: int
    """How many independent things were tested: groups, or else images."""

    def with_runs(self, runs: int) -> Estimate:
        """Return the estimate as it would be with so many runs a side, if all variances stayed as they are."""
        of_seeds = [(variance / runs, runs - 1) for variance in self.seed_variances]
        return _estimate(self.a, self.b, of_seeds, self.image_variance, self.image_variance, self.units)


@dataclass(frozen=True)
class ResampledEstimate(Estimate):
    """An estimate from runs on several splits of the data."""

    splits: int
    variance: float
    """Of the difference on a single split."""
    tested_to_trained: float
    """Images that are tested for each that is trained on."""

    def with_runs(self, runs: int) -> Estimate:
        """Return the estimate as it would be on so many splits."""
        return Estimate(self.a, self.b, sqrt((1 / runs + self.tested_to_trained) * self.variance), runs - 1)


def crossed(a: Array, b: Array, weights: Array, strata: Array, groups: Array) -> CrossedEstimate:
    """Estimate the mean of B - A over training seeds and images, from runs of both that were tested on the same images.

    Images are crossed with runs, and runs nested in recipes: the design of studies with several readers and cases.
    Both the seeds and the images are a sample. Sources: Obuchowski and Rockette 1995; Gallas 2006; Hillis 2007; the
    degrees of freedom are Satterthwaite's.

    a, b: the score of each run on each image, such as 1 where it is right and 0 where not, float64 (runs, images), at
        least 2 runs.
    weights: of the images in a run's metric, equal within a stratum, of sum 1: float64 (images,).
    strata: number of the stratum of each image, int64 (images,). The metric is a mean over strata of given weights,
        such as the balanced accuracy over classes; of the accuracy all images are one stratum.
    groups: number of the group of each image, int64 (images,): images of one are not independent of each other. Where
        all are, each is a group of its own.
    """
    of_groups = [_by_group(runs, weights, strata, groups) for runs in (a, b)]
    means = [runs.mean(axis=0) for runs in of_groups]
    corrections = _corrections(strata, groups)
    images = float((corrections * (means[1] - means[0]) ** 2).sum())
    # of a run: the chance on single images, which is in the variance of the runs' metrics and, by the runs, in images
    chance = [
        float((corrections * ((runs - mean) ** 2).sum(axis=0)).sum()) / (len(runs) - 1)
        for runs, mean in zip(of_groups, means, strict=True)
    ]
    variances = [float((runs @ weights).var(ddof=1)) for runs in (a, b)]
    counts = (len(a), len(b))
    of_chance = sum(variance / count for variance, count in zip(chance, counts, strict=True))
    image_variance, units, known = max(0.0, images - of_chance), of_groups[0].shape[1], 1
    if sum(variance / count for variance, count in zip(variances, counts, strict=True)) < of_chance:
        # runs that agree by luck do not vary less than chance has them, which is known from each image
        variances, known = chance, max(1, units - 1)
    of_seeds = [(variance / count, (count - 1) * known) for variance, count in zip(variances, counts, strict=True)]
    whole = _estimate(float((a @ weights).mean()), float((b @ weights).mean()), of_seeds, image_variance, images, units)
    return CrossedEstimate(
        a=whole.a,
        b=whole.b,
        standard_error=whole.standard_error,
        degrees=whole.degrees,
        seed_variances=(variances[0], variances[1]),
        image_variance=image_variance,
        runs=counts,
        units=units,
    )


def resampled(a: Sequence[float], b: Sequence[float], *, tested_to_trained: float) -> ResampledEstimate:
    """Estimate the mean of B - A over splits of the data, from the metric of both on each of several splits.

    The corrected resampled t: training splits overlap, so that the differences are not independent, and their variance
    alone would make every recipe a winner (Nadeau and Bengio 2003, section 3, equation 9).

    a, b: the metric on each split, at least 2.
    tested_to_trained: images that are tested for each that is trained on.
    """
    differences = np.subtract(b, a)
    variance = float(differences.var(ddof=1))
    return ResampledEstimate(
        a=float(np.mean(a)),
        b=float(np.mean(b)),
        standard_error=sqrt((1 / len(differences) + tested_to_trained) * variance),
        degrees=len(differences) - 1,
        splits=len(differences),
        variance=variance,
        tested_to_trained=tested_to_trained,
    )


def _estimate(
    a: float, b: float, of_seeds: Sequence[tuple[float, int]], image_variance: float, images: float, units: int
) -> Estimate:
    """Put the variances together.

    of_seeds: of each side the variance of its mean over the runs, and the degrees of freedom of that.
    image_variance: what the images add to it.
    images: the mean square that it was estimated from, whose degrees of freedom are the units less 1.
    """
    variance = sum(part for part, _ in of_seeds) + image_variance
    spread = sum(part**2 / degrees for part, degrees in of_seeds) + images**2 / max(1, units - 1)
    return Estimate(a, b, sqrt(variance), variance**2 / spread if spread > 0 else 1.0)


def _by_group(runs: Array, weights: Array, strata: Array, groups: Array) -> Array:
    """Return how far each group moves each run's metric from what it would be if all images of a stratum were alike.

    Returns float64 (runs, groups), of which each row sums to 0.
    """
    sizes = np.bincount(strata)
    sums = np.stack([np.bincount(strata, weights=run) for run in runs])
    means = sums / np.maximum(sizes, 1)
    moved = weights * (runs - means[:, strata])
    return np.stack([np.bincount(groups, weights=row) for row in moved])


def _corrections(strata: Array, groups: Array) -> Array:
    """Return what the square of each group's part is multiplied by, since means were taken out: n / (n - 1).

    Where each image is a group of its own n is the images of its stratum; else n is the groups.
    """
    count = groups.max() + 1
    if count < len(groups):
        return np.full(count, count / max(1, count - 1))
    sizes = np.bincount(strata).astype(np.float64)
    of_groups = np.empty(count)
    of_groups[groups] = (sizes / np.maximum(1, sizes - 1))[strata]
    return of_groups


def strata_of(classes: Array) -> Array:
    """Return the stratum of each image: its class, but that classes of a single image are put together.

    A class of one image says nothing of the variance within it, so it shares its stratum with the others of that kind,
    or with the smallest class where there is but one (collapsed strata: Cochran 1977, section 5A.12).

    >>> strata_of(np.array([0, 0, 1, 2, 3, 3])).tolist()
    [0, 0, 1, 1, 3, 3]
    """
    strata = classes.copy()
    counts = np.bincount(classes)
    alone = np.flatnonzero(counts == 1)
    if len(alone) == 1:
        others = np.flatnonzero(counts > 1)
        alone = np.append(alone, others[counts[others].argmin()]) if len(others) else alone
    strata[np.isin(classes, alone)] = alone[0] if len(alone) else 0
    return strata
