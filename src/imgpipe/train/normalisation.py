"""The mean and standard deviation by which images are normalised, by name.

To add one, write a function and a line below. Each function takes those of the training split, for each channel on
the scale 0-1, and returns those to use.
"""

from collections.abc import Callable

from imgpipe.common.errors import InputError

MeanAndStd = tuple[list[float], list[float]]


def training(mean: list[float], std: list[float]) -> MeanAndStd:
    """Take those of the training split. A channel that never changes becomes 0, not 0 / 0."""
    return mean, [deviation or 1.0 for deviation in std]


def imagenet(mean: list[float], std: list[float]) -> MeanAndStd:
    """Take those of ImageNet, by which nearly all of torchvision's weights were trained (its transforms' defaults)."""
    if len(mean) != 3:
        raise InputError(
            f"params.yaml: model.normalise is 'imagenet', which is of 3 channels, and these images have {len(mean)}; "
            "set pack.channels to 3, or use training or half"
        )
    return [0.485, 0.456, 0.406], [0.229, 0.224, 0.225]


def half(mean: list[float], std: list[float]) -> MeanAndStd:
    """Take 0.5 and 0.5: what was 0 to 1 becomes -1 to 1."""
    return [0.5] * len(mean), [0.5] * len(std)


NORMALISATIONS: dict[str, Callable[[list[float], list[float]], MeanAndStd]] = {
    "training": training,
    "imagenet": imagenet,
    "half": half,
}
