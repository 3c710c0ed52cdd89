"""Units: images that move to a split together, and how units are shared out so that classes keep their proportions."""

import hashlib
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass


@dataclass(frozen=True)
class Unit:
    """Images that are in one split, whichever it is: a single one, a group, or copies of an image."""

    images: list[int]
    """Their numbers."""
    labels: Counter[str]
    """How many there are of each class."""
    key: str
    """What tells it from others and does not change when others come: it decides what is left to chance."""


Fractions = Mapping[str, float]
"""Splits to be cut from the training images, and the share of these images for each."""


def linked(count: int, pairs: Iterable[tuple[int, int]]) -> list[int]:
    """Return the set of each of so many things, named by its lowest number: what a chain of pairs links is in one set.

    >>> linked(5, [(0, 2), (2, 3)])
    [0, 1, 0, 0, 4]
    """
    lower = list(range(count))  # of each thing another of its set, or itself

    def lowest(thing: int) -> int:
        while lower[thing] != thing:
            lower[thing] = lower[lower[thing]]
            thing = lower[thing]
        return thing

    for one, other in pairs:
        low, high = sorted((lowest(one), lowest(other)))
        lower[high] = low
    return [lowest(thing) for thing in range(count)]


def chance(purpose: str, unit: Unit) -> int:
    """Return a number from 0 to 2^64 - 1 that a unit's key alone decides.

    purpose: another one gives other numbers; the seed is part of it.
    """
    return int.from_bytes(hashlib.blake2b(f"{purpose} {unit.key}".encode(), digest_size=8).digest(), "big")


def fill(units: Sequence[Unit], fractions: Fractions, seed: int) -> dict[int, str]:
    """Fill one split after the other with whole units; return the split of each unit that is moved, by its number.

    A class that is in several units is left in train; of what there is more, each split gets some, the first of them
    first. Beyond that each split comes as near to its fraction, and in it each class, as the units allow.
    """
    images = sum((unit.labels for unit in units), Counter[str]())
    at_random = sorted(range(len(units)), key=lambda i: chance(str(seed), units[i]))
    moved: dict[int, str] = {}
    for place, (name, fraction) in enumerate(fractions.items()):
        rest = [i for i in at_random if i not in moved]
        targets = {label: fraction * count for label, count in images.items()}
        filling = _Filling([units[i] for i in rest], targets, others=len(fractions) - place)
        filling.cover()
        filling.fill()
        moved |= {rest[i]: name for i in filling.chosen}
    return moved


class _Filling:
    """A split that is being filled, greedily."""

    def __init__(self, units: Sequence[Unit], targets: Mapping[str, float], *, others: int) -> None:
        """Begin with nothing in the split.

        units: those that are still in train, in random order.
        targets: how many images of each class are wanted.
        others: how many splits are to have each class when this one is full; train is one of them.
        """
        self.units, self.targets, self.others = units, targets, others
        self.wanted = sum(targets.values())
        self.chosen: dict[int, None] = {}
        """Numbers of the units in the split."""
        self.size = 0
        """Images in the split."""
        self.have: Counter[str] = Counter()
        """Images in the split by class."""
        self.left = Counter(label for unit in units for label in unit.labels)
        """Units by class that are not in the split."""

    def cover(self) -> None:
        """Choose a unit for each class, the rarest first, as far as train keeps one of it.

        It is any that fits and brings the classes nearer to their targets, or else the one that is least of a burden.
        """
        having: dict[str, list[int]] = {}
        for i, unit in enumerate(self.units):
            for label in unit.labels:
                having.setdefault(label, []).append(i)
        for label in sorted(having, key=lambda label: (len(having[label]), label)):
            able = [i for i in having[label] if i not in self.chosen and self._leaves(i, 1)]
            if able and not self.have[label]:
                self._choose(min(able, key=self._burden))

    def fill(self) -> None:
        """Choose units until there are as many images as wanted, or as near to it as may be."""
        for i in range(len(self.units)):
            if self._fits(i) and self._harm(i) < 0:
                self._choose(i)
        rest = [i for i in range(len(self.units)) if i not in self.chosen]
        for i in sorted(rest, key=lambda i: (-len(self.units[i].images), self._harm(i))):
            if self._fits(i):
                self._choose(i)
        rest = [i for i in rest if i not in self.chosen and self._leaves(i, self.others)]
        nearest = min(rest, key=self._distance, default=None)
        if nearest is not None and self._distance(nearest) < abs(self.size - self.wanted):
            self._choose(nearest)

    def _choose(self, i: int) -> None:
        self.chosen[i] = None
        self.size += len(self.units[i].images)
        self.have.update(self.units[i].labels)
        self.left.subtract(self.units[i].labels.keys())

    def _leaves(self, i: int, least: int) -> bool:
        """Return whether so many units of each of its classes are left once a unit is chosen."""
        return all(self.left[label] > least for label in self.units[i].labels)

    def _fits(self, i: int) -> bool:
        """Return whether a unit can be chosen, and makes the split no larger than wanted."""
        small = self.size + len(self.units[i].images) <= self.wanted
        return small and i not in self.chosen and self._leaves(i, self.others)

    def _burden(self, i: int) -> tuple[bool, float, float]:
        """Return what a unit would spoil: another split's classes, size, proportions. Nothing is (False, 0, 0)."""
        if self._fits(i) and self._harm(i) < 0:
            return False, 0, 0
        excess = self.size + len(self.units[i].images) - self.wanted
        return not self._leaves(i, self.others), max(0, excess), self._harm(i)

    def _harm(self, i: int) -> float:
        """Return by how much a unit would add to the chi-square distance of the classes from their targets."""
        return sum(
            count * (count + 2 * (self.have[label] - self.targets[label])) / self.targets[label]
            for label, count in self.units[i].labels.items()
        )

    def _distance(self, i: int) -> float:
        """Return by how many images the split would miss its size with a unit."""
        return abs(self.size + len(self.units[i].images) - self.wanted)


def even_folds(units: Sequence[Unit], folds: int, seed: int) -> list[int]:
    """Return the fold of each unit: as many of each class in each fold as may be, then as many images.

    The largest units come first, each into the fold that has least of its classes.
    """
    images = sum((unit.labels for unit in units), Counter[str]())
    have = [Counter[str]() for _ in range(folds)]
    sizes = [0] * folds
    fold_of = [0] * len(units)

    def crowding(unit: Unit, fold: int) -> tuple[float, int]:
        return sum(n * (n + 2 * have[fold][label]) / images[label] for label, n in unit.labels.items()), sizes[fold]

    for i in sorted(range(len(units)), key=lambda i: (-len(units[i].images), chance(f"{seed} fold", units[i]))):
        unit = units[i]
        fold = min(range(folds), key=lambda fold: crowding(unit, fold))
        fold_of[i] = fold
        have[fold].update(unit.labels)
        sizes[fold] += len(unit.images)
    return fold_of
