"""What evaluation costs beyond the network's own work, on this project's model and test images.

    make bench-evaluate        # after dvc repro

Alternates in one run: all that the evaluate stage does with the test split (images cut from the memory map,
predictions, every number with its interval, every curve), and the network alone on the same batches, which wait in
memory. The network a second time is the control: how far its ratio is from 1 is the noise. Start-up and imports are in
neither.
"""

import statistics
import sys
import time
from pathlib import Path

import torch
import typer

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "src"))

BATCH, THREADS = 256, 1


def main(rounds: int = 5) -> None:
    """Print the seconds of each, and the medians of the paired ratios."""
    from imgpipe.data.packed import read_packed
    from imgpipe.evaluate import scoring
    from imgpipe.evaluate.calibration import scores_at_thresholds
    from imgpipe.model import devices
    from imgpipe.model.classifier import load_classifier
    from imgpipe.model.devices import World
    from imgpipe.model.predict import predict_batch, predict_split, softmax

    classifier = load_classifier(Path("models/classifier.safetensors"))
    description = classifier.description
    devices.set_up_computing(cpu_threads=description.cpu_threads, precision=description.precision)
    _, splits = read_packed(Path("data/packed"), ["test"])
    split = splits["test"]
    world, size = World(0, 1, torch.device("cpu")), description.size
    sizes = [min(BATCH, len(split) - start) for start in range(0, len(split), BATCH)]
    in_memory = [torch.randint(0, 256, (n, size, size, split.channels), dtype=torch.uint8) for n in sizes]

    def network_alone() -> None:
        for images in in_memory:
            predict_batch(classifier, images)

    def evaluation() -> None:
        logits = predict_split(classifier, split, world, batch_size=BATCH, threads=THREADS, says="testing").numpy()
        before_scaling, probabilities = softmax(logits), softmax(logits / description.temperature)
        scoring.all_metrics(
            probabilities, before_scaling, split.labels, None, temperature=description.temperature, threshold=None
        )
        scoring.class_scores(probabilities, split.labels)
        scoring.roc_curves(probabilities, split.labels)
        scoring.precision_recall_curves(probabilities, split.labels)
        scores_at_thresholds(probabilities.max(axis=1), probabilities.argmax(axis=1) == split.labels)

    ways = {"network alone": network_alone, "evaluation": evaluation, "control": network_alone}
    seconds: dict[str, list[float]] = {name: [] for name in ways}
    evaluation()  # imports, and warms up
    for _ in range(rounds):
        for name, way in ways.items():
            start = time.perf_counter()
            way()
            seconds[name].append(time.perf_counter() - start)
    typer.echo(f"{description.model}, {len(split)} images, {rounds} rounds: medians")
    for name, times in seconds.items():
        ratio = statistics.median(a / b for a, b in zip(times, seconds["network alone"], strict=True))
        typer.echo(f"{name:14} {statistics.median(times):7.2f} s  ratio {ratio:5.2f}")


if __name__ == "__main__":
    typer.run(main)
