"""Part: one training step of many networks, twice: none may use an operator that is random, nor end in other bits."""

from dataclasses import replace
from time import perf_counter

import torch

from imgpipe.commands.gpu_checking.launching import Say
from imgpipe.commands.gpu_checking.outcome import Facts
from imgpipe.commands.gpu_checking.plan import Scale
from imgpipe.commands.gpu_checking.training import (
    batches_of,
    difference,
    digest_of,
    new_training,
    recipe_of,
    values_of,
)
from imgpipe.common.errors import one_line
from imgpipe.model.devices import World
from imgpipe.train.loop import train_step
from imgpipe.train.reduction import FixedTree


def found(world: World, settings: Facts, say: Say) -> Facts:
    """Step each network twice from the same weights.

    Returns, by the network: digest; seconds; and, where it is not as it should be, problem.
    """
    facts = {}
    for number, network in enumerate(settings["networks"], 1):
        say(f"{network}, {number} of {len(settings['networks'])}")
        start = perf_counter()
        facts[network] = _twice(replace(Scale(**settings["scale"]), network=network), world)
        facts[network]["seconds"] = round(perf_counter() - start, 2)
    return facts


def _twice(scale: Scale, world: World) -> Facts:
    try:
        first, second = (_stepped(scale, world) for _ in range(2))
    except Exception as error:  # of an operator, which the check is after
        return {"problem": one_line(error, named=True)}
    differing = difference(second, first)
    return {"digest": digest_of(first)} | ({"problem": f"two equal steps differ {differing}"} if differing else {})


def _stepped(scale: Scale, world: World) -> dict[str, torch.Tensor | str]:
    """Return all that a new training has after one step."""
    state = new_training(scale, world)
    tree = FixedTree(state.classifier.train(), world)
    train_step(state, tree, next(batches_of(scale, world, threads=1)), recipe_of(scale), None)
    return values_of(state)
