"""One update against the textbook, whole trainings against torch's own parts, and the loop around them."""

import logging
import math
from dataclasses import replace
from functools import partial
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy, one_hot
from trainings import ALONE, AUGMENT, MODEL, RECIPE, SGD, classifier, random_split, run, splits, trained, weights_of

from imgpipe.common.errors import InputError
from imgpipe.data.packed import Split
from imgpipe.model.classifier import Classifier
from imgpipe.model.devices import World
from imgpipe.model.randomness import random_rows
from imgpipe.train import optim, schedules
from imgpipe.train.augment import DRAWS, POLICIES, augmentation, centre, padded
from imgpipe.train.loop import batch_loss, ended, loss_and_accuracy, train_step
from imgpipe.train.micro_batches import MicroBatch, cut, draw_mix, mixed
from imgpipe.train.params import Train
from imgpipe.train.reduction import FixedTree
from imgpipe.train.run import STEPS_BEHIND, check_memory_sufficed, explained
from imgpipe.train.sampling import ORDERS, given_weights
from imgpipe.train.start import new_state
from imgpipe.train.state import Epoch, TrainingState

PLAIN = replace(RECIPE, optimizer=partial(SGD, momentum=0.0, weight_decay=0.0))
"""Gradient descent, lr 0.1."""


def micro_batches_of(split: Split, count: int, dropout_seed: int = 0) -> list[MicroBatch]:
    """All images of the split in so many equal parts, nothing mixed."""
    size = len(split) // count
    places = [slice(i * size, (i + 1) * size) for i in range(count)]
    return [micro_batch_of(split, place, 1 / count, dropout_seed) for place in places]


def micro_batch_of(split: Split, place: slice, share: float, dropout_seed: int = 0) -> MicroBatch:
    images, labels = torch.from_numpy(split.content.reshape(-1, 8, 8, 1)), torch.from_numpy(split.labels)
    return MicroBatch(images[place], labels[place], share, None, dropout_seed)


def step(
    model: Classifier, parts: list[MicroBatch], recipe: Train = PLAIN, scaler: torch.amp.GradScaler | None = None
) -> Tensor:
    """``train_step`` on one process."""
    optimizer = recipe.optimizer([{"params": list(model.parameters())}])
    scaler = scaler or torch.amp.GradScaler("cpu", enabled=recipe.precision == "fp16")
    return train_step(
        TrainingState(model, optimizer, scaler, None, recipe.monitor), FixedTree(model, ALONE), parts, recipe, None
    )


def moved(model: Classifier, parts: list[MicroBatch], recipe: Train) -> Tensor:
    """By how much an update changes all weights, as one vector."""
    before = [p.detach().clone() for p in model.parameters()]
    step(model, parts, recipe)
    return torch.cat([(p - b).flatten() for p, b in zip(model.parameters(), before, strict=True)])


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

    sums = step(model, micro_batches_of(split, parts), replace(PLAIN, label_smoothing=0.1))
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

    ((*plan,),) = cut(5, replace(RECIPE, micro_batches=4, last_batch="keep"))
    sums = step(model, [micro_batch_of(split, place, share) for place, share in plan])
    for got, want in zip(model.parameters(), expected, strict=True):
        torch.testing.assert_close(got.double(), want, rtol=1e-5, atol=1e-6)
    assert sums[:, 0].sum().item() == pytest.approx(5 * loss.item(), rel=1e-5)


def test_class_weights_multiply_the_losses_of_their_images() -> None:
    logits, labels = torch.randn(4, 3, generator=torch.Generator().manual_seed(0)), torch.tensor([0, 2, 1, 2])
    weights = torch.tensor([0.5, 1.0, 3.0])
    each = -logits.log_softmax(1)[range(4), labels]
    loss = batch_loss(logits, labels, None, label_smoothing=0.0, class_weights=weights)
    assert loss.item() == pytest.approx((each * torch.tensor([0.5, 3.0, 1.0, 3.0])).sum().item() / 4)


@pytest.mark.parametrize("precision", ["fp32", "fp16"])
def test_clipping_bounds_the_norm_of_the_whole_gradient_whatever_its_scale(precision: Any) -> None:
    recipe = replace(PLAIN, optimizer=partial(PLAIN.optimizer, lr=1.0), precision=precision, clip_grad_norm=0.01)
    change = moved(classifier(), micro_batches_of(random_split(8), 2), recipe)
    assert change.norm().item() == pytest.approx(0.01, rel=1e-3)


