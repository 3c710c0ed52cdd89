"""One update against the textbook, and the loop around it."""

from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import torch
from samples import described
from torch import nn
from torch.nn.functional import cross_entropy

from imgpipe import crops, optim, orders, schedules, transforms
from imgpipe.batches import Batch
from imgpipe.classifier import Classifier
from imgpipe.devices import World
from imgpipe.packed import Split
from imgpipe.reduction import FixedTree
from imgpipe.training import Epoch, fit, train_step

ALONE = World(0, 1, torch.device("cpu"))


def classifier(*layers: nn.Module) -> Classifier:
    torch.manual_seed(1)
    network = nn.Sequential(nn.Conv2d(1, 4, 3), nn.ReLU(), *layers, nn.Flatten(), nn.Linear(4 * 6 * 6, 3))
    return Classifier(network, [0.4], [0.3])


def random_split(pictures: int) -> Split:
    random = np.random.default_rng(0)
    return Split(
        content=random.integers(0, 256, pictures * 64, dtype=np.uint8),
        encoding="raw",
        channels=1,
        offsets=np.arange(pictures) * 64,
        lengths=np.full(pictures, 64),
        heights=np.full(pictures, 8),
        widths=np.full(pictures, 8),
        labels=random.integers(0, 3, pictures),
        files=[f"{i}.png" for i in range(pictures)],
    )


def parts_of(split: Split, count: int) -> list[Batch]:
    size = len(split) // count
    places = [slice(i * size, (i + 1) * size) for i in range(count)]
    pictures, labels = torch.from_numpy(split.content.reshape(-1, 8, 8, 1)), torch.from_numpy(split.labels)
    return [(pictures[place], labels[place], place) for place in places]


def step(
    model: Classifier,
    updater: torch.optim.Optimizer,
    scaler: torch.amp.GradScaler,
    parts: list[Batch],
    seed: int = 0,
    *,
    precision: str = "fp32",
    label_smoothing: float = 0.0,
) -> torch.Tensor:
    """``train_step`` on one process."""
    return train_step(
        FixedTree(model, ALONE, parts=len(parts)),
        updater,
        scaler,
        parts,
        [None] * len(parts),
        [seed] * len(parts),
        precision=precision,
        label_smoothing=label_smoothing,
        device=ALONE.device,
    )


@pytest.mark.parametrize("parts", [1, 2, 4])
def test_an_update_is_the_gradient_of_the_mean_loss_over_the_whole_batch(parts: int) -> None:
    """The textbook in float64: normalise, forward, mean smoothed cross-entropy, one step of plain gradient descent."""
    split = random_split(12)
    model = classifier()
    textbook = classifier().double()
    pixels = torch.from_numpy(split.content.reshape(12, 8, 8, 1)).permute(0, 3, 1, 2).double() / 255
    logits = textbook.network((pixels - 0.4) / 0.3)
    smoothed = nn.functional.one_hot(torch.from_numpy(split.labels), 3) * 0.9 + 0.1 / 3
    loss = -(smoothed * logits.log_softmax(1)).sum(1).mean()
    loss.backward()
    expected = [p.detach() - 0.1 * p.grad for p in textbook.parameters() if p.grad is not None]

    updater = torch.optim.SGD(model.parameters(), lr=0.1)
    scaler = torch.amp.GradScaler("cpu", enabled=False)
    sums = step(model, updater, scaler, parts_of(split, parts), label_smoothing=0.1)
    for got, want in zip(model.parameters(), expected, strict=True):
        torch.testing.assert_close(got.double(), want, rtol=1e-5, atol=1e-6)
    assert sums[:, 0].sum().item() == pytest.approx(12 * loss.item(), rel=1e-5)
    assert sums[:, 1].sum().item() == (logits.argmax(1) == torch.from_numpy(split.labels)).sum().item()


