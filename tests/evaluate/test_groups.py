"""Images in groups: photos of one patient tell less than as many photos of many."""

from collections.abc import Callable

import numpy as np
import pytest
from numpy.typing import NDArray

from imgpipe.evaluate import intervals
from imgpipe.evaluate.groups import number_groups

Ends = tuple[float, float]


def test_an_image_without_a_group_is_one_of_its_own_and_without_any_group_there_are_none() -> None:
    named = {"a.png": "x", "b.png": "", "c.png": "x", "x": "", "d.png": "y"}
    groups = number_groups(list(named), named)
    assert groups is not None
    assert groups.tolist() == [0, 1, 0, 2, 3]
    assert number_groups(["b.png", "x"], named) is None


def test_images_that_are_all_the_same_within_their_groups_count_once_a_group() -> None:
    groups = np.repeat(np.arange(300), 7)
    right = groups % 5 > 0
    assert intervals.effective_images(right, groups) == pytest.approx(300, rel=0.02)
    assert intervals.share_interval(right, groups) == pytest.approx(intervals.wilson_interval(240, 300), abs=0.001)


def test_images_that_do_not_depend_on_their_group_count_each() -> None:
    """400 groups of 10 images: in each of them 9 are right, so that they differ even less than by chance."""
    right = np.tile(np.arange(10) > 0, 400)
    assert intervals.effective_images(right, np.repeat(np.arange(400), 10)) == 4000


def test_of_a_single_group_all_images_count_as_one_and_means_have_no_interval() -> None:
    group = np.zeros(30, dtype=np.int64)
    right = np.arange(30) > 3
    assert intervals.effective_images(right, group) == 1
    labels = np.arange(30) % 3
    ends = intervals.confusion_intervals(labels, np.where(right, labels, 0), group)
    assert np.isnan(ends["f1_macro"]).all()
    assert ends["balanced_accuracy"][0] < 0.6
    assert np.isnan(intervals.mean_interval(np.arange(30.0), group)).all()


def test_a_mean_over_groups_of_one_image_is_a_mean_over_images() -> None:
    values = np.random.default_rng(0).exponential(size=100)
    expected = intervals.mean_interval(values, None)
    assert intervals.mean_interval(values, np.random.default_rng(1).permutation(100)) == pytest.approx(expected)


def test_whole_groups_are_resampled() -> None:
    """Every image nine times over, in a group with its copies, tells as much as once."""
    random = np.random.default_rng(0)
    labels = random.integers(3, size=200)
    predicted = np.where(random.random(200) < 0.8, labels, (labels + 1) % 3)
    once = intervals.confusion_intervals(labels, predicted, None)
    groups = np.repeat(np.arange(200), 9)
    copies = intervals.confusion_intervals(np.repeat(labels, 9), np.repeat(predicted, 9), groups)
    for name, ends in once.items():
        assert copies[name] == pytest.approx(ends, abs=0.01)


def simulated(
    random: np.random.Generator, groups: int, images: int, correlation: float, accuracy: float
) -> tuple[NDArray[np.bool_], NDArray[np.int64]]:
    """Draw which images are right, and their groups: of beta-binomial groups with a correlation within them."""
    spread = 1 / correlation - 1
    own = random.beta(accuracy * spread, (1 - accuracy) * spread, size=groups)
    number = np.repeat(np.arange(groups), images)
    return random.random(groups * images) < own[number], number


def share_held(draws: int, truth: float, interval: Callable[[], Ends]) -> float:
    ends = [interval() for _ in range(draws)]
    return sum(low <= truth <= high for low, high in ends) / draws


@pytest.mark.parametrize(("groups", "images", "correlation"), [(15, 72, 0.3), (15, 72, 0.1), (40, 10, 0.3)])
@pytest.mark.parametrize("accuracy", [0.8, 0.9, 0.95])
def test_an_accuracy_s_interval_holds_the_truth_in_92_of_100_simulated_tests_in_groups(
    groups: int, images: int, correlation: float, accuracy: float
) -> None:
    random = np.random.default_rng(0)
    held = share_held(
        1000, accuracy, lambda: intervals.share_interval(*simulated(random, groups, images, correlation, accuracy))
    )
    assert held >= 0.92


@pytest.mark.parametrize("pure", [True, False])
def test_balanced_accuracy_and_f1_hold_the_truth_in_simulated_tests_in_groups(pure: bool) -> None:
    """40 groups of 10 images, of one class each or of all; both metrics are 0.9 where classes are alike."""
    random, held = np.random.default_rng(0), {"balanced_accuracy": 0, "f1_macro": 0}
    for _ in range(200):
        right, groups = simulated(random, 40, 10, 0.3, 0.9)
        labels = groups % 3 if pure else random.integers(3, size=400)
        ends = intervals.confusion_intervals(labels, np.where(right, labels, (labels + 1) % 3), groups)
        for name, (low, high) in ends.items():
            held[name] += low <= 0.9 <= high
    assert min(held.values()) >= 0.92 * 200


def test_a_loss_s_interval_holds_the_truth_in_simulated_tests_in_groups() -> None:
    """40 groups of 10; half of the variance of the loss's logarithm, 1 in all, is between the groups."""
    random, groups = np.random.default_rng(0), np.repeat(np.arange(40), 10)

    def interval() -> Ends:
        logs = random.normal(0, np.sqrt(0.5), size=(40, 1)) + random.normal(0, np.sqrt(0.5), size=(40, 10))
        return intervals.mean_interval(np.exp(logs).ravel(), groups)

    assert share_held(1000, float(np.exp(0.5)), interval) >= 0.92
