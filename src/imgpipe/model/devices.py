"""The hardware and how it computes: device, deterministic kernels, process group, precision."""

import ctypes
import json
import logging
import os
import platform
import sys
import time
import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import NoReturn, TypeVar

import torch
import torch.distributed as dist

from imgpipe.common.errors import InputError, explanation
from imgpipe.common.kernels import fix_for_gpus
from imgpipe.model.runtime import DRIVER, LAUNCHER, started_by_torchrun

T = TypeVar("T")

PRECISIONS = {"fp32": torch.float32, "tf32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}
"""The dtypes in which a forward pass computes most."""


def device_type(asked: str, *, asked_by: str) -> str:
    """Return ``cpu`` or ``cuda``; for ``auto``, cuda where there is one.

    asked_by: begins the error, such as "--device is".

    Warns where auto is cpu though the machine has NVIDIA's driver.

    Raises InputError where cuda is asked for and not there.
    """
    if asked == "cpu" or torch.cuda.is_available():
        return "cpu" if asked == "cpu" else "cuda"
    if asked == "cuda":
        raise InputError(f"{asked_by} 'cuda', but torch sees no CUDA device here; use cpu or auto")
    if DRIVER.exists() and not started_by_torchrun():  # whoever started torchrun has been told
        logging.warning(
            "this machine has NVIDIA's driver, but torch sees no GPU, so the CPU computes: the driver may be too old, "
            "CUDA_VISIBLE_DEVICES may hide the GPUs, or torch may be built without CUDA; imgpipe doctor says which"
        )
    return "cpu"


def described(device: torch.device) -> str:
    """Describe what decides about the bits that a device computes: ``cpu``; or the GPU's model and its libraries.

    NCCL is not among these, since it only moves what is summed.
    """
    if device.type == "cpu":
        return "cpu"
    gpu = torch.cuda.get_device_properties(device)
    return (
        f"{gpu.name} with {gpu.multi_processor_count} multiprocessors, compute capability {gpu.major}.{gpu.minor}, "
        f"CUDA {torch.version.cuda}, cuDNN {torch.backends.cudnn.version()}"
    )


def set_up_computing(*, cpu_threads: int, precision: str) -> None:
    """Make this process compute deterministically, and fast where memory is freed and taken again in every step.

    cpu_threads: of operators on a CPU, which splits sums among them, so that their number shows in the result.
    precision: one of PRECISIONS. Where it is tf32, NVIDIA's GPUs from Ampere on multiply in TF32; elsewhere it is fp32.
    """
    be_deterministic()
    torch.backends.cudnn.allow_tf32 = torch.backends.cuda.matmul.allow_tf32 = precision == "tf32"
    torch.set_num_threads(cpu_threads)
    keep_freed_memory()


def be_deterministic() -> None:
    """Make torch take deterministic kernels, and raise an error where there is none."""
    fix_for_gpus()
    # use_deterministic_algorithms does the same, but imports the compiler first, which takes seconds
    torch.set_deterministic_debug_mode("error")
    # it would also fill all new memory, to make the same of what reads it too early; nothing here does
    torch.utils.deterministic.fill_uninitialized_memory = False  # type: ignore[attr-defined]


def keep_freed_memory() -> None:
    """Make glibc keep memory that is freed for what is allocated next; with another C library it does nothing.

    By default large arrays go back to the system and are asked for again in the next step, which then gives and clears
    them page by page: for a small network on a CPU up to two fifths of the time of a step.

    Source: mallopt(3). Large arrays are not mapped on their own, and the heap does not shrink.
    """
    if platform.libc_ver()[0] != "glibc":
        return
    most_mapped, trim_threshold = -4, -1  # M_MMAP_MAX and M_TRIM_THRESHOLD of malloc.h
    libc = ctypes.CDLL(None)
    for parameter, value in ((most_mapped, 0), (trim_threshold, 2**31 - 1)):
        accepted = libc.mallopt(parameter, value)
        assert accepted, "both are as old as glibc"


@dataclass(frozen=True)
class World:
    """This process among those that train together."""

    rank: int
    """Its number, from 0."""
    size: int
    """How many processes there are, on all machines."""
    device: torch.device
    """Where it computes."""

    def micro_batches_of_rank(self, micro_batches: int) -> slice:
        """Return which of the micro-batches of a batch are this process's."""
        each = micro_batches // self.size
        return slice(self.rank * each, (self.rank + 1) * each)


PATIENCE = timedelta(minutes=30)
"""How long a process waits for the others in one exchange before it takes one of them for hung. The longest that they
may rightly wait is while the first writes a checkpoint to a slow disk, or one has more to compile than the others."""

ALL_END = "the training ends in all processes, and dvc repro resumes it"


@contextmanager
def joined_world(kind: str) -> Iterator[World]:
    """Join the processes that torchrun started, by NCCL on GPUs and Gloo on CPUs, for the length of the block.

    kind: ``cpu`` or ``cuda``. Without torchrun the world is this one process.

    Where the block fails in one of several processes, that one says why and ends at once, without a word to the others:
    each may be in an exchange that will never end. The launcher ends them. SystemExit is to be raised by all.

    Raises InputError where there are fewer GPUs than processes on this machine.
    """
    if not started_by_torchrun():
        yield World(0, 1, torch.device(kind))
        return
    device = torch.device(kind)
    if kind == "cuda":
        rank, gpus = int(os.environ["LOCAL_RANK"]), torch.cuda.device_count()
        if rank >= gpus:
            raise InputError(f"torchrun started process {rank} on this machine, which has {gpus} GPUs; each needs one")
        device = torch.device(kind, rank)
        torch.cuda.set_device(device)
    # one that has waited too long aborts, and cleans up nothing, which might take for ever
    os.environ["TORCH_NCCL_ASYNC_ERROR_HANDLING"] = "3"
    # objects and checkpoints are in main memory, and go from there by Gloo
    backends = "cpu:gloo,cuda:nccl" if kind == "cuda" else "gloo"
    dist.init_process_group(backends, timeout=PATIENCE)
    try:
        world = World(dist.get_rank(), dist.get_world_size(), device)
        try:
            yield world
        except SystemExit:
            of_first_process(None, world)  # it has saved: when one has ended, the launcher soon ends the others
            dist.destroy_process_group()
            raise
    except Exception as error:
        _leave(error)
    dist.destroy_process_group()


def _leave(error: Exception) -> NoReturn:
    """End this process, one of several, at once, with exit status 1, and say why.

    Our launcher says what the first that failed leaves it; without it each speaks for itself.
    """
    text = explanation(_of_another_process(error) or error) or "".join(traceback.format_exception(error))
    if LAUNCHER in os.environ:
        reason_file(os.environ["TORCHELASTIC_ERROR_FILE"]).write_text(json.dumps([time.time_ns(), text]), "utf-8")
    else:
        sys.stderr.write(text)
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(1)


def reason_file(error_file: str) -> Path:
    """Return where a process leaves, for the launcher, when and why it ended.

    error_file: that which torchrun gives it, whose format and reports are torchrun's own.
    """
    return Path(error_file).with_name("reason.json")


def _of_another_process(error: Exception) -> InputError | None:
    """Return what to say of an error that only tells that another process is gone; None for any other error.

    Gloo's have no type of their own, and those from within a hook of DistributedDataParallel not even their own text.
    """
    text = str(error)
    if not isinstance(error, RuntimeError):
        return None
    if any(sign in text for sign in ("Timed out waiting", "timeout caused pair closure")):
        return InputError(f"another process has not answered for {PATIENCE.total_seconds():g} seconds; {ALL_END}")
    if any(sign in text for sign in ("closed by peer", "reset by peer", "Broken pipe", "ncclRemoteError")):
        return InputError(f"the connection to another process is lost, which may say why; {ALL_END}")
    return None


def of_first_process(value: T, world: World) -> T:
    """Return, on every process, the value that the first one has."""
    if world.size == 1:
        return value
    values = [value]
    dist.broadcast_object_list(values)
    return values[0]


def autocast(device: torch.device, precision: str) -> torch.autocast:
    """Return the context in which a forward pass runs: mixed precision, which for fp32 and tf32 changes nothing."""
    dtype = PRECISIONS[precision]
    return torch.autocast(device.type, dtype=dtype, enabled=dtype != torch.float32)
