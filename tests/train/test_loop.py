"""One update against the textbook, and the loop around it."""

from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from samples import described
from torch import nn
from torch.nn.functional import cross_entropy

from imgpipe.common.errors import InputError
from imgpipe.data.packed import Split
from imgpipe.model.classifier import Classifier
from imgpipe.model.devices import World
from imgpipe.model.predict import Batch
from imgpipe.train import augment as augmenting
from imgpipe.train import augment as transforms
from imgpipe.train import optim, sampling, schedules
from imgpipe.train.loop import fit, mixed_loss, naming_what_parts_lack, train_step
from imgpipe.train.optim import parameter_groups
from imgpipe.train.parts import cut
from imgpipe.train.reduction import FixedTree
from imgpipe.train.state import Epoch, new_state
from imgpipe.train.watching import Clock

ALONE = World(0, 1, torch.device("cpu"))


def classifier(*layers: nn.Module) -> Classifier:
    torch.manual_seed(1)
    network = nn.Sequential(nn.Conv2d(1, 4, 3), nn.ReLU(), *layers, nn.Flatten(), nn.Linear(4 * 6 * 6, 3))
    return Classifier(network, [0.4], [0.3], channels_last=True)


def random_split(images: int) -> Split:
    random = np.random.default_rng(0)
    return Split(
        content=random.integers(0, 256, images * 64, dtype=np.uint8),
        encoding="raw",
        channels=1,
        offsets=np.arange(images) * 64,
        lengths=np.full(images, 64),
        heights=np.full(images, 8),
        widths=np.full(images, 8),
        labels=random.integers(0, 3, images),
        files=[f"{i}.png" for i in range(images)],
    )


def parts_of(split: Split, count: int) -> list[Batch]:
    size = len(split) // count
    places = [slice(i * size, (i + 1) * size) for i in range(count)]
    images, labels = torch.from_numpy(split.content.reshape(-1, 8, 8, 1)), torch.from_numpy(split.labels)
    return [(images[place], labels[place], place) for place in places]


def step(
    model: Classifier,
    updater: torch.optim.Optimizer,
    scaler: torch.amp.GradScaler,
    parts: list[Batch],
    seed: int = 0,
    *,
    shares: list[float] | None = None,
    precision: str = "fp32",
    label_smoothing: float = 0.0,
    class_weights: torch.Tensor | None = None,
    clip_grad_norm: float | None = None,
) -> torch.Tensor:
    """``train_step`` on one process."""
    return train_step(
        FixedTree(model, ALONE),
        updater,
        scaler,
        parts,
        shares or [1 / len(parts)] * len(parts),
        [None] * len(parts),
        [seed] * len(parts),
        precision=precision,
        label_smoothing=label_smoothing,
        class_weights=class_weights,
        clip_grad_norm=clip_grad_norm,
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


def test_a_kept_last_batch_counts_each_of_its_images_once_however_they_fall_into_parts() -> None:
    """5 images in parts of 2, 2, 1 and none: one update by the plain mean over the 5, in float64 as above."""
    split = random_split(5)
    model, textbook = classifier(), classifier().double()
    images, labels = torch.from_numpy(split.content.reshape(5, 8, 8, 1)), torch.from_numpy(split.labels)
    loss = cross_entropy(textbook.network((images.permute(0, 3, 1, 2).double() / 255 - 0.4) / 0.3), labels)
    loss.backward()
    expected = [p.detach() - 0.1 * p.grad for p in textbook.parameters() if p.grad is not None]

    ((*plan,),) = cut(5, batch_size=8, micro_batches=4, keep_last=True)
    parts = [(images[place], labels[place], place) for place, _ in plan]
    updater = torch.optim.SGD(model.parameters(), lr=0.1)
    scaler = torch.amp.GradScaler("cpu", enabled=False)
    sums = step(model, updater, scaler, parts, shares=[share for _, share in plan])
    for got, want in zip(model.parameters(), expected, strict=True):
        torch.testing.assert_close(got.double(), want, rtol=1e-5, atol=1e-6)
    assert sums[:, 0].sum().item() == pytest.approx(5 * loss.item(), rel=1e-5)


def test_class_weights_multiply_the_losses_of_their_images() -> None:
    logits, labels = torch.randn(4, 3, generator=torch.Generator().manual_seed(0)), torch.tensor([0, 2, 1, 2])
    weights = torch.tensor([0.5, 1.0, 3.0])
    each = -logits.log_softmax(1)[range(4), labels]
    loss = mixed_loss(logits, labels, None, label_smoothing=0.0, class_weights=weights)
    assert loss.item() == pytest.approx((each * torch.tensor([0.5, 3.0, 1.0, 3.0])).sum().item() / 4)


@pytest.mark.parametrize("precision", ["fp32", "fp16"])
def test_clipping_bounds_the_norm_of_the_whole_gradient_whatever_its_scale(precision: str) -> None:
    model = classifier()
    before = [p.detach().clone() for p in model.parameters()]
    updater = torch.optim.SGD(model.parameters(), lr=1.0)
    scaler = torch.amp.GradScaler("cpu", enabled=precision == "fp16")
    step(model, updater, scaler, parts_of(random_split(8), 2), precision=precision, clip_grad_norm=0.01)
    moved = torch.cat([(p - b).flatten() for p, b in zip(model.parameters(), before, strict=True)])
    assert moved.norm().item() == pytest.approx(0.01, rel=1e-3)


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
        "crop": partial(augmenting.padded, padding=1),
        "horizontal_flip": 0.5,
        "vertical_flip": 0.0,
        "rotation": 0.0,
        "policy": transforms.no_policy,
        "erasing": 0.0,
        "colour": [128],
    }
    return transforms.augmentation(**{**plain, **changes})  # type: ignore[arg-type]


