import copy
import sys

import pytest
import torch
from torch import nn

from imgpipe.common.errors import InputError
from imgpipe.model.names import model_names, our_names, timm_names, timm_problem
from imgpipe.model.networks import MODELS, MeanPool, build_model, head_of, last_layer_of, unchecked_network


def test_torch_and_torchvision_are_a_pair() -> None:
    """Where they are not, torchvision's own operators are missing: "operator torchvision::nms does not exist"."""
    import torchvision

    boxes = torch.tensor([[0.0, 0.0, 10.0, 10.0], [1.0, 1.0, 10.0, 10.0], [20.0, 20.0, 30.0, 30.0]])
    kept = torchvision.ops.nms(boxes, torch.tensor([0.9, 0.8, 0.7]), iou_threshold=0.5)
    assert kept.tolist() == [0, 2]


def test_names_read_from_torchvision_s_source_are_those_it_registers() -> None:
    from torchvision import models

    assert sorted(set(model_names()) - set(MODELS)) == sorted(models.list_models(module=models))


def test_names_read_from_our_own_source_are_those_of_the_table() -> None:
    assert our_names() == list(MODELS)


@pytest.mark.parametrize("name", ["simple_cnn", "resnet9", "resnet9_narrow"])
@pytest.mark.parametrize(("channels", "size"), [(1, 8), (1, 16), (3, 32), (3, 33), (5, 47)])
def test_our_own_models_take_any_size_and_channels(name: str, channels: int, size: int) -> None:
    network = build_model(name, channels=channels, classes=7, size=size, dropout=0.0).train()
    assert network(torch.zeros(2, channels, size, size)).shape == (2, 7)


def test_simple_cnn_is_the_published_one() -> None:
    """conv 1-32, conv 32-64, linear 64 x 7 x 7-128, linear 128-10 at 28 pixels: parameters counted by hand."""
    network = build_model("simple_cnn", channels=1, classes=10, size=28, dropout=0.0)
    by_hand = (9 * 32 + 32) + (9 * 32 * 64 + 64) + (64 * 7 * 7 * 128 + 128) + (128 * 10 + 10)
    assert sum(p.numel() for p in network.parameters()) == by_hand


def test_simple_cnn_gives_what_it_gives_with_relu_before_pooling() -> None:
    network = build_model("simple_cnn", channels=1, classes=10, size=28, dropout=0.0)
    layers = list(network.children())
    published = nn.Sequential(*(layers[i] for i in (0, 2, 1, 3, 5, 4, 6, 7, 8, 9)))
    assert [type(layer) for layer in list(published)[:3]] == [nn.Conv2d, nn.ReLU, nn.MaxPool2d]
    images = torch.randn(4, 1, 28, 28, generator=torch.Generator().manual_seed(0))
    outputs, gradients = [], []
    for net in (network, published):  # of the same layers
        outputs.append(net(images))
        net.zero_grad()
        outputs[-1].square().sum().backward()
        gradients.append([p.grad.clone() for p in network.parameters() if p.grad is not None])
    assert torch.equal(*outputs)
    assert len(gradients[0]) == 8
    assert all(map(torch.equal, *gradients))


def test_resnet9_is_the_published_one() -> None:
    """Convolutions without bias, BatchNorm's weight and bias, a linear layer without bias: parameters by hand."""
    network = build_model("resnet9", channels=3, classes=10, size=32, dropout=0.0)
    convolutions = 9 * (3 * 64 + 64 * 128 + 2 * 128 * 128 + 128 * 256 + 256 * 512 + 2 * 512 * 512)
    norms = 2 * (64 + 3 * 128 + 256 + 3 * 512)
    assert sum(p.numel() for p in network.parameters()) == convolutions + norms + 512 * 10
    sides: dict[str, int] = {}
    for path, layer in network.named_children():
        layer.register_forward_hook(lambda _, __, out, path=path: sides.update({path: out.shape[-1]}))
    network(torch.zeros(1, 3, 32, 32))
    assert list(sides.items()) == [
        ("prep", 32), ("layer1", 16), ("layer2", 8), ("layer3", 4), ("pool", 1), ("flatten", 512), ("linear", 10),
        ("scale", 10),
    ]  # fmt: skip


