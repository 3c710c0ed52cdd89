"""The test for recipes: runs of two recipes on the same images, or on the same splits."""

import numpy as np
import pytest
from scipy import stats

from imgpipe.commands.comparing.crossed import Array, CrossedEstimate, Estimate, crossed, resampled, strata_of

RANDOM = np.random.default_rng(0)


def plain(a: Array, b: Array) -> CrossedEstimate:
    """The estimate of a mean over images that are independent."""
    n = a.shape[1]
    return crossed(a, b, np.full(n, 1 / n), np.zeros(n, np.int64), np.arange(n))


def test_where_all_images_fare_alike_it_is_welch_s_test_over_the_runs() -> None:
    runs_a, runs_b = RANDOM.normal(0.9, 0.01, 4), RANDOM.normal(0.92, 0.03, 7)
    found = plain(np.repeat(runs_a[:, None], 50, axis=1), np.repeat(runs_b[:, None], 50, axis=1))
    welch = stats.ttest_ind(runs_b, runs_a, equal_var=False)
    assert found.p_value == pytest.approx(welch.pvalue)
    assert found.degrees == pytest.approx(welch.df)
    assert found.interval == pytest.approx(welch.confidence_interval())
    assert found.image_variance == 0


def test_where_all_runs_are_alike_it_is_the_paired_t_test_over_the_images() -> None:
    images_a, images_b = RANDOM.normal(0, 1, 60), RANDOM.normal(0.2, 1, 60)
    found = plain(np.tile(images_a, (3, 1)), np.tile(images_b, (5, 1)))
    paired = stats.ttest_rel(images_b, images_a)
    assert found.p_value == pytest.approx(paired.pvalue)
    assert found.degrees == pytest.approx(59)
    assert found.interval == pytest.approx(paired.confidence_interval())
    assert found.seed_variances == pytest.approx((0, 0))


def test_two_runs_a_side_on_four_images_are_worked_out_by_hand() -> None:
    """A is right on 2 and 3 of 4 images, B on 4 and 3: either side's accuracies have a variance of 1/32.

    The means by image differ by 0, 0, 0.5, 0.5, with variance 1/12, so that P = 1/48. The residuals (score - row -
    column + grand mean) are +-1/8 for three images and +-3/8 for one, of both runs: their mean square is
    2 x (3/64 + 9/64) / 3 = 1/8, on both sides. So K = (1/8 / 2 + 1/8 / 2) / 4 = 1/32, which is more than P: all that
    the images seem to add is chance that the runs' variance has already.
    """
    a = np.array([[1.0, 1.0, 0.0, 0.0], [1.0, 1.0, 0.0, 1.0]])
    b = np.array([[1.0, 1.0, 1.0, 1.0], [1.0, 1.0, 0.0, 1.0]])
    found = plain(a, b)
    assert (found.a, found.b) == (0.625, 0.875)
    assert found.seed_variances == pytest.approx((1 / 32, 1 / 32))
    assert found.image_variance == 0
    assert found.standard_error == pytest.approx(np.sqrt(2 * (1 / 32) / 2))
    assert found.degrees == pytest.approx((1 / 32) ** 2 / (2 * (1 / 64) ** 2 + (1 / 48) ** 2 / 3))


def test_what_the_images_add_is_worked_out_by_hand_where_the_runs_of_a_side_agree_but_in_one_score() -> None:
    """A is right on no image of 6 but the first, in one of its 2 runs; B on the last 3, in both.

    Means by image differ by -0.5, 0, 0, 1, 1, 1: mean 5/12, squares 0.25 + 3 = 3.25 less 6 x 25/144 = 53/24, so that
    P = 53/24 / 5 / 6. A's residuals: +-5/12 for the first, -+1/12 for 5: squares 2 x (25 + 5) / 144 = 5/12, mean square
    5/12 / 5 = 1/12, K = 1/12 / 2 / 6 = 1/144. A's accuracies 1/6 and 0: variance 1/72.
    """
    a, b = np.zeros((2, 6)), np.zeros((2, 6))
    a[0, 0] = 1
    b[:, 3:] = 1
    found = plain(a, b)
    assert found.seed_variances == pytest.approx((1 / 72, 0))
    assert found.image_variance == pytest.approx(53 / 720 - 1 / 144)
    assert found.standard_error**2 == pytest.approx(1 / 144 + 53 / 720 - 1 / 144)


