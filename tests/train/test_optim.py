"""Optimizers against their formulas, and which parameters they treat alike."""

import math
from dataclasses import replace
from functools import partial
from typing import Any

import pytest
import torch
from torch import nn
from torch.utils._python_dispatch import TorchDispatchMode
from trainings import RECIPE, trained

from imgpipe.model.networks import head_of
from imgpipe.train.optim import OPTIMIZERS
from imgpipe.train.start import parameter_groups


def stepped(name: str, gradients: list[float], start: float = 2.0, **values: float | bool) -> float:
    """A single weight after a step for each gradient."""
    weight = torch.nn.Parameter(torch.tensor([start], dtype=torch.float64))
    optimizer = OPTIMIZERS[name]([{"params": [weight]}], **values)
    for gradient in gradients:
        weight.grad = torch.tensor([gradient], dtype=torch.float64)
        optimizer.step()
    return weight.item()


def test_sgd_with_momentum_and_weight_decay() -> None:
    """g = 1 + 0.5 * 2 = 2, w = 2 - 0.1 * 2 = 1.8; then g = 1 + 0.9 = 1.9, v = 0.5 * 2 + 1.9 = 2.9, w = 1.51."""
    values = {"lr": 0.1, "momentum": 0.5, "weight_decay": 0.5}
    assert stepped("sgd", [1.0, 1.0], **values, nesterov=False) == pytest.approx(1.51)


def test_nesterov_looks_ahead() -> None:
    """g = 1, v = 1, w = 2 - 0.1 (1 + 0.5) = 1.85; then v = 1.5, w = 1.85 - 0.1 (1 + 0.75) = 1.675."""
    values = {"lr": 0.1, "momentum": 0.5, "weight_decay": 0.0}
    assert stepped("sgd", [1.0, 1.0], **values, nesterov=True) == pytest.approx(1.675)


def test_nesterov_without_momentum_is_plain_descent() -> None:
    values = {"lr": 0.1, "momentum": 0.0, "weight_decay": 0.0}
    assert stepped("sgd", [1.0, 1.0], **values, nesterov=True) == pytest.approx(1.8)


def test_adamw_decays_the_weight_apart_from_the_gradient() -> None:
    """Algorithm 2 of Loshchilov and Hutter 2019, two steps in plain numbers."""
    lr, beta1, beta2, decay, epsilon = 0.1, 0.8, 0.95, 0.3, 1e-8
    weight, m, v = 2.0, 0.0, 0.0
    for t, g in enumerate([1.0, -3.0], start=1):
        m = beta1 * m + (1 - beta1) * g
        v = beta2 * v + (1 - beta2) * g * g
        update = (m / (1 - beta1**t)) / (math.sqrt(v / (1 - beta2**t)) + epsilon)
        weight = weight - lr * decay * weight - lr * update
    values = {"lr": lr, "beta1": beta1, "beta2": beta2, "weight_decay": decay}
    assert stepped("adamw", [1.0, -3.0], **values) == pytest.approx(weight)


def test_adam_decays_the_weight_with_the_gradient() -> None:
    """Algorithm 1 of Kingma and Ba 2015 on g + decay * w, two steps in plain numbers."""
    lr, beta1, beta2, decay, epsilon = 0.1, 0.8, 0.95, 0.3, 1e-8
    weight, m, v = 2.0, 0.0, 0.0
    for t, g in enumerate([1.0, -3.0], start=1):
        g += decay * weight
        m = beta1 * m + (1 - beta1) * g
        v = beta2 * v + (1 - beta2) * g * g
        weight -= lr * (m / (1 - beta1**t)) / (math.sqrt(v / (1 - beta2**t)) + epsilon)
    values = {"lr": lr, "beta1": beta1, "beta2": beta2, "weight_decay": decay}
    assert stepped("adam", [1.0, -3.0], **values) == pytest.approx(weight)


def test_rmsprop_divides_by_the_mean_square_before_the_momentum() -> None:
    """v = alpha v + (1 - alpha) g^2; b = momentum b + g / sqrt(v); w = w - lr b, with g + decay * w for g."""
    lr, alpha, momentum, decay, epsilon = 0.1, 0.9, 0.5, 0.3, 1e-8
    weight, v, buffer = 2.0, 0.0, 0.0
    for g in [1.0, -3.0]:
        g += decay * weight
        v = alpha * v + (1 - alpha) * g * g
        buffer = momentum * buffer + g / (math.sqrt(v) + epsilon)
        weight -= lr * buffer
    values = {"lr": lr, "alpha": alpha, "momentum": momentum, "weight_decay": decay}
    assert stepped("rmsprop", [1.0, -3.0], **values) == pytest.approx(weight)


