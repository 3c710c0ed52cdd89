"""Test the model: ``python -m stages.evaluate``, from the project's top folder."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

from imgpipe.common import kernels, params, stage
from imgpipe.common.files import read_rows, write_text
from imgpipe.data.packed import check_content, read_packed
from imgpipe.evaluate.params import Evaluate
from imgpipe.evaluate.provenance import PROVENANCE, provenance
from imgpipe.model.description import read_description
from imgpipe.model.runtime import DEVICE, Runtime

PACKED = Path("data/packed")
MODELS = Path("models")
METRICS = Path("metrics")
IMAGES = Path("data/images.csv")


def evaluate() -> None:
    """Test the model on every image of the validation and the test split, each once.

    Reads data/packed/val and test, data/images.csv, models and what these were made from; writes metrics/val and test,
    which docs/evaluation.md explains, and models/classifier.safetensors, the model as it was tested.
    """
    section, runtime = params.read("evaluate", Evaluate), params.read("runtime", Runtime)
    trained = MODELS / f"{section.weights}.safetensors"
    kernels.fix_for_network(read_description(trained).kernels)
    # These import torch and scikit-learn: seconds that nobody waits for where params.yaml does not fit.
    from imgpipe.evaluate.calibration import choose_threshold, fit_temperature
    from imgpipe.evaluate.groups import number_groups
    from imgpipe.evaluate.heatmaps import write_heatmaps
    from imgpipe.evaluate.prediction_sets import set_scores, set_thresholds
    from imgpipe.evaluate.scoring import all_metrics, summary, threshold_metrics
    from imgpipe.evaluate.tables import write_curves, write_predictions
    from imgpipe.model import devices, gpus
    from imgpipe.model.classifier import load_classifier, save_classifier
    from imgpipe.model.predict import predict_split, softmax

    device = devices.device_type(runtime.device, asked_by=DEVICE)
    classifier = load_classifier(trained)
    description = classifier.description = replace(classifier.description, flips=section.flips)
    devices.set_up_computing(cpu_threads=description.cpu_threads, precision=description.precision)
    _, splits = read_packed(PACKED, ("val", "test"))
    gpus.take_one(device)  # this may start anew: all that can be refused is
    logits, size, threads = {}, section.batch_size, runtime.loader_threads(device)
    with devices.joined_world(device) as world:
        classifier.to(world.device)
        for name, split in splits.items():
            check_content(split, PACKED / name, part=world.rank, parts=world.size)
            logits[name] = predict_split(
                classifier, split, world, batch_size=size, threads=threads, says=f"testing on {name}"
            ).numpy()
    if world.rank != 0:
        return

    temperature = fit_temperature(logits["val"], splits["val"].labels) if section.temperature_scaling else 1.0
    group_of = {row["file"]: row["group"] for row in read_rows(IMAGES)}
    threshold, sets, score = None, {}, {}
    for name, split in splits.items():
        folder, labels, classes = METRICS / name, split.labels, description.classes
        before, after = softmax(logits[name]), softmax(logits[name] / temperature)
        confidence, right = after.max(axis=1), after.argmax(axis=1) == labels
        groups = number_groups(split.files, group_of)
        if name == "val":
            threshold = choose_threshold(section.target_precision, confidence, right, groups)
            sets = set_thresholds(after, labels)
        metrics = score[name] = all_metrics(after, before, labels, groups, temperature=temperature, threshold=threshold)
        write_predictions(folder, classes=classes, files=split.files, labels=labels, probabilities=after)
        if name == "test":
            metrics |= threshold_metrics(threshold, confidence, right, groups) | set_scores(after, labels, sets)
            raw = before if section.temperature_scaling else None
            write_curves(folder / "curves", classes=classes, labels=labels, probabilities=after, before_scaling=raw)
            write_heatmaps(folder / "heatmaps", classifier, split, after.argmax(axis=1), confidence)
        write_text(folder / "metrics.json", json.dumps(metrics, indent=2) + "\n")
    write_text(METRICS / "val/summary.json", json.dumps(summary(score["val"]), indent=2) + "\n")
    found: dict[str, Any] = {"temperature": temperature, "threshold": threshold, "set_thresholds": sets}
    classifier.description = replace(description, **found, val_images=len(splits["val"]))
    save_classifier(MODELS / "classifier.safetensors", classifier, {PROVENANCE: provenance(score)})


if __name__ == "__main__":
    stage.run(evaluate)
