"""The moving average by hand, against torch's own, and what it is worth after a short training."""

import io
from dataclasses import replace

import numpy as np
import pytest
import torch
from samples import described, form
from sklearn.datasets import load_digits
from torch import nn
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn
from trainings import ALONE, AUGMENT, MODEL, RECIPE, run, split_of

from imgpipe.data.packed import Statistics
from imgpipe.model.classifier import new_classifier
from imgpipe.model.predict import predict_split
from imgpipe.train.loop import fit, loss_and_accuracy
from imgpipe.train.micro_batches import Splits
from imgpipe.train.start import new_state
from imgpipe.train.state import MovingAverage


def network() -> nn.Sequential:
    torch.manual_seed(0)
    layers = nn.Sequential(nn.Conv2d(3, 4, 3, padding=1), nn.BatchNorm2d(4), nn.Flatten(), nn.Linear(4 * 4 * 4, 2))
    layers.to(memory_format=torch.channels_last)
    return layers


def train(model: nn.Module, average: MovingAverage, steps: range) -> None:
    model.train()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    for step in steps:
        torch.manual_seed(step)
        optimizer.zero_grad()
        model(torch.randn(8, 3, 4, 4)).square().mean().backward()
        optimizer.step()
        average.update(model)


def averages(start: float, weights: list[float], *, decay: float, updates: int = 0) -> list[float]:
    """The average of a single weight after each update, where so many were made before."""
    model = nn.Linear(1, 1, bias=False)
    nn.init.constant_(model.weight, start)
    average = MovingAverage(model, decay=decay)
    average.updates = updates
    found = []
    for weight in weights:
        nn.init.constant_(model.weight, weight)
        average.update(model)
        assert model.weight.item() == weight
        found.append(average.module.get_parameter("weight").item())
    return found


def test_each_update_keeps_a_share_of_the_average() -> None:
    """From 8, with the weights 4 and then 0, at decay 0.75: 0.75 * 8 + 0.25 * 4 = 7, then 0.75 * 7 = 5.25."""
    assert averages(8, [4, 0], decay=0.75, updates=100) == [7, 5.25]


def test_the_first_updates_keep_less() -> None:
    """1/10, 2/11, then 3/12: from 8, with the weights 4, 4 and 0, 0.8 + 3.6, 0.8 + 36/11, and a quarter of that."""
    assert averages(8, [4, 4, 0], decay=0.999) == pytest.approx([4.4, 44.8 / 11, 11.2 / 11])


def test_no_update_keeps_more_than_the_decay() -> None:
    """(1 + t) / (10 + t) is 26/35 for the update after 25 and reaches 0.75 = 27/36 with the next."""
    kept = [26 / 35, 0.75 * 26 / 35, 0.75**2 * 26 / 35]
    assert averages(1, [0, 0, 0], decay=0.75, updates=25) == pytest.approx(kept)


def test_after_a_short_training_the_average_is_as_good_as_the_weights() -> None:
    """176 steps on scikit-learn's digits; 0.999 in each would leave the first weights 84 % of the average."""
    digits = load_digits()
    pixels, classes = (digits.images * 15).astype(np.uint8), [str(digit) for digit in range(10)]
    train, val = (split_of(pixels[part], digits.target[part]) for part in (slice(1408), slice(1408, None)))
    splits = Splits(train, val, Statistics(classes, form(), mean=[0.3], std=[0.35]), None)
    augment = replace(AUGMENT, horizontal_flip=0.0)
    recipe = replace(RECIPE, epochs=16, batch_size=128, ema_decay=0.999, augment=augment)
    torch.manual_seed(0)
    state = new_state(new_classifier(described(classes=classes), [0.3], [0.35]), recipe)
    *_, last = fit(state, splits, MODEL, recipe, run())
    logits = predict_split(state.classifier, val, ALONE, batch_size=128, threads=1, says="")
    _, of_the_weights = loss_and_accuracy(logits, torch.from_numpy(val.labels))
    assert of_the_weights > 0.9
    assert last.val_accuracy > of_the_weights - 0.01


def test_it_is_torchs_exponential_moving_average_of_weights_and_statistics() -> None:
    model = network()
    ours = MovingAverage(model, decay=0.9)
    ours.updates = 100  # from 80 on an update keeps 0.9
    theirs = AveragedModel(model, multi_avg_fn=get_ema_multi_avg_fn(0.9))
    theirs.update_parameters(model)  # the first is a copy: it starts where ours does
    weights, statistics = dict(model.named_parameters()), model.get_buffer("1.running_var")
    expected = statistics.clone()
    for step in range(5):
        train(model, ours, range(step, step + 1))
        theirs.update_parameters(model)
        expected = 0.9 * expected + 0.1 * statistics
    for name, value in theirs.module.named_parameters():
        torch.testing.assert_close(ours.module.get_parameter(name), value)
        assert not torch.equal(value, weights[name])
    torch.testing.assert_close(ours.module.get_buffer("1.running_var"), expected)
    assert ours.module.get_buffer("1.num_batches_tracked").item() == 5


def test_the_average_is_a_module_like_the_other_ready_for_evaluation() -> None:
    model = network()
    average = MovingAverage(model, decay=0.9)
    train(model, average, range(1))
    assert not average.module.training
    assert not any(parameter.requires_grad for parameter in average.module.parameters())
    assert model.training
    assert all(parameter.requires_grad for parameter in model.parameters())
    for a, b in zip(average.module.parameters(), model.parameters(), strict=True):
        assert a.stride() == b.stride()


def test_saved_and_restored_it_goes_on_in_the_same_bits() -> None:
    through, stopped = network(), network()
    whole, part = MovingAverage(through, decay=0.9), MovingAverage(stopped, decay=0.9)
    train(through, whole, range(6))
    train(stopped, part, range(3))
    file = io.BytesIO()
    torch.save(part.module.state_dict(), file)
    file.seek(0)
    restored = MovingAverage(network(), decay=0.9)
    restored.module.load_state_dict(torch.load(file))
    restored.updates = part.updates
    train(stopped, restored, range(3, 6))
    for name, value in whole.module.state_dict().items():
        assert torch.equal(value, restored.module.state_dict()[name]), name
