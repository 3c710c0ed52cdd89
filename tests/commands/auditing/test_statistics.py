"""Intervals and tests of slices, by hand and by scipy."""

import numpy as np
import pytest
from scipy import stats

from imgpipe.commands.auditing.statistics import accuracy_interval, difference_p_value
from imgpipe.evaluate.intervals import wilson_interval


def test_without_groups_the_interval_is_wilsons() -> None:
    right = np.arange(20) < 15
    expected = stats.binomtest(15, 20).proportion_ci(method="wilson")
    assert accuracy_interval(right, None) == pytest.approx((expected.low, expected.high))


def test_groups_that_differ_count_as_few_independent_images() -> None:
    """Three groups of four images, of which 4, 2 and 3 are right.

    The accuracy is 3/4, the groups deviate by 1, -1 and 0 images: variance 2 * 3/2 / 144 = 1/48, as of nine images.
    """
    right = np.array([1, 1, 1, 1, 1, 1, 0, 0, 1, 1, 1, 0], dtype=bool)
    images = 9 * (stats.norm.ppf(0.975) / stats.t.ppf(0.975, 2)) ** 2
    assert accuracy_interval(right, np.repeat([0, 1, 2], 4)) == pytest.approx(wilson_interval(0.75 * images, images))


@pytest.mark.parametrize("right_of_last", [30, 31])
def test_groups_never_make_the_interval_narrower_than_their_images_would(right_of_last: int) -> None:
    """Three groups have the same accuracy, or almost, which can be chance."""
    right = np.concatenate([np.arange(40) < count for count in (30, 30, right_of_last)])
    low, high = accuracy_interval(right, np.repeat([0, 1, 2], 40))
    low_of_images, high_of_images = wilson_interval(int(right.sum()), 120)
    assert low < low_of_images < high_of_images < high


def test_where_all_are_right_groups_count_as_images() -> None:
    interval = accuracy_interval(np.ones(40, dtype=bool), np.repeat([0, 1, 2, 3], 10))
    images = 4 * (stats.norm.ppf(0.975) / stats.t.ppf(0.975, 3)) ** 2
    assert interval == pytest.approx((wilson_interval(images, images)[0], 1.0))


def test_without_groups_the_p_value_is_fishers() -> None:
    """Three of four right in the slice, one of four outside: the tea tasting, p = 34/70."""
    right = np.array([1, 1, 1, 0, 1, 0, 0, 0], dtype=bool)
    assert difference_p_value(right, np.arange(8) < 4, None) == pytest.approx(34 / 70)


def test_groups_on_one_side_each_are_compared_as_welch_compares_their_means() -> None:
    """With the degrees of freedom of the smaller side: of three groups two."""
    counts = [[4, 9, 5], [9, 10, 8, 10, 7]]
    right = np.concatenate([np.arange(10) < count for side in counts for count in side])
    groups = np.repeat(np.arange(8), 10)
    welch = stats.ttest_ind(np.array(counts[0]) / 10, np.array(counts[1]) / 10, equal_var=False)
    assert difference_p_value(right, groups < 3, groups) == pytest.approx(2 * stats.t.sf(abs(welch.statistic), 2))


def test_groups_on_both_sides_are_compared_in_pairs() -> None:
    inside_right, outside_right = [1, 3, 2, 4, 1, 0], [4, 5, 4, 4, 5, 5]
    right = np.concatenate([np.arange(5) < count for count in (*inside_right, *outside_right)])
    groups = np.tile(np.repeat(np.arange(6), 5), 2)
    paired = stats.ttest_rel(np.array(inside_right) / 5, np.array(outside_right) / 5)
    assert difference_p_value(right, np.arange(60) < 30, groups) == pytest.approx(paired.pvalue)


def test_a_difference_without_variance_between_groups_is_no_surer_than_by_images() -> None:
    """All right in the slice, nine of ten in every group outside."""
    right = np.concatenate([np.ones(10, dtype=bool), np.tile(np.arange(10) < 9, 3)])
    groups = np.concatenate([np.repeat([0, 1], 5), np.repeat([2, 3, 4], 10)])
    expected = stats.fisher_exact([[10, 0], [27, 3]]).pvalue
    assert difference_p_value(right, groups < 2, groups) == pytest.approx(expected)
