"""Write the model card: what the model is, what it was made of and how good it is, as Hugging Face's hub reads it.

A Markdown file whose first lines are YAML. Its text and layout are in model_card.md.jinja.
"""

import math
from collections.abc import Iterator, Mapping, Sequence
from importlib import metadata
from pathlib import Path, PurePath
from typing import Any

import yaml
from jinja2 import Environment, FileSystemLoader, StrictUndefined

from imgpipe.common.errors import without_secrets
from imgpipe.common.params import without_other_choices
from imgpipe.common.safe_text import in_markdown
from imgpipe.data.packed import Statistics
from imgpipe.plot.findings import confusions
from imgpipe.plot.report import about_threshold, flat, numbers_of, shown_number
from imgpipe.plot.results import Evaluation, Preparation, Row

TASK = "image-classification"
HUB_METRICS = {
    "accuracy": ("accuracy", "Accuracy"),
    "balanced_accuracy": ("balanced_accuracy", "Balanced accuracy"),
    "f1_macro": ("f1", "F1 (macro)"),
    "loss": ("loss", "Loss (cross-entropy)"),
}
"""Type and name of a metric on the hub, by its name in metrics.json."""
IN_WORDS = (
    "ece",
    "ece_null_mean",
    "ece_null_q95",
    "temperature",
    "loss_before_scaling",
    "ece_before_scaling",
    "threshold",
    "threshold_precision",
    "threshold_coverage",
    "images",
    "groups",
)
"""Numbers of metrics.json of which the card tells in words."""

WORST = 3
"""Classes and confusions that are named."""

HOW_NOT_WHAT = ("micro_batches", "cpu_threads", "channels_last", "compile", "gradient_checkpointing")
"""Parameters of training that say how it is computed and not what."""


class Markdown(str):
    """Text that goes into the card as it is."""


def render_card(
    *,
    evaluation: Evaluation,
    preparation: Preparation,
    packed: Statistics,
    parameters: Mapping[str, Mapping[str, Any]],
    versions: Mapping[str, str],
) -> str:
    """Return the card. Names of classes and files are text in it, whatever they hold.

    parameters: sections of params.yaml.
    versions: by package.
    """
    environment = Environment(
        loader=FileSystemLoader(Path(__file__).parent),
        autoescape=False,  # which is for HTML
        finalize=escaped,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    metrics, tested = evaluation.metrics, len(evaluation.predictions)
    on_two_sides = [
        row for row in preparation.duplicates if row["dropped"] != "True" and row["split"] != row["twin_split"]
    ]
    wanted = [number for number in numbers_of(metrics) if number.name not in IN_WORDS]
    front = yaml.safe_dump(front_matter(parameters, metrics), sort_keys=False, allow_unicode=True, width=math.inf)
    return environment.get_template("model_card.md.jinja").render(
        front=Markdown(front),
        source=source_name(parameters["download"]),
        classes=packed.classes,
        form=packed.form,
        mean=", ".join(f"{level:.4f}" for level in packed.mean),
        std=", ".join(f"{level:.4f}" for level in packed.std),
        weights=weights_name(parameters["model"]["weights"]),
        recipe=list(_recipe(parameters)),
        data=preparation,
        copies=[row for row in preparation.duplicates if row["kind"] != "near"],
        shared=sum(row["kind"] == "equal" for row in on_two_sides),
        alike=sum(row["kind"] == "near" for row in on_two_sides),
        rejected=sum(row["picture"] == "True" for row in preparation.rejected),
        numbers=wanted,
        metrics=metrics,
        shown_number=shown_number,
        about_threshold=about_threshold(metrics, parameters["evaluate"]["target_precision"]),
        tested=tested,
        worst=worst_classes(evaluation.classes),
        confusions=confusions(evaluation.predictions)[:WORST],
        versions=versions,
        **parameters,
    )


def weights_name(weights: str) -> str:
    """Return where the weights came from that training started from, a package with its version, as it is installed."""
    package = weights.removeprefix("package/")
    if package == weights:
        return without_secrets(weights)
    try:
        return f"{weights} {metadata.version(package)}"
    except metadata.PackageNotFoundError:  # it was there in training, if not here
        return weights


def front_matter(parameters: Mapping[str, Mapping[str, Any]], metrics: Mapping[str, float | None]) -> dict[str, Any]:
    """Return what the card tells the hub. What is not known, such as a licence, is not in it.

    parameters: sections of params.yaml.
    metrics: of metrics.json.
    """
    network, download = parameters["model"]["name"], parameters["download"]
    found = [
        {"type": kind, "name": name, "value": metrics[key]}
        for key, (kind, name) in HUB_METRICS.items()
        if metrics.get(key) is not None
    ]
    result = {
        "task": {"type": TASK, "name": "Image classification"},
        "dataset": {"type": download["source"], "name": source_name(download), "split": "test"},
        "metrics": found,
    }
    return {
        "library_name": "imgpipe",
        "pipeline_tag": TASK,
        "tags": [TASK, "imgpipe", network],
        "metrics": [metric["type"] for metric in found],
        "model-index": [{"name": network, "results": [result]}],
    }


def source_name(download: Mapping[str, Any]) -> str:
    """Return what the images came from, on one line: the section ``download`` of params.yaml names it.

    Of a place on this machine it is the name alone: a card is for everybody.
    """
    source = str(download["source"])
    match source:
        case "folder" | "table" | "archive":
            named = PurePath(download["location"]).name
        case "url":
            named = without_secrets(download["url"])
        case "torchvision":
            named = download["name"]
        case _:
            named = source
    return " ".join(named.split())


def worst_classes(classes: Sequence[Row]) -> list[Row]:
    """Return the rows of the classes of lowest recall, the worst first: those of which an image was not recognised."""
    missed = [row for row in classes if row["recall"] and float(row["recall"]) < 1]
    return sorted(missed, key=lambda row: float(row["recall"]))[:WORST]


def escaped(value: object) -> str:
    """Return a value as one line of Markdown that shows it as it is; ``Markdown`` is left alone."""
    return value if isinstance(value, Markdown) else in_markdown(str(value))


def _recipe(parameters: Mapping[str, Mapping[str, Any]]) -> Iterator[tuple[str, str]]:
    """Yield name and value of the parameters by which it was trained, without those that are off."""
    model = {name: parameters["model"][name] for name in ("dropout", "freeze", "unfreeze_epoch")}
    train = {name: value for name, value in parameters["train"].items() if name not in HOW_NOT_WHAT}
    train = without_other_choices(train)
    for name, value in flat({"model": model, "train": train}):
        if name == "train.seed" or value not in ("0", "0.0", "null", "none", "false"):
            yield name, value
