import json
import logging
import os
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Optional

from imgpipe import params
from imgpipe.crops import CROPS
from imgpipe.errors import InputError
from imgpipe.files import write_text
from imgpipe.freezing import FREEZES, apply_freezing
from imgpipe.models import ModelName, model_names, timm_problem, torchvision_name
from imgpipe.normalisation import NORMALISATIONS
from imgpipe.optim import OPTIMIZERS
from imgpipe.orders import ORDERS
from imgpipe.packed import read_split, read_statistics
from imgpipe.parallel import cores
from imgpipe.processes import (
    PROCESSES,
    check_process_count,
    divisors,
    largest_process_count,
    restart_under_torchrun,
    started_by_torchrun,
)
from imgpipe.rules import Choice, Interval, OneOf, PowerOfTwo, Sha256, one_of
from imgpipe.schedules import SCHEDULES
from imgpipe.tables import write_table
from imgpipe.transforms import POLICIES, augmentation
from imgpipe.weights import InitialWeights, is_a_file, is_a_name, load_initial_weights
from stages import command
from stages.runtime import Runtime

if TYPE_CHECKING:
    from imgpipe.classifier import Classifier, Description
    from imgpipe.training import Epoch

Probability = Annotated[float, Interval(0, 1)]


@dataclass(frozen=True)
class Model:
    """params.yaml: model."""

    name: Annotated[str, ModelName(model_names)]
    image_size: Annotated[int, Interval(low=8, high=4096)]
    crop_fraction: Annotated[float, Interval(0, 1, open_low=True)]
    dropout: Annotated[float, Interval(0, 1, open_high=True)]
    weights: Annotated[str, InitialWeights()]
    weights_sha256: Annotated[Optional[str], Sha256()]
    freeze: Annotated[str, OneOf(FREEZES)]
    unfreeze_epoch: Annotated[Optional[int], Interval(low=2)]
    normalise: Annotated[str, OneOf(NORMALISATIONS)]

    def __post_init__(self) -> None:
        if problem := timm_problem(self.name):
            raise InputError(f"name is '{self.name}', {problem}")
        if is_a_name(self.weights) and torchvision_name(self.name) is None:
            raise InputError(
                f"weights is '{self.weights}', a name of torchvision's, and {self.name} is none of its models; "
                "use none, a path or an address"
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
    micro_batches: Annotated[int, PowerOfTwo()]
    precision: Annotated[str, OneOf(("fp32", "bf16", "fp16"))]
    label_smoothing: Annotated[float, Interval(0, 1, open_high=True)]
    cpu_threads: Annotated[int, Interval(low=1)]
    optimizer: Annotated[Callable[..., Any], Choice(OPTIMIZERS)]
    schedule: Annotated[Callable[..., float], Choice(SCHEDULES)]
    order: Annotated[str, OneOf(ORDERS)]
    augment: Augment
    mixup_alpha: Annotated[float, Interval(low=0)]
    cutmix_alpha: Annotated[float, Interval(low=0)]

    def __post_init__(self) -> None:
        if self.batch_size % self.micro_batches:
            raise InputError(
                f"micro_batches is {self.micro_batches}, which does not divide the batch_size of {self.batch_size}; "
                f"it must be {one_of(n for n in divisors(self.batch_size) if PowerOfTwo().allows(n))}"
            )


def train() -> None:
    """Train the model.

    Reads data/packed; writes models/best.safetensors (of the epoch that did best on the validation split),
    models/last.safetensors, metrics/train/history.csv (a row for each epoch) and metrics/train/metrics.json.

    With more than one process (params.yaml: runtime.processes) it starts torchrun's launcher itself. Started by
    torchrun, it joins: torchrun --nproc-per-node 2 -m stages.train
    """
    model, settings = params.read("model", Model), params.read("train", Train)
    runtime = params.read("runtime", Runtime)
    packed = Path("data/packed")
    statistics = read_statistics(packed / "statistics.json")
    splits = {
        name: read_split(packed / name, channels=statistics.channels, encoding=statistics.encoding)
        for name in ("train", "val")
    }
    pictures = len(splits["train"])
    if settings.batch_size > pictures:
        raise InputError(
            f"params.yaml: train.batch_size is {settings.batch_size}, more than the {pictures} pictures of the "
            f"training split; at most {pictures // settings.micro_batches * settings.micro_batches} fit"
        )

    import torch

    from imgpipe.classifier import Description, new_classifier
    from imgpipe.devices import be_deterministic, device_type, joined_world
    from imgpipe.training import fit

    device = device_type(runtime.device)
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
        device=device,
        precision=settings.precision,
        cpu_threads=settings.cpu_threads,
        flips=False,
        temperature=1.0,
    )
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
    apply_freezing(classifier.network, model.freeze)
    # last of what can be refused is done: from here on there may be several processes
    room = torch.cuda.device_count() if device == "cuda" else None
    _start_processes(runtime.processes, settings.micro_batches, gpus=room, cpu_threads=settings.cpu_threads)
    with joined_world(device) as world:
        epochs = fit(
            classifier.to(world.device),
            splits["train"],
            splits["val"],
            classes=len(statistics.classes),
            size=model.image_size,
            crop_fraction=model.crop_fraction,
            seed=settings.seed,
            epochs=settings.epochs,
            batch_size=settings.batch_size,
            micro_batches=settings.micro_batches,
            precision=settings.precision,
            label_smoothing=settings.label_smoothing,
            optimizer=settings.optimizer,
            schedule=settings.schedule,
            ordered=ORDERS[settings.order],
            augment=augmentation(**vars(settings.augment), colour=[round(255 * level) for level in statistics.mean]),
            mixup_alpha=settings.mixup_alpha,
            cutmix_alpha=settings.cutmix_alpha,
            threads=runtime.loader_threads,
            log_every=runtime.log_every,
            world=world,
        )
        if world.rank == 0:
            _record(epochs, classifier, description)
        else:
            for _ in epochs:
                pass


