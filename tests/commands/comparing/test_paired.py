"""Predictions to the same images to a verdict."""

from collections.abc import Sized

import numpy as np
import pytest
from scipy.stats import binomtest
from sklearn.metrics import accuracy_score, balanced_accuracy_score, f1_score

from imgpipe.commands.comparing import paired
from imgpipe.commands.comparing.paired import Predictions, compare, differences, mcnemar, sign_flips


def predictions(predicted: list[int] | paired.Array, losses: paired.Array | None = None) -> Predictions:
    return Predictions(np.array(predicted), np.zeros(len(predicted)) if losses is None else losses)


def alone(images: Sized) -> paired.Array:
    """The groups of images that are independent."""
    return np.arange(len(images))


def test_mcnemar_is_worked_out_by_hand_where_one_of_six_fell_on_the_other_side() -> None:
    """6 coins: 1 + 6 of the 64 ways have at most one on that side; twice that is 14 of 64."""
    assert mcnemar(1, 5) == mcnemar(5, 1) == 14 / 64


@pytest.mark.parametrize(("only_a", "only_b"), [(0, 0), (0, 1), (4, 4), (7, 19), (10, 12), (400, 480), (0, 3000)])
def test_mcnemar_is_the_exact_binomial_test(only_a: int, only_b: int) -> None:
    expected = binomtest(only_a, only_a + only_b).pvalue if only_a + only_b else 1.0
    assert mcnemar(only_a, only_b) == pytest.approx(expected, rel=1e-9)


def test_the_p_value_is_that_of_the_images_that_changed_sides() -> None:
    """Nothing but 5 mended images: 2 / 2^5."""
    actual = np.zeros(20, dtype=np.int64)
    a, b = predictions([1] * 5 + [0] * 15), predictions(actual)
    found = compare(actual, a, b, alone(actual))
    assert found.p_value == compare(actual, b, a, alone(actual)).p_value == 2 / 2**5
    assert (found.only_a_right, found.only_b_right, found.predictions_differ) == (0, 5, 5)


def test_answers_that_differ_but_are_both_wrong_change_no_side() -> None:
    found = compare(np.array([0, 0, 1]), predictions([1, 0, 1]), predictions([2, 0, 1]), alone(range(3)))
    assert (found.only_a_right, found.only_b_right, found.predictions_differ) == (0, 0, 1)
    assert found.p_value == 1


def test_against_itself_every_difference_is_nothing() -> None:
    random = np.random.default_rng(1)
    actual = random.integers(4, size=50)
    one = predictions(random.integers(4, size=50), random.random(50))
    found = compare(actual, one, one, alone(actual))
    assert found.p_value == 1
    assert {(m.difference, m.low, m.high) for m in found.metrics.values()} == {(0, 0, 0)}


def two_classifiers(
    random: np.random.Generator, images: int, classes: int
) -> tuple[paired.Array, Predictions, Predictions]:
    """Right on 7 and 8 of 10 images, mostly the same; class 0 is rare, and the last one never an actual class."""
    actual = np.maximum(random.integers(classes - 1, size=images) - (random.random(images) < 0.5), 0)
    hard = random.random(images)
    said = [
        np.where(hard + 0.2 * random.random(images) < limit, actual, random.integers(classes, size=images))
        for limit in (0.8, 0.9)
    ]
    return actual, predictions(said[0], 2 * hard), predictions(said[1], hard + 0.2 * random.random(images))


def test_metrics_are_those_of_scikit_learn() -> None:
    actual, a, b = two_classifiers(np.random.default_rng(2), 120, 5)
    found = differences(actual, a, b, alone(actual))
    for name, metric in {
        "accuracy": accuracy_score,
        "balanced_accuracy": balanced_accuracy_score,
        "f1_macro": lambda actual, said: f1_score(actual, said, average="macro"),
    }.items():
        assert found[name].a == pytest.approx(metric(actual, a.predicted))
        assert found[name].b == pytest.approx(metric(actual, b.predicted))
        assert found[name].difference == found[name].b - found[name].a
    assert found["loss"].a == pytest.approx(a.losses.mean())
    assert found["loss"].b == pytest.approx(b.losses.mean())


