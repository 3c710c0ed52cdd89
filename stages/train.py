import json
import logging
import os
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

from imgpipe.common import params
from imgpipe.common import stage as command
from imgpipe.common.errors import InputError
from imgpipe.common.files import write_table, write_text
from imgpipe.common.rules import SHA256, Choice, Interval, Rule, one_of, one_of_table
from imgpipe.data.packed import Statistics, read_split, read_statistics
from imgpipe.data.parallel import cores
from imgpipe.model.networks import MODEL_NAME, head_of, timm_problem, torchvision_name
from imgpipe.model.runtime import Runtime, started_by_torchrun
from imgpipe.train.augment import CROPS, POLICIES, augmentation
from imgpipe.train.normalisation import NORMALISATIONS
from imgpipe.train.optim import OPTIMIZERS
from imgpipe.train.processes import (
    PROCESSES,
    check_process_count,
    die_with_parent,
    divisors,
    largest_process_count,
    machine_count,
    restart_under_torchrun,
)
from imgpipe.train.sampling import CLASS_WEIGHTS, ORDERS
from imgpipe.train.schedules import SCHEDULES
from imgpipe.train.start import apply_freezing, frozen_in
from imgpipe.train.weights import INITIAL_WEIGHTS, is_a_file, is_a_name, load_initial_weights

if TYPE_CHECKING:
    from torch import nn

    from imgpipe.model.classifier import Classifier, Description
    from imgpipe.train.state import TrainingState

CHECKPOINTS = Path(os.environ.get("DVC_ROOT", ".")) / ".dvc" / "tmp" / "imgpipe"
"""Outside of the workspace, so that queued and temporary experiments find them too: DVC_ROOT is the project's."""

RUNS = Path("runs")
"""Times, rates and traces, which neither Git nor DVC tracks: they differ between equal runs."""

POWER_OF_TWO = Rule("a power of two (1, 2, 4, 8, ...)", lambda number: number > 0 and number & (number - 1) == 0)
Probability = Annotated[float, Interval(0, 1)]


@dataclass(frozen=True)
class Model:
    """params.yaml: model."""

    name: Annotated[str, MODEL_NAME]
    image_size: Annotated[int, Interval(low=8, high=4096)]
    crop_fraction: Annotated[float, Interval(0, 1, open_low=True)]
    dropout: Annotated[float, Interval(0, 1, open_high=True)]
    weights: Annotated[str, INITIAL_WEIGHTS]
    weights_sha256: Annotated[str, SHA256] | None
    freeze: Literal["none", "batchnorm", "backbone"]
    unfreeze_epoch: Annotated[int, Interval(low=2)] | None
    normalise: Annotated[str, one_of_table(NORMALISATIONS)]

    def __post_init__(self) -> None:
        if problem := timm_problem(self.name):
            raise InputError(f"name is '{self.name}', {problem}")
        if is_a_name(self.weights) and torchvision_name(self.name) is None:
            raise InputError(
                f"weights is '{self.weights}', a name of torchvision's, and {self.name} is none of its models; "
                "use none, a path or an address"
            )
        if is_a_file(self.weights) and Path(self.weights).parts[0] == "models":
            raise InputError(
                f"weights is '{self.weights}', and DVC empties models before this stage runs; copy the file elsewhere"
            )
        if self.weights_sha256 is not None and not is_a_file(self.weights):
            raise InputError(
                f"weights_sha256 is '{self.weights_sha256}', and weights is '{self.weights}', which takes none; "
                "make it null"
            )
        if self.unfreeze_epoch is not None and self.freeze == "none":
            raise InputError(f"unfreeze_epoch is {self.unfreeze_epoch}, and freeze is none; make it null")


@dataclass(frozen=True)
class Augment:
    """params.yaml: train.augment."""

    crop: Annotated[Callable[..., Any], Choice(CROPS)]
    horizontal_flip: Probability
    vertical_flip: Probability
    rotation: Annotated[float, Interval(0, 180)]
    policy: Annotated[Callable[..., Any], Choice(POLICIES)]
    erasing: Probability