def run(epochs: int = 3, **changes: Any) -> tuple[list[Epoch], list[torch.Tensor]]:
    """The history of a training, and the weights that it gives."""
    settings: dict[str, Any] = {**SETTINGS, "epochs": epochs, "augment": augment(), **changes}
    model, optimizer, ema_decay = classifier(), settings.pop("optimizer"), settings.pop("ema_decay")
    groups = parameter_groups(
        model.network,
        head="3",
        backbone_lr_factor=settings.pop("backbone_lr_factor"),
        decay_norms_and_biases=settings.pop("decay_norms_and_biases"),
    )
    state = new_state(model, optimizer(groups), precision=settings["precision"], ema_decay=ema_decay)
    history = list(fit(state, random_split(21), random_split(5), **settings))
    assert history == state.history
    return history, [p.detach().clone() for p in state.used.parameters()]


def test_training_twice_gives_the_same_bits_and_loader_threads_change_nothing() -> None:
    history, weights = run()
    for threads in (1, 3):
        again, same = run(threads=threads)
        assert again == history
        assert all(torch.equal(a, b) for a, b in zip(weights, same, strict=True))


SGD = partial(optim.sgd, lr=0.1, momentum=0.9, weight_decay=0.01, nesterov=False)
SETTINGS: dict[str, Any] = {
    "classes": 3,
    "size": 8,
    "crop_fraction": 1.0,
    "seed": 0,
    "batch_size": 8,
    "micro_batches": 2,
    "keep_last": False,
    "precision": "fp32",
    "label_smoothing": 0.0,
    "class_weights": None,
    "clip_grad_norm": None,
    "early_stop_epochs": None,
    "ema_decay": None,
    "optimizer": SGD,
    "backbone_lr_factor": 1.0,
    "decay_norms_and_biases": True,
    "schedule": partial(schedules.constant, warmup_epochs=0),
    "ordered": sampling.shuffled,
    "mixup_alpha": 0.0,
    "cutmix_alpha": 0.0,
    "freeze": lambda network, epoch: None,
    "threads": 1,
    "log_every": 10,
    "stop_signal": lambda: 0,
    "save": lambda must: None,
    "clock": Clock(),
    "profile_step": lambda: None,
    "world": ALONE,
}
CHANGES: dict[str, dict[str, Any]] = {
    "seed": {"seed": 1},
    "batch_size": {"batch_size": 4},
    "precision": {"precision": "bf16"},
    "label_smoothing": {"label_smoothing": 0.2},
    "lr": {"optimizer": partial(SGD, lr=0.05)},
    "momentum": {"optimizer": partial(SGD, momentum=0.8)},
    "weight_decay": {"optimizer": partial(SGD, weight_decay=0.1)},
    "nesterov": {"optimizer": partial(SGD, nesterov=True)},
    "adam": {"optimizer": partial(optim.adam, lr=0.1, beta1=0.9, beta2=0.999, weight_decay=0.0)},
    "rmsprop": {"optimizer": partial(optim.rmsprop, lr=0.01, alpha=0.9, momentum=0.0, weight_decay=0.0)},
    "micro_batches": {"micro_batches": 4},
    "keep_last": {"keep_last": True},
    "class_weights": {"class_weights": torch.tensor([0.5, 1.0, 1.5])},
    "clip_grad_norm": {"clip_grad_norm": 0.1},
    "ema_decay": {"ema_decay": 0.9},
    "backbone_lr_factor": {"backbone_lr_factor": 0.1},
    "decay_norms_and_biases": {"decay_norms_and_biases": False},
    "adamw": {"optimizer": partial(optim.adamw, lr=0.1, beta1=0.9, beta2=0.999, weight_decay=0.0)},
    "cosine": {"schedule": partial(schedules.cosine, warmup_epochs=0)},
    "warm-up": {"schedule": partial(schedules.constant, warmup_epochs=1)},
    "steps": {"schedule": partial(schedules.step, warmup_epochs=0, step_epochs=1, gamma=0.5)},
    "no crop": {"augment": augment(crop=partial(augmenting.centre, fraction=1.0))},
    "padding": {"augment": augment(crop=partial(augmenting.padded, padding=2))},
    "horizontal_flip": {"augment": augment(horizontal_flip=0.0)},
    "rotation": {"augment": augment(rotation=10.0)},
    "policy": {"augment": augment(policy=transforms.POLICIES["trivial_augment"])},
    "erasing": {"augment": augment(erasing=0.5)},
    "order": {"ordered": sampling.balanced},
    "mixup": {"mixup_alpha": 0.2},
    "cutmix": {"cutmix_alpha": 1.0},
}


