"""Everything that the pipeline stands on, thing by thing."""

from collections.abc import Iterator
from pathlib import Path

from imgpipe.commands import machine
from imgpipe.commands.findings import Finding, gib
from imgpipe.commands.locked import SETUP, packages
from imgpipe.commands.probes import Facts
from imgpipe.commands.probing import TORCHRUN, ProbeError, ask

SECONDS = 120.0
"""How long a probe may take; importing torch from a slow disk alone can take a minute."""
DRIVER = Path("/proc/driver/nvidia/version")


def examine(folder: Path) -> Iterator[Finding]:
    """The findings, each as soon as it is there. folder: the project's."""
    yield machine.python()
    yield machine.encoding()
    yield packages(folder)
    yield from torch_and_gpus()
    yield torchvision()
    yield processes(seconds=SECONDS)
    yield dvc()
    yield machine.disk(folder)
    yield machine.memory()


def torch_and_gpus() -> Iterator[Finding]:
    """The build of torch, the GPUs that it can use, and the libraries by which processes sum."""
    try:
        facts = ask("torch_build", seconds=SECONDS)
    except ProbeError as reason:
        yield Finding("torch", f"can't be imported: {reason}", SETUP)
        return
    yield Finding("torch", f"{facts['version']}, {'for CUDA ' + facts['cuda'] if facts['cuda'] else 'for CPUs only'}")
    yield gpus(facts, driver=DRIVER.exists())
    yield Finding("Gloo", "there") if facts["gloo"] else Finding("Gloo", "not in this build of torch", SETUP)
    if facts["nccl"]:
        yield Finding("NCCL", facts["nccl"])
    else:
        several = len(facts["gpus"]) > 1
        yield Finding("NCCL", "not in this build of torch; several GPUs need it", SETUP if several else None)


def gpus(facts: Facts, *, driver: bool) -> Finding:
    """facts: of the probe torch_build. driver: whether the machine has NVIDIA's."""
    if facts["gpus"]:
        named = (f"{gpu['name']}, {gib(gpu['free'])} of {gib(gpu['total'])} free" for gpu in facts["gpus"])
        return Finding("GPUs", "; ".join(f"{i}: {text}" for i, text in enumerate(named)))
    if not driver:
        return Finding("GPUs", "none; training takes the CPU")
    if not facts["cuda"]:
        return Finding("GPUs", "there is an NVIDIA driver, but torch is for CPUs only", SETUP)
    return Finding(
        "GPUs",
        f"there is an NVIDIA driver, but torch can't use it: {facts['problem'] or 'it sees no GPU'}",
        "nvidia-smi shows driver and GPUs; see that CUDA_VISIBLE_DEVICES does not hide them",
    )


def torchvision() -> Finding:
    """Whether torchvision's compiled operators fit torch: a build for another torch has none."""
    try:
        facts = ask("torchvision_ops", seconds=SECONDS)
    except ProbeError as reason:
        return Finding("torchvision", f"does not work with this torch: {reason}", SETUP)
    if facts["kept"] != [0, 2]:
        return Finding("torchvision", f"its nms keeps boxes {facts['kept']} where 0 and 2 are right", SETUP)
    return Finding("torchvision", f"{facts['version']}, its operators work")


def processes(*, seconds: float) -> Finding:
    """Whether two processes, started as training starts them, can sum numbers."""
    try:
        facts = ask("all_reduce", seconds=seconds, launcher=TORCHRUN)
    except ProbeError as reason:
        return Finding(
            "processes",
            f"two can't sum a number: {reason}",
            "runtime.processes: 1 does without; GLOO_SOCKET_IFNAME or NCCL_SOCKET_IFNAME names a network interface",
        )
    if facts["sum"] != 3:
        return Finding("processes", f"two sum 1 and 2 to {facts['sum']} by {facts['backend']}", SETUP)
    return Finding("processes", f"two sum 1 and 2 by {facts['backend']}")


def dvc() -> Finding:
    """DVC, and how it links what is in its cache into the workspace."""
    try:
        facts = ask("dvc_cache", seconds=SECONDS)
    except ProbeError as reason:
        return Finding("DVC", f"can't be used here: {reason}", f"run this in the project's top folder; {SETUP}")
    where = f"{facts['version']}, cache {facts['cache']}"
    if not facts["links"]:
        wanted = ", ".join(facts["wanted"])
        return Finding("DVC", f"{where}: no link to it works ({wanted})", "dvc config cache.type reflink,hardlink,copy")
    return Finding("DVC", f"{where}, linked by {facts['links'][0]}")