@pytest.mark.parametrize("precision", ["bf16", "fp16"])
def test_lower_precision_gives_the_same_update_to_its_rounding(precision: Any) -> None:
    exact, rounded = (
        moved(classifier(), micro_batches_of(random_split(8), 2), replace(PLAIN, precision=name))
        for name in ("fp32", precision)
    )
    assert 0 < ((rounded - exact).norm() / exact.norm()).item() < 0.03


def test_an_overflow_in_fp16_skips_the_update_and_lowers_the_scale() -> None:
    model = classifier()
    before = [p.detach().clone() for p in model.parameters()]
    scaler = torch.amp.GradScaler("cpu", init_scale=2.0**100)
    step(model, micro_batches_of(random_split(8), 1), replace(PLAIN, precision="fp16"), scaler)
    assert all(torch.equal(p, b) for p, b in zip(model.parameters(), before, strict=True))
    assert scaler.get_scale() == 2.0**99


def test_dropout_is_a_function_of_its_seed_alone() -> None:
    losses = []
    for seed in (5, 5, 6):
        torch.rand(3)  # whatever state the global generator is in
        model = classifier(nn.Dropout(0.5)).train()
        losses.append(step(model, micro_batches_of(random_split(8), 1, dropout_seed=seed))[0, 0].item())
    assert losses[0] == losses[1] != losses[2]


def test_training_twice_gives_the_same_bits_and_loader_threads_change_nothing() -> None:
    once = trained(RECIPE)
    for threads in (1, 3):
        again = trained(RECIPE, threads=threads)
        assert again.history == once.history
        assert all(torch.equal(a, b) for a, b in zip(weights_of(once), weights_of(again), strict=True))


RECIPES: dict[str, Train] = {
    "as it is": RECIPE,
    "seed": replace(RECIPE, seed=1),
    "batch_size": replace(RECIPE, batch_size=4),
    "precision": replace(RECIPE, precision="bf16"),
    "label_smoothing": replace(RECIPE, label_smoothing=0.2),
    "lr": replace(RECIPE, optimizer=partial(SGD, lr=0.05)),
    "momentum": replace(RECIPE, optimizer=partial(SGD, momentum=0.8)),
    "weight_decay": replace(RECIPE, optimizer=partial(SGD, weight_decay=0.1)),
    "nesterov": replace(RECIPE, optimizer=partial(SGD, nesterov=True)),
    "adam": replace(RECIPE, optimizer=partial(optim.adam, lr=0.01, beta1=0.8, beta2=0.99, weight_decay=0.1)),
    "adamw": replace(RECIPE, optimizer=partial(optim.adamw, lr=0.01, beta1=0.8, beta2=0.99, weight_decay=0.1)),
    "rmsprop": replace(RECIPE, optimizer=partial(optim.rmsprop, lr=0.01, alpha=0.9, momentum=0.5, weight_decay=0.1)),
    "micro_batches": replace(RECIPE, micro_batches=4),
    "last_batch": replace(RECIPE, last_batch="keep"),
    "class_weights": replace(RECIPE, class_weights=partial(given_weights, weights={"a": 0.5, "c": 3.0})),
    "clip_grad_norm": replace(RECIPE, clip_grad_norm=0.1),
    "ema_decay": replace(RECIPE, ema_decay=0.7),
    "backbone_lr_factor": replace(RECIPE, backbone_lr_factor=0.1),
    "decay_norms_and_biases": replace(RECIPE, decay_norms_and_biases=False),
    "cosine": replace(RECIPE, schedule=partial(schedules.cosine, warmup_epochs=0)),
    "warm-up": replace(RECIPE, schedule=partial(schedules.constant, warmup_epochs=1)),
    "steps": replace(RECIPE, schedule=partial(schedules.step, warmup_epochs=0, step_epochs=1, gamma=0.5)),
    "no crop": replace(RECIPE, augment=replace(AUGMENT, crop=partial(centre, fraction=1.0))),
    "padding": replace(RECIPE, augment=replace(AUGMENT, crop=partial(padded, padding=2))),
    "horizontal_flip": replace(RECIPE, augment=replace(AUGMENT, horizontal_flip=0.0)),
    "rotation": replace(RECIPE, augment=replace(AUGMENT, rotation=10.0)),
    "policy": replace(RECIPE, augment=replace(AUGMENT, policy=POLICIES["trivial_augment"])),
    "erasing": replace(RECIPE, augment=replace(AUGMENT, erasing=0.5)),
    "order": replace(RECIPE, order="balanced"),
    "mixup": replace(RECIPE, mixup_alpha=0.2),
    "cutmix": replace(RECIPE, cutmix_alpha=1.0),
}


