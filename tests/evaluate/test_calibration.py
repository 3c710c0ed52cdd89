"""Confidence: the temperature, bins of reliability and thresholds, by hand."""

import numpy as np
import pytest
from numpy.typing import NDArray

from imgpipe.evaluate.calibration import (
    HIGHEST_TEMPERATURE,
    LOWEST_TEMPERATURE,
    choose_threshold,
    expected_calibration_error,
    fit_temperature,
    null_calibration_errors,
    reliability,
    scores_at_thresholds,
)

CONFIDENCE = np.array([0.9, 0.8, 0.8, 0.6, 0.5])
RIGHT = np.array([True, True, False, True, False])


def test_the_temperature_makes_confidence_the_share_of_right_answers() -> None:
    """Logits 6 and 0, right in 3 of 4: a confidence of 3/4 is a logit of log 3, so the temperature is 6 / log 3.

    Of 400,000 images what is likely before does not count.
    """
    logits = np.tile([[6.0, 0.0]], (400_000, 1))
    assert fit_temperature(logits, np.array([0, 0, 0, 1] * 100_000)) == pytest.approx(6 / np.log(3), rel=1e-4)
    assert fit_temperature(logits / 10, np.array([0, 0, 0, 1] * 100_000)) == pytest.approx(0.6 / np.log(3), rel=1e-4)


def test_a_few_images_that_are_all_right_do_not_make_it_certain() -> None:
    """Ten of ten with logits 1 and 0: with x for 1 / temperature the loss is 10 log(1 + exp(-x)) + log(x)^2 / 2.

    Its slope, times x, is log(x) - 10 x / (1 + exp(x)), which at 3.2815 is 1.1883 - 32.815 / 27.615 = 0.
    """
    temperature = fit_temperature(np.tile([[1.0, 0.0]], (10, 1)), np.zeros(10, dtype=int))
    assert temperature == pytest.approx(1 / 3.2815, rel=1e-4)


def test_a_temperature_stays_within_reason() -> None:
    """Many that are all right with logits that hardly differ, and many that are all wrong."""
    assert fit_temperature(np.tile([[0.01, 0.0]], (10**6, 1)), np.zeros(10**6, dtype=int)) == LOWEST_TEMPERATURE
    assert fit_temperature(np.tile([[1.0, 0.0]], (1000, 1)), np.ones(1000, dtype=int)) == HIGHEST_TEMPERATURE


def test_the_temperature_is_where_the_loss_is_least() -> None:
    random = np.random.default_rng(0)
    labels = random.integers(5, size=300)
    logits = 3 * (random.normal(size=(300, 5)) + (labels[:, None] == np.arange(5)))

    def loss(temperature: float) -> float:
        scaled = logits / temperature
        data = (np.log(np.exp(scaled).sum(axis=1)) - scaled[np.arange(300), labels]).sum()
        return float(data + np.log(temperature) ** 2 / 2)

    best = fit_temperature(logits, labels)
    assert loss(best) < min(loss(best * 0.99), loss(best * 1.01))


def test_confidence_at_a_bin_s_high_end_belongs_to_it() -> None:
    confidence = np.array([9 / 15, 9 / 15 + 1e-9, 1.0])
    bins = reliability(np.stack([confidence, 1 - confidence], axis=1), np.array([0, 1, 0]))
    assert bins["low"] == pytest.approx([8 / 15, 9 / 15, 14 / 15])
    assert bins["pictures"].tolist() == [1, 1, 1]
    assert bins["accuracy"].tolist() == [1, 0, 1]


def test_thresholds_count_the_answers_that_would_be_given() -> None:
    table = scores_at_thresholds(CONFIDENCE, RIGHT)
    at_80 = {name: values[80] for name, values in table.items()}  # three answers, two of them right
    assert at_80 == pytest.approx(
        {"threshold": 0.8, "coverage": 3 / 5, "precision": 2 / 3, "recall": 2 / 5, "f1": 1 / 2}
    )
    assert [table[name][0] for name in ("coverage", "precision", "recall")] == pytest.approx([1, 3 / 5, 3 / 5])
    assert np.isnan(table["precision"][100])
    assert table["f1"][100] == 0


def test_calibration_errors_by_chance_are_those_of_labels_drawn_one_by_one() -> None:
    random = np.random.default_rng(0)
    probabilities = random.dirichlet([0.5, 0.5, 0.5], size=150)
    errors = null_calibration_errors(probabilities)
    drawn = [
        expected_calibration_error(probabilities, np.array([random.choice(3, p=row) for row in probabilities]))
        for _ in range(300)
    ]
    assert len(errors) == 1000
    assert errors.mean() == pytest.approx(np.mean(drawn), abs=0.003)
    assert np.quantile(errors, 0.95) == pytest.approx(np.quantile(drawn, 0.95), abs=0.008)
    assert (errors == null_calibration_errors(probabilities)).all()


def test_a_model_that_is_certain_has_no_calibration_error_by_chance() -> None:
    assert null_calibration_errors(np.tile([[1.0, 0.0]], (7, 1))).max() == 0