@pytest.mark.parametrize("precision", ["bf16", "fp16"])
def test_lower_precision_gives_the_same_update_to_its_rounding(precision: str) -> None:
    updates = {}
    for name in ("fp32", precision):
        model = classifier()
        before = [p.detach().clone() for p in model.parameters()]
        updater = torch.optim.SGD(model.parameters(), lr=0.1)
        scaler = torch.amp.GradScaler("cpu", enabled=name == "fp16")
        step(model, updater, scaler, parts_of(random_split(8), 2), precision=name)
        updates[name] = torch.cat([(p - b).flatten() for p, b in zip(model.parameters(), before, strict=True)])
    difference = (updates[precision] - updates["fp32"]).norm() / updates["fp32"].norm()
    assert 0 < difference.item() < 0.03


def test_an_overflow_in_fp16_skips_the_update_and_lowers_the_scale() -> None:
    model = classifier()
    before = [p.detach().clone() for p in model.parameters()]
    updater = torch.optim.SGD(model.parameters(), lr=0.1)
    scaler = torch.amp.GradScaler("cpu", init_scale=2.0**100)
    step(model, updater, scaler, parts_of(random_split(8), 1), precision="fp16")
    assert all(torch.equal(p, b) for p, b in zip(model.parameters(), before, strict=True))
    assert scaler.get_scale() == 2.0**99


def test_dropout_is_a_function_of_its_seed_alone() -> None:
    losses = []
    for seed in (5, 5, 6):
        torch.rand(3)  # whatever state the global generator is in
        model = classifier(nn.Dropout(0.5))
        updater = torch.optim.SGD(model.parameters(), lr=0.1)
        scaler = torch.amp.GradScaler("cpu", enabled=False)
        model.train()
        parts = parts_of(random_split(8), 1)
        losses.append(step(model, updater, scaler, parts, seed)[0, 0].item())
    assert losses[0] == losses[1] != losses[2]


def augment(**changes: object) -> transforms.Augmentation:
    plain: dict[str, object] = {
        "crop": partial(crops.padded, padding=1),
        "horizontal_flip": 0.5,
        "vertical_flip": 0.0,
        "rotation": 0.0,
        "policy": transforms.no_policy,
        "erasing": 0.0,
        "colour": [128],
    }
    return transforms.augmentation(**{**plain, **changes})  # type: ignore[arg-type]


def run(epochs: int = 3, **changes: object) -> tuple[list[Epoch], list[torch.Tensor]]:
    model = classifier()
    settings: dict[str, object] = {
        "classes": 3,
        "size": 8,
        "crop_fraction": 1.0,
        "seed": 0,
        "epochs": epochs,
        "batch_size": 8,
        "micro_batches": 2,
        "precision": "fp32",
        "label_smoothing": 0.0,
        "optimizer": SGD,
        "schedule": partial(schedules.constant, warmup_epochs=0),
        "ordered": orders.shuffled,
        "augment": augment(),
        "mixup_alpha": 0.0,
        "cutmix_alpha": 0.0,
        "threads": 1,
        "log_every": 10,
        "world": ALONE,
    }
    history = list(fit(model, random_split(21), random_split(5), **{**settings, **changes}))  # type: ignore[arg-type]
    return history, [p.detach().clone() for p in model.parameters()]


def test_training_twice_gives_the_same_bits_and_loader_threads_change_nothing() -> None:
    history, weights = run()
    for threads in (1, 3):
        again, same = run(threads=threads)
        assert again == history
        assert all(torch.equal(a, b) for a, b in zip(weights, same, strict=True))