@dataclass(frozen=True)
class Train:
    """params.yaml: train."""

    seed: Annotated[int, Interval(0, 2**32 - 1)]
    epochs: Annotated[int, Interval(low=1)]
    batch_size: Annotated[int, Interval(low=1)]
    micro_batches: Annotated[int, POWER_OF_TWO]
    precision: Literal["fp32", "bf16", "fp16"]
    cpu_threads: Annotated[int, Interval(low=1)]
    channels_last: bool
    compile: bool
    gradient_checkpointing: bool
    label_smoothing: Annotated[float, Interval(0, 1, open_high=True)]
    optimizer: Annotated[Callable[..., Any], Choice(OPTIMIZERS)]
    backbone_lr_factor: Annotated[float, Interval(low=0)]
    decay_norms_and_biases: bool
    schedule: Annotated[Callable[..., float], Choice(SCHEDULES)]
    last_batch: Literal["drop", "keep"]
    class_weights: Annotated[Callable[..., Any], Choice(CLASS_WEIGHTS)]
    clip_grad_norm: Annotated[float, Interval(low=0, open_low=True)] | None
    ema_decay: Annotated[float, Interval(0, 1, open_high=True)] | None
    early_stop_epochs: Annotated[int, Interval(low=1)] | None
    order: Annotated[str, one_of_table(ORDERS)]
    augment: Augment
    mixup_alpha: Annotated[float, Interval(low=0)]
    cutmix_alpha: Annotated[float, Interval(low=0)]

    def __post_init__(self) -> None:
        if self.batch_size % self.micro_batches:
            raise InputError(
                f"micro_batches is {self.micro_batches}, which does not divide the batch_size of {self.batch_size}; "
                f"it must be {one_of(n for n in divisors(self.batch_size) if POWER_OF_TWO.allows(n))}"
            )


def train() -> None:
    """Train the model.

    Reads data/packed; writes models/best.safetensors (of the epoch that did best on the validation split),
    models/last.safetensors, metrics/train/history.csv (a row for each epoch) and metrics/train/metrics.json.

    With more than one process (params.yaml: runtime.processes) it starts torchrun's launcher itself. Started by
    torchrun, it joins: torchrun --nproc-per-node 2 -m stages.train

    It saves checkpoints outside of the workspace (runtime.checkpoint_every), also when it is told to end (exit status
    143 after SIGTERM, 130 after SIGINT). Run again with the same parameters, data and code, it goes on from there.
    """
    if started_by_torchrun() or "DVC_STAGE" in os.environ:  # a shell may end before what was started in it by hand
        die_with_parent()
    model, settings = params.read("model", Model), params.read("train", Train)
    runtime = params.read("runtime", Runtime)
    packed = Path("data/packed")
    statistics = read_statistics(packed / "statistics.json")
    splits = {
        name: read_split(packed / name, channels=statistics.channels, encoding=statistics.encoding)
        for name in ("train", "val")
    }
    images = len(splits["train"])
    if settings.batch_size > images:
        raise InputError(
            f"params.yaml: train.batch_size is {settings.batch_size}, more than the {images} images of the "
            f"training split; at most {images // settings.micro_batches * settings.micro_batches} fit"
        )

    import torch

    from imgpipe.model.devices import device_type, joined_world
    from imgpipe.train.checkpoints import digests_of_inputs, key_of, resumed, same_everywhere
    from imgpipe.train.loop import fit
    from imgpipe.train.optim import parameter_groups
    from imgpipe.train.processes import deferred_signals
    from imgpipe.train.recomputing import recompute_in_backward
    from imgpipe.train.state import new_state
    from imgpipe.train.watching import Clock, check_tensorboard, new_run_folder, profiled, scalars, write_account

    device = device_type(runtime.device)
    classifier, description = _untrained(model, settings, statistics, device=device)
    class_weights = settings.class_weights(splits["train"].labels, statistics.classes)
    if runtime.tensorboard:
        check_tensorboard()
    # last of what can be refused is done: from here on there may be several processes
    room = torch.cuda.device_count() if device == "cuda" else None
    _start_processes(runtime.processes, settings.micro_batches, gpus=room, cpu_threads=settings.cpu_threads)
    digests = {**digests_of_inputs("train"), "device": device}
    with deferred_signals() as stop_signal, joined_world(device) as world, ExitStack() as stack:
        same_everywhere(digests, world)
        classifier.to(world.device)
        groups = parameter_groups(
            classifier.network,
            head=head_of(classifier.network),
            backbone_lr_factor=settings.backbone_lr_factor,
            decay_norms_and_biases=settings.decay_norms_and_biases,
        )
        updater = settings.optimizer(groups)
        state = new_state(classifier, updater, precision=settings.precision, ema_decay=settings.ema_decay)
        if settings.gradient_checkpointing:
            recompute_in_backward(classifier.network)
        if settings.compile:
            classifier.network.compile()

        def freeze(network: "nn.Module", epoch: int) -> None:
            frozen = frozen_in(epoch + 1, freeze=model.freeze, unfreeze_epoch=model.unfreeze_epoch)
            apply_freezing(network, frozen)

        first = world.rank == 0
        run_folder = new_run_folder(RUNS) if first else RUNS
        clock = Clock()
        write_scalar = stack.enter_context(scalars(run_folder, wanted=first and runtime.tensorboard))
        save = stack.enter_context(
            resumed(
                state,
                CHECKPOINTS / key_of(digests),
                world,
                every_seconds=runtime.checkpoint_every,
                every_steps=runtime.checkpoint_every_steps,
                stop_signal=stop_signal,
            )
        )
        epochs = fit(
            state,
            splits["train"],
            splits["val"],
            classes=len(statistics.classes),
            size=model.image_size,
            crop_fraction=model.crop_fraction,
            seed=settings.seed,
            epochs=settings.epochs,
            batch_size=settings.batch_size,
            micro_batches=settings.micro_batches,
            keep_last=settings.last_batch == "keep",
            precision=settings.precision,
            label_smoothing=settings.label_smoothing,
            class_weights=class_weights if class_weights is None else class_weights.to(world.device),
            clip_grad_norm=settings.clip_grad_norm,
            early_stop_epochs=settings.early_stop_epochs,
            schedule=settings.schedule,
            ordered=ORDERS[settings.order],
            augment=augmentation(**vars(settings.augment), colour=[round(255 * level) for level in statistics.mean]),
            mixup_alpha=settings.mixup_alpha,
            cutmix_alpha=settings.cutmix_alpha,
            freeze=freeze,
            threads=runtime.loader_threads,
            log_every=runtime.log_every,
            stop_signal=stop_signal,
            save=save,
            clock=clock,
            profile_step=stack.enter_context(profiled(run_folder, steps=runtime.profile_steps if first else 0)),
            world=world,
        )
        for epoch in epochs:
            if first:
                _write_history(state)
                for name, value in asdict(epoch).items():
                    write_scalar(name, value, epoch.epoch)
        if first:
            _write_results(state, description)
            write_account(run_folder, clock, processes=world.size, device=world.device)
            logging.info("%s", clock)


