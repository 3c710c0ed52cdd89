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
METRICS = Path("metrics/test")


def evaluate() -> None:
    """Test the model on every image of the test split, each once.

    Reads data/packed/test, data/packed/val (for temperature scaling) and models; writes models/classifier.safetensors
    (the model as it was tested) and metrics/test. docs/evaluation.md says what it holds.
    """
    section, runtime = params.read("evaluate", Evaluate), params.read("runtime", Runtime)

    # These import torch and scikit-learn: seconds that nobody waits for where params.yaml does not fit.
    from imgpipe.evaluate.calibration import fit_temperature
    from imgpipe.evaluate.scoring import all_metrics
    from imgpipe.evaluate.tables import write_results
    from imgpipe.model import devices
    from imgpipe.model.classifier import load_classifier, save_classifier
    from imgpipe.model.predict import predict_split, softmax

    device = devices.device_type(runtime.device, asked_by=DEVICE)
    classifier = load_classifier(MODELS / f"{section.weights}.safetensors")
    classifier.description = replace(classifier.description, flips=section.flips)
    devices.set_up_computing(cpu_threads=classifier.description.cpu_threads)
    form = read_statistics(PACKED / "statistics.json").form
    names = ["val", "test"] if section.temperature_scaling else ["test"]
    splits = {name: read_split(PACKED / name, form) for name in names}

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
    before_scaling, probabilities = softmax(logits["test"]), softmax(logits["test"] / temperature)
    metrics = all_metrics(
        probabilities, before_scaling, test.labels, temperature=temperature, target_precision=section.target_precision
    )

    classifier.description = replace(classifier.description, temperature=temperature)
    save_classifier(MODELS / "classifier.safetensors", classifier)
    write_text(METRICS / "metrics.json", json.dumps(metrics, indent=2) + "\n")
    write_results(
        METRICS,
        classes=classifier.description.classes,
        files=test.files,
        labels=test.labels,
        probabilities=probabilities,
        before_scaling=before_scaling if section.temperature_scaling else None,
    )


if __name__ == "__main__":
    stage.run(evaluate)
