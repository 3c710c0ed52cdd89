"""Describe the section ``evaluate`` of params.yaml."""

from dataclasses import dataclass
from typing import Annotated, Literal

from imgpipe.common.rules import Interval


@dataclass(frozen=True)
class Evaluate:
    """params.yaml: evaluate."""

    weights: Literal["best", "last"]
    """Which of the weights that training left: of the best epoch on the validation split, or of the last epoch."""

    batch_size: Annotated[int, Interval(low=1)]
    """Images that go through the network at once."""

    flips: bool
    """Whether the logits are means over an image and its mirror image."""

    temperature_scaling: bool
    """Whether the logits are divided by a temperature that is fitted on the validation split."""

    target_precision: Annotated[float, Interval(0, 1, open_low=True, open_high=True)]
    """The share of right answers that the validation split must show for the threshold on the confidence."""