def test_rmsprop_takes_a_scaled_gradient_and_leaves_all_as_it_was_where_one_is_infinite() -> None:
    """As without a scaler; the infinite gradient between two finite ones does not show in what is kept, either."""
    weights = []
    for scaled in (False, True):
        weight = nn.Parameter(torch.tensor([2.0, -1.0]))
        optimizer = OPTIMIZERS["rmsprop"]([{"params": [weight]}], **VALUES["rmsprop"])
        scaler = torch.amp.GradScaler("cpu", init_scale=1024.0, enabled=scaled)
        for gradient in ([1.0, 3.0], [1.0, math.inf], [-2.0, 0.5]):
            if scaled or math.inf not in gradient:
                scaler.scale((weight * torch.tensor(gradient)).sum()).backward()
                scaler.step(optimizer)
                scaler.update()
                weight.grad = None
        weights.append(weight.tolist())
    assert weights[0] == weights[1]


VALUES: dict[str, dict[str, float | bool]] = {
    "sgd": {"lr": 0.1, "momentum": 0.9, "weight_decay": 0.2, "nesterov": True},
    "adam": {"lr": 0.1, "beta1": 0.9, "beta2": 0.99, "weight_decay": 0.2},
    "adamw": {"lr": 0.1, "beta1": 0.9, "beta2": 0.99, "weight_decay": 0.2},
    "rmsprop": {"lr": 0.1, "alpha": 0.9, "momentum": 0.5, "weight_decay": 0.2},
}


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_each_group_is_stepped_as_one_alone_with_its_own_rate_and_decay(name: str) -> None:
    """Backbone at a quarter of the rate, no decay of norms and biases, over five steps: four optimizers of torch."""

    def network() -> nn.Module:
        torch.manual_seed(0)
        return nn.Sequential(nn.Linear(3, 4), nn.ReLU(), nn.BatchNorm1d(4), nn.Linear(4, 2))

    ours = network()
    groups = parameter_groups(ours, head="3", backbone_lr_factor=0.25, decay_norms_and_biases=False)
    optimizer = OPTIMIZERS[name](groups, **VALUES[name])
    for group in optimizer.param_groups:
        group["lr"] *= group["lr_factor"]

    theirs = network()
    kind: dict[str, Any] = {
        "sgd": torch.optim.SGD,
        "adam": torch.optim.Adam,
        "adamw": torch.optim.AdamW,
        "rmsprop": torch.optim.RMSprop,
    }
    values: dict[str, Any] = dict(VALUES[name])
    if "beta1" in values:
        values["betas"] = (values.pop("beta1"), values.pop("beta2"))
    lone = [
        kind[name]([parameter], **{**values, "lr": lr, "weight_decay": decay})
        for parameter, lr, decay in zip(
            theirs.parameters(), [0.025] * 4 + [0.1] * 2, [0.2, 0.0, 0.0, 0.0, 0.2, 0.0], strict=True
        )
    ]
    for step in range(5):
        for model in (ours, theirs):
            torch.manual_seed(step)
            model.zero_grad()
            model(torch.randn(8, 3)).square().sum().backward()
        optimizer.step()
        for alone in lone:
            alone.step()
    for a, b in zip(ours.parameters(), theirs.parameters(), strict=True):
        torch.testing.assert_close(a, b, rtol=1e-4, atol=1e-5)


UNPORTABLE = {"acos", "asin", "atan", "pow", "sqrt"}
"""Operators of MKL's vector library that processors round each in their own way; measured on emulated ones."""


class Operators(TorchDispatchMode):
    """Notes which operators run, without what tells forms in place and of several tensors apart."""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.names: set[str] = set()

    def __torch_dispatch__(self, function: Any, types: Any, arguments: Any = (), options: Any = None) -> Any:
        self.names.add(function.__name__.partition(".")[0].removeprefix("_foreach_").rstrip("_"))
        return function(*arguments, **(options or {}))


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_training_takes_no_operator_that_processors_round_each_in_their_own_way(name: str) -> None:
    optimizer = partial(OPTIMIZERS[name], **VALUES[name])
    recipe = replace(RECIPE, optimizer=optimizer, clip_grad_norm=1.0, ema_decay=0.9, label_smoothing=0.1, mixup_alpha=1)
    with Operators() as ran:
        trained(recipe, nn.BatchNorm2d(4), nn.Dropout())
    assert {"convolution_backward", "linalg_vector_norm"} <= ran.names
    assert not ran.names & UNPORTABLE


def names(network: nn.Module, group: dict[str, Any]) -> list[str]:
    by_id = {id(parameter): name for name, parameter in network.named_parameters()}
    return [by_id[id(parameter)] for parameter in group["params"]]


def with_norms() -> nn.Module:
    return nn.ModuleDict(
        {
            "conv": nn.Conv2d(3, 4, 1),
            "batch": nn.BatchNorm2d(4),
            "instance": nn.InstanceNorm2d(4, affine=True),
            "group": nn.GroupNorm(2, 4),
            "layer": nn.LayerNorm([4, 2, 2]),
            "rms": nn.RMSNorm(4),
            "attention": nn.MultiheadAttention(4, 2),
            "classifier": nn.Linear(4, 2),
            "classifier_norm": nn.LayerNorm(4),
        }
    )


