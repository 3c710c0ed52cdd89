"""Adaptive average pooling whose backward pass is deterministic on a GPU too."""

import torch
from torch import Tensor, nn


class MeanPool(nn.Module):
    """What nn.AdaptiveAvgPool2d(side) computes, from slices and means; torch refuses the backward pass of its own.

    float (n, channels, height, width) to (n, channels, side, side).
    """

    def __init__(self, side: int) -> None:
        super().__init__()
        self.side = side

    def forward(self, features: Tensor) -> Tensor:
        for axis in (2, 3):
            length = features.shape[axis]
            starts = [i * length // self.side for i in range(self.side)]
            ends = [-(-(i + 1) * length // self.side) for i in range(self.side)]
            windows = [features.narrow(axis, start, end - start) for start, end in zip(starts, ends, strict=True)]
            features = torch.cat([window.mean(axis, keepdim=True) for window in windows], axis)
        return features
