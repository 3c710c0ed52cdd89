"""Answers as text."""

from imgpipe.commands.answers import Answer, as_csv, as_table


def test_the_table_is_aligned_also_under_wide_characters() -> None:
    answers = [
        Answer.of("語.png", [0.25, 0.75], ["a", "cat"], 2),
        Answer.of("x.png", [0.9996, 0.0004], ["a", "cat"], 2),
    ]
    assert as_table(answers).splitlines() == [
        "file    predicted  confidence  predicted 2  confidence 2",
        "語.png  cat         75.0%      a             25.0%",
        "x.png   a          100.0%      cat            0.0%",
    ]
    assert as_csv(answers) == (
        "file,predicted,confidence,predicted_2,confidence_2\n語.png,cat,0.75,a,0.25\nx.png,a,0.9996,cat,0.0004\n"
    )


def test_equal_probabilities_go_in_the_order_of_the_classes() -> None:
    assert Answer.of("x", [0.2, 0.4, 0.4], ["a", "b", "c"], 2).classes == [("b", 0.4), ("c", 0.4)]
