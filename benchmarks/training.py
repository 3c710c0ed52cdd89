"""Training: this project's against torchvision's reference on the same images, and what its own parts cost.

    make bench-train DATA=images.tar MODEL=resnet18 SIZE=128

All ways alternate in one run, each in a process of its own; a way that is measured again is the control: how far its
ratio is from 1 is the noise. Ours is the train stage itself, with the project's params.yaml but for what the options
here say; it is stopped after some seconds, and validation is not counted.
"""

import importlib
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import typer
from loader import MEAN, STD, WORKERS
from omegaconf import OmegaConf

ROOT = Path(__file__).resolve().parent.parent
sys.path[:0] = [str(ROOT), str(ROOT / "src")]

WARM_UP = 10
"""Steps before a measurement."""
TWO_PROCESSES = ("plain DDP", "fixed tree")
WAYS = ("reference", "reference, best flags", "ours", "ours, portable", "ours, from memory", *TWO_PROCESSES)
AGAIN = ("reference", "ours", "plain DDP")
RATIOS = [
    ("ours", "ours, from memory"),
    ("ours", "ours, portable"),
    ("ours", "reference"),
    ("ours", "reference, best flags"),
    ("plain DDP", "fixed tree"),
    *((f"{way} again", way) for way in AGAIN),
]

app = typer.Typer(add_completion=False, pretty_exceptions_enable=False)


@app.command()
def compare(
    data: Path,
    model: str = "resnet18",
    size: int = 128,
    crop: str = "resized",
    batch: int = 64,
    micro_batches: int = 1,
    precision: str = "fp32",
    rounds: int = 5,
    seconds: float = 10.0,
    two_processes: bool = False,
) -> None:
    """Prints images a second and the medians of the paired ratios.

    two_processes: measure plain DDP and fixed tree alone.

    crop: resized or padded (by an eighth). micro_batches: of ours in one process; in two there are two. precision: of
    ours; bf16 is slower than fp32 on a processor without instructions for it. seconds: that a measurement takes, after
    a warm-up.

    reference: torchvision's loader with two workers, fp32. best flags: bf16 autocast, channels_last, workers kept.
    portable: ours in fp32 with the kernels that have the same bits on other processors; else ours has native ones.
    from memory: the same images in every step, made beforehand. plain DDP and fixed tree: two processes of one
    thread, from memory, gradients summed by DistributedDataParallel's own all-reduce or in the order of the tree.
    """
    from imgpipe.common.kernels import NETWORK

    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        write = partial(write_params, folder, data, model=model, size=size, crop=crop, batch=batch)
        write(micro_batches=micro_batches, precision=precision, kernels="native", cpu_threads=2)
        pack_images(folder)
        wanted = TWO_PROCESSES if two_processes else WAYS
        again = [f"{way} again" for way in AGAIN if way in wanted]
        rates: dict[str, list[float]] = {name: [] for name in (*wanted, *again)}
        for _ in range(rounds):
            for name, measured in rates.items():
                way = name.removesuffix(" again")
                kernels = "portable" if way == "ours, portable" else "native"
                write(
                    micro_batches=2 if way in TWO_PROCESSES else micro_batches,
                    precision="fp32" if kernels == "portable" else precision,
                    kernels=kernels,
                    cpu_threads=1 if way in TWO_PROCESSES else 2,
                )
                launcher = []
                if way in TWO_PROCESSES:
                    launcher = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
                out = run(
                    folder,
                    [*launcher, __file__, "measure", way, model, str(size), crop, str(batch), str(seconds)],
                    **(NETWORK if kernels == "portable" else {}),
                )
                measured.append(float(out.split()[-1]))
                typer.echo(f"  {name:24} {measured[-1]:10.1f} images/s", err=True)
    typer.echo(f"{model}, {size} px, {crop} crops, batches of {batch}, micro-batches: {micro_batches}, {precision}")
    for name, measured in rates.items():
        typer.echo(f"{name:24} {statistics.median(measured):10.1f} images/s")
    typer.echo(f"medians of {rounds} ratios, and their range")
    for a, b in (pair for pair in RATIOS if rates.keys() >= set(pair)):
        ratios = [one / other for one, other in zip(rates[a], rates[b], strict=True)]
        typer.echo(f"{f'{a} / {b}':40} {statistics.median(ratios):6.3f}  {min(ratios):.3f} to {max(ratios):.3f}")


