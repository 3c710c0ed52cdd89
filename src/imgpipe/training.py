"""The training loop: ``fit`` runs the epochs, ``train_step`` makes one update."""

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import torch
import torch.distributed as dist
from torch import Tensor
from torch.nn.functional import cross_entropy

from imgpipe.batches import Batch, batches, shuffled
from imgpipe.classifier import Classifier
from imgpipe.devices import World, autocast
from imgpipe.errors import InputError
from imgpipe.packed import Pixels, Split
from imgpipe.prediction import predict_split
from imgpipe.progress import steps_bar
from imgpipe.randomness import generator
from imgpipe.reduction import FixedTree
from imgpipe.transforms import Floats, random_rows


@dataclass(frozen=True)
class Epoch:
    """Numbers of one epoch. Losses are means over pictures, the training one as it was minimised; lr is the last."""

    epoch: int
    lr: float
    train_loss: float
    train_accuracy: float
    val_loss: float
    val_accuracy: float

    def better_than(self, other: "Epoch | None") -> bool:
        """More pictures of the validation split right, or as many with a lower loss."""
        return other is None or (self.val_accuracy, -self.val_loss) > (other.val_accuracy, -other.val_loss)


def fit(
    classifier: Classifier,
    train: Split,
    val: Split,
    *,
    classes: int,
    size: int,
    seed: int,
    epochs: int,
    batch_size: int,
    micro_batches: int,
    precision: str,
    label_smoothing: float,
    optimizer: Callable[..., torch.optim.Optimizer],
    schedule: Callable[[float, int], float],
    augment: Callable[[Pixels, Floats, int], Pixels],
    threads: int,
    log_every: int,
    world: World,
) -> Iterator[Epoch]:
    """Trains the classifier in place, and yields after each epoch.

    batch_size: pictures of an update, over all processes. Pictures that do not fill a batch are left out of an epoch.
    micro_batches: the equal parts of a batch. Each process takes its share of them, one after the other.

    Raises InputError, on every process, after an epoch in which the loss was not finite.
    """
    tree = FixedTree(classifier, world, parts=micro_batches)
    updater = optimizer(classifier.parameters())
    peak_lr = updater.param_groups[0]["lr"]
    scaler = torch.amp.GradScaler(world.device.type, enabled=precision == "fp16")
    steps = len(train) // batch_size
    share = micro_batches // world.size
    mine = slice(world.rank * share, (world.rank + 1) * share)

    for epoch in range(epochs):
        order = shuffled(len(train), seed=seed, epoch=epoch)[: steps * batch_size].reshape(steps, micro_batches, -1)
        rows = random_rows(len(train), seed=seed, epoch=epoch)

        def picture(i: int, rows: Floats = rows) -> Pixels:
            return augment(train.picture(i), rows[i], size)

        loader = batches(train, (part for step in order[:, mine] for part in step), picture, threads=threads)
        dropout_seeds = generator("dropout", seed, epoch).integers(2**63, size=(steps, micro_batches))[:, mine]
        loss_and_right = torch.zeros(steps, micro_batches, 2, dtype=torch.float64, device=world.device)
        classifier.train()
        with steps_bar(f"epoch {epoch + 1}/{epochs}", steps, shown=world.rank == 0) as advance:
            for step in range(steps):
                lr = peak_lr * schedule(epoch + (step + 1) / steps, epochs)
                for group in updater.param_groups:
                    group["lr"] = lr
                loss_and_right[step, mine] = train_step(
                    tree,
                    updater,
                    scaler,
                    [next(loader) for _ in range(share)],
                    dropout_seeds[step].tolist(),
                    precision=precision,
                    label_smoothing=label_smoothing,
                    device=world.device,
                )
                read = step % log_every == 0  # which waits for the GPU
                advance(f"loss {loss_and_right[step, mine].sum(0)[0] / order[0, mine].size:.4f}" if read else None)

        if world.size > 1:
            dist.all_reduce(loss_and_right)  # each process adds zeros to what the others filled in
        train_loss, train_accuracy = (loss_and_right.sum((0, 1)) / (steps * batch_size)).tolist()
        val_loss, val_accuracy = validate(
            predict_split(
                classifier,
                val,
                classes=classes,
                size=size,
                batch_size=batch_size,
                precision=precision,
                threads=threads,
                world=world,
            ),
            torch.from_numpy(val.labels),
        )
        if not math.isfinite(train_loss + val_loss):
            raise InputError(
                f"training diverged: the loss of epoch {epoch + 1} is {train_loss} in training and {val_loss} in "
                "validation; try a lower train.optimizer.lr, a longer warm-up or precision fp32"
            )
        yield Epoch(epoch + 1, lr, train_loss, train_accuracy, val_loss, val_accuracy)


def train_step(
    tree: FixedTree,
    updater: torch.optim.Optimizer,
    scaler: torch.amp.GradScaler,
    parts: Sequence[Batch],
    dropout_seeds: Sequence[int],
    *,
    precision: str,
    label_smoothing: float,
    device: torch.device,
) -> Tensor:
    """One update by the mean gradient over the parts of all processes.

    parts: this process's micro-batches, all of one size.

    Returns, for each part, the sum of the losses and the number of right answers: float64 (parts, 2) on the device.
    """
    updater.zero_grad()
    tree.start_batch()
    sums = torch.zeros(len(parts), 2, dtype=torch.float64, device=device)
    for i, ((pictures, labels, _), seed) in enumerate(zip(parts, dropout_seeds, strict=True)):
        torch.manual_seed(seed)
        labels = labels.to(device, non_blocking=True)
        with tree.part(last=i == len(parts) - 1) as module:
            with autocast(device, precision):
                logits = module(pictures)
            loss = cross_entropy(logits, labels, label_smoothing=label_smoothing)
            scaler.scale(loss / tree.parts).backward()
        sums[i, 0] = loss.detach() * len(labels)
        sums[i, 1] = (logits.argmax(1) == labels).sum()
    scaler.step(updater)
    scaler.update()
    return sums


def validate(logits: Tensor, labels: Tensor) -> tuple[float, float]:
    """Mean cross-entropy and accuracy. logits: float (pictures, classes); labels: int64 (pictures,)."""
    right = (logits.argmax(1) == labels).double().mean()
    return cross_entropy(logits.double(), labels).item(), right.item()