def _start_processes(processes: int | str, micro_batches: int, *, gpus: int | None, cpu_threads: int) -> None:
    """Starts this stage anew in several processes where that is asked for; where it was, checks their number."""
    if started_by_torchrun():
        asked = int(os.environ["WORLD_SIZE"])
        check_process_count(asked, micro_batches=micro_batches, said_by="torchrun's number of processes is")
        return
    room = cores() // cpu_threads if gpus is None else gpus
    if processes == "auto":
        processes = largest_process_count(room, micro_batches=micro_batches)
    elif gpus is not None and int(processes) > gpus:
        raise InputError(f"{PROCESSES} {processes}, but there are {gpus} GPUs here; each process needs one")
    if gpus is not None and int(processes) < gpus:
        logging.info("%s of %d GPUs are used (runtime.processes, train.micro_batches)", processes, gpus)
    if processes != 1:
        restart_under_torchrun("stages.train", int(processes), cpu_threads=cpu_threads)


def _record(epochs: "Iterator[Epoch]", classifier: "Classifier", description: "Description") -> None:
    """Writes the stage's outputs, as the epochs end."""
    from imgpipe.classifier import save_classifier

    history: list[Epoch] = []
    best: Epoch | None = None
    for epoch in epochs:
        history.append(epoch)
        write_table(Path("metrics/train/history.csv"), list(asdict(epoch)), map(asdict, history))
        if epoch.better_than(best):
            best = epoch
            save_classifier(Path("models/best.safetensors"), classifier, description)
    assert best, "there is at least one epoch"
    save_classifier(Path("models/last.safetensors"), classifier, description)
    metrics = {"best": asdict(best), "last": asdict(history[-1])}
    write_text(Path("metrics/train/metrics.json"), json.dumps(metrics, indent=2) + "\n")


if __name__ == "__main__":
    command.run(train)
