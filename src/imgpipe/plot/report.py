"""Write the report: one HTML file that needs no other and no network. Its text and layout are in report.html.jinja."""

import base64
import hashlib
import json
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined

from imgpipe.common.errors import without_secrets
from imgpipe.common.params import without_other_choices
from imgpipe.plot import figures, findings
from imgpipe.plot.drawing import short
from imgpipe.plot.findings import Confusions, percent
from imgpipe.plot.galleries import LOSSLESS, SEEN, Example, data_uri, heatmap_uri
from imgpipe.plot.results import Evaluation, Preparation, Row, Training

FIGURES = ("reliability", "thresholds", "roc", "precision_recall", "curves")
"""Those within the page; of the others it has the numbers in tables."""
MOST_PAIRS = 10  # pairs of classes in the list of the most confused
MOST_FILES = 20  # rows in the lists of rejected files and of duplicates
MOST_IN_ORDER = 20  # classes that are listed in their own order; of more, the worst come first
MOST_OPEN = 9  # mistakes that are seen without a click

HEADLINE = {"balanced_accuracy": "balanced accuracy", "f1_macro": "F1", "loss": "loss", "ece": "calibration error"}
"""Metrics at the top, beside the accuracy, and what they are called there."""
MEANINGS = {
    "accuracy": "share of the images that are right",
    "top5_accuracy": "share whose class is among the five most probable",
    "balanced_accuracy": "mean of the classes' recalls",
    "precision_macro": "mean of the classes' precisions",
    "precision_weighted": "the same, classes weighted by their images",
    "recall_macro": "mean of the classes' recalls, guessed classes without images counted as 0",
    "recall_weighted": "the same, classes weighted by their images",
    "f1_macro": "mean of the classes' F1",
    "f1_weighted": "the same, classes weighted by their images",
    "roc_auc_ovr_macro": "mean area under the classes' ROC curves",
    "average_precision_macro": "mean of the classes' average precisions",
    "loss": "cross-entropy in nats",
    "brier": "mean squared distance between the probabilities and the truth",
    "ece": "expected calibration error: how far confidence is from accuracy",
    "ece_null_mean": "the calibration error that a perfectly calibrated model would show by chance, on average",
    "ece_null_q95": "what such a model would exceed in 5 of 100 tests",
    "temperature": "number by which the logits were divided",
    "loss_before_scaling": "the loss at temperature 1",
    "ece_before_scaling": "the calibration error at temperature 1",
    "threshold": "confidence from which on val shows the wanted share of the answers to be right",
    "threshold_precision": "share of the answers from there on that are right",
    "threshold_coverage": "share of the images that are answered from there on",
    "set_coverage_90": "share of the 90 % prediction sets that hold the true class",
    "set_size_90": "mean number of classes in such a set",
    "images": "test images",
    "groups": "groups of test images; where there are some, intervals take them for independent, and not images",
}


@dataclass(frozen=True)
class Number:
    """A metric as the report shows it."""

    name: str
    value: str

    interval: str
    """The 95 % interval, or nothing."""

    meaning: str


@dataclass(frozen=True)
class Pictures:
    """Test images in the report."""

    telling: Sequence[Example]
    """What it begins with."""
    mistakes: Sequence[Example]
    """The most confident ones."""
    examples: Sequence[Example]
    """Of all classes."""


