"""Test the model: ``python -m stages.evaluate``, from the project's top folder."""

import json
from dataclasses import replace
from pathlib import Path

from imgpipe.common import params, stage
from imgpipe.common.files import write_text
from imgpipe.data.packed import read_split, read_statistics
from imgpipe.evaluate.params import Evaluate
from imgpipe.model.runtime import DEVICE, Runtime

PACKED = Path("data/packed")
MODELS = Path("models")
METRICS = Path("metrics")


def evaluate() -> None:
    """Test the model on every image of the validation and the test split, each once.

    Reads data/packed/val, data/packed/test and models; writes models/classifier.safetensors (the model as it was
    tested), metrics/val and metrics/test. docs/evaluation.md says what they hold.
    """
    section, runtime = params.read("evaluate", Evaluate), params.read("runtime", Runtime)

    # These import torch and scikit-learn: seconds that nobody waits for where params.yaml does not fit.
    from imgpipe.evaluate.calibration import fit_temperature
    from imgpipe.evaluate.prediction_sets import set_thresholds
    from imgpipe.evaluate.scoring import all_metrics
    from imgpipe.evaluate.tables import write_curves, write_predictions
    from imgpipe.model import devices
    from imgpipe.model.classifier import load_classifier, save_classifier
    from imgpipe.model.predict import predict_split, softmax

    device = devices.device_type(runtime.device, asked_by=DEVICE)
    classifier = load_classifier(MODELS / f"{section.weights}.safetensors")
    classifier.description = replace(classifier.description, flips=section.flips)
    devices.set_up_computing(cpu_threads=classifier.description.cpu_threads)
    form = read_statistics(PACKED / "statistics.json").form
    splits = {name: read_split(PACKED / name, form) for name in ("val", "test")}

    logits, size, threads = {}, section.batch_size, runtime.loader_threads
    with devices.joined_world(device) as world:
        classifier.to(world.device)
        for name, split in splits.items():
            logits[name] = predict_split(
                classifier, split, world, batch_size=size, threads=threads, says=f"testing on {name}"
            ).numpy()
    if world.rank != 0:
        return

    val = splits["val"].labels
    temperature = fit_temperature(logits["val"], val) if section.temperature_scaling else 1.0
    sets = set_thresholds(softmax(logits["val"] / temperature), val)
    classifier.description = replace(
        classifier.description, temperature=temperature, set_thresholds=sets, val_images=len(val)
    )
    save_classifier(MODELS / "classifier.safetensors", classifier)
    classes, target = classifier.description.classes, section.target_precision
    for name, split in splits.items():
        labels = split.labels
        before, after = softmax(logits[name]), softmax(logits[name] / temperature)
        metrics = all_metrics(
            after, before, labels, temperature=temperature, target_precision=target, set_thresholds=sets
        )
        write_text(METRICS / name / "metrics.json", json.dumps(metrics, indent=2) + "\n")
        write_predictions(METRICS / name, classes=classes, files=split.files, labels=labels, probabilities=after)
        if name == "test":
            write_curves(
                METRICS / "test/curves",
                classes=classes,
                labels=labels,
                probabilities=after,
                before_scaling=before if section.temperature_scaling else None,
            )


if __name__ == "__main__":
    stage.run(evaluate)
