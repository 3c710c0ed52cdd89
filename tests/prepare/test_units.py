"""How whole units are shared out."""

from collections import Counter

import numpy as np
import pytest

from imgpipe.prepare.units import Unit, even_folds, fill, linked


def units(groups: list[dict[str, int]]) -> list[Unit]:
    """A unit for each group, given its number of images by class."""
    first = np.cumsum([0, *(sum(group.values()) for group in groups)]).tolist()
    return [
        Unit(list(range(start, start + sum(group.values()))), Counter(group), f"group {i}")
        for i, (start, group) in enumerate(zip(first, groups, strict=False))
    ]


def zipf(random: np.random.Generator) -> list[dict[str, int]]:
    """Eighty groups of two classes, the k-th of 300 / k images."""
    return [{"ab"[k % 2]: 300 // k} for k in random.permutation(np.arange(1, 81)).tolist()]


def mixed(random: np.random.Generator) -> list[dict[str, int]]:
    """Thirty groups, each with some images of each of ten classes."""
    return [dict(zip("abcdefghij", random.integers(1, 6, 10).tolist(), strict=True)) for _ in range(30)]


KINDS: dict[str, list[dict[str, int]]] = {
    "a class of three images among 800": [{"ab"[i % 2]: 4} for i in range(200)] + [{"c": 1}] * 3,
    "ten groups of each of two classes": [{"ab"[i % 2]: 10} for i in range(20)],
    "sizes by Zipf's law": zipf(np.random.default_rng(0)),
    "all classes in each group": mixed(np.random.default_rng(0)),
    "rare classes": [{"ab"[i % 2]: 5} for i in range(100)] + [{f"rare {n}": 1} for n in (3, 4, 5) for _ in range(n)],
    "a giant of 30 %": [{"a": 150, "b": 150}] + [{"ab"[i % 2]: 1 + i % 9} for i in range(140)],
}


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("fraction", [0.15, 0.2])
def test_splits_of_whole_groups_have_the_asked_sizes_and_all_classes(kind: str, fraction: float) -> None:
    """No split misses its size by more than the largest group; but for the giant, by more than a fiftieth."""
    groups = units(KINDS[kind])
    count, largest = sum(len(group.images) for group in groups), max(len(group.images) for group in groups)
    having = Counter(label for group in groups for label in group.labels)
    cuts = set()
    for seed in range(10):
        moved = fill(groups, {"test": fraction, "val": fraction}, seed)
        for split in ("test", "val"):
            size = sum(len(groups[i].images) for i, its in moved.items() if its == split)
            assert abs(size - fraction * count) <= min(largest, 0.02 * count)
        there = Counter((label, moved.get(i, "train")) for i, group in enumerate(groups) for label in group.labels)
        assert {label for label, _ in there} == set(having)
        assert all(there[label, split] for label in having for split in ("train", "test", "val"))
        cuts.add(tuple(sorted(moved.items())))
        assert fill(groups, {"test": fraction, "val": fraction}, seed) == moved
    assert len(cuts) == 10


def test_each_class_has_its_share_of_a_split_as_near_as_groups_allow() -> None:
    """Of a third class there are 60 images in groups of 3, so a share of 0.15 is 9 of them: three groups."""
    groups = units([{"a": 5}] * 60 + [{"b": 5}] * 40 + [{"c": 3}] * 20)
    for seed in range(10):
        moved = fill(groups, {"test": 0.15, "val": 0.15}, seed)
        sizes: Counter[tuple[str, str]] = Counter()
        for i, split in moved.items():
            (label,) = groups[i].labels
            sizes[label, split] += len(groups[i].images)
        assert all(sizes[key] == (45, 30, 9)["abc".index(key[0])] for key in sizes)
        assert len(sizes) == 6


def test_a_large_group_is_tested_by_chance_and_not_always() -> None:
    groups = units([{"a": 8}, {"b": 8}] + [{"a": 1}, {"b": 1}] * 40)
    splits = Counter(fill(groups, {"test": 0.25, "val": 0.25}, seed).get(0, "train") for seed in range(200))
    assert all(splits[split] >= 20 for split in ("train", "val", "test"))


def test_folds_are_even_in_images_and_classes() -> None:
    """Singles: 103 of a, 51 of b, 7 of c: in each of five folds 20 or 21, 10 or 11, 1 or 2."""
    groups = units([{"a": 1}] * 103 + [{"b": 1}] * 51 + [{"c": 1}] * 7)
    folds = even_folds(groups, 5, seed=0)
    counts = Counter((fold, *group.labels) for fold, group in zip(folds, groups, strict=True))
    assert {counts[fold, "a"] for fold in range(5)} == {20, 21}
    assert {counts[fold, "b"] for fold in range(5)} == {10, 11}
    assert {counts[fold, "c"] for fold in range(5)} == {1, 2}
    assert set(Counter(folds).values()) <= {32, 33}
    assert folds == even_folds(groups, 5, seed=0) != even_folds(groups, 5, seed=1)


def test_folds_of_unequal_groups_are_as_even_as_the_largest_allow() -> None:
    groups = units(KINDS["sizes by Zipf's law"])
    sizes: Counter[int] = Counter()
    for fold, group in zip(even_folds(groups, 4, seed=0), groups, strict=True):
        sizes[fold] += len(group.images)
    assert max(sizes.values()) - min(sizes.values()) <= 0.1 * sizes.total()
    assert len(sizes) == 4


def test_chains_of_pairs_are_one_set_named_by_its_lowest_number() -> None:
    assert linked(7, [(5, 6), (3, 1), (1, 6), (4, 2)]) == [0, 1, 2, 1, 2, 1, 1]
