"""Try things that may crash or hang in a process of their own, and ask it what it found.

``python -m imgpipe.commands.probes NAME`` is such a process: it prints what it found as JSON, or one line on standard
error with exit status 1. Each probe imports what it tries.
"""

import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Sequence
from itertools import repeat
from pathlib import Path
from typing import Any

from imgpipe.commands import kernel_probes
from imgpipe.common.errors import one_line
from imgpipe.model import gpus

Facts = dict[str, Any]


def torchrun(processes: int) -> Sequence[str]:
    """Return the launcher that starts a probe in so many processes, as the train stage starts its own."""
    return ("imgpipe.train.launcher", "--standalone", "--nproc-per-node", str(processes), "-m")


NUMBERS = 100_000
"""That processes sum."""


class ProbeError(Exception):
    """Says in one line why a probe gave no answer."""


def ask(probe: str, *, seconds: float, launcher: Sequence[str] = ()) -> Facts:
    """Run a probe and return what it found; of several processes, what the first to answer found.

    launcher: a module with its arguments that starts the probe's module.

    Raises ProbeError where there is no answer, after so many seconds at the latest.
    """
    ours = str(Path(__file__).resolve().parents[2])
    others = os.environ.get("PYTHONPATH")
    process = subprocess.Popen(
        [sys.executable, "-m", *launcher, "imgpipe.commands.probes", probe],
        env={**os.environ, "PYTHONPATH": f"{ours}{os.pathsep}{others}" if others else ours},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        encoding="utf-8",
        errors="backslashreplace",
        start_new_session=True,  # so that the processes that it starts can be ended with it
    )
    try:
        out, problems = process.communicate(timeout=seconds)
    except subprocess.TimeoutExpired:
        raise ProbeError(f"no answer within {seconds:g} seconds") from None
    finally:
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)
            process.communicate()
    if process.returncode < 0:
        raise ProbeError(f"it was ended by {signal.Signals(-process.returncode).name}")
    if process.returncode:
        raise ProbeError(_reason(problems))
    answer = next((line for line in out.splitlines() if line.startswith("{")), None)
    if answer is None:
        raise ProbeError("it said nothing")
    facts: Facts = json.loads(answer)
    return facts


def _reason(problems: str) -> str:
    """Return the line of standard error that says most: a probe's own, or the last."""
    lines = [line.strip() for line in problems.splitlines() if line.strip()]
    said = [line.removeprefix("error: ") for line in lines if line.startswith("error: ")]
    return (said or lines[-1:] or ["it said nothing"])[0]


def torch_build() -> Facts:
    """Look at the build of torch.

    Returns version; cuda and rocm, of the build, or null; gpus, with name, bytes in all and free, and user, the run of
    imgpipe on it, or null; gloo, whether it is there; nccl, its version or null; problem, why the build can't use
    GPUs, or null.
    """
    import torch
    import torch.distributed as dist

    problem = None
    if torch.version.cuda or torch.version.hip:
        try:
            torch.cuda.init()
        except RuntimeError as error:
            problem = one_line(error)
    found = []
    count = torch.cuda.device_count() if problem is None else 0
    users = gpus.users(gpus.visible()) if count and torch.version.cuda else repeat(None)
    for i, user in zip(range(count), users, strict=False):
        free, total = torch.cuda.mem_get_info(i)
        found.append({"name": torch.cuda.get_device_name(i), "free": free, "total": total, "user": user})
    distributed = dist.is_available()
    return {
        "version": torch.__version__,
        "cuda": torch.version.cuda,
        "rocm": torch.version.hip,
        "gpus": found,
        "problem": problem,
        "gloo": distributed and dist.is_gloo_available(),
        "nccl": ".".join(map(str, torch.cuda.nccl.version())) if distributed and dist.is_nccl_available() else None,
    }


def torchvision_ops() -> Facts:
    """Let torchvision's non-maximum suppression choose among three boxes, the second of which is nearly the first.

    Returns version, and kept, the numbers of those that it keeps.
    """
    import torch
    import torchvision

    boxes = torch.tensor([[0, 0, 10, 10], [0, 0, 10, 9], [20, 20, 30, 30]], dtype=torch.float32)
    kept = torchvision.ops.nms(boxes, torch.tensor([0.9, 0.8, 0.7]), 0.5)
    return {"version": torchvision.__version__, "kept": kept.tolist()}


def exchange() -> Facts:
    """Let the processes that torchrun started sum numbers as training sums gradients, on GPUs where there are several.

    Returns backend, and wrong, how many of the numbers are not what they must be.
    """
    import torch
    import torch.distributed as dist

    from imgpipe.model.devices import joined_world
    from imgpipe.train.exchange import Exchange

    with joined_world("cuda" if torch.cuda.device_count() > 1 else "cpu") as world:
        numbers = torch.arange(NUMBERS, dtype=torch.float32, device=world.device)
        sums = numbers * (world.rank + 1)
        exchange = Exchange(world)
        exchange.beside(lambda: exchange.sum_in_place(sums)).wait()
        right = numbers * (world.size * (world.size + 1) // 2)  # 1 + 2 + ... times each, which float32 has exactly
        return {"backend": dist.get_backend(), "wrong": int((sums != right).sum())}


def dvc_cache() -> Facts:
    """Try how DVC can link what is in its cache.

    Returns version; cache, its folder; wanted, the configured types of links, in order; links, those that work.
    """
    from dvc import __version__
    from dvc.fs import generic
    from dvc.repo import Repo

    with Repo() as repo:
        odb = repo.cache.local
        wanted = [*odb.cache_types]
        there = next(folder for folder in (Path(odb.path), *Path(odb.path).parents) if folder.exists())
        inside = str(Path(repo.root_dir) / "inside")  # the links are made beside what is named
        links = generic.test_links(wanted, odb.fs, str(there), repo.fs, inside)
        return {"version": __version__, "cache": odb.path, "wanted": wanted, "links": links}


PROBES: dict[str, Callable[[], Facts]] = {
    "torch_build": torch_build,
    "torchvision_ops": torchvision_ops,
    "exchange": exchange,
    "dvc_cache": dvc_cache,
    **kernel_probes.PROBES,
}


if __name__ == "__main__":
    try:
        facts = PROBES[sys.argv[1]]()
    except Exception as error:
        sys.exit(f"error: {one_line(error, named=True)}")
    sys.stdout.write(json.dumps(facts) + "\n")
