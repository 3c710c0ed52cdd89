"""``dvc plots``, with real DVC."""

import json
from typing import Any

from conftest import Project

COLUMNS = {
    "Loss": {"train_loss", "val_loss"},
    "Accuracy": {"train_accuracy", "val_accuracy"},
    "Learning rate": {"lr"},
    "Confusion": {"predicted"},
    "Confusion, normalized": {"predicted"},
    "ROC": {"true_positive_rate"},
    "Precision and recall": {"precision"},
    "Reliability": {"accuracy"},
    "Thresholds": {"coverage", "precision", "recall", "f1"},
}


def points(plots: dict[str, Any], name: str) -> list[dict[str, Any]]:
    return [point for plot in plots[name] for point in plot["content"]["data"]["values"]]


def test_dvc_compares_the_plots_of_two_revisions(pipeline: Project) -> None:
    pipeline.set(evaluate__flips=True)
    pipeline.here("evaluate", "plot")
    answer = json.loads(pipeline.succeed("dvc", "plots", "diff", "main", "--json").out)
    assert not answer.get("errors")
    plots = answer["data"]
    assert {name for name in plots if not name.startswith("metrics")} == set(COLUMNS)
    for name, columns in COLUMNS.items():
        assert all(columns <= set(point) for point in points(plots, name)), name
        assert {point["rev"] for point in points(plots, name)} == {"main", "workspace"}, name
    assert {point["class"] for point in points(plots, "ROC")} == {"0", "1", "2", "3"}
    figures = {name.rpartition("/")[2] for name in plots if name.startswith("metrics/figures")}
    assert {"curves.svg", "confusion.svg", "mistakes.svg"} <= figures
