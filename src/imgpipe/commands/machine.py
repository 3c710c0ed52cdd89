"""What the operating system gives: Python, locale, disk and memory."""

import codecs
import locale
import os
import platform
import shutil
import sys
from pathlib import Path

from imgpipe.commands.findings import Finding, gib

LITTLE = 1 << 30
"""Bytes of free disk or memory below which a run is likely to fail."""


def python() -> Finding:
    return Finding(
        "Python", f"{platform.python_version()} on {platform.system()} {platform.machine()}, {sys.executable}"
    )


def encoding() -> Finding:
    """Whether names of files and text are in UTF-8."""
    used = {"file names": sys.getfilesystemencoding(), "text": locale.getpreferredencoding(False)}
    set_by = next((f"{name}={os.environ[name]}" for name in ("LC_ALL", "LC_CTYPE", "LANG") if os.environ.get(name)), "")
    beside = f" ({set_by})" if set_by else ""
    wrong = [f"{what} are in {name}" for what, name in used.items() if codecs.lookup(name).name != "utf-8"]
    if wrong:
        return Finding("locale", f"{' and '.join(wrong)}, not UTF-8{beside}", "export LC_ALL=C.UTF-8 PYTHONUTF8=1")
    return Finding("locale", f"UTF-8{beside}")


def disk(folder: Path) -> Finding:
    free = shutil.disk_usage(folder).free
    return Finding("disk", f"{gib(free)} free in {folder}", "make room" if free < LITTLE else None)


def memory() -> Finding:
    """Memory that a new process can take, as far as the system and the limit of a container let it."""
    free = min(_free_of_system(), _free_of_container())
    if free == float("inf"):
        return Finding("memory", "this system does not say how much is free")
    return Finding("memory", f"{gib(free)} free", "close programs, or give more" if free < LITTLE else None)


def _free_of_system() -> float:
    """Linux's MemAvailable (man proc_meminfo), which counts caches that can be dropped."""
    try:
        lines = Path("/proc/meminfo").read_text(encoding="ascii").splitlines()
    except OSError:
        return float("inf")
    return next(int(line.split()[1]) * 1024.0 for line in lines if line.startswith("MemAvailable:"))


def _free_of_container(control: Path = Path("/sys/fs/cgroup")) -> float:
    """The limit of cgroups, version 2, less what is used (Linux documentation, admin-guide/cgroup-v2, memory).

    Files in the cache that nobody used of late count as free: they are dropped where memory is short.
    """
    names = ("max", "current", "stat")
    try:
        limit, used, stat = ((control / f"memory.{name}").read_text(encoding="ascii").strip() for name in names)
    except OSError:
        return float("inf")
    cached = next(int(line.split()[1]) for line in stat.splitlines() if line.startswith("inactive_file "))
    return float("inf") if limit == "max" else float(int(limit) - int(used) + cached)