def test_the_narrow_resnet9_has_three_eighths_of_the_features_and_pools_before_batchnorm() -> None:
    network = build_model("resnet9_narrow", channels=3, classes=10, size=32, dropout=0.0)
    convolutions = 9 * (3 * 24 + 24 * 48 + 2 * 48 * 48 + 48 * 96 + 96 * 192 + 2 * 192 * 192)
    norms = 2 * (24 + 3 * 48 + 96 + 3 * 192)
    assert sum(p.numel() for p in network.parameters()) == convolutions + norms + 192 * 10
    sides: list[int] = []
    for layer in network.modules():
        if isinstance(layer, nn.BatchNorm2d):
            layer.register_forward_pre_hook(lambda _, given: sides.append(given[0].shape[-1]))
    network(torch.zeros(1, 3, 32, 32))
    assert sides == [32, 16, 16, 16, 8, 4, 4, 4]


def test_resnet9_adds_what_its_residual_layers_were_given_and_scales_by_an_eighth() -> None:
    network = build_model("resnet9", channels=3, classes=10, size=32, dropout=0.0)
    residual = network.get_submodule("layer3.1")
    nn.init.zeros_(network.get_parameter("layer3.1.layers.1.0.weight"))
    features = torch.randn(2, 512, 4, 4)
    assert torch.equal(residual(features), features)
    assert torch.equal(network.get_submodule("scale")(features), features / 8)


def test_vgg_funnel_is_vgg16_but_for_its_last_layer() -> None:
    with torch.device("meta"):  # shapes without numbers
        network = unchecked_network("vgg_funnel", channels=3, classes=3, size=224, dropout=0.0)
        vgg = unchecked_network("vgg16", channels=3, classes=1000, size=224, dropout=0.0)
    shapes, of_vgg = ({name: p.shape for name, p in net.named_parameters()} for net in (network, vgg))
    backbone = {name for name in of_vgg if not name.startswith("classifier.6.")}
    assert {name: shapes[name] for name in backbone} == {name: of_vgg[name] for name in backbone}
    assert len(shapes) == len(backbone) + 4
    assert str(network.get_submodule(head_of(network))).split("\n")[1:-1] == [
        "  (0): Linear(in_features=4096, out_features=512, bias=True)",
        "  (1): ReLU()",
        "  (2): Dropout(p=0.6, inplace=False)",
        "  (3): Linear(in_features=512, out_features=3, bias=True)",
    ]


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
    head = network.get_submodule(head_of(network))
    assert head[1].weight.shape[0] == 5  # type: ignore[index]  # after the dropout


def test_no_family_of_torchvision_is_left_out() -> None:
    left = [name for name in model_names() if not any(name[:3] == family[:3] for family in FAMILIES)]
    assert left == ["simple_cnn"]


def test_without_timm_its_models_are_refused_with_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "timm", None)  # as if it were not installed
    with pytest.raises(InputError) as refusal:
        build_model("timm/resnet18", channels=3, classes=5, size=32, dropout=0.0)
    assert str(refusal.value) == (
        "params.yaml: model.name is 'timm/resnet18', a model of the package timm, which is not installed here: "
        "pip install 'imgpipe[finetune]'"
    )


def test_timm_s_models_of_two_heads_are_refused() -> None:
    pytest.importorskip("timm")
    with pytest.raises(
        InputError, match=r"^params.yaml: model.name is 'timm/deit_tiny_distilled_patch16_224', which has"
    ):
        build_model("timm/deit_tiny_distilled_patch16_224", channels=3, classes=5, size=224, dropout=0.0)


def test_names_read_from_timm_s_source_are_those_it_registers() -> None:
    timm = pytest.importorskip("timm")
    assert set(timm.list_models()) <= set(timm_names())
    assert timm_problem("timm/resnet18") is None
    problem = timm_problem("timm/resnet81")
    assert problem is not None
    assert problem.startswith("which is none of timm's ")
    assert problem.endswith(" models; did you mean timm/resnet18?")


