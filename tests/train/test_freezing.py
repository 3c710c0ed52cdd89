"""What is frozen does not move, and all else does."""

from dataclasses import replace

import pytest
import torch
from torch import nn
from torch.nn.functional import cross_entropy
from trainings import MODEL

from imgpipe.common.errors import InputError
from imgpipe.model.networks import build_model, unchecked_network
from imgpipe.train.start import freeze


def moved(network: nn.Module, frozen: str) -> set[str]:
    """The names of weights and statistics that change in an update of an epoch in which this is frozen."""
    before = {name: tensor.clone() for name, tensor in network.state_dict().items()}
    network.train()
    freeze(network, frozen)
    trained = [parameter for parameter in network.parameters() if parameter.requires_grad]
    optimizer = torch.optim.SGD(network.parameters(), lr=0.1)
    optimizer.zero_grad()
    cross_entropy(network(torch.randn(4, 3, 32, 32)), torch.arange(4)).backward()
    assert all((parameter.grad is not None) == parameter.requires_grad for parameter in network.parameters())
    assert trained
    optimizer.step()
    return {name for name, tensor in network.state_dict().items() if not torch.equal(tensor, before[name])}


def small(dropout: float = 0.0) -> nn.Module:
    torch.manual_seed(0)
    return build_model("shufflenet_v2_x0_5", channels=3, classes=4, size=32, dropout=dropout)


def of_batchnorm(network: nn.Module) -> set[str]:
    norms = [path for path, layer in network.named_modules() if isinstance(layer, nn.BatchNorm2d)]
    return {name for name in network.state_dict() if name.rpartition(".")[0] in norms}


def test_each_epoch_is_as_its_own_freezing_says_whatever_was_before() -> None:
    network = small()
    every = set(network.state_dict())
    assert len(of_batchnorm(network)) == 56 * 5
    for frozen, moving in (
        ("none", every),
        ("batchnorm", every - of_batchnorm(network)),
        ("backbone", {"fc.weight", "fc.bias"}),
        ("batchnorm", every - of_batchnorm(network)),
        ("none", every),
    ):
        assert moved(network, frozen) == moving


def test_a_frozen_batchnorm_normalises_by_its_running_statistics() -> None:
    network = small()
    for norm in network.modules():
        if isinstance(norm, nn.BatchNorm2d):
            norm.running_mean = torch.randn(norm.num_features)
    images = torch.randn(2, 3, 32, 32)
    expected = network.eval()(images)
    freeze(network.train(), "batchnorm")
    assert torch.equal(network(images), expected)


def test_the_head_s_dropout_goes_on() -> None:
    network = small(dropout=0.5).train()
    freeze(network, "backbone")
    images = torch.randn(2, 3, 32, 32)
    assert not torch.equal(network(images), network(images))


@pytest.mark.parametrize("name", ["squeezenet1_1", "vit_b_16", "vgg_funnel", "resnet9"])
def test_all_but_the_head_is_the_backbone(name: str) -> None:
    with torch.device("meta"):
        network = unchecked_network(name, channels=3, classes=4, size=64, dropout=0.1)
        freeze(network, "backbone")
    trained = [name for name, parameter in network.named_parameters() if parameter.requires_grad]
    assert (
        trained
        == {
            "squeezenet1_1": ["classifier.1.1.weight", "classifier.1.1.bias"],
            "vit_b_16": ["heads.head.1.weight", "heads.head.1.bias"],
            "vgg_funnel": [f"classifier.6.1.{i}.{kind}" for i in (0, 3) for kind in ("weight", "bias")],
            "resnet9": ["linear.1.weight"],
        }[name]
    )


def test_a_network_without_batchnorm_has_none_to_freeze() -> None:
    network = build_model("simple_cnn", channels=1, classes=2, size=8, dropout=0.0)
    with pytest.raises(
        InputError, match=r"^params.yaml: model.freeze is 'batchnorm', and the model has none; use none"
    ):
        freeze(network, "batchnorm")


def test_from_an_epoch_on_nothing_is_frozen() -> None:
    model = replace(MODEL, freeze="backbone", unfreeze_epoch=3)
    assert [model.frozen_in(epoch) for epoch in (1, 2, 3, 4)] == ["backbone", "backbone", "none", "none"]
    assert replace(MODEL, freeze="batchnorm").frozen_in(99) == "batchnorm"
