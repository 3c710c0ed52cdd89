import pytest
import torch
from samples import described
from torch import nn

from imgpipe.common.errors import InputError
from imgpipe.model.classifier import Classifier
from imgpipe.train.normalisation import NORMALISATIONS


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("training", [[(0.2 - 0.1) / 0.5, (0.4 - 0.2) / 0.25, (0.6 - 0.3) / 0.5]]),
        ("imagenet", [[(0.2 - 0.485) / 0.229, (0.4 - 0.456) / 0.224, (0.6 - 0.406) / 0.225]]),
        ("half", [[-0.6, -0.2, 0.2]]),
    ],
)
def test_what_the_network_gets_of_a_pixel(name: str, expected: list[list[float]]) -> None:
    statistics = NORMALISATIONS[name]([0.1, 0.2, 0.3], [0.5, 0.25, 0.5])
    pixel = torch.tensor([[[[51, 102, 153]]]], dtype=torch.uint8)
    got = Classifier(nn.Flatten(), *statistics, described())(pixel)
    torch.testing.assert_close(got, torch.tensor(expected))


def test_a_channel_that_never_changes_becomes_zero() -> None:
    statistics = NORMALISATIONS["training"]([0.2, 0.4], [0.0, 0.5])
    got = Classifier(nn.Flatten(), *statistics, described())(torch.tensor([[[[51, 153]]]], dtype=torch.uint8))
    torch.testing.assert_close(got, torch.tensor([[0.0, (0.6 - 0.4) / 0.5]]))


def test_half_is_for_any_number_of_channels() -> None:
    assert NORMALISATIONS["half"]([0.1], [0.2]) == ([0.5], [0.5])


def test_imagenet_s_is_refused_for_grey_images() -> None:
    with pytest.raises(InputError, match=r"^params.yaml: model.normalise is 'imagenet', which is of 3 channels, and "):
        NORMALISATIONS["imagenet"]([0.1], [0.2])


def test_imagenet_s_are_those_of_torchvision_s_transforms() -> None:
    from torchvision.models import ResNet18_Weights

    transforms = ResNet18_Weights.IMAGENET1K_V1.transforms()
    assert NORMALISATIONS["imagenet"]([0.0] * 3, [1.0] * 3) == (transforms.mean, transforms.std)
