"""Part: one training step of many networks, twice: none may use an operator that is random, nor end in other bits."""

from dataclasses import replace
from itertools import islice
from time import perf_counter

import torch

from imgpipe.commands.gpu_checking.launching import Say
from imgpipe.commands.gpu_checking.outcome import Facts
from imgpipe.commands.gpu_checking.plan import Scale
from imgpipe.commands.gpu_checking.training import (
    difference,
    digest_of,
    new_training,
    recipe_of,
    splits_of,
    values_of,
)
from imgpipe.common.errors import one_line
from imgpipe.model.devices import World
from imgpipe.train.loop import train_step
from imgpipe.train.micro_batches import cut, micro_batches_of
from imgpipe.train.reduction import FixedTree
from imgpipe.train.run import Run
from imgpipe.train.watching import Clock


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
    recipe, splits, state = recipe_of(scale), splits_of(scale), new_training(scale, world)
    run = Run(world, 1, lambda: 0, lambda stopped_by: None, Clock(), lambda: None)
    plan = cut(len(splits.train), recipe)
    state.classifier.train()
    batches = micro_batches_of(splits, plan, 0, recipe, run, size=scale.side, first_step=0)
    for _, parts in islice(batches, 1):
        train_step(state, FixedTree(state.classifier, world), parts, recipe, None)
    return values_of(state)
