"""Confidence: the temperature, bins of reliability and thresholds, by hand."""

import numpy as np
import pytest

from imgpipe.evaluate.calibration import (
    HIGHEST_TEMPERATURE,
    LOWEST_TEMPERATURE,
    fit_temperature,
    reliability,
    scores_at_thresholds,
    threshold_for_precision,
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


@pytest.mark.parametrize(
    ("precision", "expected"), [(0.6, (0.5, 1.0)), (0.75, (0.6, 4 / 5)), (0.76, (0.9, 1 / 5)), (1.0, (0.9, 1 / 5))]
)
def test_the_threshold_for_a_precision_is_the_lowest_that_reaches_it(
    precision: float, expected: tuple[float, float]
) -> None:
    """Right so far, as answers are added: 1 of 1, 2 of 3 (two of one confidence come together), 3 of 4, 3 of 5."""
    assert threshold_for_precision(precision, CONFIDENCE, RIGHT) == pytest.approx(expected)
    assert threshold_for_precision(precision, CONFIDENCE[::-1], RIGHT[::-1]) == pytest.approx(expected)
    assert threshold_for_precision(0.1, CONFIDENCE, np.zeros(5, dtype=bool)) is None