def _untrained(
    model: Model, settings: Train, statistics: Statistics, *, device: str
) -> "tuple[Classifier, Description]":
    """The classifier before the first step, and what describes it. Raises InputError where it can't be made."""
    import torch

    from imgpipe.model.classifier import Description, new_classifier
    from imgpipe.model.devices import be_deterministic, keep_freed_memory

    description = Description(
        model=model.name,
        dropout=model.dropout,
        classes=statistics.classes,
        packed_size=statistics.image_size,
        enlarge=statistics.enlarge,
        channels=statistics.channels,
        encoding=statistics.encoding,
        jpeg_quality=statistics.jpeg_quality,
        size=model.image_size,
        crop_fraction=model.crop_fraction,
        channels_last=settings.channels_last,
        device=device,
        precision=settings.precision,
        cpu_threads=settings.cpu_threads,
        flips=False,
        temperature=1.0,
    )
    keep_freed_memory()
    be_deterministic(cpu_threads=settings.cpu_threads)
    torch.manual_seed(settings.seed)
    classifier = new_classifier(description, *NORMALISATIONS[model.normalise](statistics.mean, statistics.std))
    load_initial_weights(
        classifier.network,
        model.weights,
        model=model.name,
        sha256=model.weights_sha256,
        cache=Path(torch.hub.get_dir(), "checkpoints"),
    )
    apply_freezing(classifier.network, model.freeze)  # refuses what can't be
    return classifier, description


def _start_processes(processes: int | str, micro_batches: int, *, gpus: int | None, cpu_threads: int) -> None:
    """Starts this stage anew in several processes where that is asked for; where it was, checks their number."""
    if started_by_torchrun():
        asked = int(os.environ["WORLD_SIZE"])
        said_by = "torchrun's number of processes is"
        check_process_count(asked, micro_batches=micro_batches, machines=1, said_by=said_by)
        return
    machines = machine_count(micro_batches=micro_batches)
    room = cores() // cpu_threads if gpus is None else gpus
    if processes == "auto":
        processes = largest_process_count(room, micro_batches=micro_batches, machines=machines)
    elif gpus is not None and int(processes) > gpus:
        raise InputError(f"{PROCESSES} {processes}, but there are {gpus} GPUs here; each process needs one")
    if gpus is not None and int(processes) < gpus:
        logging.info("%s of %d GPUs are used (runtime.processes, train.micro_batches)", processes, gpus)
    if processes != 1 or machines != 1:
        restart_under_torchrun(
            "imgpipe.train.launch", "stages.train", int(processes), machines=machines, cpu_threads=cpu_threads
        )


def _write_history(state: "TrainingState") -> None:
    write_table(Path("metrics/train/history.csv"), list(asdict(state.history[0])), map(asdict, state.history))


def _write_results(state: "TrainingState", description: "Description") -> None:
    from imgpipe.model.classifier import save_classifier

    assert state.best, "there is at least one epoch"
    _write_history(state)
    metrics = {"best": asdict(state.best), "last": asdict(state.history[-1])}
    write_text(Path("metrics/train/metrics.json"), json.dumps(metrics, indent=2) + "\n")
    save_classifier(Path("models/last.safetensors"), state.used, description)
    state.used.load_state_dict(state.best_weights)
    save_classifier(Path("models/best.safetensors"), state.used, description)


if __name__ == "__main__":
    command.run(train)