def textbook(recipe: Train) -> list[Tensor]:
    """The weights of the same training as a textbook has it: in float64, by torch's own parts, no loader and no tree.

    What is random is taken from the project's functions, which have tests of their own.
    """
    data, model = splits(recipe), classifier().double()
    images, labels = data.train, torch.from_numpy(data.train.labels)
    backbone, head = model.network.get_submodule("0"), model.network.get_submodule("3")
    groups = [
        {
            "params": [layer.get_parameter(name)],
            "factor": factor,
            "decays": recipe.decay_norms_and_biases or name != "bias",
        }
        for layer, factor in ((backbone, recipe.backbone_lr_factor), (head, 1.0))
        for name in ("weight", "bias")
    ]
    optimizer = torchs_own(recipe, groups)
    lrs = [group["lr"] for group in optimizer.param_groups]
    average, updates = [p.detach().clone() for p in model.parameters()], 0
    augment = augmentation(recipe.augment, [128])
    weights = torch.ones(3) if data.class_weights is None else torch.from_numpy(data.class_weights)
    plan = cut(len(images), recipe)
    for epoch in range(recipe.epochs):
        order = ORDERS[recipe.order](images.labels, seed=recipe.seed, epoch=epoch)
        for number, parts in enumerate(plan):
            loss = torch.zeros((), dtype=torch.float64)
            for i, (place, share) in enumerate(parts):
                rows = random_rows(place.start, place.stop - place.start, DRAWS, seed=recipe.seed, epoch=epoch)
                squares = torch.empty(len(rows), 8, 8, 1, dtype=torch.uint8)
                augment(images, order[place], rows, squares.numpy())
                mix = draw_mix(recipe, 8, epoch, number * recipe.micro_batches + i)
                pixels = mixed(squares, mix).permute(0, 3, 1, 2).double() / 255
                hard = one_hot(labels[order[place]], 3).double()
                soft = hard if mix is None else mix.kept * hard + (1 - mix.kept) * hard.roll(1, 0)
                soft = soft * (1 - recipe.label_smoothing) + recipe.label_smoothing / 3
                logs = model.network((pixels - 0.4) / 0.3).log_softmax(1)
                loss = loss - share * (weights * soft * logs).sum(1).mean()
            optimizer.zero_grad()
            loss.backward()
            if recipe.clip_grad_norm is not None:
                torch.nn.utils.clip_grad_norm_(model.parameters(), recipe.clip_grad_norm)
            factor = recipe.schedule(epoch + (number + 0.5) / len(plan), recipe.epochs, [])
            for group, lr in zip(optimizer.param_groups, lrs, strict=True):
                group["lr"] = lr * factor * group["factor"]
            optimizer.step()
            decay = min(recipe.ema_decay or 0.0, (1 + updates) / (10 + updates))
            updates += 1
            average = [
                decay * old + (1 - decay) * p.detach() for old, p in zip(average, model.parameters(), strict=True)
            ]
    return average


def torchs_own(recipe: Train, groups: list[dict[str, Any]]) -> torch.optim.Optimizer:
    """The optimizer that the recipe names, made by hand."""
    settings: dict[str, Any] = dict(recipe.optimizer.keywords)  # type: ignore[attr-defined]
    decay = settings["weight_decay"]
    groups = [{**group, "weight_decay": decay if group["decays"] else 0.0} for group in groups]
    match recipe.optimizer.func:  # type: ignore[attr-defined]
        case optim.sgd:
            return torch.optim.SGD(groups, settings["lr"], momentum=settings["momentum"], nesterov=settings["nesterov"])
        case optim.adam:
            return torch.optim.Adam(groups, settings["lr"], betas=(settings["beta1"], settings["beta2"]))
        case optim.adamw:
            return torch.optim.AdamW(groups, settings["lr"], betas=(settings["beta1"], settings["beta2"]))
        case optim.rmsprop:
            return torch.optim.RMSprop(groups, settings["lr"], settings["alpha"], momentum=settings["momentum"])
    raise AssertionError(recipe.optimizer)


@pytest.mark.parametrize("name", RECIPES)
def test_a_training_ends_in_the_weights_of_the_textbook_s(name: str) -> None:
    """Each setting does what it says: a wrong one, and not only an ignored one, would end elsewhere."""
    recipe = RECIPES[name]
    rounding = 0.03 if recipe.precision == "bf16" else 1e-4
    for got, want in zip(weights_of(trained(recipe)), textbook(recipe), strict=True):
        torch.testing.assert_close(got.double(), want, rtol=rounding, atol=rounding)


