"""Part: each process trains alone for a few steps; all must end in the same bits."""

import os
import socket
import tempfile
from pathlib import Path

import torch

from imgpipe.commands.gpu_checking.launching import Say
from imgpipe.commands.gpu_checking.outcome import Facts
from imgpipe.commands.gpu_checking.plan import Scale
from imgpipe.commands.gpu_checking.training import (
    differences_from_first,
    digest_of,
    gathered,
    trained,
    values_of,
)
from imgpipe.model.devices import World


def found(world: World, settings: Facts, say: Say) -> Facts:
    """Train alone.

    Returns cards, the name of each process's card; digests, of what each ended with; differing, by the number of a
    process, how it differs from the first.
    """
    say("each trains alone")
    with tempfile.TemporaryDirectory() as folder:
        state = trained(Scale(**settings["scale"]), World(0, 1, world.device), Path(folder))
    values = values_of(state)
    return {
        "cards": gathered(_card(world), world),
        "digests": gathered(digest_of(values), world),
        "differing": differences_from_first(values, world),
    }


def _card(world: World) -> str:
    """Name what this process computes on."""
    if world.device.type == "cpu":
        return f"process {world.rank} on {socket.gethostname()}"
    local, properties = os.environ.get("LOCAL_RANK", "0"), torch.cuda.get_device_properties(world.device)
    return f"GPU {local} on {socket.gethostname()} ({properties.name}, {properties.uuid})"