def pack_images(folder: Path) -> None:
    """Run the stages before the training in a folder that has a params.yaml."""
    for name in ("dvc.yaml", "packages.yaml", "src", "stages"):  # what the train stage's checkpoints belong to
        (folder / name).symlink_to(ROOT / name)
    for stage in ("download", "prepare", "pack"):
        run(folder, ["-m", f"stages.{stage}"])


def run(folder: Path, command: list[str], **variables: str) -> str:
    """What Python prints, run in a folder with these variables set; the stages are those of this project."""
    environment = {**os.environ, "PYTHONPATH": f"{ROOT}{os.pathsep}{ROOT / 'src'}", "OMP_NUM_THREADS": "2", **variables}
    environment.pop("DVC_ROOT", None)
    done = subprocess.run(
        [sys.executable, *command], cwd=folder, env=environment, stdout=subprocess.PIPE, text=True, check=True
    )
    return done.stdout


def write_params(
    folder: Path,
    data: Path,
    *,
    model: str,
    size: int,
    crop: str,
    batch: int,
    micro_batches: int,
    precision: str,
    kernels: str,
    cpu_threads: int,
) -> None:
    """The project's params.yaml, changed for these images. Nothing of what matters to speed alone is changed."""
    params: Any = OmegaConf.load(ROOT / "params.yaml")
    params.runtime.processes = 1
    params.runtime.device = "cpu"
    params.download.source, params.download.location = "archive", str(data.resolve())
    params.prepare.format = "tree"
    params.pack.image_size, params.pack.channels = (size if size <= 32 else size * 8 // 7), 3
    params.model.name, params.model.image_size = model, size
    params.train.epochs = 100000
    params.train.batch_size, params.train.micro_batches = batch, micro_batches
    params.train.precision, params.train.kernels, params.train.cpu_threads = precision, kernels, cpu_threads
    params.train.optimizer.sgd.lr = 0.001  # too slow to diverge
    params.train.augment.crop.name = crop
    params.train.augment.crop.resized.scale_low = 0.08
    params.train.augment.crop.padded.padding = size // 8
    params.train.augment.horizontal_flip = 0.5
    OmegaConf.save(params, folder / "params.yaml")


@app.command()
def measure(way: str, model: str, size: int, crop: str, batch: int, seconds: float) -> None:
    """Prints how many images a second one way trains on, in the folder that ``compare`` has prepared."""
    if way.startswith("reference"):
        rate = reference(model, size, crop, batch, seconds, best=way != "reference")
    else:
        rate = ours(size, batch, seconds, from_memory=way not in ("ours", "ours, portable"), plain=way == "plain DDP")
    if os.environ.get("RANK", "0") == "0":
        typer.echo(rate)


class Watch:
    """Counts images from the end of the warm-up to the end of the measurement, which raises StopIteration."""

    def __init__(self, seconds: float) -> None:
        self.seconds = seconds
        self.step, self.images, self.elsewhere = 0, 0, 0.0
        self.last_step = sys.maxsize

    def count(self, images: int) -> None:
        """To be called after each step."""
        now = time.perf_counter()
        self.step += 1
        if self.step == WARM_UP // 2:
            self.half = now
        if self.step == WARM_UP:
            each = (now - self.half) / (WARM_UP - WARM_UP // 2)
            self.last_step = WARM_UP + agreed(max(5, int(self.seconds / each)))
            self.start, self.elsewhere = time.perf_counter(), 0.0
        elif self.step > WARM_UP:
            self.images += images
        if self.step == self.last_step:
            self.rate = self.images / (now - self.start - self.elsewhere)
            raise Measured

    @contextmanager
    def not_counting(self) -> Iterator[None]:
        start = time.perf_counter()
        yield
        self.elsewhere += time.perf_counter() - start


class Measured(SystemExit):
    """Ends a training, in all of its processes."""


def agreed(steps: int) -> int:
    """The first process's number of steps."""
    import torch
    import torch.distributed as dist

    number = torch.tensor(steps)
    if dist.is_initialized():
        dist.broadcast(number, 0)
    return int(number)


def ours(size: int, batch: int, seconds: float, *, from_memory: bool, plain: bool) -> float:
    """Images a second of the train stage. plain: gradients summed by DistributedDataParallel alone."""
    import torch

    from stages.train import train

    training: Any = importlib.import_module("imgpipe.train.loop")
    feeding: Any = importlib.import_module("imgpipe.train.micro_batches")
    watch = Watch(seconds)
    train_step, predict_split = training.train_step, training.predict_split
    processes = int(os.environ.get("WORLD_SIZE", "1"))

    def counted(state: Any, tree: Any, micro_batches: Any, *rest: Any) -> Any:
        sums = train_step(state, tree, micro_batches, *rest)
        watch.count(processes * sum(len(one.labels) for one in micro_batches))
        return sums

    def validated(*arguments: Any, **options: Any) -> Any:
        with watch.not_counting():
            return predict_split(*arguments, **options)

    def ready(split: Any, order: Any, places: Any, *_: Any, **__: Any) -> Any:
        images = torch.randint(256, (batch, size, size, 3), dtype=torch.uint8)
        labels = torch.from_numpy(split.labels[order[:batch]])
        for place in places:
            length = place.stop - place.start
            yield images[:length], labels[:length], place

    training.train_step, training.predict_split = counted, validated
    if from_memory:
        feeding.batches = ready
    if plain:
        training.FixedTree = PlainSum
    try:
        train()
    except Measured:
        return watch.rate
    raise AssertionError("the training ended before the measurement")


class PlainSum:
    """In the place of a FixedTree: the mean gradient over the processes by DistributedDataParallel's all-reduce."""

    def __init__(self, module: Any, *_: Any, **__: Any) -> None:
        from torch.nn.parallel import DistributedDataParallel

        self.parts = 1
        self.parallel = DistributedDataParallel(module)

    def start_batch(self) -> None: ...

    @classmethod
    def for_trained(cls, module: Any, world: Any, earlier: Any) -> Any:
        return earlier or cls(module, world)

    @contextmanager
    def micro_batch(self, *_: Any, last: bool) -> Iterator[Any]:
        assert last, "each of the two processes has one micro-batch"
        yield self.parallel


def reference(model: str, size: int, crop: str, batch: int, seconds: float, *, best: bool) -> float:
    """Images a second of torchvision's references/classification/train.py: its loader and its train_one_epoch."""
    import torch
    from torch import nn
    from torchvision import datasets, transforms

    from imgpipe.model.networks import build_model

    cut = transforms.RandomResizedCrop(size) if crop == "resized" else transforms.RandomCrop(size, padding=size // 8)
    steps = [cut, transforms.RandomHorizontalFlip(), transforms.PILToTensor()]
    steps += [transforms.ConvertImageDtype(torch.float), transforms.Normalize(MEAN, STD)]
    dataset = datasets.ImageFolder("data/prepared/train", transforms.Compose(steps))
    loader = torch.utils.data.DataLoader(
        dataset, batch_size=batch, shuffle=True, num_workers=WORKERS, drop_last=True, persistent_workers=best
    )
    torch.set_num_threads(2)
    network = build_model(model, channels=3, classes=len(dataset.classes), size=size, dropout=0.0).train()
    if best:
        network = network.to(memory_format=torch.channels_last)
    criterion = nn.CrossEntropyLoss(label_smoothing=0.1)
    updater = torch.optim.SGD(network.parameters(), lr=0.001, momentum=0.9, weight_decay=5e-4, nesterov=True)
    watch = Watch(seconds)
    try:
        while True:
            for images, labels in loader:
                if best:
                    images = images.to(memory_format=torch.channels_last)
                with torch.autocast("cpu", dtype=torch.bfloat16, enabled=best):
                    output = network(images)
                    loss = criterion(output, labels)
                updater.zero_grad()
                loss.backward()
                updater.step()
                loss.item()
                output.topk(5, 1)
                watch.count(len(labels))
    except Measured:
        return watch.rate


if __name__ == "__main__":
    app()
