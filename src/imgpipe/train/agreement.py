"""Whether the processes that train together have the same images, parameters and code."""

import socket
from collections.abc import Mapping

import torch.distributed as dist

from imgpipe.common.errors import InputError
from imgpipe.model.devices import World


def same_everywhere(digests: Mapping[str, str], world: World) -> None:
    """Compares what each process has with what process 0 has. Every process of the world calls it.

    digests: what the result depends on: its name for the user, such as a path, and a digest of its content.

    Raises InputError, the same on every process, that names what differs and on which machines.
    """
    if world.size == 1:
        return
    everybody: list[tuple[str, dict[str, str]]] = [("", {})] * world.size
    dist.all_gather_object(everybody, (socket.gethostname(), dict(digests)))
    first_host, expected = everybody[0]
    differing: dict[tuple[str, ...], list[str]] = {}
    for process, (host, found) in enumerate(everybody):
        names = {name for name in expected.keys() | found.keys() if found.get(name) != expected.get(name)}
        if names:
            differing.setdefault(tuple(sorted(names)), []).append(f"{host} (process {process})")
    if differing:
        said = "; ".join(f"{', '.join(names)} on {', '.join(hosts)}" for names, hosts in differing.items())
        raise InputError(
            f"the machines do not train the same: {said}: not as on {first_host} (process 0); bring the project's "
            "folder to one state on all of them, for example by git pull and dvc pull"
        )
