import json
import os
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Annotated, Any

from imgpipe import params
from imgpipe.errors import InputError
from imgpipe.files import write_text
from imgpipe.models import build_model, model_names
from imgpipe.optim import OPTIMIZERS
from imgpipe.packed import read_split, read_statistics
from imgpipe.processes import process_count, restart_under_torchrun, started_by_torchrun
from imgpipe.rules import Choice, Interval, OneOf
from imgpipe.schedules import SCHEDULES
from imgpipe.tables import write_table
from imgpipe.transforms import AUGMENTATIONS
from stages import command
from stages.runtime import Runtime, cores


@dataclass(frozen=True)
class Model:
    """params.yaml: model."""

    name: Annotated[str, OneOf(model_names)]
    dropout: Annotated[float, Interval(0, 1, open_high=True)]


@dataclass(frozen=True)
class Train:
    """params.yaml: train."""

    seed: Annotated[int, Interval(low=0)]
    epochs: Annotated[int, Interval(low=1)]
    batch_size: Annotated[int, Interval(low=1)]
    micro_batches: Annotated[int, Interval(low=1)]
    precision: Annotated[str, OneOf(("fp32", "bf16", "fp16"))]
    label_smoothing: Annotated[float, Interval(0, 1, open_high=True)]
    cpu_threads: Annotated[int, Interval(low=1)]
    optimizer: Annotated[Callable[..., Any], Choice(OPTIMIZERS)]
    schedule: Annotated[Callable[..., float], Choice(SCHEDULES)]
    augment: Annotated[Callable[..., Any], Choice(AUGMENTATIONS)]

    def __post_init__(self) -> None:
        if self.batch_size % self.micro_batches:
            fitting = [n for n in range(1, self.batch_size + 1) if self.batch_size % n == 0]
            raise InputError(
                f"micro_batches is {self.micro_batches}, which does not divide the batch_size of {self.batch_size}; "
                f"it must be one of {', '.join(map(str, fitting))}"
            )


def train() -> None:
    """Train the model.

    Reads data/packed; writes models/best.safetensors (of the epoch that did best on the validation split),
    models/last.safetensors, metrics/train/history.csv (a row for each epoch) and metrics/train/metrics.json.

    With more than one process (params.yaml: runtime.processes) it starts torchrun's launcher itself. Started by
    torchrun, it joins: torchrun --nproc-per-node 2 -m stages.train
    """
    model, train, runtime = params.read("model", Model), params.read("train", Train), params.read("runtime", Runtime)
    packed = Path("data/packed")
    statistics = read_statistics(packed / "statistics.json")
    train_split, val_split = (read_split(packed / name, statistics.channels) for name in ("train", "val"))
    if train.batch_size > len(train_split):
        raise InputError(
            f"params.yaml: train.batch_size is {train.batch_size}, more than the {len(train_split)} pictures of the "
            f"training split; at most {len(train_split) // train.micro_batches * train.micro_batches} fit"
        )

    import torch

    from imgpipe import devices
    from imgpipe.classifier import Classifier, Description, save_classifier
    from imgpipe.training import Epoch, fit

    device_type = devices.device_type(runtime.device)
    if started_by_torchrun():
        process_count(int(os.environ["WORLD_SIZE"]), micro_batches=train.micro_batches)
    else:
        most = torch.cuda.device_count() if device_type == "cuda" else cores() // train.cpu_threads
        processes = process_count(runtime.processes, micro_batches=train.micro_batches, most=most)
        if processes > 1:
            restart_under_torchrun("stages.train", processes, cpu_threads=train.cpu_threads)

    devices.be_deterministic(cpu_threads=train.cpu_threads)
    torch.manual_seed(train.seed)
    network = build_model(
        model.name,
        channels=statistics.channels,
        classes=len(statistics.classes),
        size=statistics.image_size,
        dropout=model.dropout,
    )
    description = Description(
        model=model.name,
        dropout=model.dropout,
        classes=statistics.classes,
        channels=statistics.channels,
        size=statistics.image_size,
        device=device_type,
        precision=train.precision,
        cpu_threads=train.cpu_threads,
    )
    history: list[Epoch] = []
    best: Epoch | None = None
    with devices.joined_world(device_type) as world:
        classifier = Classifier(network, statistics.mean, statistics.std).to(world.device)
        for epoch in fit(
            classifier,
            train_split,
            val_split,
            classes=len(statistics.classes),
            size=statistics.image_size,
            seed=train.seed,
            epochs=train.epochs,
            batch_size=train.batch_size,
            micro_batches=train.micro_batches,
            precision=train.precision,
            label_smoothing=train.label_smoothing,
            optimizer=train.optimizer,
            schedule=train.schedule,
            augment=train.augment,
            threads=runtime.loader_threads,
            log_every=runtime.log_every,
            world=world,
        ):
            if world.rank == 0:
                history.append(epoch)
                write_table(Path("metrics/train/history.csv"), map(asdict, history))
                if epoch.better_than(best):
                    best = epoch
                    save_classifier(Path("models/best.safetensors"), classifier, description)
        if world.rank == 0:
            assert best
            save_classifier(Path("models/last.safetensors"), classifier, description)
            write_text(Path("metrics/train/metrics.json"), json.dumps({"best": asdict(best), "last": asdict(epoch)}, indent=2) + "\n")


if __name__ == "__main__":
    command.run(train)
