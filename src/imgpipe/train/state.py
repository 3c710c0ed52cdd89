"""All that a training changes, to be saved and taken up again. Everything random is a function of its place instead."""

import copy
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

import torch
from torch import Tensor, nn

from imgpipe.model.classifier import Classifier


class MovingAverage:
    """The exponential moving average of a module's parameters and floating-point buffers; other buffers are copied.

    module: holds the average, of the same class as the one averaged, in the same memory format, without gradients and
    in evaluation mode. Its ``state_dict`` is all that there is to save: there is no other state.
    """

    def __init__(self, module: nn.Module, *, decay: float) -> None:
        """It starts at the module's present state. decay: share of the average that each update keeps, 0 to 1."""
        self.decay = decay
        self.module = copy.deepcopy(module).eval().requires_grad_(False)

    @torch.no_grad()
    def update(self, module: nn.Module) -> None:
        """After each step: average = decay * average + (1 - decay) * module."""
        averages, values = ([*m.parameters(), *m.buffers()] for m in (self.module, module))
        floating = [average.is_floating_point() for average in averages]
        torch._foreach_lerp_(
            [average for average, is_float in zip(averages, floating, strict=True) if is_float],
            [value for value, is_float in zip(values, floating, strict=True) if is_float],
            1 - self.decay,
        )
        for average, value, is_float in zip(averages, values, floating, strict=True):
            if not is_float:
                average.copy_(value)


def stopped_improving(val_losses: Sequence[float], patience: int) -> bool:
    """Whether none of the last ``patience`` epochs had a lower validation loss than every epoch before them.

    val_losses: of the epochs done, in order. patience: at least 1.

    >>> [stopped_improving([0.9, 0.7, 0.8, 0.7, 0.6][:epochs], 2) for epochs in range(6)]
    [False, False, False, False, True, False]
    """
    return len(val_losses) > patience and min(val_losses[-patience:]) >= min(val_losses[:-patience])


@dataclass(frozen=True)
class Epoch:
    """Numbers of one epoch. Losses are means over images, the training one as it was minimised; lr is the last."""

    epoch: int
    lr: float
    train_loss: float
    train_accuracy: float
    val_loss: float
    val_accuracy: float

    @property
    def merit(self) -> tuple[float, float]:
        """The higher the better: images of the validation split that are right, and of as many a lower loss."""
        return self.val_accuracy, -self.val_loss


@dataclass
class TrainingState:
    """Where a training stands.

    average: of the classifier's weights over the steps, where one is kept; it is what is validated and used then.
    history: the epochs done. best_weights: of the one that did best, on the CPU.
    step: steps done of the epoch in progress. sums: what they gave, see ``train_step``; of no use at step 0.
    """

    classifier: Classifier
    updater: torch.optim.Optimizer
    scaler: torch.amp.GradScaler
    average: MovingAverage | None
    history: list[Epoch] = field(default_factory=list)
    best_weights: dict[str, Tensor] = field(default_factory=dict)
    step: int = 0
    sums: Tensor = field(default_factory=lambda: torch.empty(0))

    @property
    def used(self) -> Classifier:
        """The classifier that is validated and kept."""
        if self.average is None:
            return self.classifier
        assert isinstance(self.average.module, Classifier)
        return self.average.module

    @property
    def best(self) -> Epoch | None:
        """The epoch done that did best, the first of equals."""
        return max(self.history, key=lambda epoch: epoch.merit, default=None)

    def add(self, epoch: Epoch) -> None:
        """Ends the epoch in progress."""
        self.history.append(epoch)
        self.step = 0
        if self.best is epoch:
            self.best_weights = {name: value.cpu().clone() for name, value in self.used.state_dict().items()}

    def saved(self) -> dict[str, Any]:
        """For ``restore``, in tensors, numbers and texts."""
        return {
            "classifier": self.classifier.state_dict(),
            "updater": self.updater.state_dict(),
            "scaler": self.scaler.state_dict(),
            "average": self.average.module.state_dict() if self.average else None,
            "history": [asdict(epoch) for epoch in self.history],
            "best_weights": self.best_weights,
            "step": self.step,
            "sums": self.sums,
        }

    def restore(self, saved: dict[str, Any]) -> None:
        """Back to where ``saved`` was called, in a state that was made in the same way."""
        self.classifier.load_state_dict(saved["classifier"])
        self.updater.load_state_dict(saved["updater"])
        self.scaler.load_state_dict(saved["scaler"])
        if self.average:
            self.average.module.load_state_dict(saved["average"])
        self.history = [Epoch(**epoch) for epoch in saved["history"]]
        self.best_weights = saved["best_weights"]
        self.step, self.sums = saved["step"], saved["sums"]


def new_state(
    classifier: Classifier, updater: torch.optim.Optimizer, *, precision: str, ema_decay: float | None
) -> TrainingState:
    """The state before the first step. ema_decay: of the average of the weights, or None for no average."""
    for group in updater.param_groups:
        group["initial_lr"] = group["lr"]
    device = classifier.mean.device.type
    return TrainingState(
        classifier,
        updater,
        scaler=torch.amp.GradScaler(device, enabled=precision == "fp16"),
        average=MovingAverage(classifier, decay=ema_decay) if ema_decay is not None else None,
    )
