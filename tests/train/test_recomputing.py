"""Gradient checkpointing changes what is kept, and no bit of what is computed."""

import copy
import shutil
from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from imgpipe.common.errors import InputError
from imgpipe.model.networks import Head, build_model
from imgpipe.train.compiling import compile_network
from imgpipe.train.recomputing import recompute_in_backward
from imgpipe.train.start import freeze


def small_densenet() -> nn.Module:
    from torchvision.models import DenseNet

    network: nn.Module = DenseNet(growth_rate=8, block_config=(2, 3), num_init_features=8, num_classes=5, drop_rate=0.2)
    return network


def small_vgg() -> nn.Module:
    from torchvision.models.vgg import VGG, make_layers

    network: nn.Module = VGG(make_layers([8, 8, "M", 16, 16, "M"], batch_norm=True))
    network.avgpool = nn.AdaptiveAvgPool2d(2)
    network.set_submodule("classifier.0", nn.Linear(64, 4096))  # with ReLU in place and dropout after it
    return network


NETWORKS: dict[str, Callable[[], nn.Module]] = {
    "blocks in rows, and dropout": lambda: build_model("resnet18", channels=3, classes=5, size=32, dropout=0.5),
    "blocks among plain layers": small_densenet,
    "plain layers in a row": small_vgg,
    "rows in rows": lambda: build_model("resnet9_narrow", channels=3, classes=5, size=32, dropout=0.0),
}


def built(name: str) -> tuple[nn.Module, Tensor]:
    """A network in training, with weights of its own, and images for it."""
    torch.manual_seed(0)
    return NETWORKS[name]().train(), torch.randn(4, 3, 32, 32)


def update(network: nn.Module, images: Tensor, precision: torch.dtype = torch.float32) -> tuple[list[Tensor], int]:
    """Loss, gradients, statistics and the random numbers left after a forward and backward pass; bytes kept for it."""
    kept: dict[int, int] = {}

    def keep(tensor: Tensor) -> Tensor:
        storage = tensor.untyped_storage()
        kept[storage.data_ptr()] = storage.nbytes()
        return tensor

    torch.manual_seed(1)
    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        with torch.autocast("cpu", dtype=precision, enabled=precision != torch.float32):
            logits = network(images)
        loss = cross_entropy(logits.float(), torch.arange(4))
    weights = {parameter.untyped_storage().data_ptr() for parameter in network.parameters()}
    loss.backward()
    gradients = [p.grad for p in network.parameters() if p.grad is not None]
    left = torch.rand(1)
    return [loss.detach(), *gradients, *network.buffers(), left], sum(b for at, b in kept.items() if at not in weights)


def same(some: list[Tensor], others: list[Tensor]) -> bool:
    return all(torch.equal(one, other) for one, other in zip(some, others, strict=True))


@pytest.mark.parametrize("name", NETWORKS)
def test_no_bit_changes_and_less_is_kept(name: str) -> None:
    network, images = built(name)
    before = [buffer.clone() for buffer in network.buffers()]
    names = list(network.state_dict())
    saving = copy.deepcopy(network)
    recompute_in_backward(saving)
    expected, bytes_kept = update(network, images)
    got, fewer = update(saving, images)
    assert same(got, expected)
    assert not before or not same(list(network.buffers()), before)
    assert list(saving.state_dict()) == names
    assert fewer < 0.75 * bytes_kept


@pytest.mark.parametrize("name", ["blocks in rows, and dropout", "rows in rows"])
def test_the_same_holds_in_bf16_with_a_last_layer_in_fp32(name: str) -> None:
    """In the second network that layer is within a row, and computed again."""
    network, images = built(name)
    saving = copy.deepcopy(network)
    recompute_in_backward(saving)
    assert same(update(saving, images, torch.bfloat16)[0], update(network, images, torch.bfloat16)[0])


@pytest.mark.parametrize("frozen", ["batchnorm", "backbone"])
def test_the_same_holds_for_a_frozen_network(frozen: str) -> None:
    network, images = built("blocks in rows, and dropout")
    saving = copy.deepcopy(network)
    recompute_in_backward(saving)
    for each in (network, saving):
        freeze(each, frozen)
    assert same(update(saving, images)[0], update(network, images)[0])


@pytest.mark.skipif(shutil.which("g++") is None, reason="torch.compile needs a C++ compiler here")
def test_compiled_it_computes_the_same_to_rounding_and_moves_the_statistics_once() -> None:
    torch.manual_seed(0)
    network = nn.Sequential(nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.ReLU()), nn.Flatten())
    saving = copy.deepcopy(network)
    recompute_in_backward(saving)
    compile_network(saving)
    images = torch.randn(4, 3, 8, 8)
    expected = update(network, images)[0]
    got = update(saving, images)[0]
    for one, other in zip(got, expected, strict=True):
        torch.testing.assert_close(one, other)


def test_a_network_without_rows_is_refused() -> None:
    from torchvision.models.inception import InceptionA

    with pytest.raises(
        InputError, match=r"^params.yaml: train.gradient_checkpointing is true, and the model has no la"
    ):
        recompute_in_backward(nn.ModuleDict({"mixed": InceptionA(8, 8), "head": Head(nn.Dropout(), nn.Linear(8, 2))}))


def test_a_copy_computes_with_its_own_weights() -> None:
    network, images = built("rows in rows")
    recompute_in_backward(network)
    twin = copy.deepcopy(network)
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.zero_()
        assert network.eval()(images).abs().max() == 0
        assert twin.eval()(images).abs().max() > 0


def test_what_was_changed_in_place_after_a_piece_was_given_it_is_noticed() -> None:
    class Careless(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.row = nn.Sequential(nn.Linear(3, 3), nn.ReLU(), nn.Linear(3, 3))

        def forward(self, features: Tensor) -> Tensor:
            features = features * 2
            result: Tensor = self.row(features)
            features.add_(1)
            return result

    network = Careless()
    recompute_in_backward(network)
    with pytest.raises(RuntimeError, match="modified by an inplace operation"):
        network(torch.ones(1, 3)).sum().backward()


def test_a_layer_that_starts_in_place_is_not_given_twice_what_it_changed() -> None:
    """Hardswish twice is not Hardswish."""
    torch.manual_seed(0)
    network = nn.Sequential(nn.Linear(3, 3), nn.MaxPool2d(1), nn.Hardswish(inplace=True), nn.Linear(3, 3), nn.ReLU())
    saving = copy.deepcopy(network)
    recompute_in_backward(saving)
    for each in (network, saving):
        each(torch.linspace(-2, 2, 9).view(1, 3, 3)).sum().backward()
    gradients = [[p.grad for p in each.parameters() if p.grad is not None] for each in (network, saving)]
    assert same(*gradients)
