"""Every image once, each with its own answer."""

import csv
import json
from dataclasses import replace
from functools import partial

import numpy as np
import pytest
import torch
from conftest import Project
from samples import described
from trainings import ALONE, AUGMENT, MODEL, RECIPE, classifier, random_split, run

from imgpipe.data.packed import read_split, read_statistics
from imgpipe.model.classifier import new_classifier
from imgpipe.model.predict import predict_split, softmax
from imgpipe.train import optim, schedules
from imgpipe.train.loop import fit, loss_and_accuracy
from imgpipe.train.micro_batches import read_splits
from imgpipe.train.processes import largest_process_count
from imgpipe.train.start import new_state


@pytest.mark.parametrize("flips", [False, True])
@pytest.mark.parametrize("batch_size", [1, 4, 7, 100])
def test_each_image_gets_its_own_logits_whatever_the_batches(batch_size: int, flips: bool) -> None:
    split, model = random_split(7), classifier().eval()
    model.description = replace(model.description, flips=flips)
    logits = predict_split(model, split, ALONE, batch_size=batch_size, threads=2, says="testing")
    with torch.no_grad():
        expected = torch.cat([model(torch.from_numpy(split.image(i).copy())[None]) for i in range(7)])
        mirrored = torch.cat([model(torch.from_numpy(split.image(i)[:, ::-1].copy())[None]) for i in range(7)])
    torch.testing.assert_close(logits, (expected + mirrored) / 2 if flips else expected)
    assert (mirrored - expected).abs().max() > 1e-3


def test_the_pipeline_s_parts_learn_real_digits(finished: Project) -> None:
    """Four classes, 168 images of 8 x 8 pixels to train on: chance is 0.25."""
    packed = finished.folder / "data" / "packed"
    recipe = replace(
        RECIPE,
        epochs=10,
        batch_size=16,
        label_smoothing=0.1,
        optimizer=partial(optim.sgd, lr=0.05, momentum=0.9, weight_decay=0.0, nesterov=True),
        schedule=partial(schedules.cosine, warmup_epochs=1),
        augment=replace(AUGMENT, horizontal_flip=0.0),
    )
    splits, statistics = read_splits(packed, recipe, fit="crop"), read_statistics(packed / "statistics.json")
    torch.manual_seed(0)
    model = new_classifier(described(classes=statistics.classes), statistics.mean, statistics.std)
    epochs = fit(new_state(model, recipe), splits, MODEL, recipe, run())
    assert list(epochs)[-1].val_accuracy > 0.9
    test = read_split(packed / "test", statistics.form)
    logits = predict_split(model, test, ALONE, batch_size=10, threads=1, says="testing")
    assert loss_and_accuracy(logits, torch.from_numpy(test.labels))[1] > 0.9


def test_predictions_are_of_the_test_images_with_their_classes_and_agree_with_the_metrics(finished: Project) -> None:
    with (finished.folder / "data/images.csv").open() as file:
        table = {row["file"]: row["label"] for row in csv.DictReader(file) if row["split"] == "test"}
    with (finished.folder / "metrics/test/predictions.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert {row["file"]: row["actual"] for row in rows} == table
    assert len(rows) == len(table) == 36
    metrics = json.loads((finished.folder / "metrics/test/metrics.json").read_text())
    assert metrics["accuracy"] == round(float(np.mean([row["actual"] == row["predicted"] for row in rows])), 6)
    assert metrics["images"] == 36


def test_auto_takes_as_many_processes_as_there_is_room_for_and_the_parts_allow() -> None:
    rooms = {0: 1, 1: 1, 3: 2, 4: 4, 7: 4, 8: 8, 100: 8}
    assert {room: largest_process_count(room, micro_batches=8, machines=1) for room in rooms} == rooms


def test_softmax_is_exact_also_for_large_logits() -> None:
    probabilities = softmax(np.array([[1000.0, 1000.0], [0.0, np.log(3.0)]], dtype=np.float32))
    assert probabilities == pytest.approx(np.array([[0.5, 0.5], [0.25, 0.75]]))