@pytest.fixture(scope="module")
def plain() -> list[Tensor]:
    """The weights of the recipe as it is."""
    return weights_of(trained(RECIPE))


@pytest.mark.parametrize("name", [name for name in RECIPES if name != "as it is"])
def test_each_setting_changes_the_weights(plain: list[Tensor], name: str) -> None:
    others = weights_of(trained(RECIPES[name]))
    same = all(torch.equal(a, b) for a, b in zip(plain, others, strict=True))
    assert not same


@pytest.mark.parametrize("monitor", ["accuracy", "loss"])
def test_training_ends_early_where_no_epoch_is_better_any_more(monitor: Any) -> None:
    """At a rate of 0 nothing changes, so epochs 2 and 3 are no better than the first."""
    still = replace(RECIPE, epochs=9, optimizer=partial(SGD, lr=1e-30), early_stop_epochs=2, monitor=monitor)
    assert [epoch.epoch for epoch in trained(still).history] == [1, 2, 3]


NUMBERS = [(0.5, 0.9), (0.4, 0.8), (0.5, 0.7), (0.6, 0.9), (0.6, 0.9), (0.5, 0.6)]
"""Accuracy and loss of the validation split, of six epochs."""


@pytest.mark.parametrize(
    ("monitor", "best", "over"),
    [("accuracy", [1, 1, 3, 4, 4, 4], [0, 0, 0, 0, 0, 1]), ("loss", [1, 2, 3, 3, 3, 6], [0, 0, 0, 0, 1, 0])],
)
def test_what_is_monitored_decides_the_best_epoch_and_when_training_ends_early(
    monitor: Any, best: list[int], over: list[bool]
) -> None:
    """After two epochs without a better one. Of the first and the third, with as many right, the third is better."""
    recipe = replace(RECIPE, epochs=9, monitor=monitor, early_stop_epochs=2)
    state = new_state(classifier(), recipe)
    found = []
    for number, (accuracy, loss) in enumerate(NUMBERS, start=1):
        state.add(Epoch(number, 0.1, 1.0, 0.5, val_loss=loss, val_accuracy=accuracy))
        found.append((state.best and state.best.epoch, ended(state, recipe)))
    assert found == list(zip(best, over, strict=True))


def test_plateaus_are_of_what_is_monitored() -> None:
    state = new_state(classifier(), replace(RECIPE, monitor="loss"))
    for number, (accuracy, loss) in enumerate(NUMBERS, start=1):
        state.add(Epoch(number, 0.1, 1.0, 0.5, val_loss=loss, val_accuracy=accuracy))
    assert state.monitored == [-0.9, -0.8, -0.7, -0.9, -0.9, -0.6]
    assert replace(state, monitor="accuracy").monitored == [0.5, 0.4, 0.5, 0.6, 0.6, 0.5]


def test_images_that_do_not_fill_a_batch_are_said_to_be_left_out(caplog: pytest.LogCaptureFixture) -> None:
    """21 images in batches of 8: 16 are shown."""
    with caplog.at_level(logging.INFO):
        trained(replace(RECIPE, epochs=1))
    (said,) = [message for message in caplog.messages if "leaves out" in message]
    assert said.startswith("each epoch leaves out the last 5 of its 21 images, 24 %, others each time: they do ")
    caplog.clear()
    with caplog.at_level(logging.INFO):
        trained(replace(RECIPE, epochs=1, last_batch="keep"))
    assert not [message for message in caplog.messages if "leaves out" in message]


def test_what_a_step_gave_is_read_steps_later_on_a_gpu_and_at_once_on_a_cpu_and_at_the_end_of_an_epoch() -> None:
    """The numbers lie on the CPU here, too; a run that takes them for a GPU's reads them as late."""

    def steps_until_noticed(device: str, broken: int) -> int:
        state = new_state(classifier(), RECIPE)
        state.begin_epoch(steps=9, micro_batches=2)
        here = run(world=World(0, 1, torch.device(device)))
        with (
            pytest.raises(InputError, match=f"the loss of step {broken} of epoch 1"),
            here.epoch(state, epochs=1, steps=9) as after_step,
        ):
            for step in range(1, 10):
                after_step(torch.full((2, 2), math.nan if step == broken else 1.0, dtype=torch.float64), 8)
        return state.step

    assert steps_until_noticed("cpu", 2) == 2
    assert steps_until_noticed("cuda", 2) == 2 + STEPS_BEHIND
    assert steps_until_noticed("cuda", 8) == 9