def test_errors_by_chance_are_counted_in_the_bins_of_the_error_itself() -> None:
    """9/15 is the high end of a bin and 0.55 in it: right are none, the one, the other or both."""
    confidence = np.array([9 / 15, 0.55])
    sums = {abs(first - 9 / 15 + second - 0.55) / 2 for first in (0, 1) for second in (0, 1)}
    errors = null_calibration_errors(np.stack([confidence, 1 - confidence], axis=1))
    assert set(errors.round(6)) == {round(total, 6) for total in sums}


def answers(right: int, wrong: int) -> tuple[NDArray[np.float64], NDArray[np.bool_]]:
    """Falling confidences of answers, the right ones first."""
    return np.linspace(0.9, 0.6, right + wrong), np.arange(right + wrong) < right


def test_so_many_answers_without_error_show_a_precision_as_clopper_and_pearson_say() -> None:
    """0.9^28 is more than the risk of 0.05, and 0.9^29 is less."""
    assert choose_threshold(0.9, *answers(28, 0), None) is None
    assert choose_threshold(0.9, *answers(29, 0), None) == 0.6
    assert choose_threshold(0.9, *answers(28, 1), None) is None


def test_a_search_ends_where_an_error_takes_the_bound_below_the_precision() -> None:
    """Of 40 answers 30 to 33 can be tested without error; 34 with the first error are not enough: 46 would be."""
    confidence, right = answers(33, 7)
    assert choose_threshold(0.9, confidence, right, None) == pytest.approx(confidence[32], abs=1e-6)
    shuffled = np.random.default_rng(0).permutation(40)
    assert choose_threshold(0.9, confidence[shuffled], right[shuffled], None) == pytest.approx(confidence[32], abs=1e-6)


def test_a_search_that_failed_is_not_gone_on_with() -> None:
    """Of 56 answers the 20th is wrong: 29 show nothing. That 46 would do is not asked, as it might be by luck."""
    confidence = np.linspace(0.9, 0.6, 56)
    assert choose_threshold(0.9, confidence, np.arange(56) != 19, None) is None


def test_a_search_that_begins_with_more_answers_finds_what_an_early_error_hides() -> None:
    """The most confident answer of 400 is wrong, such as by a wrong label: 29 answers with an error show nothing."""
    confidence = np.linspace(0.9, 0.6, 400)
    threshold = choose_threshold(0.9, confidence, np.arange(400) > 0, None)
    assert threshold == pytest.approx(0.6, abs=0.01)


def test_answers_of_equal_confidence_are_tested_together() -> None:
    confidence, right = np.full(60, 0.8), np.arange(60) < 45
    assert choose_threshold(0.9, confidence, right, None) is None
    assert choose_threshold(0.9, confidence, np.ones(60, dtype=bool), None) == 0.8


def test_the_threshold_is_rounded_down_so_that_it_is_reached() -> None:
    assert choose_threshold(0.9, np.full(30, 0.98765499), np.ones(30, dtype=bool), None) == 0.987654


def test_answers_in_few_groups_show_less() -> None:
    confidence, right = answers(300, 0)
    assert choose_threshold(0.9, confidence, right, None) == 0.6
    assert choose_threshold(0.9, confidence, right, np.arange(300) % 15) is None
    assert choose_threshold(0.9, confidence, right, np.arange(300) % 150) is not None


@pytest.mark.parametrize(
    ("images", "precision", "least_found"), [(270, 0.99, 0), (270, 0.9, 450), (1000, 0.95, 450), (1000, 0.99, 50)]
)
def test_the_precision_at_the_threshold_is_too_low_in_5_of_100_simulated_splits_at_most(
    images: int, precision: float, least_found: int
) -> None:
    """Of a perfectly calibrated model of accuracy 0.87; the true precision is its mean confidence from there on."""
    random = np.random.default_rng(0)
    everything = np.sort(random.beta(2.2, 0.33, size=10**6))
    assert everything.mean() == pytest.approx(0.87, abs=0.001)
    means = np.cumsum(everything[::-1])[::-1] / np.arange(10**6, 0, -1)
    missed = found = 0
    for _ in range(500):
        confidence = random.beta(2.2, 0.33, size=images)
        threshold = choose_threshold(precision, confidence, random.random(images) < confidence, None)
        if threshold is not None:
            found += 1
            missed += means[np.searchsorted(everything, threshold)] < precision
    assert missed <= 0.05 * 500
    assert found >= least_found


def test_a_threshold_in_groups_is_too_low_in_5_of_100_simulated_splits_at_most() -> None:
    """60 groups of 10 whose answers agree, each right with its own probability, of mean 0.9 whatever the confidence."""
    random, missed = np.random.default_rng(0), 0
    for _ in range(500):
        own = random.beta(0.9 * 2, 0.1 * 2, size=60)
        right = random.random((60, 10)) < own[:, None]
        groups = np.repeat(np.arange(60), 10)
        missed += choose_threshold(0.91, random.random(600), right.ravel(), groups) is not None
    assert missed <= 0.05 * 500