@pytest.mark.parametrize("change", CHANGES.values(), ids=CHANGES)
def test_each_setting_changes_the_weights(change: dict[str, Any]) -> None:
    _, weights = run()
    _, others = run(**change)
    assert not all(torch.equal(a, b) for a, b in zip(weights, others, strict=True))


def test_training_ends_early_where_the_validation_loss_no_longer_falls() -> None:
    """At a rate of 0 nothing changes, so epochs 2 and 3 are no better than the first."""
    history, _ = run(epochs=9, optimizer=partial(SGD, lr=1e-30), early_stop_epochs=2)
    assert [epoch.epoch for epoch in history] == [1, 2, 3]


def test_a_loss_that_is_not_finite_ends_the_training_with_its_step() -> None:
    with pytest.raises(
        InputError, match=r"the loss of step 2 of epoch 1 is not finite; try a lower train.optimizer.lr"
    ):
        run(optimizer=partial(SGD, lr=1e30))


def test_memory_that_does_not_suffice_is_said_with_the_size_of_the_micro_batches() -> None:
    with pytest.raises(InputError, match="micro-batches of 16 images"), naming_what_parts_lack(16):
        torch.empty(2**60)
    with pytest.raises(RuntimeError, match="inconsistent tensor size"), naming_what_parts_lack(16):
        torch.ones(2) @ torch.ones(3)


def test_a_part_too_small_for_batchnorm_is_said() -> None:
    with pytest.raises(InputError, match="BatchNorm needs more than one value"), naming_what_parts_lack(1):
        nn.BatchNorm1d(2)(torch.ones(1, 2))
    with pytest.raises(ValueError, match="different"), naming_what_parts_lack(1):
        raise ValueError("something different")


def test_freezing_is_asked_for_in_each_epoch_and_the_tree_follows() -> None:
    def freeze(network: nn.Module, epoch: int) -> None:
        network.get_parameter("0.weight").requires_grad_(epoch == 1)

    still = classifier().network.get_parameter("0.weight")
    _, (weight, *_) = run(epochs=1, freeze=freeze)
    assert torch.equal(weight, still)
    _, (weight, *_) = run(epochs=2, freeze=freeze)
    assert not torch.equal(weight, still)


def test_the_reported_lr_follows_the_schedule() -> None:
    """Cosine from 0.1 over 4 epochs: 0.05 (1 + cos(pi e / 4)) after epoch e."""
    history, _ = run(epochs=4, schedule=partial(schedules.cosine, warmup_epochs=0))
    assert [epoch.lr for epoch in history] == pytest.approx([0.0853553, 0.05, 0.0146447, 0.0], abs=1e-6)


def test_a_better_epoch_has_more_images_right_or_as_many_with_a_lower_loss() -> None:
    epoch = Epoch(1, 0.1, 1.0, 0.5, val_loss=0.4, val_accuracy=0.9)
    assert replace(epoch, val_accuracy=0.91, val_loss=0.5).merit > epoch.merit
    assert replace(epoch, val_loss=0.39).merit > epoch.merit
    assert replace(epoch, epoch=2).merit == epoch.merit
    assert replace(epoch, val_accuracy=0.89, val_loss=0.1).merit < epoch.merit


def test_validation_numbers_are_means_over_images() -> None:
    from imgpipe.train.loop import validate

    logits = torch.tensor([[2.0, 0.0], [0.0, 1.0], [3.0, 0.0]])
    labels = torch.tensor([0, 1, 1])
    loss, accuracy = validate(logits, labels)
    by_hand = (np.log(1 + np.exp(-2)) + np.log(1 + np.exp(-1)) + np.log(1 + np.exp(3))) / 3
    assert loss == pytest.approx(by_hand)
    assert accuracy == pytest.approx(2 / 3)
    assert loss == pytest.approx(cross_entropy(logits, labels).item())


def test_a_saved_classifier_comes_back_whole(tmp_path: Path) -> None:
    from imgpipe.model.classifier import load_classifier, new_classifier, save_classifier

    description = described(dropout=0.25, temperature=1.5, flips=True)
    model = new_classifier(description, [0.5], [0.2]).eval()
    save_classifier(tmp_path / "model.safetensors", model, description)
    loaded, read = load_classifier(tmp_path / "model.safetensors")
    images = torch.randint(0, 256, (3, 8, 8, 1), dtype=torch.uint8)
    assert read == description
    assert torch.equal(loaded(images), model(images))
    save_classifier(tmp_path / "again.safetensors", loaded, read)
    assert (tmp_path / "again.safetensors").read_bytes() == (tmp_path / "model.safetensors").read_bytes()
