"""The moving average by hand, and against torch's own."""

import io

import torch
from torch import nn
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

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


def test_each_update_keeps_a_share_of_the_average() -> None:
    """From 8, with the weights 4 and then 0, at decay 0.75: 0.75 * 8 + 0.25 * 4 = 7, then 0.75 * 7 = 5.25."""
    model = nn.Linear(1, 1, bias=False)
    nn.init.constant_(model.weight, 8)
    average = MovingAverage(model, decay=0.75)
    for weight, expected in ((4, 7), (0, 5.25)):
        nn.init.constant_(model.weight, weight)
        average.update(model)
        assert average.module.get_parameter("weight").item() == expected
        assert model.weight.item() == weight


def test_it_is_torchs_exponential_moving_average_of_weights_and_statistics() -> None:
    model = network()
    ours = MovingAverage(model, decay=0.9)
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
    train(stopped, restored, range(3, 6))
    for name, value in whole.module.state_dict().items():
        assert torch.equal(value, restored.module.state_dict()[name]), name
