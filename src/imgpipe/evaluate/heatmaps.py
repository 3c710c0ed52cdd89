"""Draw what the network looked at where it was wrong: LayerCAM, for networks that end in a map of places.

Source: Jiang et al. 2021, LayerCAM: Exploring Hierarchical Class Activation Maps for Localization, equations 4 to 6.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from imgpipe.common.files import replacing, write_table
from imgpipe.data.packed import Integers, Pixels, Split
from imgpipe.model.classifier import Classifier
from imgpipe.model.crops import evaluation_squares

MOST = 24
"""Mistakes that have a heatmap, the most confident ones; each costs a forward and a backward pass."""
LEAST_SIDE = 4
"""Places along a side of a map that tells where in the image something is."""


def write_heatmaps(
    folder: Path, classifier: Classifier, split: Split, predicted: Integers, confidence: NDArray[np.floating[Any]]
) -> None:
    """Write a heatmap of the predicted class for each of the most confident mistakes.

    classifier: it is moved to the CPU and computes in fp32, so that the maps do not depend on a GPU.
    split: the images, of which those count that ``predicted``, the number of a class for each, is wrong about.

    maps.npy is uint8 (mistakes, side, side), 255 where a map is greatest; index.csv has the ``file`` of each. Both are
    empty where there is no mistake, or where the network has no map of places.
    """
    wrong = np.flatnonzero(predicted != split.labels)
    numbers = sorted(wrong.tolist(), key=lambda i: (-round(float(confidence[i]), 6), split.files[i]))[:MOST]
    maps = {split.files[i]: heat for i in numbers if (heat := _heatmap(classifier, split, i, predicted[i])) is not None}
    with replacing(folder / "maps.npy") as draft, draft.open("wb") as file:
        np.save(file, np.stack(list(maps.values())) if maps else np.empty((0, 0, 0), np.uint8))
    write_table(folder / "index.csv", ["file"], ({"file": name} for name in maps))


def _heatmap(classifier: Classifier, split: Split, number: int, label: int) -> Pixels | None:
    """Return the heatmap of a class for an image of the split, uint8 (side, side); None where the network has none."""
    description = classifier.cpu().eval().description
    square = evaluation_squares(
        split, np.array([number]), description.size, fit=description.fit, fraction=description.crop_fraction
    )
    heat = layer_cam(classifier, torch.from_numpy(square), label)
    if heat is None:
        return None
    levels = heat.numpy()
    return np.rint(levels * (255 / max(float(levels.max()), 1e-12))).astype(np.uint8)


def layer_cam(network: nn.Module, images: Tensor, label: int) -> Tensor | None:
    """Return what spoke for the class at each place of the network's last map of places.

    There each feature counts as much as the class's logit grows with it, and not where it falls.

    images: a batch of one, of which the network makes logits.

    Returns float32 (side, side), at least 0; None where the network has no such map.
    """
    outputs: list[object] = []
    hooks = [
        module.register_forward_hook(lambda _module, _inputs, output: outputs.append(output))
        for module in network.modules()
    ]
    try:
        logits = network(images)
    finally:
        for hook in hooks:
            hook.remove()
    features = _last_map(outputs)
    if features is None:
        return None
    (gradient,) = torch.autograd.grad(logits[0, label], features)
    return (features * gradient.relu()).sum(1)[0].relu().detach()


def _last_map(outputs: Sequence[object]) -> Tensor | None:
    """Return the last map of places, (1, features, side, side), among what a network's modules gave, in their order.

    What comes after it, in a network that has one, is pooled: a vector, or maps of too few places to tell anything. In
    others, such as vision transformers, tokens come last.
    """
    for output in reversed(outputs):
        if not isinstance(output, Tensor) or output.ndim not in (2, 4):
            return None
        if output.ndim == 4 and max(output.shape[2:]) >= LEAST_SIDE:
            return output if output.shape[2] == output.shape[3] else None
    return None
