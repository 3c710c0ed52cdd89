"""Answers as text."""

import csv
import json

from imgpipe.commands.answers import Answer, as_csv, as_json, as_table


def test_the_table_is_aligned_also_under_wide_characters() -> None:
    answers = [
        Answer.of("語.png", [0.25, 0.75], ["a", "cat"], 2, 0.0),
        Answer.of("x.png", [0.9996, 0.0004], ["a", "cat"], 2, 0.0),
    ]
    assert as_table(answers, 2).splitlines() == [
        "file    predicted  confidence  predicted 2  confidence 2",
        "語.png  cat         75.0%      a             25.0%",
        "x.png   a          100.0%      cat            0.0%",
    ]
    assert as_csv(answers, 2) == (
        "file,predicted,confidence,predicted_2,confidence_2\n語.png,cat,0.75,a,0.25\nx.png,a,0.9996,cat,0.0004\n"
    )


def test_equal_probabilities_go_in_the_order_of_the_classes() -> None:
    assert Answer.of("x", [0.2, 0.4, 0.4], ["a", "b", "c"], 2, 0.0).classes == [("b", 0.4), ("c", 0.4)]


def test_of_images_that_are_not_sure_enough_no_class_is_named_and_the_columns_stay() -> None:
    """A probability that is just enough is enough."""
    answers = [
        Answer.of(file, given, ["a", "cat"], 2, 0.75) for file, given in (("x", [0.3, 0.7]), ("y", [0.25, 0.75]))
    ]
    assert as_table(answers, 2).splitlines() == [
        "file  predicted      confidence  predicted 2  confidence 2",
        "x     none of these",
        "y     cat             75.0%",
    ]
    assert as_csv(answers, 2) == "file,predicted,confidence,predicted_2,confidence_2\nx,,,,\ny,cat,0.75,,\n"
    assert json.loads(as_json(answers, 2)) == [
        {"file": "x", "top": []},
        {"file": "y", "top": [{"class": "cat", "confidence": 0.75}]},
    ]


def test_a_set_is_one_cell_of_the_table_a_list_for_programs_and_may_be_empty() -> None:
    """Of classes from 0.3 on, the likeliest first, whatever their names hold."""
    classes = ["a, b", 'say "é"', "c"]
    sets = [Answer.of(file, given, classes, None, 0.3) for file, given in (("x", [0.3, 0.6, 0.1]), ("y", [0.29] * 3))]
    assert as_table(sets, None).splitlines() == [
        "file  set",
        'x     say "é" 60.0%, a, b 30.0%',
        "y     empty set",
    ]
    rows = list(csv.reader(as_csv(sets, None).splitlines()))
    assert rows[0] == ["file", "classes", "confidences"]
    assert [(file, *map(json.loads, cells)) for file, *cells in rows[1:]] == [
        ("x", ['say "é"', "a, b"], [0.6, 0.3]),
        ("y", [], []),
    ]
    assert json.loads(as_json(sets, None)) == [
        {"file": "x", "set": [{"class": 'say "é"', "confidence": 0.6}, {"class": "a, b", "confidence": 0.3}]},
        {"file": "y", "set": []},
    ]
