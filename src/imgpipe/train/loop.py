"""The training loop: ``fit`` runs the epochs, ``train_step`` makes one update."""

import logging
import math
from collections.abc import Iterator, Sequence

import torch
from torch import Tensor
from torch.nn.functional import cross_entropy
from torch.nn.utils import clip_grad_norm_

from imgpipe.common.wording import counted
from imgpipe.data.left_out import left_out
from imgpipe.model.devices import autocast
from imgpipe.model.predict import predict_split
from imgpipe.train.micro_batches import MicroBatch, Mix, Splits, cut, images_in, micro_batches_of, mixed
from imgpipe.train.params import Model, Train
from imgpipe.train.reduction import FixedTree
from imgpipe.train.run import Run, diverged, explained
from imgpipe.train.start import freeze
from imgpipe.train.state import Epoch, TrainingState


def fit(state: TrainingState, splits: Splits, model: Model, recipe: Train, run: Run) -> Iterator[Epoch]:
    """Train from the epoch and step where the state stands to the last epoch.

    state: of a training that begins or is resumed; it is changed in place.
    model: the section of params.yaml, which says what is frozen in which epoch.
    recipe: the section ``train`` of params.yaml.
    run: what this process does around the steps.

    Yields the numbers of each epoch when it is done.

    Raises, on every process, InputError at a loss that is not finite and where memory does not suffice; Interrupted
    when a process was asked to stop, once the state is saved.
    """
    plan = cut(len(splits.train), recipe)
    log_start(state, splits, recipe, run, steps=len(plan), images=images_in(plan))
    weights = splits.class_weights
    class_weights = None if weights is None else torch.from_numpy(weights).to(run.world.device)
    size = state.classifier.description.size
    tree = None  # made in the first epoch
    while not ended(state, recipe):
        epoch = len(state.history)  # counted from 0: as many as are done
        state.begin_epoch(steps=len(plan), micro_batches=recipe.micro_batches)
        state.classifier.train()
        freeze(state.classifier.network, model.frozen_in(epoch + 1))
        tree = FixedTree.for_trained(state.classifier, run.world, tree)  # another where what is frozen has changed
        with run.epoch(state, epochs=recipe.epochs, steps=len(plan)) as after_step:
            for step, micro_batches in micro_batches_of(
                splits, plan, epoch, recipe, run, size=size, first_step=state.step
            ):
                time = epoch + (step + 0.5) / len(plan)  # in epochs, in the middle of the step
                set_lr(state, recipe.schedule(time, recipe.epochs, state.monitored))
                with run.clock("step"), explained(recipe.micro_batch_size):
                    sums = train_step(state, tree, micro_batches, recipe, class_weights)
                after_step(sums, images_in(plan[step : step + 1]))
        state.add(finished_epoch(state, splits, recipe, run, images=images_in(plan)))
        with run.clock("saving"):
            run.save(0)
        yield state.history[-1]
    if len(state.history) < recipe.epochs:
        logging.info("none of the last %s epochs was better: the training ends early", recipe.early_stop_epochs)


def log_start(state: TrainingState, splits: Splits, recipe: Train, run: Run, *, steps: int, images: int) -> None:
    """Log what is trained on what, which images are left out, and where the training goes on if it is resumed.

    steps, images: of an epoch; the images at the end of its order that do not fill a batch are left out.
    """
    number, classes, world = len(splits.train), len(splits.statistics.classes), run.world
    logging.info(
        "training %s for %d epochs of %d steps: %s images of %d classes, %s to validate; on %s, in %s",
        state.classifier.description.model,
        recipe.epochs,
        steps,
        f"{number:,}",
        classes,
        f"{len(splits.val):,}",
        "the CPU" if world.device.type == "cpu" else torch.cuda.get_device_name(world.device),
        counted(world.size, "process"),
    )
    if remark := left_out(number, images, recipe.batch_size, least=0):
        logging.info("%s", remark)
    if state.best or state.step:
        best = f"; epoch {state.best.epoch} did best so far" if state.best else ""
        logging.info("resuming the training %s%s", state.place, best)


def ended(state: TrainingState, recipe: Train) -> bool:
    """Return whether all epochs are done, or ``early_stop_epochs`` of them since the best one."""
    done = len(state.history)
    if recipe.early_stop_epochs and state.best and done - state.best.epoch >= recipe.early_stop_epochs:
        return True
    return done >= recipe.epochs