def test_the_interval_is_as_wide_as_the_formula_for_paired_differences_says() -> None:
    """A mean of n differences d: 1.96 standard errors, std(d) / sqrt(n), either way (2 % of noise from resampling)."""
    actual, a, b = two_classifiers(np.random.default_rng(3), 2000, 5)
    found = differences(actual, a, b, alone(actual))
    right_a, right_b = (x.predicted == actual for x in (a, b))
    for name, d in {"accuracy": right_b.astype(float) - right_a, "loss": b.losses - a.losses}.items():
        half = 1.96 * d.std() / np.sqrt(len(d))
        assert found[name].low == pytest.approx(d.mean() - half, abs=0.1 * half)
        assert found[name].high == pytest.approx(d.mean() + half, abs=0.1 * half)
    unpaired = 1.96 * np.sqrt((right_a.var() + right_b.var()) / len(actual))
    assert (found["accuracy"].high - found["accuracy"].low) / 2 < 0.8 * unpaired


def test_the_same_inputs_give_the_same_numbers_and_the_other_way_round_their_mirror_image() -> None:
    actual, a, b = two_classifiers(np.random.default_rng(4), 100, 4)
    there, again, back = (
        differences(actual, a, b, alone(actual)),
        differences(actual, a, b, alone(actual)),
        differences(actual, b, a, alone(actual)),
    )
    assert there == again
    for name, one in there.items():
        assert (back[name].low, back[name].high) == pytest.approx((-one.high, -one.low))


def test_resamples_worked_on_in_parts_are_those_worked_on_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    actual, a, b = two_classifiers(np.random.default_rng(5), 90, 4)
    at_once = differences(actual, a, b, alone(actual))
    monkeypatch.setattr(paired, "CHUNK", 1000)
    assert differences(actual, a, b, alone(actual)) == at_once


def test_about_95_of_100_intervals_hold_the_true_difference(monkeypatch: pytest.MonkeyPatch) -> None:
    """200 test sets of 250 images against the difference on 200,000 of the same kind.

    Of 200 intervals that hold it with a chance of 0.95, fewer than 180 or more than 199 do so once in 800 times.
    """
    monkeypatch.setattr(paired, "RESAMPLES", 400)
    random = np.random.default_rng(6)
    many, many_a, many_b = two_classifiers(random, 200_000, 4)
    value = {name: f1_score(many, x.predicted, average="macro") for name, x in (("a", many_a), ("b", many_b))}
    true = {
        "accuracy": (many_b.predicted == many).mean() - (many_a.predicted == many).mean(),
        "f1_macro": value["b"] - value["a"],
        "loss": (many_b.losses - many_a.losses).mean(),
    }
    held = dict.fromkeys(true, 0)
    for _ in range(200):
        found = differences(*two_classifiers(random, 250, 4), alone(range(250)))
        for name, difference in true.items():
            held[name] += found[name].low <= difference <= found[name].high
    assert all(180 <= count <= 199 for count in held.values()), held


def test_a_classifier_of_equal_quality_is_called_better_or_worse_in_at_most_one_test_of_twenty() -> None:
    random, images = np.random.default_rng(7), 200
    called = 0
    for _ in range(400):
        only_a, only_b = random.multinomial(images, [0.05, 0.05, 0.9])[:2]
        called += mcnemar(int(only_a), int(only_b)) < 0.05
    assert called <= 20


def test_groups_that_gained_as_a_whole_count_as_one_each() -> None:
    """Two groups that gained 5 and 1, one that lost 1: of 8 ways to choose the signs 6 have a sum of 5 or more."""
    assert sign_flips(np.array([5, 1, -1])) == 6 / 8
    assert sign_flips(np.array([5, 1, 1, 0])) == 2 / 8
    actual = np.zeros(12, dtype=np.int64)
    a, b = predictions([1] * 6 + [0] * 6), predictions(actual)
    assert compare(actual, a, b, alone(actual)).p_value == 2 / 2**6
    assert compare(actual, a, b, np.repeat([0, 1, 2], [3, 3, 6])).p_value == 2 / 4


def test_intervals_of_groups_of_copies_are_those_of_the_groups() -> None:
    actual, a, b = two_classifiers(np.random.default_rng(8), 200, 4)
    copies = [predictions(x.predicted.repeat(4), x.losses.repeat(4)) for x in (a, b)]
    once = differences(actual, a, b, alone(actual))
    copied = differences(actual.repeat(4), copies[0], copies[1], alone(actual).repeat(4))
    for name, one in once.items():
        assert (copied[name].low, copied[name].high) == pytest.approx((one.low, one.high)), name
