"""The training loop: ``fit`` runs the epochs, ``train_step`` makes one update."""

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch
import torch.distributed as dist
from torch import Tensor
from torch.nn.functional import cross_entropy

from imgpipe.batches import Batch, batches
from imgpipe.classifier import Classifier
from imgpipe.devices import World, autocast
from imgpipe.errors import InputError
from imgpipe.mixing import Mix, draw_mix, mixed
from imgpipe.packed import Integers, Pixels, Split
from imgpipe.prediction import predict_split
from imgpipe.progress import steps_bar
from imgpipe.randomness import generator, random_rows
from imgpipe.reduction import FixedTree
from imgpipe.transforms import DRAWS, Augmentation


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
    crop_fraction: float,
    seed: int,
    epochs: int,
    batch_size: int,
    micro_batches: int,
    precision: str,
    label_smoothing: float,
    optimizer: Callable[..., torch.optim.Optimizer],
    schedule: Callable[[float, int, Sequence[float]], float],
    ordered: Callable[..., Integers],
    augment: Augmentation,
    mixup_alpha: float,
    cutmix_alpha: float,
    threads: int,
    log_every: int,
    world: World,
) -> Iterator[Epoch]:
    """Trains the classifier in place, and yields after each epoch.

    size, crop_fraction: of the squares that the classifier sees, in pixels, and how much of a picture they show.
    batch_size: pictures of an update, over all processes. Pictures that do not fill a batch are left out of an epoch.
    micro_batches: the equal parts of a batch. Each process takes its share of them, one after the other.
    ordered: one of ORDERS. mixup_alpha, cutmix_alpha: see ``draw_mix``.

    Raises InputError, on every process, after an epoch in which the loss was not finite.
    """
    tree = FixedTree(classifier, world, parts=micro_batches)
    updater = optimizer([{"params": list(classifier.parameters())}])
    peak_lr = updater.param_groups[0]["lr"]
    scaler = torch.amp.GradScaler(world.device.type, enabled=precision == "fp16")
    steps = len(train) // batch_size
    share, part_size = micro_batches // world.size, batch_size // micro_batches
    mine = slice(world.rank * share, (world.rank + 1) * share)

    val_losses: list[float] = []
    for epoch in range(epochs):
        order = ordered(train.labels, seed=seed, epoch=epoch)
        parts = np.arange(steps * micro_batches).reshape(steps, micro_batches)[:, mine]
        places = [slice(part * part_size, (part + 1) * part_size) for part in parts.flatten().tolist()]

        def pictures(place: slice, epoch: int = epoch, order: Integers = order) -> Pixels:
            rows = random_rows(place.start, part_size, DRAWS, seed=seed, epoch=epoch)
            return augment(train, order[place], rows, size)

        loader = batches(train, order, places, pictures, threads=threads, device=world.device)
        dropout_seeds = generator("dropout", seed, epoch).integers(2**63, size=(steps, micro_batches))[:, mine]
        loss_and_right = torch.zeros(steps, micro_batches, 2, dtype=torch.float64, device=world.device)
        classifier.train()
        with steps_bar(f"epoch {epoch + 1}/{epochs}", steps, shown=world.rank == 0) as advance:
            for step in range(steps):
                lr = peak_lr * schedule(epoch + (step + 1) / steps, epochs, val_losses)
                for group in updater.param_groups:
                    group["lr"] = lr
                mixes = [
                    draw_mix(
                        generator("mixing", seed, epoch, part),
                        mixup_alpha=mixup_alpha,
                        cutmix_alpha=cutmix_alpha,
                        size=size,
                    )
                    for part in parts[step].tolist()
                ]
                loss_and_right[step, mine] = train_step(
                    tree,
                    updater,
                    scaler,
                    [next(loader) for _ in range(share)],
                    mixes,
                    dropout_seeds[step].tolist(),
                    precision=precision,
                    label_smoothing=label_smoothing,
                    device=world.device,
                )
                read = step % log_every == 0  # which waits for the GPU
                advance(f"loss {loss_and_right[step, mine].sum(0)[0] / (share * part_size):.4f}" if read else None)

        if world.size > 1:
            dist.all_reduce(loss_and_right)  # each process adds zeros to what the others filled in
        train_loss, train_accuracy = (loss_and_right.sum((0, 1)) / (steps * batch_size)).tolist()
        val_loss, val_accuracy = validate(
            predict_split(
                classifier,
                val,
                classes=classes,
                size=size,
                crop_fraction=crop_fraction,
                batch_size=batch_size,
                precision=precision,
                flips=False,
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
        val_losses.append(val_loss)
        yield Epoch(epoch + 1, lr, train_loss, train_accuracy, val_loss, val_accuracy)


def train_step(
    tree: FixedTree,
    updater: torch.optim.Optimizer,
    scaler: torch.amp.GradScaler,
    parts: Sequence[Batch],
    mixes: Sequence[Mix | None],
    dropout_seeds: Sequence[int],
    *,
    precision: str,
    label_smoothing: float,
    device: torch.device,
) -> Tensor:
    """One update by the mean gradient over the parts of all processes.

    parts: this process's micro-batches, all of one size. mixes, dropout_seeds: of each.

    Returns, for each part, the sum of the losses and the number of right answers: float64 (parts, 2) on the device. Of
    a mixed picture the right answer is the label with the larger share.
    """
    updater.zero_grad()
    tree.start_batch()
    sums = torch.zeros(len(parts), 2, dtype=torch.float64, device=device)
    for i, ((pictures, labels, _), mix, seed) in enumerate(zip(parts, mixes, dropout_seeds, strict=True)):
        torch.manual_seed(seed)
        pictures, labels = pictures.to(device, non_blocking=True), labels.to(device, non_blocking=True)
        with tree.part(last=i == len(parts) - 1) as module:
            with autocast(device, precision):
                logits = module(mixed(pictures, mix) if mix else pictures)
            loss = mixed_loss(logits, labels, mix, label_smoothing=label_smoothing)
            scaler.scale(loss / tree.parts).backward()
        sums[i, 0] = loss.detach() * len(labels)
        sums[i, 1] = (logits.argmax(1) == (labels.roll(1) if mix and mix.share < 0.5 else labels)).sum()
    scaler.step(updater)
    scaler.update()
    return sums


def mixed_loss(logits: Tensor, labels: Tensor, mix: Mix | None, *, label_smoothing: float) -> Tensor:
    """Mean cross-entropy: to its own label by the share of the picture that stayed, to the other's by the rest."""
    own = cross_entropy(logits, labels, label_smoothing=label_smoothing)
    if mix is None:
        return own
    return mix.share * own + (1 - mix.share) * cross_entropy(logits, labels.roll(1), label_smoothing=label_smoothing)


def validate(logits: Tensor, labels: Tensor) -> tuple[float, float]:
    """Mean cross-entropy and accuracy. logits: float (pictures, classes); labels: int64 (pictures,)."""
    right = (logits.argmax(1) == labels).double().mean()
    return cross_entropy(logits.double(), labels).item(), right.item()