def test_a_loss_that_is_not_finite_ends_the_training_with_its_step() -> None:
    with pytest.raises(InputError, match=r"the loss of step 2 of epoch 1 is not finite; try a lower lr"):
        trained(replace(RECIPE, optimizer=partial(SGD, lr=1e30)))


def test_memory_that_does_not_suffice_is_said_with_the_size_of_the_micro_batches() -> None:
    with pytest.raises(InputError, match="micro-batches of 16 images"), explained(16):
        torch.empty(2**60)
    with pytest.raises(RuntimeError, match="inconsistent tensor size"), explained(16):
        torch.ones(2) @ torch.ones(3)


def test_a_part_too_small_for_batchnorm_is_said() -> None:
    with pytest.raises(InputError, match="BatchNorm needs more than one value"), explained(1):
        nn.BatchNorm1d(2)(torch.ones(1, 2))
    with pytest.raises(ValueError, match="different"), explained(1):
        raise ValueError("something different")


def test_what_is_frozen_follows_the_epochs_and_the_tree_follows_it() -> None:
    """The convolution stays still in the first epoch and is trained from the second on."""
    model, still = replace(MODEL, freeze="backbone", unfreeze_epoch=2), classifier().network.get_parameter("0.weight")
    weight, *_ = weights_of(trained(replace(RECIPE, epochs=1), model=model))
    assert torch.equal(weight, still)
    weight, *_ = weights_of(trained(replace(RECIPE, epochs=2), model=model))
    assert not torch.equal(weight, still)


def test_the_reported_lr_follows_the_schedule() -> None:
    """Cosine from 0.1 over 4 epochs of two updates: 0.05 (1 + cos(pi (e - 0.25) / 4)) in the last one of epoch e."""
    state = trained(replace(RECIPE, epochs=4, schedule=partial(schedules.cosine, warmup_epochs=0)))
    assert [epoch.lr for epoch in state.history] == pytest.approx(
        [0.0915735, 0.0597545, 0.0222215, 0.0009607], abs=1e-6
    )


def test_a_better_epoch_has_more_images_right_or_as_many_with_a_lower_loss() -> None:
    epoch = Epoch(1, 0.1, 1.0, 0.5, val_loss=0.4, val_accuracy=0.9)
    by_accuracy = epoch.merit("accuracy")
    assert replace(epoch, val_accuracy=0.91, val_loss=0.5).merit("accuracy") > by_accuracy
    assert replace(epoch, val_loss=0.39).merit("accuracy") > by_accuracy
    assert replace(epoch, epoch=2).merit("accuracy") == by_accuracy
    assert replace(epoch, val_accuracy=0.89, val_loss=0.1).merit("accuracy") < by_accuracy


def test_by_the_loss_a_better_epoch_has_a_lower_one_or_an_equal_one_with_more_images_right() -> None:
    epoch = Epoch(1, 0.1, 1.0, 0.5, val_loss=0.4, val_accuracy=0.9)
    assert replace(epoch, val_accuracy=0.1, val_loss=0.39).merit("loss") > epoch.merit("loss")
    assert replace(epoch, val_accuracy=0.91).merit("loss") > epoch.merit("loss")
    assert replace(epoch, val_accuracy=0.99, val_loss=0.41).merit("loss") < epoch.merit("loss")


def test_validation_numbers_are_means_over_images() -> None:
    logits = torch.tensor([[2.0, 0.0], [0.0, 1.0], [3.0, 0.0]])
    labels = torch.tensor([0, 1, 1])
    loss, accuracy = loss_and_accuracy(logits, labels)
    by_hand = (np.log(1 + np.exp(-2)) + np.log(1 + np.exp(-1)) + np.log(1 + np.exp(3))) / 3
    assert loss == pytest.approx(by_hand)
    assert accuracy == pytest.approx(2 / 3)
    assert loss == pytest.approx(cross_entropy(logits, labels).item())


def test_a_gpu_whose_memory_did_not_suffice_for_an_algorithm_ends_the_training(monkeypatch: pytest.MonkeyPatch) -> None:
    """What the allocator counts stands here in place of a GPU's."""
    counted = {"num_alloc_retries": 3, "num_ooms": 0}
    monkeypatch.setattr(torch.cuda, "memory_stats_as_nested_dict", lambda device: counted)
    check_memory_sufficed(torch.device("cuda"))
    counted["num_ooms"] = 1
    check_memory_sufficed(torch.device("cpu"))
    with pytest.raises(InputError, match="memory of the GPU did not suffice for an algorithm of cuDNN's"):
        check_memory_sufficed(torch.device("cuda"))
