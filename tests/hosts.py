"""Two hosts on this machine: network namespaces with host names of their own, joined by a virtual cable."""

import os
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager

Hosts = tuple[list[str], list[str]]
"""What to put before a command so that it runs on the first host, 10.77.0.1, or on the second, 10.77.0.2."""


class NoHostsError(Exception):
    """Says why there can be none here."""


@contextmanager
def two_hosts() -> Iterator[Hosts]:
    """Make the hosts, for the length of the block. Raises NoHostsError where that can't be done."""
    if shutil.which("ip") is None or os.geteuid() != 0:
        raise NoHostsError("network namespaces need root and the ip command of iproute2")
    names = [f"imgpipe-{os.getpid()}-{i}" for i in (1, 2)]

    def ip(*command: str) -> None:
        subprocess.run(["ip", *command], capture_output=True, text=True, check=True)

    try:
        try:
            for name in names:
                ip("netns", "add", name)
            ip("link", "add", "eth0", "netns", names[0], "type", "veth", "peer", "name", "eth0", "netns", names[1])
        except subprocess.CalledProcessError as error:
            raise NoHostsError(f"network namespaces can't be made here: {error.stderr.strip()}") from None
        for i, name in enumerate(names, 1):
            ip("-n", name, "address", "add", f"10.77.0.{i}/24", "dev", "eth0")
            ip("-n", name, "link", "set", "eth0", "up")
            ip("-n", name, "link", "set", "lo", "up")
        named = 'echo $0 > /proc/sys/kernel/hostname && exec "$@"'
        inside = [["ip", "netns", "exec", name, "unshare", "--uts", "sh", "-c", named] for name in names]
        first, second = ([*command, f"host{i}"] for i, command in enumerate(inside, 1))
        yield first, second
    finally:
        for name in names:
            subprocess.run(["ip", "netns", "delete", name], capture_output=True, check=False)