def test_runs_that_agree_by_luck_vary_at_least_as_chance_on_their_images_has_them() -> None:
    """Each run is right on 2 of 4 images, the second of a side on the others than the first.

    The accuracies do not vary, nor do the differences between the sides. Each score is 1/2 from its image's mean and
    its run's: squares 8 x 1/4 / 3 = 2/3, the variance of a run by chance 2/3 / 4 = 1/6, of a mean of two 1/12, known
    from 3 degrees of freedom.
    """
    runs = np.array([[1.0, 1.0, 0.0, 0.0], [0.0, 0.0, 1.0, 1.0]])
    found = plain(runs, runs)
    assert found.seed_variances == pytest.approx((1 / 6, 1 / 6))
    assert found.standard_error == pytest.approx(np.sqrt(1 / 6))
    assert found.degrees == pytest.approx((1 / 6) ** 2 / (2 * (1 / 12) ** 2 / 3))


def test_groups_that_are_copies_of_one_image_count_as_one() -> None:
    a, b = RANDOM.integers(2, size=(3, 40)) * 1.0, RANDOM.integers(2, size=(4, 40)) * 1.0
    groups = np.repeat(np.arange(40), 5)
    copied = crossed(
        np.repeat(a, 5, axis=1), np.repeat(b, 5, axis=1), np.full(200, 1 / 200), np.zeros(200, np.int64), groups
    )
    alone = plain(a, b)
    assert (copied.difference, copied.standard_error, copied.degrees) == pytest.approx(
        (alone.difference, alone.standard_error, alone.degrees)
    )


def test_balanced_accuracy_weighs_classes_alike_and_takes_the_variance_within_them() -> None:
    """Class 0 always differs by 1 and class 1 never: no chance is left but that of the runs, of which there is none."""
    classes = np.array([0] * 10 + [1] * 90)
    weights = np.where(classes == 0, 1 / 20, 1 / 180)
    a, b = np.ones((2, 100)), np.ones((2, 100))
    a[:, classes == 0] = 0
    found = crossed(a, b, weights, strata_of(classes), np.arange(100))
    assert (found.difference, found.standard_error, found.p_value) == pytest.approx((0.5, 0, 0))


def test_two_groups_of_equivalence_are_schuirmann_s_two_tests() -> None:
    estimate = Estimate(0.90, 0.91, standard_error=0.004, degrees=12)
    lower, upper = stats.t.sf((0.01 + 0.02) / 0.004, 12), stats.t.cdf((0.01 - 0.02) / 0.004, 12)
    assert estimate.p_outside(0.02) == pytest.approx(max(lower, upper))


def test_the_detectable_difference_is_found_in_four_of_five_comparisons() -> None:
    """By Monte Carlo: 20,000 comparisons of a true difference of that size, 8 degrees of freedom."""
    size = Estimate(0, 0, standard_error=1, degrees=8).detectable(0.05)
    random = np.random.default_rng(1)
    errors = np.sqrt(random.chisquare(8, 20_000) / 8)
    t = (random.normal(size, 1, 20_000)) / errors
    assert (t > stats.t.ppf(0.975, 8)).mean() == pytest.approx(0.8, abs=0.02)


def test_the_corrected_resampled_t_is_worked_out_by_hand() -> None:
    """Differences 0.01, 0.03, 0.02: mean 0.02, variance 0.0001; (1/3 + 0.25) x 0.0001, 2 degrees of freedom."""
    found = resampled([0.9, 0.9, 0.9], [0.91, 0.93, 0.92], tested_to_trained=0.25)
    assert found.difference == pytest.approx(0.02)
    assert found.standard_error == pytest.approx(np.sqrt((1 / 3 + 0.25) * 1e-4))
    assert found.p_value == pytest.approx(2 * stats.t.sf(0.02 / found.standard_error, 2))


def test_nothing_but_equal_runs_is_no_difference() -> None:
    ones = np.ones((2, 10))
    assert plain(ones, ones).p_value == 1.0
    assert plain(ones, ones).interval == (0, 0)
