"""What an answer names: the classes of ``--top``, of ``--coverage`` and of ``--none-below-threshold``; refusals."""

from typing import Any

import pytest
from samples import described

from imgpipe.commands.selection import selection, set_threshold
from imgpipe.common.errors import InputError

EVALUATED = described(threshold=0.8, set_thresholds={"0.50": 0.9, "0.57": 0.4, "0.58": 0.3}, val_images=2)


def selected(description: Any = EVALUATED, **asked: Any) -> tuple[int | None, float]:
    return selection(description, **{"top": None, "coverage": None, "none_below_threshold": False} | asked)


def test_what_is_asked_for_says_how_many_classes_are_named_and_how_likely_each_must_be() -> None:
    assert selected() == (1, 0.0)
    assert selected(top=2) == (2, 0.0)
    assert selected(none_below_threshold=True) == (1, 0.8)
    assert selected(top=2, none_below_threshold=True) == (2, 0.8)
    assert selected(coverage=0.5) == (None, 0.9)
    assert selected(coverage=0.57) == (None, 0.4)  # 0.57 * 100 is 56.99999999999999
    assert selected(coverage=0.58) == (None, 0.3)


@pytest.mark.parametrize("coverage", [0.49, 0.995, 1.0, 90.0, 0.505, -0.9, float("nan"), float("inf")])
def test_a_coverage_for_which_there_are_no_sets_is_refused(coverage: float) -> None:
    with pytest.raises(InputError) as raised:
        set_threshold(EVALUATED, coverage, asked_by="coverage is")
    assert str(raised.value) == f"coverage is {coverage}; it must be from 0.50 to 0.99, in steps of 0.01"


def test_what_a_model_cannot_do_is_one_line_that_says_why_and_what_to_do() -> None:
    without = described(set_thresholds={"0.50": 0.9}, val_images=1)
    cases: list[tuple[dict[str, Any], str]] = [
        (
            {"coverage": 0.9},
            "--coverage is 0.9, which takes 9 images in the val split, and the model was evaluated with 2; "
            "ask for 0.58 or less",
        ),
        (
            {"description": without, "none_below_threshold": True},
            "the model has no threshold for --none-below-threshold: ",
        ),
        ({"description": described(), "none_below_threshold": True}, "the model was not evaluated yet, so it has no"),
        ({"description": described(), "coverage": 0.5}, "the model was not evaluated yet, so it has no thresholds; "),
        ({"top": 3}, "--top is 3, but the model has 2 classes; ask for no more"),
        ({"top": 1, "coverage": 0.5}, "--coverage and --top each choose the classes that are named; leave one of them"),
        ({"none_below_threshold": True, "coverage": 0.5}, "--coverage and --none-below-threshold each choose the"),
    ]
    for asked, message in cases:
        with pytest.raises(InputError) as raised:
            selected(**asked)
        assert str(raised.value).startswith(message)
        assert "\n" not in str(raised.value)
