"""Part: sum tensors over the processes as training does, to the bit, and time it beside torch's all_reduce."""

import statistics
from collections.abc import Callable, Sequence
from time import perf_counter

import torch
import torch.distributed as dist
from torch import Tensor

from imgpipe.commands.gpu_checking.launching import Say
from imgpipe.commands.gpu_checking.outcome import Facts
from imgpipe.commands.gpu_checking.training import gathered
from imgpipe.model.devices import World
from imgpipe.train.exchange import Exchange

ROUNDS = 5

Total = Callable[[Tensor], Tensor]
"""Sums a tensor over the processes, as training does."""


def found(world: World, settings: Facts, say: Say) -> Facts:
    """Sum tensors of float32, and compare with the sum of the same tensors made here.

    settings: lengths, of tensors to compare; megabytes, of those that are timed.

    Returns wrong, by the length, how a process's sum differs; gigabytes_per_second, by the megabytes, of ours and of
    all_reduce: the tensor's bytes in the median time.
    """
    exchange = Exchange(world)

    def total(flat: Tensor) -> Tensor:
        return exchange.beside(lambda: exchange.sum_in_place(flat)).wait()

    wrong, rates = {}, {}
    for length in settings["lengths"]:
        say(f"{length:,} numbers")
        problems = gathered(_wrong(total, length, world), world)
        if any(problems):
            wrong[str(length)] = next(f"process {rank}: {text}" for rank, text in enumerate(problems) if text)
    for size in settings["megabytes"]:
        say(f"{size} MB")
        rates[str(size)] = _rates(total, size, world)
    return {"wrong": wrong, "gigabytes_per_second": rates}


def _wrong(total: Total, length: int, world: World) -> str | None:
    """Say how the sum over the processes differs from the tree of the same tensors on one device."""
    every = [_random(length, rank, world) for rank in range(world.size)]
    found, expected = total(every[world.rank].clone()), _tree(every)
    apart = found != expected
    if not apart.any():
        return None
    most = float((found - expected).abs().max())
    return f"{int(apart.sum()):,} of {length:,} numbers, by {most:.3g} at most, the first at {int(apart.nonzero()[0])}"


def _random(length: int, rank: int, world: World) -> Tensor:
    """Return what a process contributes: numbers of all magnitudes, whose sum shows its order."""
    numbers = torch.Generator().manual_seed(rank)
    magnitudes = torch.randn(length, generator=numbers).mul_(3).exp_()
    return magnitudes.mul_(torch.randn(length, generator=numbers)).to(world.device)


def _tree(terms: Sequence[Tensor]) -> Tensor:
    """Sum in the order that training promises: halves of halves, written down once more and in the plainest way."""
    half = len(terms) // 2
    return _tree(terms[:half]) + _tree(terms[half:]) if half else terms[0]


def _rates(total: Total, megabytes: int, world: World) -> dict[str, float]:
    """Time both ways, one after the other in each round. Zeros stay zeros, however often they are summed."""
    flat = torch.zeros(megabytes * 250_000, device=world.device)
    ways: dict[str, Callable[[], object]] = {
        "ours": lambda: total(flat),
        "all_reduce": lambda: dist.all_reduce(flat),
    }
    taken: dict[str, list[float]] = {name: [] for name in ways}
    for _ in range(ROUNDS + 1):
        for name, sums in ways.items():
            dist.barrier()
            start = perf_counter()
            sums()
            if world.device.type == "cuda":
                torch.cuda.synchronize(world.device)
            taken[name].append(perf_counter() - start)
    return {name: round(megabytes / 1000 / statistics.median(times[1:]), 3) for name, times in taken.items()}
