import pytest
import torch
from torch import nn

from imgpipe.errors import InputError
from imgpipe.models import build_model, model_names
from imgpipe.pooling import MeanPool


def test_torch_and_torchvision_are_a_pair() -> None:
    """Where they are not, torchvision's own operators are missing: "operator torchvision::nms does not exist"."""
    import torchvision

    boxes = torch.tensor([[0.0, 0.0, 10.0, 10.0], [1.0, 1.0, 10.0, 10.0], [20.0, 20.0, 30.0, 30.0]])
    kept = torchvision.ops.nms(boxes, torch.tensor([0.9, 0.8, 0.7]), iou_threshold=0.5)
    assert kept.tolist() == [0, 2]


def test_names_read_from_torchvision_s_source_are_those_it_registers() -> None:
    from torchvision import models

    assert sorted(set(model_names()) - {"simple_cnn"}) == sorted(models.list_models(module=models))


@pytest.mark.parametrize(("channels", "size"), [(1, 8), (3, 32), (3, 33)])
def test_simple_cnn_takes_any_size_and_channels(channels: int, size: int) -> None:
    network = build_model("simple_cnn", channels=channels, classes=7, size=size, dropout=0.0)
    assert network(torch.zeros(2, channels, size, size)).shape == (2, 7)


def test_simple_cnn_is_the_published_one() -> None:
    """conv 1-32, conv 32-64, linear 64 x 7 x 7-128, linear 128-10 at 28 pixels: parameters counted by hand."""
    network = build_model("simple_cnn", channels=1, classes=10, size=28, dropout=0.0)
    by_hand = (9 * 32 + 32) + (9 * 32 * 64 + 64) + (64 * 7 * 7 * 128 + 128) + (128 * 10 + 10)
    assert sum(p.numel() for p in network.parameters()) == by_hand


FAMILIES = (
    "alexnet", "convnext_tiny", "densenet121", "efficientnet_b0", "efficientnet_v2_s", "googlenet",
    "inception_v3", "maxvit_t", "mnasnet0_5", "mobilenet_v2", "mobilenet_v3_small", "regnet_y_400mf",
    "resnet18", "resnext50_32x4d", "shufflenet_v2_x0_5", "squeezenet1_0", "swin_t", "swin_v2_t", "vgg11",
    "vgg11_bn", "vit_b_16", "wide_resnet50_2",
)  # fmt: skip


@pytest.mark.parametrize("name", FAMILIES)
def test_each_family_of_torchvision_has_its_head_fitted(name: str) -> None:
    size = 299 if name == "inception_v3" else 224
    network = build_model(name, channels=3, classes=5, size=size, dropout=0.3)
    with torch.no_grad():
        assert network(torch.zeros(1, 3, size, size)).shape == (1, 5)


def test_no_family_of_torchvision_is_left_out() -> None:
    left = [name for name in model_names() if not any(name[:3] == family[:3] for family in FAMILIES)]
    assert left == ["simple_cnn"]


@pytest.mark.parametrize("name", ["resnet18", "squeezenet1_1", "vit_b_16", "simple_cnn"])
def test_dropout_stands_before_the_last_layer(name: str) -> None:
    plain = build_model(name, channels=3, classes=5, size=64, dropout=0.0)
    network = build_model(name, channels=3, classes=5, size=64, dropout=0.25)
    added = sum(isinstance(m, nn.Dropout) for m in network.modules()) - sum(
        isinstance(m, nn.Dropout) for m in plain.modules()
    )
    assert added == 1
    layers = [m for m in network.modules() if isinstance(m, nn.Dropout | nn.Linear | nn.Conv2d)]
    assert isinstance(layers[-2], nn.Dropout)
    assert layers[-2].p == 0.25


def test_grey_pictures_for_a_network_that_takes_colour_are_refused() -> None:
    with pytest.raises(
        InputError, match=r"^params.yaml: model.name is 'resnet18', which does not take 1 channels of 32"
    ):
        build_model("resnet18", channels=1, classes=5, size=32, dropout=0.0)


def test_a_size_that_a_transformer_s_patches_do_not_divide_is_refused() -> None:
    with pytest.raises(
        InputError, match=r"^params.yaml: model.name is 'vit_b_16', which does not take 3 channels of 40"
    ):
        build_model("vit_b_16", channels=3, classes=5, size=40, dropout=0.0)


@pytest.mark.parametrize("side", [7, 6, 4, 2])
@pytest.mark.parametrize("shape", [(7, 7), (9, 5), (1, 1), (14, 8)])
def test_mean_pooling_is_torch_s_adaptive_average(side: int, shape: tuple[int, int]) -> None:
    features = torch.randn(2, 3, *shape, dtype=torch.float64)
    torch.testing.assert_close(MeanPool(side)(features), nn.AdaptiveAvgPool2d(side)(features))


@pytest.mark.parametrize("name", ["alexnet", "vgg11"])
def test_no_network_has_a_pooling_without_a_deterministic_backward_pass(name: str) -> None:
    network = build_model(name, channels=3, classes=5, size=64, dropout=0.0)
    pools = [layer for layer in network.modules() if isinstance(layer, nn.AdaptiveAvgPool2d | MeanPool)]
    assert [type(pool) for pool in pools] == [MeanPool]
