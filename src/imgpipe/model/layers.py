"""Layers that torch has not."""

from torch import Tensor, nn


class Head(nn.Sequential):
    """Layers that stand in the place of a network's last one: together they are its head (``models.head_of``)."""


class Residual(nn.Module):
    """Layers in a row whose result is added to what they were given."""

    def __init__(self, *layers: nn.Module) -> None:
        super().__init__()
        self.layers = nn.Sequential(*layers)

    def forward(self, features: Tensor) -> Tensor:
        changed: Tensor = self.layers(features)
        return features + changed


class Scaled(nn.Module):
    """Its input times a fixed number."""

    def __init__(self, factor: float) -> None:
        super().__init__()
        self.factor = factor

    def forward(self, features: Tensor) -> Tensor:
        return features * self.factor
