import json
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

from imgpipe import params
from imgpipe.files import write_text
from imgpipe.packed import read_split, read_statistics
from imgpipe.rules import Interval, OneOf
from imgpipe.tables import write_table
from stages import command
from stages.runtime import Runtime


@dataclass(frozen=True)
class Evaluate:
    """params.yaml: evaluate."""

    weights: Annotated[str, OneOf(("best", "last"))]
    batch_size: Annotated[int, Interval(low=1)]


def evaluate() -> None:
    """Test the model on every picture of the test split, each once.

    Reads data/packed/test and models; writes metrics/test/metrics.json, metrics/test/predictions.csv and
    metrics/test/roc.csv (the curve of each class against the rest).
    """
    section, runtime = params.read("evaluate", Evaluate), params.read("runtime", Runtime)

    from imgpipe import devices, scoring
    from imgpipe.classifier import load_classifier
    from imgpipe.prediction import predict_split

    device_type = devices.device_type(runtime.device)
    classifier, description = load_classifier(Path(f"models/{section.weights}.safetensors"))
    devices.be_deterministic(cpu_threads=description.cpu_threads)
    statistics = read_statistics(Path("data/packed/statistics.json"))
    test = read_split(Path("data/packed/test"), channels=statistics.channels, encoding=statistics.encoding)
    with devices.joined_world(device_type) as world:
        logits = predict_split(
            classifier.to(world.device),
            test,
            classes=len(description.classes),
            size=description.size,
            crop_fraction=description.crop_fraction,
            batch_size=section.batch_size,
            precision=description.precision,
            threads=runtime.loader_threads,
            world=world,
        )
    if world.rank != 0:
        return
    probabilities = scoring.softmax(logits.numpy())

    names = description.classes
    predicted, confidence = probabilities.argmax(axis=1), probabilities.max(axis=1)
    write_table(
        Path("metrics/test/predictions.csv"),
        ["file", "actual", "predicted", "confidence"],
        (
            {"file": file, "actual": names[actual], "predicted": names[guess], "confidence": round(float(sure), 6)}
            for file, actual, guess, sure in zip(test.files, test.labels, predicted, confidence, strict=True)
        ),
    )
    write_table(
        Path("metrics/test/roc.csv"),
        ["class", "false_positive_rate", "true_positive_rate"],
        (
            {"class": names[c], "false_positive_rate": round(float(x), 6), "true_positive_rate": round(float(y), 6)}
            for c, curve in scoring.roc_curves(probabilities, test.labels).items()
            for x, y in zip(*curve, strict=True)
        ),
    )
    metrics = scoring.score(probabilities, test.labels)
    write_text(Path("metrics/test/metrics.json"), json.dumps(metrics, indent=2) + "\n")


if __name__ == "__main__":
    command.run(evaluate)
