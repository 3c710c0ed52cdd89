"""Tests of slices, by hand and by scipy."""

import numpy as np
import pytest
from scipy import stats

from imgpipe.commands.auditing.statistics import difference_p_value


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
