"""From estimates to verdicts."""

import pytest
from scipy import stats

from imgpipe.commands.comparing.crossed import CrossedEstimate, Estimate
from imgpipe.commands.comparing.verdicts import holm, model_verdicts, needed, needed_for_equivalence, verdicts


def estimate(difference: float, standard_error: float = 0.01, degrees: float = 30) -> Estimate:
    return Estimate(0.9, 0.9 + difference, standard_error, degrees)


@pytest.mark.parametrize(
    ("difference", "margin", "verdict"),
    [
        (0.03, None, "better"),
        (-0.03, None, "worse"),
        (0.01, None, "not yet known"),
        (0.0, 0.02, "equivalent"),  # t = 2 each way, and t(0.95, 30) is 1.70
        (0.01, 0.02, "not yet known"),  # t = 1
        (0.03, 0.02, "better"),
        (0.03, 0.05, "equivalent"),  # there is a difference, but nobody cares for it
    ],
)
def test_a_difference_and_a_margin_make_a_verdict(difference: float, margin: float | None, verdict: str) -> None:
    (found,) = verdicts([estimate(difference)], margin=margin, higher_is_better=True)
    assert found.verdict == verdict


def test_a_lower_loss_is_better() -> None:
    (found,) = verdicts([estimate(-0.03)], margin=None, higher_is_better=False)
    assert found.verdict == "better"


def test_of_several_candidates_the_same_difference_counts_for_less() -> None:
    """p is 0.031 for the first; of two candidates Holm doubles it."""
    near = estimate(0.0226)
    assert near.p_value == pytest.approx(0.031, abs=0.001)
    assert [v.verdict for v in verdicts([near], margin=None, higher_is_better=True)] == ["better"]
    both = verdicts([near, estimate(0.0)], margin=None, higher_is_better=True)
    assert [v.verdict for v in both] == ["not yet known", "not yet known"]


def test_holm_multiplies_the_smallest_by_all_and_never_falls() -> None:
    """0.01 x 3; 0.02 x 2 = 0.04; 0.03 x 1, but not less than the one before it."""
    assert holm([0.03, 0.01, 0.02]) == pytest.approx([0.04, 0.03, 0.04])
    assert holm([0.9, 0.6]) == [1.0, 1.0]


def crossed_estimate(seed_sd: float, image_variance: float) -> CrossedEstimate:
    return CrossedEstimate(0.9, 0.91, 1, 1, (seed_sd**2, seed_sd**2), image_variance, (5, 5), 1000)


def test_the_runs_that_are_needed_follow_the_formula_of_a_t_test_s_power() -> None:
    """Seeds alone, deviation 0.01, difference 0.01: 15.7 and 1 or 2 more runs a side find it in 80 %."""
    found = needed(crossed_estimate(0.01, 0.0), 0.01, candidates=1)
    assert found.runs in (16, 17, 18)
    runs = found.runs or 0
    power = stats.nct.sf(stats.t.ppf(0.975, 2 * runs - 2), 2 * runs - 2, 0.01 / (0.01 * (2 / runs) ** 0.5))
    assert power == pytest.approx(0.8, abs=0.02)


def test_where_the_images_are_too_few_no_number_of_runs_is_enough() -> None:
    """The images alone leave an error of 0.01; to find 0.01 takes one of 0.01 / 2.8, so 7.8 times the images."""
    found = needed(crossed_estimate(0.001, 0.01**2), 0.01, candidates=1)
    assert found.runs is None
    assert found.images == pytest.approx(7850, rel=0.02)


def test_fewer_candidates_need_fewer_runs() -> None:
    estimate = crossed_estimate(0.01, 0.0)
    assert (needed(estimate, 0.01, candidates=1).runs or 0) < (needed(estimate, 0.01, candidates=5).runs or 0)


def test_equivalence_within_a_margin_takes_the_runs_that_two_one_sided_tests_need() -> None:
    """Deviation 0.01 a seed, margin 0.01, no true difference: (1.645 + 1.282)^2 x 2 = 17.1, and one or two more."""
    assert needed_for_equivalence(crossed_estimate(0.01, 0.0), 0.01, candidates=1).runs in (18, 19, 20)


def test_models_turn_better_or_worse_where_the_p_value_crosses_its_level() -> None:
    judged = [model_verdicts([one])[0].verdict for one in ((0.0625, 5), (0.03125, 6), (0.03125, -6))]
    assert judged == ["not distinguishable", "better", "worse"]
    assert [v.verdict for v in model_verdicts([(0.03125, 6), (0.5, 1)])] == ["not distinguishable"] * 2
