"""How much room a machine has: disk and memory."""

import shutil
from pathlib import Path

from imgpipe.commands.finding import Finding

LITTLE = 1 << 30
"""Bytes of free disk or memory below which a run is likely to fail."""


def disk(folder: Path) -> Finding:
    """Measure how much room the disk has."""
    free = shutil.disk_usage(folder).free
    return Finding("disk", f"{gib(free)} free in {folder}", "make room" if free < LITTLE else None)


def memory() -> Finding:
    """Measure the memory that a new process can take, as far as the system and the limit of a container let it."""
    free = min(_free_of_system(), _free_of_container())
    if free == float("inf"):
        return Finding("memory", "this system does not say how much is free")
    return Finding("memory", f"{gib(free)} free", "close programs, or give more" if free < LITTLE else None)


def _free_of_system() -> float:
    """Return Linux's MemAvailable in bytes (man proc_meminfo), which counts caches that can be dropped."""
    try:
        lines = Path("/proc/meminfo").read_text(encoding="ascii").splitlines()
    except OSError:
        return float("inf")
    return next(int(line.split()[1]) * 1024.0 for line in lines if line.startswith("MemAvailable:"))


def _free_of_container(control: Path = Path("/sys/fs/cgroup")) -> float:
    """Return the limit of cgroups, version 2, less what is used, in bytes.

    Files in the cache that nobody used of late count as free: they are dropped where memory is short.
    Source: Linux documentation, admin-guide/cgroup-v2, memory.
    """
    names = ("max", "current", "stat")
    try:
        limit, used, stat = ((control / f"memory.{name}").read_text(encoding="ascii").strip() for name in names)
    except OSError:
        return float("inf")
    cached = next(int(line.split()[1]) for line in stat.splitlines() if line.startswith("inactive_file "))
    return float("inf") if limit == "max" else float(int(limit) - int(used) + cached)


def gib(count: float) -> str:
    """Write a number of bytes in GiB.

    >>> gib(3 * 2**29)
    '1.5 GiB'
    """
    return f"{count / 2**30:.1f} GiB"