def render(
    *,
    evaluation: Evaluation,
    preparation: Preparation,
    drawn: Mapping[str, str],
    training: Training,
    pictures: Pictures,
    parameters: Mapping[str, dict[str, Any]],
    versions: Mapping[str, str],
) -> str:
    """Return the page. Names of classes and files are text in it, whatever they hold.

    drawn: the FIGURES as SVG elements, by name.
    parameters: sections of params.yaml.
    versions: by package.
    """
    numbers, confused = numbers_of(evaluation.metrics), findings.confusions(evaluation.predictions)
    matrix = findings.confusion_matrix(evaluation.predictions, [row["class"] for row in evaluation.classes])
    telling = findings.telling_pairs(preparation.duplicates)
    environment = Environment(
        loader=FileSystemLoader(Path(__file__).parent),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters.update(percent=percent, short=short, csp_hash=_csp_hash)
    environment.globals.update(data_uri=data_uri, heatmap_uri=heatmap_uri, lossless=LOSSLESS, seen=SEEN)
    return environment.get_template("report.html.jinja").render(
        metrics=evaluation.metrics,
        heatmaps=bool(evaluation.heatmaps),
        classes=_worst_first(evaluation.classes) if len(evaluation.classes) > MOST_IN_ORDER else evaluation.classes,
        preparation=preparation,
        tested=len(evaluation.predictions),
        drawn=drawn,
        said=sentences(evaluation, preparation, training, matrix, parameters["evaluate"]),
        guess=findings.majority_guess(preparation, evaluation),
        headline=[(HEADLINE[number.name], number) for number in numbers if number.name in HEADLINE],
        numbers=numbers,
        matrix=matrix,
        wrong=sum(count for _, count in confused),
        pairs=confused[:MOST_PAIRS],
        pictures=pictures,
        most_open=MOST_OPEN,
        batch_size=parameters["train"]["batch_size"],
        rejected=preparation.rejected[:MOST_FILES],
        telling=telling[:MOST_FILES],
        more_telling=len(telling[MOST_FILES:]),
        model=parameters["model"],
        recipe=recipe(parameters),
        parameters={name: list(flat(without_other_choices(section))) for name, section in parameters.items()},
        versions=versions,
    )


def sentences(
    evaluation: Evaluation,
    preparation: Preparation,
    training: Training,
    matrix: Confusions,
    section: Mapping[str, Any],
) -> dict[str, str]:
    """Return what is said beside each part of the report, by the part.

    matrix: the confusions that it shows.
    section: ``evaluate`` of params.yaml.
    """
    metrics, rows = evaluation.metrics, evaluation.predictions
    duplicates = preparation.duplicates
    return {
        "guess": findings.on_guess(findings.majority_guess(preparation, evaluation), metrics["accuracy_ci_low"]),
        "hardest": findings.on_hardest(findings.hardest_class(rows)),
        "confusions": findings.on_confusions(findings.confusions(rows), matrix),
        "classes": findings.on_classes(rows),
        "confidence": findings.on_confidence(metrics, rows),
        "reliability": findings.on_calibration(metrics),
        "thresholds": about_threshold(metrics, section["target_precision"]).replace(" %", "\N{NO-BREAK SPACE}%"),
        "roc": findings.on_curves(figures.areas_under_roc(evaluation.roc), "area under the curve"),
        "precision_recall": findings.on_curves(
            figures.average_precisions(evaluation.precision_recall), "average precision"
        ),
        "training": findings.on_training(training, section["weights"]),
        "duplicates": findings.on_duplicates(duplicates, len(findings.telling_pairs(duplicates))),
    }


def _worst_first(classes: Sequence[Row]) -> list[Row]:
    """Return the rows of classes.csv by rising recall, those without test images last."""
    return sorted(classes, key=lambda row: (not row["recall"], float(row["recall"] or 0)))


def recipe(parameters: Mapping[str, dict[str, Any]]) -> list[tuple[str, str]]:
    """Return what of the parameters says in short how the network was trained."""
    model, train = parameters["model"], parameters["train"]
    optimizer, augment = train["optimizer"]["name"], train["augment"]
    weights = without_secrets(str(model["weights"]))
    return [
        ("network", model["name"]),
        ("started from", "random weights" if weights == "none" else weights),
        ("images", f"{model['image_size']} × {model['image_size']} pixels"),
        ("optimizer", f"{optimizer}, learning rate {train['optimizer'][optimizer]['lr']:g}"),
        ("schedule", train["schedule"]["name"]),
        ("epochs", f"{train['epochs']:,}"),
        ("batch", f"{train['batch_size']:,} images"),
        ("crops", augment["crop"]["name"]),
        ("policy", augment["policy"]["name"]),
    ]


def _csp_hash(script: str) -> str:
    """Return the source by which a content security policy allows a script and no other."""
    return f"sha256-{base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()}"


def installed_versions(requirements: Iterable[str]) -> dict[str, str]:
    """Return the version of each package that the requirements name.

    Not which build of it (torch's 2.11.0+cpu is 2.11.0): the lock does not say either.

    requirements: as pyproject.toml has them, such as "numpy>=2.0".
    """
    names = [re.split(r"[^\w.-]", requirement, maxsplit=1)[0] for requirement in requirements]
    return {name: metadata.version(name).partition("+")[0] for name in names}


def numbers_of(metrics: Mapping[str, float | None]) -> list[Number]:
    """Return the metrics as text, each with the interval that stands beside it."""
    numbers = []
    for name, value in metrics.items():
        if not name.endswith(("_ci_low", "_ci_high")):
            low, high = metrics.get(f"{name}_ci_low"), metrics.get(f"{name}_ci_high")
            interval = f"{shown_number(low)} to {shown_number(high)}" if low is not None and high is not None else ""
            numbers.append(Number(name, shown_number(value), interval, MEANINGS.get(name, "")))
    return numbers


def about_threshold(metrics: Mapping[str, float | None], target: float) -> str:
    """Return what is said of the threshold on the confidence.

    metrics: of metrics.json.
    target: the share of the answers that was to be right.
    """
    wanted, threshold = f"{100 * target:.4g} %", metrics["threshold"]
    if threshold is None:
        return f"No threshold of confidence was shown on the validation split to make {wanted} of the answers right."
    shown = (
        f"The validation split shows that {wanted} of the answers from a confidence of {threshold:.4f} on are right."
    )
    coverage = f"Of the test images {_percent(metrics, 'threshold_coverage')} are answered from there on"
    if metrics["threshold_precision"] is None:
        return f"{shown} {coverage}."
    return f"{shown} {coverage}, and {_percent(metrics, 'threshold_precision')} of these answers are right."


def _percent(metrics: Mapping[str, float | None], name: str) -> str:
    """Return a share in percent with its 95 % interval, which is absent of a single group."""
    value, low, high = (metrics[key] for key in (name, f"{name}_ci_low", f"{name}_ci_high"))
    assert value is not None
    interval = "" if low is None or high is None else f" (95 % interval {100 * low:.1f} to {100 * high:.1f})"
    return f"{100 * value:.1f} %{interval}"


def shown_number(value: float | None) -> str:
    """Return a number as text: a float with 4 decimals."""
    if value is None:
        return "none"
    return f"{value:,}" if isinstance(value, int) else f"{value:.4f}"


def flat(parameters: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, str]]:
    """Yield name and value of each parameter, as text; a section within is a prefix to the names of its own.

    Addresses come without passwords and tokens.
    """
    for name, value in parameters.items():
        if isinstance(value, dict):
            yield from flat(value, f"{prefix}{name}.")
        else:
            shown = without_secrets(value) if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
            yield f"{prefix}{name}", shown
