"""Part: what there is to compute with."""

import os
from pathlib import Path

import torch
import torch.distributed as dist

from imgpipe.commands.gpu_checking.launching import Say
from imgpipe.commands.gpu_checking.outcome import Facts
from imgpipe.common.errors import one_line
from imgpipe.data.parallel import cores
from imgpipe.model.devices import World

DRIVER = Path("/proc/driver/nvidia/version")
READ = ("CUBLAS", "CUDA", "CUDNN", "GLOO", "NCCL", "NVIDIA", "OMP", "PET", "PYTORCH", "SLURM_JOB", "TORCH")
"""Beginnings of environment variables that change how is computed."""


def found(world: World, settings: Facts, say: Say) -> Facts:
    """Look at torch, the GPUs and the environment.

    Returns torch, cuda, hip, cudnn, driver, nccl: versions, or null; problem, why CUDA can't be used, or null; gpus;
    peers, for each GPU those whose memory it reaches directly; cores; environment.
    """
    problem = None
    if world.device.type == "cuda":
        try:
            torch.cuda.init()
        except (RuntimeError, AssertionError) as error:
            problem = one_line(error)
    count = torch.cuda.device_count() if problem is None and world.device.type == "cuda" else 0
    nccl = torch.version.cuda and dist.is_nccl_available()
    return {
        "torch": torch.__version__,
        "cuda": torch.version.cuda,
        "hip": torch.version.hip,
        "cudnn": torch.backends.cudnn.version() if count else None,
        "driver": DRIVER.read_text(encoding="utf-8").splitlines()[0] if DRIVER.exists() else None,
        "nccl": ".".join(map(str, torch.cuda.nccl.version())) if count and nccl else None,
        "problem": problem,
        "gpus": [_gpu(i) for i in range(count)],
        "peers": [
            [j for j in range(count) if j != i and torch.cuda.can_device_access_peer(i, j)] for i in range(count)
        ],
        "cores": cores(),
        "environment": {name: value for name, value in sorted(os.environ.items()) if name.startswith(READ)},
    }


def _gpu(number: int) -> Facts:
    properties = torch.cuda.get_device_properties(number)
    free, total = torch.cuda.mem_get_info(number)
    return {
        "name": properties.name,
        "uuid": str(properties.uuid),
        "capability": f"{properties.major}.{properties.minor}",
        "processors": properties.multi_processor_count,
        "free": free,
        "total": total,
    }