@pytest.mark.parametrize("name", ["resnet18", "vit_tiny_patch16_224", "convnext_atto", "regnety_002"])
def test_timm_s_models_take_any_channels_and_have_their_head_fitted(name: str) -> None:
    pytest.importorskip("timm")
    network = build_model(f"timm/{name}", channels=1, classes=5, size=64, dropout=0.2)
    assert network(torch.zeros(2, 1, 64, 64)).shape == (2, 5)
    assert network.get_submodule(head_of(network))[1].weight.shape[0] == 5  # type: ignore[index]


@pytest.mark.parametrize("name", ["resnet18", "squeezenet1_1", "vit_b_16", "simple_cnn", "resnet9"])
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


def test_grey_images_for_a_network_that_takes_colour_are_refused() -> None:
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


@pytest.mark.parametrize(
    ("name", "dropout", "precision"),
    [
        ("simple_cnn", 0.0, torch.bfloat16),
        ("simple_cnn", 0.2, torch.float16),
        ("resnet9", 0.0, torch.bfloat16),
        ("resnet18", 0.2, torch.bfloat16),
        ("squeezenet1_1", 0.2, torch.bfloat16),
        ("vit_b_16", 0.0, torch.bfloat16),
        ("vgg_funnel", 0.0, torch.bfloat16),
        ("timm/resnet18", 0.0, torch.float16),
        ("timm/convnext_atto", 0.2, torch.bfloat16),
    ],
)
def test_in_mixed_precision_the_last_layer_alone_computes_in_fp32(
    name: str, dropout: float, precision: torch.dtype
) -> None:
    """From the features, which stay rounded, it makes what plain torch makes of them in fp32."""
    if name.startswith("timm/"):
        pytest.importorskip("timm")
    torch.manual_seed(0)
    network = build_model(name, channels=3, classes=5, size=32, dropout=dropout)
    others, last = [], last_layer_of(network)
    seen: list[tuple[torch.Tensor, torch.Tensor]] = []
    last.register_forward_hook(lambda _, given, made: seen.append((given[0], made.clone())))  # SqueezeNet changes it
    for layer in network.modules():
        if isinstance(layer, nn.Linear | nn.Conv2d) and layer is not last:
            layer.register_forward_hook(lambda _, __, made: others.append(made.dtype))
    with torch.no_grad(), torch.autocast("cpu", dtype=precision):
        logits = network(torch.randn(2, 3, 32, 32))
    assert logits.dtype == torch.float32
    assert set(others) == {precision}
    ((features, made),) = seen
    plain = nn.functional.linear if isinstance(last, nn.Linear) else nn.functional.conv2d
    assert torch.equal(made, plain(features.float(), last.weight, last.bias))  # type: ignore[arg-type]


def test_logits_that_bf16_would_round_to_a_tie_are_apart() -> None:
    """Near 3 bf16 numbers are 1/64 apart; 3.001 and 3.002 are not."""
    network = build_model("simple_cnn", channels=1, classes=2, size=8, dropout=0.0)
    last = last_layer_of(network)
    with torch.no_grad():
        last.get_parameter("weight").zero_()
        last.get_parameter("bias").copy_(torch.tensor([3.001, 3.002]))
        with torch.autocast("cpu", dtype=torch.bfloat16):
            logits = network(torch.zeros(1, 1, 8, 8))
    assert logits.tolist() == [pytest.approx([3.001, 3.002])]
    assert logits.bfloat16()[0, 0] == logits.bfloat16()[0, 1]


def test_a_copy_of_a_network_computes_with_its_own_last_layer() -> None:
    network = build_model("simple_cnn", channels=1, classes=2, size=8, dropout=0.0)
    twin = copy.deepcopy(network)
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.zero_()
        assert network(torch.ones(1, 1, 8, 8)).abs().max() == 0
        assert twin(torch.ones(1, 1, 8, 8)).abs().max() > 0
