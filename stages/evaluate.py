import json
import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import numpy as np

from imgpipe.common import params
from imgpipe.common import stage as command
from imgpipe.common.files import replacing, write_table, write_text
from imgpipe.common.rules import Interval
from imgpipe.data.packed import read_split, read_statistics
from imgpipe.model.runtime import DEVICE, Runtime

if TYPE_CHECKING:
    from imgpipe.evaluate.scoring import Array

METRICS = Path("metrics/test")


@dataclass(frozen=True)
class Evaluate:
    """params.yaml: evaluate."""

    weights: Literal["best", "last"]
    batch_size: Annotated[int, Interval(low=1)]
    flips: bool
    temperature_scaling: bool
    target_precision: Annotated[float, Interval(0, 1, open_low=True)]


def evaluate() -> None:
    """Test the model on every image of the test split, each once.

    Reads data/packed/test, data/packed/val (for temperature scaling) and models; writes models/classifier.safetensors
    (the model as it was tested) and, in metrics/test, metrics.json, predictions.csv, probabilities.npy, classes.csv
    and the tables in curves. docs/evaluation.md says what they hold.
    """
    section, runtime = params.read("evaluate", Evaluate), params.read("runtime", Runtime)

    from imgpipe.evaluate import scoring
    from imgpipe.evaluate.calibration import at_thresholds, fit_temperature
    from imgpipe.evaluate.scoring import metrics_of_test
    from imgpipe.model import devices
    from imgpipe.model.classifier import load_classifier, save_classifier
    from imgpipe.model.predict import predict_split

    device = devices.device_type(runtime.device, asked_by=DEVICE)
    classifier = load_classifier(Path(f"models/{section.weights}.safetensors"))
    classifier.description = replace(classifier.description, flips=section.flips)
    devices.set_up_computing(cpu_threads=classifier.description.cpu_threads)
    statistics = read_statistics(Path("data/packed/statistics.json"))
    splits = {
        name: read_split(Path(f"data/packed/{name}"), statistics.form)
        for name in (["val", "test"] if section.temperature_scaling else ["test"])
    }
    logits = {}
    with devices.joined_world(device) as world:
        classifier.to(world.device)
        for name, split in splits.items():
            logits[name] = predict_split(
                classifier,
                split,
                world,
                batch_size=section.batch_size,
                threads=runtime.loader_threads,
                says=f"testing on {name}",
            ).numpy()
    if world.rank != 0:
        return

    test = splits["test"]
    temperature = fit_temperature(logits["val"], splits["val"].labels) if section.temperature_scaling else 1.0
    unscaled, probabilities = scoring.softmax(logits["test"]), scoring.softmax(logits["test"] / temperature)
    metrics = metrics_of_test(
        probabilities, unscaled, test.labels, temperature=temperature, target_precision=section.target_precision
    )
    classifier.description = replace(classifier.description, temperature=temperature)
    save_classifier(Path("models/classifier.safetensors"), classifier)
    write_text(METRICS / "metrics.json", json.dumps(metrics, indent=2) + "\n")
    with replacing(METRICS / "probabilities.npy") as draft, draft.open("wb") as file:
        np.save(file, probabilities.astype(np.float32))
    names = np.array(classifier.description.classes)
    _write(
        "predictions",
        file=test.files,
        actual=names[test.labels],
        predicted=names[probabilities.argmax(axis=1)],
        confidence=probabilities.max(axis=1),
        rank=scoring.ranks(probabilities, test.labels),
    )
    _write("classes", **{"class": names}, **scoring.class_scores(probabilities, test.labels))
    _write("curves/thresholds", **at_thresholds(probabilities.max(axis=1), probabilities.argmax(axis=1) == test.labels))
    reliability = {"before": scoring.reliability(unscaled, test.labels)}
    if section.temperature_scaling:
        reliability["after"] = scoring.reliability(probabilities, test.labels)
    _write("curves/reliability", **_together("scaling", reliability))
    roc, precision_recall = (
        {names[c]: dict(zip(axes, curve, strict=True)) for c, curve in curves.items()}
        for axes, curves in (
            (("false_positive_rate", "true_positive_rate"), scoring.roc_curves(probabilities, test.labels)),
            (("recall", "precision"), scoring.precision_recall_curves(probabilities, test.labels)),
        )
    )
    _write("curves/roc", **_together("class", roc))
    _write("curves/precision_recall", **_together("class", precision_recall))


def _together(name: str, tables: "Mapping[str, Mapping[str, Array]]") -> "dict[str, Array]":
    """Tables of the same columns one below the other, and in front a column that says which."""
    which = np.concatenate([[key] * len(next(iter(table.values()))) for key, table in tables.items()])
    columns = next(iter(tables.values()))
    return {name: which, **{column: np.concatenate([t[column] for t in tables.values()]) for column in columns}}


def _write(name: str, **columns: "Iterable[Any]") -> None:
    """A table in metrics/test; floats rounded to 6 decimals, NaN as an empty cell."""
    rows = zip(*([_cell(value) for value in column] for column in columns.values()), strict=True)
    write_table(METRICS / f"{name}.csv", list(columns), (dict(zip(columns, row, strict=True)) for row in rows))


def _cell(value: Any) -> Any:
    if not isinstance(value, float):
        return value
    return "" if math.isnan(value) else round(float(value), 6)


if __name__ == "__main__":
    command.run(evaluate)
