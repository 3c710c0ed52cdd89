"""Part: time steps of ours beside those of a plain loop, in alternating rounds, and steps with the loader."""

import statistics
from collections.abc import Callable, Iterator
from itertools import cycle
from time import perf_counter

import torch
import torch.distributed as dist
from torch import nn
from torch.nn.functional import cross_entropy
from torch.nn.parallel import DistributedDataParallel

from imgpipe.commands.gpu_checking.launching import Say
from imgpipe.commands.gpu_checking.outcome import Facts
from imgpipe.commands.gpu_checking.plan import Scale
from imgpipe.commands.gpu_checking.training import batches_of, gathered, new_training, recipe_of
from imgpipe.data.parallel import cores
from imgpipe.model.devices import World, autocast
from imgpipe.train.loop import train_step
from imgpipe.train.micro_batches import MicroBatch
from imgpipe.train.params import Train
from imgpipe.train.reduction import FixedTree
from imgpipe.train.run import of_all_processes
from imgpipe.train.state import TrainingState

ROUNDS = 3

Step = Callable[[], None]


def found(world: World, settings: Facts, say: Say) -> Facts:
    """Time steps, of one part a process.

    settings: scale; steps, of each round.

    Returns images_per_second, by the way, each round; threads, which make batches on half of the cores; and ratio.
    """
    scale, steps = Scale(**settings["scale"]), settings["steps"]
    recipe, threads = recipe_of(scale), max(1, cores() // world.size // 2)
    loaded = batches_of(scale, world, threads=threads)
    kept = next(loaded)
    images, labels = kept[0].images.to(world.device), kept[0].labels.to(world.device)
    memory = [MicroBatch(images, labels, kept[0].weight, None, 0)]
    ways: dict[str, Step] = {
        "plain loop": _plain(new_training(scale, world), memory[0], world, recipe),
        "ours": _ours(new_training(scale, world), cycle([memory]), world, recipe),
        "ours with the loader": _ours(new_training(scale, world), loaded, world, recipe),
    }
    rates: dict[str, list[float]] = {name: [] for name in ways}
    for number in range(ROUNDS + 1):  # one to warm up
        for name, step in ways.items():
            say(f"{name}, round {number} of {ROUNDS}" if number else f"{name}, warming up")
            seconds = max(gathered(_timed(step, steps, world), world))
            if number:
                rates[name].append(round(steps * scale.batch / seconds, 1))
    return {"images_per_second": rates, "threads": threads, "ratio": _ratio(rates)}


def _ratio(rates: dict[str, list[float]]) -> float:
    """Return how many times the plain loop's time ours takes: the median over the rounds."""
    pairs = zip(rates["plain loop"], rates["ours"], strict=True)
    return round(statistics.median(plain / ours for plain, ours in pairs), 3)


def _ours(state: TrainingState, batches: Iterator[list[MicroBatch]], world: World, recipe: Train) -> Step:
    tree = FixedTree(state.classifier.train(), world)

    def step() -> None:
        of_all_processes(train_step(state, tree, next(batches), recipe, None), world)

    return step


def _plain(state: TrainingState, batch: MicroBatch, world: World, recipe: Train) -> Step:
    """Make the step that everybody writes, with torch's own DistributedDataParallel where there are several."""
    module: nn.Module = state.classifier.train()
    if world.size > 1:
        module = DistributedDataParallel(module)

    def step() -> None:
        state.optimizer.zero_grad()
        with autocast(world.device, recipe.precision):
            logits = module(batch.images)
        cross_entropy(logits, batch.labels, label_smoothing=recipe.label_smoothing).backward()
        state.optimizer.step()

    return step


def _timed(step: Step, steps: int, world: World) -> float:
    """Return the seconds of so many steps, until the GPU has done them."""
    if world.size > 1:
        dist.barrier()
    start = perf_counter()
    for _ in range(steps):
        step()
    if world.device.type == "cuda":
        torch.cuda.synchronize(world.device)
    return perf_counter() - start
