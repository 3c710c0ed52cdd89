"""The report: one HTML file that needs no other and no network. Its text and layout are in report.html.jinja."""

import base64
import json
import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined

from imgpipe.plot.drawing import Row
from imgpipe.plot.galleries import LOSSLESS, Example, data_uri

KINDS = {".svg": "image/svg+xml", ".png": "image/png"}
PIXELS_AN_INCH = 96  # of a browser
MOST_PAIRS = 10
MOST_FILES = 20

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
    "temperature": "number by which the logits were divided",
    "loss_before_scaling": "the loss at temperature 1",
    "ece_before_scaling": "the calibration error at temperature 1",
    "threshold": "confidence from which on the wanted share of the answers is right",
    "threshold_coverage": "share of the pictures that are answered there",
    "images": "test pictures",
}


@dataclass(frozen=True)
class Number:
    """A metric as text: its value, and its 95 % interval or nothing."""

    name: str
    value: str
    interval: str
    meaning: str


@dataclass(frozen=True)
class Figure:
    """A figure's file as a data URI, and the width it was drawn for, in pixels of a browser."""

    uri: str
    width: int


def render(
    *,
    title: str,
    metrics: Mapping[str, float | None],
    figures: Mapping[str, Figure],
    classes: Sequence[Row],
    predictions: Sequence[Row],
    examples: Sequence[Example],
    mistakes: Sequence[Example],
    prepared: Mapping[str, Any],
    rejected: Sequence[Row],
    duplicates: Sequence[Row],
    parameters: Mapping[str, Mapping[str, Any]],
    versions: Mapping[str, str],
) -> str:
    """The page. Names of classes and files are text in it, whatever they hold.

    metrics: metrics/test/metrics.json. figures: by name. classes, predictions: rows of metrics/test/classes.csv and
    predictions.csv. examples, mistakes: what the galleries show. prepared: metrics/prepare.json. rejected, duplicates:
    rows of data/rejected.csv and duplicates.csv. parameters: sections of params.yaml. versions: by package.
    """
    numbers = list(_numbers(metrics))
    wrong = Counter((row["actual"], row["predicted"]) for row in predictions if row["actual"] != row["predicted"])
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
        figures=figures,
        classes=classes,
        tested=len(predictions),
        wrong=wrong.total(),
        pairs=sorted(wrong.items(), key=lambda pair: (-pair[1], pair[0]))[:MOST_PAIRS],
        examples=examples,
        mistakes=mistakes,
        images=prepared["images"],
        counts=prepared["classes"],
        rejected=rejected[:MOST_FILES],
        more_rejected=len(rejected[MOST_FILES:]),
        duplicates=duplicates[:MOST_FILES],
        more_duplicates=len(duplicates[MOST_FILES:]),
        parameters={name: list(_flat(section)) for name, section in parameters.items()},
        versions=versions,
    )


def embedded(path: Path, inches: float) -> Figure:
    """The figure that was saved to the path, drawn so many inches wide."""
    content = base64.b64encode(path.read_bytes()).decode()
    return Figure(uri=f"data:{KINDS[path.suffix]};base64,{content}", width=round(inches * PIXELS_AN_INCH))


def installed(requirements: Iterable[str]) -> dict[str, str]:
    """The version of each package that the requirements name: ["numpy>=2.0"] -> {"numpy": "2.1.3"}.

    Not which build of it (torch's 2.11.0+cpu is 2.11.0): the lock does not say either.
    """
    names = [re.split(r"[^\w.-]", requirement, maxsplit=1)[0] for requirement in requirements]
    return {name: metadata.version(name).partition("+")[0] for name in names}


def _numbers(metrics: Mapping[str, float | None]) -> Iterable[Number]:
    for name, value in metrics.items():
        if not name.endswith(("_ci_low", "_ci_high")):
            low, high = metrics.get(f"{name}_ci_low"), metrics.get(f"{name}_ci_high")
            interval = f"{_shown(low)} to {_shown(high)}" if low is not None and high is not None else ""
            yield Number(name, _shown(value), interval, MEANINGS.get(name, ""))


def _shown(value: float | None) -> str:
    if value is None:
        return "none"
    return f"{value:,}" if isinstance(value, int) else f"{value:.4f}"


def _flat(parameters: Mapping[str, Any], prefix: str = "") -> Iterable[tuple[str, str]]:
    for name, value in parameters.items():
        if isinstance(value, dict):
            yield from _flat(value, f"{prefix}{name}.")
        else:
            yield f"{prefix}{name}", value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
