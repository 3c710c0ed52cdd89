"""Which parameters an optimizer treats alike."""

from typing import Any

import pytest
import torch
from torch import nn

from imgpipe.train.optim import parameter_groups


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


@pytest.mark.parametrize(("name", "head"), [("convnext_tiny", "classifier.2"), ("vit_b_16", "heads.head")])
def test_of_torchvisions_networks_nothing_of_one_dimension_decays(name: str, head: str) -> None:
    """In these two that is all norms, LayerNorm2d among them, and all biases."""
    from torchvision.models import get_model

    with torch.device("meta"):
        network = get_model(name)
    groups = parameter_groups(network, head=head, backbone_lr_factor=1.0, decay_norms_and_biases=False)
    for group in groups:
        vectors = {parameter.dim() == 1 for parameter in group["params"]}
        assert vectors == {group.get("weight_decay") == 0}