def set_lr(state: TrainingState, factor: float) -> None:
    """Set the learning rate of every group of parameters: initial rate x the group's factor x the schedule's."""
    for group in state.optimizer.param_groups:
        group["lr"] = group["initial_lr"] * group["lr_factor"] * factor


def train_step(
    state: TrainingState,
    tree: FixedTree,
    micro_batches: Sequence[MicroBatch],
    recipe: Train,
    class_weights: Tensor | None,
) -> Tensor:
    """Make one step of the optimizer by the gradient of the mean loss over the whole batch.

    tree: sums gradients and BatchNorm's statistics over the micro-batches of all processes.
    micro_batches: this process's.
    class_weights: see ``batch_loss``.

    Returns, for each micro-batch, the sum of the losses and the number of right answers: float64 (micro-batches, 2) on
    the device. Of a mixed image the right answer is the label of which more is in it.
    """
    device = state.classifier.mean.device
    state.optimizer.zero_grad()
    tree.start_batch()
    sums = torch.zeros(len(micro_batches), 2, dtype=torch.float64, device=device)
    for i, micro in enumerate(micro_batches):
        torch.manual_seed(micro.dropout_seed)
        images, labels = micro.images.to(device, non_blocking=True), micro.labels.to(device, non_blocking=True)
        with tree.micro_batch(micro.weight, last=i == len(micro_batches) - 1) as module:
            with autocast(device, recipe.precision):
                logits = module(mixed(images, micro.mix))
            loss = batch_loss(logits, labels, micro.mix, recipe.label_smoothing, class_weights)
            state.scaler.scale(loss * micro.weight).backward()
        if micro.weight:  # a filler's images were counted already
            targets = labels.roll(1) if micro.mix and micro.mix.kept < 0.5 else labels
            sums[i, 0] = loss.detach() * len(labels)
            sums[i, 1] = (logits.argmax(1) == targets).sum()
    # now, after the last micro-batch, each parameter's grad is that of the whole batch
    if recipe.clip_grad_norm is not None:
        state.scaler.unscale_(state.optimizer)
        trained = [parameter for group in state.optimizer.param_groups for parameter in group["params"]]
        clip_grad_norm_(trained, recipe.clip_grad_norm)
    state.scaler.step(state.optimizer)
    state.scaler.update()
    if state.average:
        state.average.update(state.classifier)
    return sums


def batch_loss(
    logits: Tensor, labels: Tensor, mix: Mix | None, label_smoothing: float, class_weights: Tensor | None
) -> Tensor:
    """Compute the mean cross-entropy of a micro-batch.

    logits: float (n, classes).
    labels: int64 (n,).
    mix: the loss of a mixed image is kept x the loss against its own label + (1 - kept) x that against the other's.
    class_weights: of each class's term of the loss, float (classes,), as in torch: an image's loss is multiplied by its
        class's weight and, with label smoothing, each class's share of the smoothing by that class's. The mean is over
        images, not over weights.
    """

    def mean_loss(labels: Tensor) -> Tensor:
        return cross_entropy(
            logits, labels, weight=class_weights, label_smoothing=label_smoothing, reduction="none"
        ).mean()

    if mix is None:
        return mean_loss(labels)
    return mix.kept * mean_loss(labels) + (1 - mix.kept) * mean_loss(labels.roll(1))


def finished_epoch(state: TrainingState, splits: Splits, recipe: Train, run: Run, *, images: int) -> Epoch:
    """Validate the classifier and return the numbers of the epoch that is done.

    images: how many the epoch showed.
    """
    train_loss, train_accuracy = (state.sums.sum((0, 1)) / images).tolist()
    with run.clock("validation"), explained(recipe.micro_batch_size):
        logits = predict_split(
            state.used,
            splits.val,
            run.world,
            batch_size=recipe.micro_batch_size,  # what fits in training fits here
            threads=run.threads,
            says="validating",
        )
    val_loss, val_accuracy = loss_and_accuracy(logits, torch.from_numpy(splits.val.labels))
    epoch = len(state.history) + 1
    if not math.isfinite(val_loss):
        raise diverged(f"the validation loss of epoch {epoch}")
    lr = state.optimizer.param_groups[-1]["lr"]  # of the head, whose group is the last
    return Epoch(epoch, lr, train_loss, train_accuracy, val_loss, val_accuracy)


def loss_and_accuracy(logits: Tensor, labels: Tensor) -> tuple[float, float]:
    """Compute mean cross-entropy and accuracy. logits: float (images, classes); labels: int64 (images,)."""
    right = (logits.argmax(1) == labels).double().mean()
    return cross_entropy(logits.double(), labels).item(), right.item()
