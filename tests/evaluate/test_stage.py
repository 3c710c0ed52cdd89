"""The evaluate stage on a real model."""

import json

import numpy as np
import pytest
from conftest import Project
from terminal import on_terminal

from imgpipe.common.files import read_table, write_table
from imgpipe.evaluate.calibration import choose_threshold
from imgpipe.model.classifier import load_classifier

WRITTEN = ("metrics/val", "metrics/test", "models")


def test_any_number_of_processes_gives_the_same_bytes(pipeline: Project) -> None:
    """36 images in batches of 5, seven whole ones and one of a single image; of the processes one has fewer."""
    pipeline.set(evaluate__batch_size=5)
    pipeline.here("evaluate")
    alone = pipeline.fingerprint(*WRITTEN)
    (pipeline.folder / "metrics/test/predictions.csv").unlink()
    pipeline.succeed("torchrun", "--nproc-per-node", "3", "-m", "stages.evaluate")
    assert pipeline.fingerprint(*WRITTEN) == alone


def test_a_long_evaluation_shows_on_the_terminal_how_far_it_is(pipeline: Project) -> None:
    """Six batches, taken for long from the first on."""
    pipeline.set(evaluate__batch_size=7)
    shown, printed = on_terminal(
        "from imgpipe.common import progress, stage; progress.LONG = 0.0\n"
        "from stages.evaluate import evaluate; stage.run(evaluate)",
        pipeline.folder,
    )
    assert "testing on test" in shown
    assert "6/6" in shown
    assert printed == ""


def test_the_size_of_batches_shows_in_the_model_s_rounding_alone(pipeline: Project) -> None:
    numbers, probabilities = [], []
    for size in (1, 36):
        pipeline.set(evaluate__batch_size=size)
        pipeline.here("evaluate")
        numbers.append(json.loads((pipeline.folder / "metrics/test/metrics.json").read_text()))
        probabilities.append(np.load(pipeline.folder / "metrics/test/probabilities.npy"))
    np.testing.assert_allclose(probabilities[1], probabilities[0], atol=0.02)  # bf16 has 8 bits
    assert numbers[1] == pytest.approx(numbers[0], abs=0.02)


@pytest.mark.parametrize("split", ["val", "test"])
def test_tables_and_probabilities_tell_of_the_same_images(split: str, finished: Project) -> None:
    folder = finished.folder / "metrics" / split
    probabilities, predictions = np.load(folder / "probabilities.npy"), read_table(folder / "predictions.csv")
    classes = [row["class"] for row in read_table(folder / "classes.csv")]
    assert (probabilities.shape, probabilities.dtype) == ((36, 4), np.float32)
    assert {row["file"].split("/")[0] for row in predictions} == {split}
    assert [classes[i] for i in probabilities.argmax(axis=1)] == [row["predicted"] for row in predictions]
    assert [float(row["confidence"]) for row in predictions] == pytest.approx(probabilities.max(axis=1), abs=1e-6)
    for row, given in zip(predictions, probabilities, strict=True):
        assert int(row["rank"]) == 1 + (given > given[classes.index(row["actual"])]).sum()
    support = {row["class"]: int(row["support"]) for row in read_table(folder / "classes.csv")}
    assert support == {c: sum(row["actual"] == c for row in predictions) for c in classes}


def test_the_temperature_is_stored_in_the_model_and_divides_the_logits(pipeline: Project) -> None:
    with_it = np.load(pipeline.folder / "metrics/test/probabilities.npy").astype(np.float64)
    metrics = json.loads((pipeline.folder / "metrics/test/metrics.json").read_text())
    description = load_classifier(pipeline.folder / "models/classifier.safetensors").description
    assert description.temperature == pytest.approx(metrics["temperature"], abs=1e-6)
    assert description.temperature != 1
    assert {row["scaling"] for row in read_table(pipeline.folder / "metrics/test/curves/reliability.csv")} == {
        "before",
        "after",
    }

    pipeline.set(evaluate__temperature_scaling=False)
    pipeline.here("evaluate")
    without = np.load(pipeline.folder / "metrics/test/probabilities.npy").astype(np.float64)
    scaled = without ** (1 / description.temperature)
    np.testing.assert_allclose(scaled / scaled.sum(axis=1, keepdims=True), with_it, atol=1e-5)
    off = json.loads((pipeline.folder / "metrics/test/metrics.json").read_text())
    assert (off["temperature"], off["loss"]) == (1.0, metrics["loss_before_scaling"])
    assert off["accuracy"] == metrics["accuracy"]
    assert load_classifier(pipeline.folder / "models/classifier.safetensors").description.temperature == 1
    assert {row["scaling"] for row in read_table(pipeline.folder / "metrics/test/curves/reliability.csv")} == {"before"}


