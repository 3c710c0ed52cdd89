"""The training loop: ``fit`` runs the epochs, ``train_step`` makes one update."""

import math
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.nn.functional import cross_entropy
from torch.nn.utils import clip_grad_norm_

from imgpipe.common.errors import InputError
from imgpipe.common.progress import steps_bar
from imgpipe.data.packed import Integers, Pixels, Split
from imgpipe.model.devices import World, autocast
from imgpipe.model.predict import Batch, batches, predict_split
from imgpipe.model.randomness import generator, random_rows
from imgpipe.train.augment import DRAWS, Augmentation
from imgpipe.train.parts import Mix, Part, cut, draw_mix, mixed
from imgpipe.train.processes import Interrupted
from imgpipe.train.reduction import FixedTree
from imgpipe.train.state import Epoch, TrainingState, stopped_improving
from imgpipe.train.watching import Clock


def fit(
    state: TrainingState,
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
    keep_last: bool,
    precision: str,
    label_smoothing: float,
    class_weights: Tensor | None,
    clip_grad_norm: float | None,
    early_stop_epochs: int | None,
    schedule: Callable[..., float],
    ordered: Callable[..., Integers],
    augment: Augmentation,
    mixup_alpha: float,
    cutmix_alpha: float,
    freeze: Callable[[nn.Module, int], None],
    threads: int,
    log_every: int,
    stop_signal: Callable[[], int],
    save: Callable[[bool], None],
    clock: Clock,
    profile_step: Callable[[], None],
    world: World,
) -> Iterator[Epoch]:
    """Trains from where the state stands to the end, and yields after each epoch.

    size, crop_fraction: of the squares that the classifier sees, in pixels, and how much of an image they show.
    batch_size: images of an update, over all processes. micro_batches: the equal parts of a batch; each process
    takes its share of them, one after the other. keep_last: see ``cut``.
    class_weights: of each class in the loss, (classes,), see ``mixed_loss``. clip_grad_norm: the most that the norm of
    the whole gradient may be. early_stop_epochs: see ``stopped_improving``.
    ordered: one of ORDERS. mixup_alpha, cutmix_alpha: see ``draw_mix``.
    freeze: called with the network and the epoch, from 0, once it is in training mode, to still parts of it.
    stop_signal: the signal that asks this process to stop, or 0. save: called after each step and each epoch, with
    whether the state must be saved since the training stops. clock: of the parts data, step, validation and
    saving. profile_step: called after each step.

    Raises InputError, on every process, at a loss that is not finite; Interrupted when it was asked to stop and saved.
    """
    tree: FixedTree | None = None
    share, part_size = micro_batches // world.size, batch_size // micro_batches
    mine = slice(world.rank * share, (world.rank + 1) * share)
    state.sums = state.sums.to(world.device)
    plan = cut(len(train), batch_size=batch_size, micro_batches=micro_batches, keep_last=keep_last)

    while (epoch := len(state.history)) < epochs:
        val_losses = [done.val_loss for done in state.history]
        if early_stop_epochs and stopped_improving(val_losses, early_stop_epochs):
            return
        if state.step == 0:
            state.sums = torch.zeros(len(plan), micro_batches, 3, dtype=torch.float64, device=world.device)
        order = ordered(train.labels, seed=seed, epoch=epoch)

        def images(place: slice, epoch: int = epoch, order: Integers = order) -> Pixels:
            rows = random_rows(place.start, place.stop - place.start, DRAWS, seed=seed, epoch=epoch)
            return augment(train, order[place], rows, size)

        places = [place for parts in plan[state.step :] for place, _ in parts[mine]]
        loader = batches(train, order, places, images, threads=threads, device=world.device)
        dropout_seeds = generator("dropout", seed, epoch).integers(2**63, size=(len(plan), micro_batches))[:, mine]

        state.classifier.train()
        freeze(state.classifier.network, epoch)
        if tree is None or not tree.holds_all_trained():
            tree = FixedTree(state.classifier, world)
        unread = state.step
        with steps_bar(f"epoch {epoch + 1}/{epochs}", len(plan), done=state.step, shown=world.rank == 0) as advance:
            for step in range(state.step, len(plan)):
                factor = schedule(epoch + (step + 1) / len(plan), epochs, val_losses)
                for group in state.updater.param_groups:
                    group["lr"] = group["initial_lr"] * group["lr_factor"] * factor
                mixes = [
                    draw_mix(
                        generator("mixing", seed, epoch, step * micro_batches + part),
                        mixup_alpha=mixup_alpha,
                        cutmix_alpha=cutmix_alpha,
                        size=size,
                    )
                    for part in range(mine.start, mine.stop)
                ]
                with clock("data"):
                    parts = [next(loader) for _ in range(share)]
                with clock("step"), naming_what_parts_lack(part_size):
                    sums = train_step(
                        tree,
                        state.updater,
                        state.scaler,
                        parts,
                        [weight for _, weight in plan[step][mine]],
                        mixes,
                        dropout_seeds[step].tolist(),
                        precision=precision,
                        label_smoothing=label_smoothing,
                        class_weights=class_weights,
                        clip_grad_norm=clip_grad_norm,
                        device=world.device,
                    )
                if state.average:
                    state.average.update(state.classifier)
                state.sums[step] = of_all_processes(
                    torch.cat([sums, sums.new_full((share, 1), stop_signal())], 1), world
                )
                profile_step()
                clock.images += seen(plan[step : step + 1])
                state.step = step + 1
                shown = step % log_every == 0 or state.step == len(plan)
                if world.device.type == "cpu" or shown:  # reading waits for a GPU
                    rows = state.sums[unread : state.step].cpu()
                    check_finite(rows[:, :, 0], epoch, first_step=unread)
                    unread = state.step
                    if rows[:, :, 2].any():  # on every process, whichever was asked
                        save(True)
                        raise Interrupted(int(rows[:, :, 2].max()))
                with clock("saving"):
                    save(False)
                advance(f"loss {rows[-1, :, 0].sum() / seen(plan[step : step + 1]):.4f}" if shown else None)

        train_loss, train_accuracy = (state.sums[:, :, :2].sum((0, 1)) / seen(plan)).tolist()
        with clock("validation"), naming_what_parts_lack(part_size):
            val_loss, val_accuracy = validate(
                predict_split(
                    state.used,
                    val,
                    classes=classes,
                    size=size,
                    crop_fraction=crop_fraction,
                    batch_size=part_size,  # what fits in training fits here
                    precision=precision,
                    flips=False,
                    threads=threads,
                    description="validating",
                    world=world,
                ),
                torch.from_numpy(val.labels),
            )
        if not math.isfinite(val_loss):
            raise diverged(f"the validation loss of epoch {epoch + 1}")
        lr = state.updater.param_groups[-1]["lr"]
        state.add(Epoch(epoch + 1, lr, train_loss, train_accuracy, val_loss, val_accuracy))
        with clock("saving"):
            save(False)
        yield state.history[-1]


