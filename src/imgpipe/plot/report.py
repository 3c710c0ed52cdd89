"""Write the report: one HTML file that needs no other and no network. Its text and layout are in report.html.jinja."""

import base64
import json
import re
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined

from imgpipe.common.errors import without_secrets
from imgpipe.common.params import without_other_choices
from imgpipe.plot.galleries import LOSSLESS, Example, data_uri
from imgpipe.plot.results import Evaluation, Preparation, Row

MEDIA_TYPES = {".svg": "image/svg+xml", ".png": "image/png"}
PIXELS_PER_INCH = 96  # of a browser
MOST_PAIRS = 10  # pairs of classes in the table of the most confused
MOST_FILES = 20  # rows in the tables of rejected files and of duplicates

HEADLINE = ("accuracy", "balanced_accuracy", "f1_macro", "loss")
MEANINGS = {
    "accuracy": "share of the pictures that are right",
    "top5_accuracy": "share whose class is among the five most probable",
    "balanced_accuracy": "mean of the classes' recalls",
    "precision_macro": "mean of the classes' precisions",
    "precision_weighted": "the same, classes weighted by their pictures",
    "recall_macro": "mean of the classes' recalls, guessed classes without pictures counted as 0",
    "recall_weighted": "the same, classes weighted by their pictures",
    "f1_macro": "mean of the classes' F1",
    "f1_weighted": "the same, classes weighted by their pictures",
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
    "threshold_coverage": "share of the pictures that are answered from there on",
    "set_coverage_90": "share of the 90 % prediction sets that hold the true class",
    "set_size_90": "mean number of classes in such a set",
    "images": "test pictures",
    "groups": "groups of test pictures; where there are some, intervals take them for independent, and not pictures",
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
class EmbeddedFigure:
    """A figure within the page."""

    uri: str
    """The figure's file as a data URI."""

    width: int
    """The width that the figure was drawn for, in pixels of a browser."""


def render(
    *,
    title: str,
    evaluation: Evaluation,
    preparation: Preparation,
    figures: Mapping[str, EmbeddedFigure],
    examples: Sequence[Example],
    mistakes: Sequence[Example],
    parameters: Mapping[str, dict[str, Any]],
    versions: Mapping[str, str],
) -> str:
    """Return the page. Names of classes and files are text in it, whatever they hold.

    figures: by name.
    examples, mistakes: what the galleries show.
    parameters: sections of params.yaml.
    versions: by package.
    """
    numbers = numbers_of(evaluation.metrics)
    confused = confusions(evaluation.predictions)
    environment = Environment(
        loader=FileSystemLoader(Path(__file__).parent),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.globals.update(data_uri=data_uri, lossless=LOSSLESS)
    return environment.get_template("report.html.jinja").render(
        title=title,
        headline=[number for name in HEADLINE for number in numbers if number.name == name],
        numbers=numbers,
        metrics=evaluation.metrics,
        about_threshold=about_threshold(evaluation.metrics, parameters["evaluate"]["target_precision"]),
        figures=figures,
        classes=evaluation.classes,
        tested=len(evaluation.predictions),
        wrong=sum(count for _, count in confused),
        pairs=confused[:MOST_PAIRS],
        examples=examples,
        mistakes=mistakes,
        images=preparation.images,
        shown=preparation.shown,
        batch_size=parameters["train"]["batch_size"],
        remarks=preparation.remarks,
        counts=preparation.classes,
        rejected=preparation.rejected[:MOST_FILES],
        more_rejected=len(preparation.rejected[MOST_FILES:]),
        duplicates=preparation.duplicates[:MOST_FILES],
        more_duplicates=len(preparation.duplicates[MOST_FILES:]),
        parameters={name: list(flat(without_other_choices(section))) for name, section in parameters.items()},
        versions=versions,
    )


def embed_figure(path: Path, inches: float) -> EmbeddedFigure:
    """Read a figure that was saved to the path, drawn so many inches wide, for the page."""
    content = base64.b64encode(path.read_bytes()).decode()
    uri = f"data:{MEDIA_TYPES[path.suffix]};base64,{content}"
    return EmbeddedFigure(uri, width=round(inches * PIXELS_PER_INCH))


def installed_versions(requirements: Iterable[str]) -> dict[str, str]:
    """Return the version of each package that the requirements name.

    Not which build of it (torch's 2.11.0+cpu is 2.11.0): the lock does not say either.

    requirements: as pyproject.toml has them, such as "numpy>=2.0".
    """
    names = [re.split(r"[^\w.-]", requirement, maxsplit=1)[0] for requirement in requirements]
    return {name: metadata.version(name).partition("+")[0] for name in names}


def confusions(predictions: Iterable[Row]) -> list[tuple[tuple[str, str], int]]:
    """Return how often one class was taken for another, actual and predicted class, the most frequent first.

    predictions: rows of predictions.csv.
    """
    answers = ((row["actual"], row["predicted"]) for row in predictions)
    counts = Counter((actual, predicted) for actual, predicted in answers if actual != predicted)
    return sorted(counts.items(), key=lambda pair: (-pair[1], pair[0]))


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
