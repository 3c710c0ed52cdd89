"""All that a training changes, to be saved and resumed. What is random is a function of its place instead."""

import copy
from dataclasses import asdict, dataclass, field
from typing import Any

import torch
from torch import Tensor, nn

from imgpipe.model.classifier import Classifier


class MovingAverage:
    """Keeps the exponential moving average of a module's parameters and floating-point buffers; copies other buffers.

    It often does better than the weights themselves (Polyak and Juditsky 1992).

    module: holds the average, of the same class as the one averaged, in the same memory format, without gradients and
        in evaluation mode.
    updates: how many were made. With the module's ``state_dict`` it is all that there is to save.
    """

    def __init__(self, module: nn.Module, *, decay: float) -> None:
        """Start at the module's present state.

        decay: share of the average that an update keeps, 0 to 1, once there were enough of them.
        """
        self.decay = decay
        self.updates = 0
        self.module = copy.deepcopy(module).eval().requires_grad_(False)

    @torch.no_grad()
    def update(self, module: nn.Module) -> None:
        """Set average = kept * average + (1 - kept) * module; to be called after each step.

        After t updates kept is min(decay, (1 + t) / (10 + t)): at first it is less than the decay, or else a short
        training would leave mostly the random weights that it began with in the average.

        Source: TensorFlow's ExponentialMovingAverage, with its num_updates.
        """
        kept = min(self.decay, (1 + self.updates) / (10 + self.updates))
        self.updates += 1
        averages, values = ([*m.parameters(), *m.buffers()] for m in (self.module, module))
        pairs = list(zip(averages, values, strict=True))
        floating = [pair for pair in pairs if pair[0].is_floating_point()]
        torch._foreach_lerp_([average for average, _ in floating], [value for _, value in floating], 1 - kept)
        if counters := [pair for pair in pairs if not pair[0].is_floating_point()]:
            torch._foreach_copy_([average for average, _ in counters], [value for _, value in counters])


@dataclass(frozen=True)
class Epoch:
    """Numbers of one epoch: a row of metrics/train/history.csv."""

    epoch: int
    """Counted from 1."""
    lr: float
    """Learning rate of the last step."""
    train_loss: float
    """Mean over the images shown, as it was minimised."""
    train_accuracy: float
    val_loss: float
    """Mean cross-entropy of the validation split."""
    val_accuracy: float

    def merit(self, monitor: str) -> tuple[float, float]:
        """Return what is compared, the higher the better.

        monitor: ``accuracy`` of the validation split, and of equals the lower loss; or ``loss``, and of equals the
            higher accuracy.

        Returns the monitored number, a loss with its sign changed, and then the other one.
        """
        accuracy, loss = self.val_accuracy, -self.val_loss
        return (accuracy, loss) if monitor == "accuracy" else (loss, accuracy)


@dataclass
class TrainingState:
    """Where a training stands."""

    classifier: Classifier
    optimizer: torch.optim.Optimizer
    scaler: torch.amp.GradScaler
    """Scales the loss for fp16; otherwise it does nothing."""
    average: MovingAverage | None
    """Of the classifier's weights over the steps, where the recipe wants one: it is then validated and kept."""
    monitor: str
    """What of the validation split decides which epoch is better: see ``Epoch.merit``."""
    history: list[Epoch] = field(default_factory=list)
    """The epochs done."""
    best_weights: dict[str, Tensor] = field(default_factory=dict)
    """Of the epoch that did best, on the CPU."""
    step: int = 0
    """Steps done of the epoch in progress."""
    sums: Tensor = field(default_factory=lambda: torch.empty(0))
    """What each step of the epoch in progress gave, for each micro-batch of all processes: see ``loop.train_step``."""

    @property
    def used(self) -> Classifier:
        """The classifier that is validated and kept."""
        if self.average is None:
            return self.classifier
        assert isinstance(self.average.module, Classifier)
        return self.average.module

    @property
    def monitored(self) -> list[float]:
        """The monitored number of each epoch done, in order, the higher the better."""
        return [epoch.merit(self.monitor)[0] for epoch in self.history]

    @property
    def best(self) -> Epoch | None:
        """The epoch done that did best, the first of equals."""
        return max(self.history, key=lambda epoch: epoch.merit(self.monitor), default=None)

    @property
    def place(self) -> str:
        """Where in the training it is, in words."""
        epochs = len(self.history)
        return (
            f"in epoch {epochs + 1}, after step {self.step} of {len(self.sums)}"
            if self.step
            else f"after epoch {epochs}"
        )

    def begin_epoch(self, *, steps: int, micro_batches: int) -> None:
        """Make room for the sums of an epoch of so many steps and micro-batches, unless one is in progress."""
        device = self.classifier.mean.device
        if self.step == 0:
            self.sums = torch.zeros(steps, micro_batches, 2, dtype=torch.float64)
        self.sums = self.sums.to(device)

    def add(self, epoch: Epoch) -> None:
        """End the epoch in progress."""
        self.history.append(epoch)
        self.step = 0
        if self.best is epoch:
            self.best_weights = {name: value.cpu().clone() for name, value in self.used.state_dict().items()}

    def saved(self) -> dict[str, Any]:
        """Return the state in tensors, numbers and texts, for ``restore``."""
        return {
            "classifier": self.classifier.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "scaler": self.scaler.state_dict(),
            "average": self.average.module.state_dict() if self.average else None,
            "updates": self.average.updates if self.average else None,
            "history": [asdict(epoch) for epoch in self.history],
            "best_weights": self.best_weights,
            "step": self.step,
            "sums": self.sums,
        }

    def restore(self, saved: dict[str, Any]) -> None:
        """Go back to where ``saved`` was called, from a state that was made in the same way.

        Raises some error where what is given is of another state.
        """
        if saved.keys() != self.saved().keys():
            raise ValueError(f"it has {', '.join(map(str, saved))}")
        self.classifier.load_state_dict(saved["classifier"])
        self.optimizer.load_state_dict(saved["optimizer"])
        self.scaler.load_state_dict(saved["scaler"])
        if self.average:
            self.average.module.load_state_dict(saved["average"])
            self.average.updates = saved["updates"]
        self.history = [Epoch(**epoch) for epoch in saved["history"]]
        self.best_weights = saved["best_weights"]
        self.step, self.sums = saved["step"], saved["sums"]