def train_step(
    tree: FixedTree,
    updater: torch.optim.Optimizer,
    scaler: torch.amp.GradScaler,
    parts: Sequence[Batch],
    shares: Sequence[float],
    mixes: Sequence[Mix | None],
    dropout_seeds: Sequence[int],
    *,
    precision: str,
    label_smoothing: float,
    class_weights: Tensor | None,
    clip_grad_norm: float | None,
    device: torch.device,
) -> Tensor:
    """One update by the gradient of the mean loss over the batch, over all parts of all processes.

    parts: this process's micro-batches. shares, mixes, dropout_seeds: of each; a part's share of the batch's images.

    Returns, for each part, the sum of the losses and the number of right answers: float64 (parts, 2) on the device. Of
    a mixed image the right answer is the label with the larger share.
    """
    updater.zero_grad()
    tree.start_batch()
    sums = torch.zeros(len(parts), 2, dtype=torch.float64, device=device)
    for i, ((images, labels, _), part_share, mix, seed) in enumerate(
        zip(parts, shares, mixes, dropout_seeds, strict=True)
    ):
        torch.manual_seed(seed)
        images, labels = images.to(device, non_blocking=True), labels.to(device, non_blocking=True)
        with tree.part(part_share, last=i == len(parts) - 1) as module:
            with autocast(device, precision):
                logits = module(mixed(images, mix) if mix else images)
            loss = mixed_loss(logits, labels, mix, label_smoothing=label_smoothing, class_weights=class_weights)
            scaler.scale(loss * part_share).backward()
        if part_share:
            sums[i, 0] = loss.detach() * len(labels)
            sums[i, 1] = (logits.argmax(1) == (labels.roll(1) if mix and mix.share < 0.5 else labels)).sum()
    if clip_grad_norm is not None:
        scaler.unscale_(updater)
        clip_grad_norm_([p for group in updater.param_groups for p in group["params"]], clip_grad_norm)
    scaler.step(updater)
    scaler.update()
    return sums