def test_val_chooses_the_threshold_and_the_test_says_what_it_gives(pipeline: Project) -> None:
    pipeline.set(evaluate__target_precision=0.3)
    pipeline.here("evaluate")
    val, test = (
        json.loads((pipeline.folder / f"metrics/{split}/metrics.json").read_text()) for split in ("val", "test")
    )
    assert list(test)[: len(val)] == list(val)
    assert val["threshold"] == test["threshold"] is not None
    predictions = {split: read_table(pipeline.folder / f"metrics/{split}/predictions.csv") for split in ("val", "test")}
    chosen = choose_threshold(
        0.3,
        np.load(pipeline.folder / "metrics/val/probabilities.npy").max(axis=1).astype(np.float64),
        np.array([row["actual"] == row["predicted"] for row in predictions["val"]]),
        None,
    )
    assert val["threshold"] == pytest.approx(chosen, abs=2e-6)
    assert load_classifier(pipeline.folder / "models/classifier.safetensors").description.threshold == val["threshold"]
    answered = [row for row in predictions["test"] if float(row["confidence"]) >= val["threshold"]]
    right = sum(row["actual"] == row["predicted"] for row in answered)
    assert test["threshold_coverage"] == pytest.approx(len(answered) / 36, abs=1e-6)
    assert test["threshold_precision"] == pytest.approx(right / len(answered), abs=1e-6)


def test_images_are_independent_by_the_groups_of_data_images(pipeline: Project) -> None:
    """Every second image of the table is in one group, and the others are in another."""
    before = json.loads((pipeline.folder / "metrics/test/metrics.json").read_text())
    rows = read_table(pipeline.folder / "data/images.csv")
    grouped = [row | {"group": str(i % 2)} for i, row in enumerate(rows)]
    write_table(pipeline.folder / "data/images.csv", list(rows[0]), grouped)
    pipeline.here("evaluate")
    for split in ("val", "test"):
        metrics = json.loads((pipeline.folder / f"metrics/{split}/metrics.json").read_text())
        assert (metrics["groups"], metrics["images"]) == (2, 36)
    assert (metrics["accuracy"], before["groups"]) == (before["accuracy"], None)
    assert metrics["accuracy_ci_high"] - metrics["accuracy_ci_low"] > 1.5 * (
        before["accuracy_ci_high"] - before["accuracy_ci_low"]
    )


def test_flips_are_said_in_the_model_and_change_the_answers(pipeline: Project) -> None:
    before = np.load(pipeline.folder / "metrics/test/probabilities.npy")
    pipeline.set(evaluate__flips=True)
    pipeline.here("evaluate")
    assert load_classifier(pipeline.folder / "models/classifier.safetensors").description.flips
    assert np.abs(np.load(pipeline.folder / "metrics/test/probabilities.npy") - before).max() > 0.01


def test_the_thresholds_of_sets_are_stored_in_the_model_and_chosen_on_val(finished: Project) -> None:
    """Of 36 images: for 90 % the place is ceil(37 * 0.9) = 34, the third from below; 97 % takes all, 98 % takes 49."""
    folder = finished.folder / "metrics/val"
    classes = [row["class"] for row in read_table(folder / "classes.csv")]
    labels = [classes.index(row["actual"]) for row in read_table(folder / "predictions.csv")]
    own = np.sort(np.load(folder / "probabilities.npy")[range(36), labels])
    description = load_classifier(finished.folder / "models/classifier.safetensors").description
    assert description.val_images == 36
    assert description.threshold is None  # 36 images can't show 99 %
    assert list(description.set_thresholds) == [f"0.{percent}" for percent in range(50, 98)]
    assert description.set_thresholds["0.90"] == pytest.approx(own[2], abs=1e-6)
    assert description.set_thresholds["0.97"] == pytest.approx(own[0], abs=1e-6)