SGD = partial(optim.sgd, lr=0.1, momentum=0.9, weight_decay=0.0, nesterov=False)
CHANGES: dict[str, dict[str, object]] = {
    "seed": {"seed": 1},
    "batch_size": {"batch_size": 4},
    "precision": {"precision": "bf16"},
    "label_smoothing": {"label_smoothing": 0.2},
    "lr": {"optimizer": partial(SGD, lr=0.05)},
    "momentum": {"optimizer": partial(SGD, momentum=0.8)},
    "weight_decay": {"optimizer": partial(SGD, weight_decay=0.1)},
    "nesterov": {"optimizer": partial(SGD, nesterov=True)},
    "adamw": {"optimizer": partial(optim.adamw, lr=0.1, beta1=0.9, beta2=0.999, weight_decay=0.0)},
    "cosine": {"schedule": partial(schedules.cosine, warmup_epochs=0)},
    "warm-up": {"schedule": partial(schedules.constant, warmup_epochs=1)},
    "steps": {"schedule": partial(schedules.step, warmup_epochs=0, step_epochs=1, gamma=0.5)},
    "no crop": {"augment": augment(crop=partial(crops.centre, fraction=1.0))},
    "padding": {"augment": augment(crop=partial(crops.padded, padding=2))},
    "horizontal_flip": {"augment": augment(horizontal_flip=0.0)},
    "rotation": {"augment": augment(rotation=10.0)},
    "policy": {"augment": augment(policy=transforms.POLICIES["trivial_augment"])},
    "erasing": {"augment": augment(erasing=0.5)},
    "order": {"ordered": orders.balanced},
    "mixup": {"mixup_alpha": 0.2},
    "cutmix": {"cutmix_alpha": 1.0},
}


@pytest.mark.parametrize("change", CHANGES.values(), ids=CHANGES)
def test_each_setting_changes_the_weights(change: dict[str, object]) -> None:
    _, weights = run()
    _, others = run(**change)  # type: ignore[arg-type]
    assert not all(torch.equal(a, b) for a, b in zip(weights, others, strict=True))


def test_the_reported_lr_follows_the_schedule() -> None:
    """Cosine from 0.1 over 4 epochs: 0.05 (1 + cos(pi e / 4)) after epoch e."""
    history, _ = run(epochs=4, schedule=partial(schedules.cosine, warmup_epochs=0))
    assert [epoch.lr for epoch in history] == pytest.approx([0.0853553, 0.05, 0.0146447, 0.0], abs=1e-6)


def test_a_better_epoch_has_more_pictures_right_or_as_many_with_a_lower_loss() -> None:
    epoch = Epoch(1, 0.1, 1.0, 0.5, val_loss=0.4, val_accuracy=0.9)
    assert epoch.better_than(None)
    assert replace(epoch, val_accuracy=0.91, val_loss=0.5).better_than(epoch)
    assert replace(epoch, val_loss=0.39).better_than(epoch)
    assert not replace(epoch, epoch=2).better_than(epoch)
    assert not replace(epoch, val_accuracy=0.89, val_loss=0.1).better_than(epoch)


def test_validation_numbers_are_means_over_pictures() -> None:
    from imgpipe.training import validate

    logits = torch.tensor([[2.0, 0.0], [0.0, 1.0], [3.0, 0.0]])
    labels = torch.tensor([0, 1, 1])
    loss, accuracy = validate(logits, labels)
    by_hand = (np.log(1 + np.exp(-2)) + np.log(1 + np.exp(-1)) + np.log(1 + np.exp(3))) / 3
    assert loss == pytest.approx(by_hand)
    assert accuracy == pytest.approx(2 / 3)
    assert loss == pytest.approx(cross_entropy(logits, labels).item())


def test_a_saved_classifier_comes_back_whole(tmp_path: Path) -> None:
    from imgpipe.classifier import load_classifier, new_classifier, save_classifier

    description = described(dropout=0.25, temperature=1.5, flips=True)
    model = new_classifier(description, [0.5], [0.2]).eval()
    save_classifier(tmp_path / "model.safetensors", model, description)
    loaded, read = load_classifier(tmp_path / "model.safetensors")
    pictures = torch.randint(0, 256, (3, 8, 8, 1), dtype=torch.uint8)
    assert read == description
    assert torch.equal(loaded(pictures), model(pictures))
    save_classifier(tmp_path / "again.safetensors", loaded, read)
    assert (tmp_path / "again.safetensors").read_bytes() == (tmp_path / "model.safetensors").read_bytes()