def of_all_processes(rows: Tensor, world: World) -> Tensor:
    """The rows of every process, one process's after another's."""
    if world.size == 1:
        return rows
    every = rows.new_empty(world.size * len(rows), rows.shape[1])
    dist.all_gather_into_tensor(every, rows)
    return every


def seen(plan: Sequence[Sequence[Part]]) -> int:
    """Images in these batches."""
    return sum(place.stop - place.start for parts in plan for place, part_share in parts if part_share)


def check_finite(losses: Tensor, epoch: int, *, first_step: int) -> None:
    """Raises InputError at the first of these losses, (steps, parts), that is not finite; epoch and step from 0."""
    broken = (~losses.isfinite().all(1)).nonzero()
    if len(broken):
        raise diverged(f"the loss of step {first_step + int(broken[0]) + 1} of epoch {epoch + 1}")


def diverged(what: str) -> InputError:
    return InputError(
        f"training diverged: {what} is not finite; "
        "try a lower train.optimizer.lr, a longer warm-up, train.clip_grad_norm or precision fp32"
    )


@contextmanager
def naming_what_parts_lack(images: int) -> Iterator[None]:
    """Raises InputError where memory did not suffice for parts of so many images, or a part has too few."""
    try:
        yield
    except ValueError as error:
        if "more than 1 value per channel" not in str(error):
            raise
        raise InputError(
            "BatchNorm needs more than one value of each channel, and a micro-batch of one image has but one where "
            "the network has made it 1 x 1; take fewer train.micro_batches, a larger model.image_size, or "
            "last_batch drop"
        ) from None
    except (MemoryError, RuntimeError) as error:
        lacking = isinstance(error, MemoryError | torch.OutOfMemoryError) or "can't allocate memory" in str(error)
        if not lacking:
            raise
        raise InputError(
            f"memory does not suffice for micro-batches of {images} images (train.batch_size / micro_batches); "
            "twice the train.micro_batches halve them, and train.gradient_checkpointing takes less for each"
        ) from None


def mixed_loss(
    logits: Tensor, labels: Tensor, mix: Mix | None, *, label_smoothing: float, class_weights: Tensor | None
) -> Tensor:
    """Mean cross-entropy: to its own label by the share of the image that stayed, to the other's by the rest.

    class_weights: of each class's term of the loss, as in torch: an image's loss is multiplied by its class's weight
    and, with label smoothing, each class's share of the smoothing by that class's. The mean is over images, not over
    weights.
    """

    def mean_loss(labels: Tensor) -> Tensor:
        return cross_entropy(
            logits, labels, weight=class_weights, label_smoothing=label_smoothing, reduction="none"
        ).mean()

    if mix is None:
        return mean_loss(labels)
    return mix.share * mean_loss(labels) + (1 - mix.share) * mean_loss(labels.roll(1))


def validate(logits: Tensor, labels: Tensor) -> tuple[float, float]:
    """Mean cross-entropy and accuracy. logits: float (images, classes); labels: int64 (images,)."""
    right = (logits.argmax(1) == labels).double().mean()
    return cross_entropy(logits.double(), labels).item(), right.item()