def test_with_both_options_off_it_is_one_group_in_the_networks_order() -> None:
    network = with_norms()
    (group,) = parameter_groups(network, head="classifier", backbone_lr_factor=1.0, decay_norms_and_biases=True)
    assert names(network, group) == [name for name, _ in network.named_parameters()]
    assert group["lr_factor"] == 1
    assert "weight_decay" not in group


def test_only_the_weights_of_layers_that_compute_decay() -> None:
    network = with_norms()
    decayed, rest = parameter_groups(network, head="classifier", backbone_lr_factor=1.0, decay_norms_and_biases=False)
    assert "weight_decay" not in decayed
    assert rest["weight_decay"] == 0
    assert names(network, decayed) == [
        "conv.weight", "attention.in_proj_weight", "attention.out_proj.weight", "classifier.weight",
    ]  # fmt: skip
    assert sorted(names(network, decayed) + names(network, rest)) == sorted(n for n, _ in network.named_parameters())


def test_the_head_alone_learns_at_the_full_rate() -> None:
    """A layer whose name only starts like the head's is of the backbone."""
    network = with_norms()
    backbone, head = parameter_groups(network, head="classifier", backbone_lr_factor=0.1, decay_norms_and_biases=True)
    assert (backbone["lr_factor"], head["lr_factor"]) == (0.1, 1)
    assert names(network, head) == ["classifier.weight", "classifier.bias"]
    assert "classifier_norm.weight" in names(network, backbone)


def test_frozen_parameters_are_in_a_group_for_when_they_thaw() -> None:
    network = with_norms().requires_grad_(False)
    groups = parameter_groups(network, head="classifier", backbone_lr_factor=0.1, decay_norms_and_biases=False)
    assert len(groups) == 4
    assert sum(len(group["params"]) for group in groups) == len(list(network.parameters()))


def test_a_head_that_is_not_there_is_our_own_bug() -> None:
    with pytest.raises(AssertionError, match="no parameters at fc"):
        parameter_groups(with_norms(), head="fc", backbone_lr_factor=0.1, decay_norms_and_biases=True)


def decayed_and_not(network: nn.Module) -> list[dict[str, Any]]:
    """The group that decays and the one that does not, where norms and biases are spared."""
    groups = parameter_groups(network, head=head_of(network), backbone_lr_factor=1.0, decay_norms_and_biases=False)
    assert {group.get("weight_decay") for group in groups} == {None, 0.0}
    return sorted(groups, key=lambda group: "weight_decay" in group)


@pytest.mark.parametrize(
    ("name", "spared"),
    [
        ("convnext_tiny", {"layer_scale"}),
        ("vit_b_16", {"class_token", "pos_embedding"}),
        ("swin_t", {"relative_position_bias_table"}),
        ("swin_v2_t", {"logit_scale"}),
        ("maxvit_t", {"relative_position_bias_table"}),
        ("resnet18", set()),
    ],
)
def test_of_torchvisions_networks_weights_of_linear_layers_and_convolutions_alone_decay(
    name: str, spared: set[str]
) -> None:
    """Beside these, vectors do not decay: all norms, ConvNeXt's LayerNorm2d among them, and all biases."""
    from torchvision.models import get_model

    with torch.device("meta"):
        network = get_model(name)
    decayed, rest = decayed_and_not(network)
    layers = (nn.Linear, nn.Conv2d, nn.MultiheadAttention)
    owners = [network.get_submodule(full.rpartition(".")[0]) for full in names(network, decayed)]
    assert all(isinstance(layer, layers) for layer in owners)
    assert {full.rpartition(".")[2] for full in names(network, decayed)} <= {"weight", "in_proj_weight"}
    shapes = dict(network.named_parameters())
    last_names = {full.rpartition(".")[2] for full in names(network, rest) if shapes[full].dim() > 1}
    assert last_names == spared
    assert len(decayed["params"]) + len(rest["params"]) == len(shapes)


def test_of_timms_networks_what_their_authors_spare_does_not_decay() -> None:
    """Swin v2's no_weight_decay() names the linear layers that make biases of positions, which are called weights."""
    timm = pytest.importorskip("timm")
    with torch.device("meta"):
        network = timm.create_model("swinv2_tiny_window8_256")
    decayed, rest = decayed_and_not(network)
    shapes = dict(network.named_parameters())
    matrices = {full.partition(".attn.")[2] for full in names(network, rest) if shapes[full].dim() > 1}
    assert matrices == {"cpb_mlp.0.weight", "cpb_mlp.2.weight", "logit_scale"}
    assert {"attn.qkv.weight", "mlp.fc1.weight"} <= {full.partition("blocks.0.")[2] for full in names(network, decayed)}
