"""Every image once, each with its own answer."""

import csv
import json
from functools import partial

import numpy as np
import pytest
import torch
from conftest import Project
from samples import described
from train.test_loop import ALONE, SETTINGS, augment, classifier, random_split

from imgpipe.data.packed import read_split, read_statistics
from imgpipe.model.classifier import new_classifier
from imgpipe.model.predict import predict_split
from imgpipe.train import optim, schedules
from imgpipe.train.loop import fit, validate
from imgpipe.train.processes import largest_process_count
from imgpipe.train.state import new_state


@pytest.mark.parametrize("flips", [False, True])
@pytest.mark.parametrize("batch_size", [1, 4, 7, 100])
def test_each_image_gets_its_own_logits_whatever_the_batches(batch_size: int, flips: bool) -> None:
    split, model = random_split(7), classifier().eval()
    logits = predict_split(
        model,
        split,
        classes=3,
        size=8,
        crop_fraction=1.0,
        batch_size=batch_size,
        precision="fp32",
        flips=flips,
        threads=2,
        description="testing",
        world=ALONE,
    )
    with torch.no_grad():
        expected = torch.cat([model(torch.from_numpy(split.image(i).copy())[None]) for i in range(7)])
        mirrored = torch.cat([model(torch.from_numpy(split.image(i)[:, ::-1].copy())[None]) for i in range(7)])
    torch.testing.assert_close(logits, (expected + mirrored) / 2 if flips else expected)
    assert (mirrored - expected).abs().max() > 1e-3


def test_the_pipeline_s_parts_learn_real_digits(finished: Project) -> None:
    """Four classes, 168 images of 8 x 8 pixels to train on: chance is 0.25."""
    packed = finished.folder / "data" / "packed"
    statistics = read_statistics(packed / "statistics.json")
    train, val, test = (read_split(packed / name, channels=1, encoding="raw") for name in ("train", "val", "test"))
    torch.manual_seed(0)
    model = new_classifier(described(classes=statistics.classes), statistics.mean, statistics.std)
    optimizer = partial(optim.sgd, lr=0.05, momentum=0.9, weight_decay=0.0, nesterov=True)
    state = new_state(
        model, optimizer([{"params": model.parameters(), "lr_factor": 1}]), precision="fp32", ema_decay=None
    )
    changes = {
        "classes": 4,
        "batch_size": 16,
        "label_smoothing": 0.1,
        "schedule": partial(schedules.cosine, warmup_epochs=1),
        "augment": augment(horizontal_flip=0.0),
    }
    unused = ("optimizer", "ema_decay", "backbone_lr_factor", "decay_norms_and_biases")
    settings = {name: value for name, value in SETTINGS.items() if name not in unused}
    epochs = fit(state, train, val, **{**settings, "epochs": 10, **changes})
    assert list(epochs)[-1].val_accuracy > 0.9
    logits = predict_split(
        model,
        test,
        classes=4,
        size=8,
        crop_fraction=1.0,
        batch_size=10,
        precision="fp32",
        flips=False,
        threads=1,
        description="testing",
        world=ALONE,
    )
    assert validate(logits, torch.from_numpy(test.labels))[1] > 0.9


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
