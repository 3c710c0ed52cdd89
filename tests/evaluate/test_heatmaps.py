"""LayerCAM: where in an image something spoke for a class."""

import functools
from collections.abc import Callable

import numpy as np
import pytest
import torch
from conftest import Project
from torch import nn
from torchvision.models import SwinTransformer, VisionTransformer

from imgpipe.common.files import read_table
from imgpipe.evaluate.heatmaps import layer_cam
from imgpipe.model.networks import build_model

VIT = functools.partial(
    VisionTransformer, patch_size=8, num_layers=1, num_heads=2, hidden_dim=16, mlp_dim=16, num_classes=3
)
SWIN = functools.partial(
    SwinTransformer, [4, 4], 8, [1, 1], [2, 2], window_size=[2, 2], num_classes=3, stochastic_depth_prob=0.0
)


def test_a_feature_counts_by_what_the_logit_gains_from_it_and_not_where_the_logit_falls() -> None:
    """Features are relu(x) and relu(3x): 0.5 * 2 at (0, 0), where the other is bad for it; 0.5 + 2 * 3 at (3, 3)."""
    image = torch.zeros(1, 1, 4, 4)
    image[0, 0, 0, 0], image[0, 0, 0, 1], image[0, 0, 3, 3] = 2, -3, 1
    convolution, linear = nn.Conv2d(1, 2, 1, bias=False), nn.Linear(32, 2)
    weights = torch.stack([torch.full((4, 4), 0.5), torch.full((4, 4), 2.0)])
    weights[1, 0, 0] = -1
    with torch.no_grad():
        convolution.weight.copy_(torch.tensor([1.0, 3.0]).view(2, 1, 1, 1))
        linear.weight.copy_(torch.stack([torch.zeros(32), weights.flatten()]))
    for inplace in (False, True):
        network = nn.Sequential(convolution, nn.ReLU(inplace), nn.Flatten(), linear)
        heat = layer_cam(network, image, 1)
        assert heat is not None
        assert heat.nonzero().tolist() == [[0, 0], [3, 3]]
        assert [float(heat[0, 0]), float(heat[3, 3])] == [1, 6.5]
        assert not any(module._forward_hooks for module in network.modules())


@pytest.mark.parametrize(
    ("build", "size", "side"),
    [
        (functools.partial(build_model, "simple_cnn", channels=3, classes=3, size=16, dropout=0.2), 16, 4),
        (functools.partial(build_model, "resnet9", channels=3, classes=3, size=32, dropout=0.0), 32, 4),
        (functools.partial(build_model, "resnet18", channels=3, classes=3, size=64, dropout=0.0), 64, 4),
        (functools.partial(build_model, "squeezenet1_1", channels=3, classes=3, size=64, dropout=0.0), 64, 7),
        (functools.partial(build_model, "mobilenet_v3_small", channels=3, classes=3, size=128, dropout=0.0), 128, 4),
        (SWIN, 32, 4),
        (functools.partial(VIT, image_size=32), 32, None),
        (
            functools.partial(
                nn.Sequential, nn.Conv2d(3, 4, 8, 8), nn.Flatten(2), nn.Linear(16, 2), nn.Flatten(), nn.Linear(8, 3)
            ),
            32,
            None,
        ),
        (functools.partial(nn.Sequential, nn.Flatten(), nn.Linear(3 * 64, 3)), 8, None),
    ],
)
def test_the_last_map_of_places_is_shown_and_networks_without_one_have_none(
    build: Callable[[], nn.Module], size: int, side: int | None
) -> None:
    """Where there are fewer than 4 x 4 places, as in ResNet-18's last map of 64 pixels, an earlier map is taken."""
    torch.manual_seed(0)
    heat = layer_cam(build().eval(), torch.rand(1, 3, size, size), 0)
    if side is None:
        assert heat is None
    else:
        assert heat is not None
        assert heat.shape == (side, side)
        assert heat.min() >= 0


def test_evaluation_makes_heatmaps_of_the_surest_mistakes(finished: Project) -> None:
    folder = finished.folder / "metrics/test"
    wrong = [row for row in read_table(folder / "predictions.csv") if row["actual"] != row["predicted"]]
    surest = sorted(wrong, key=lambda row: (-float(row["confidence"]), row["file"]))[:24]
    maps = np.load(folder / "heatmaps/maps.npy")
    assert [row["file"] for row in read_table(folder / "heatmaps/index.csv")] == [row["file"] for row in surest] != []
    assert (maps.shape, maps.dtype) == ((len(surest), 4, 4), np.uint8)
    assert set(maps.max(axis=(1, 2)).tolist()) <= {0, 255}
