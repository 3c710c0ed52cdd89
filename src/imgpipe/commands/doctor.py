"""``imgpipe doctor``: what the pipeline stands on, thing by thing, and what to do where it is wrong."""

import codecs
import locale
import os
import platform
import sys
import tomllib
from collections import defaultdict
from collections.abc import Generator, Iterator
from importlib import metadata
from pathlib import Path

import typer
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from packaging.version import Version

from imgpipe.commands.capacity import disk, gib, memory
from imgpipe.commands.clean import megabytes, unfinished
from imgpipe.commands.finding import Finding
from imgpipe.commands.gpu_record import checked, code_digest, read_record
from imgpipe.commands.kernel_probes import WAYS, known
from imgpipe.commands.lock import read_lock
from imgpipe.commands.probes import NUMBERS, Facts, ProbeError, ask, torchrun
from imgpipe.common.errors import one_line
from imgpipe.common.kernels import problem_here
from imgpipe.common.safe_text import printable
from imgpipe.common.wording import counted
from imgpipe.model.runtime import DRIVER
from imgpipe.train.locks import CHECKPOINTS

SETUP = "make setup installs what is locked"
SECONDS = 120.0
"""How long a probe may take; importing torch from a slow disk alone can take a minute."""
REMEDIES = {
    "gloo": SETUP,
    "nccl": "NCCL_P2P_DISABLE=1 in the environment tells whether the GPUs' direct way to each other is at fault",
}
"""Where processes sum wrong, by what they sum with."""
BITS = "same bits"


def doctor() -> None:
    """Say how the machine is, and what to do where it is wrong.

    The exit status is then 1. To be run in the project's top folder.
    """
    wrong = 0
    for finding in examine(Path.cwd()):
        state, after = ("ok", "") if finding.remedy is None else ("WRONG", f"; {finding.remedy}")
        typer.echo(printable(f"{state:5}  {finding.subject:11}  {finding.text}{after}"))
        wrong += finding.remedy is not None
    if wrong:
        raise typer.Exit(1)


def examine(folder: Path) -> Iterator[Finding]:
    """Yield the findings, each as soon as it is there.

    folder: the project's.
    """
    yield python()
    yield encoding()
    yield packages(folder)
    count = yield from torch_and_gpus(folder)
    yield torchvision()
    yield processes(max(count, 2), seconds=SECONDS)
    yield same_bits()
    yield speed()
    yield dvc()
    yield disk(folder)
    yield memory()
    yield checkpoints(folder)


def python() -> Finding:
    """Name the interpreter."""
    return Finding(
        "Python", f"{platform.python_version()} on {platform.system()} {platform.machine()}, {sys.executable}"
    )


def encoding() -> Finding:
    """Find out whether names of files and text are in UTF-8."""
    used = {"file names": sys.getfilesystemencoding(), "text": locale.getpreferredencoding(False)}
    set_by = next((f"{name}={os.environ[name]}" for name in ("LC_ALL", "LC_CTYPE", "LANG") if os.environ.get(name)), "")
    beside = f" ({set_by})" if set_by else ""
    wrong = [f"{what} are in {name}" for what, name in used.items() if codecs.lookup(name).name != "utf-8"]
    if wrong:
        return Finding("locale", f"{' and '.join(wrong)}, not UTF-8{beside}", "export LC_ALL=C.UTF-8 PYTHONUTF8=1")
    return Finding("locale", f"UTF-8{beside}")


def packages(folder: Path) -> Finding:
    """Compare what the project's ``pyproject.toml`` needs, as it is installed, with its ``requirements.lock``."""
    for name in ("pyproject.toml", "requirements.lock"):
        if not (folder / name).is_file():
            return Finding("packages", f"there is no {name} in {folder}", "run this in the project's top folder")
    try:
        locked = read_lock(folder / "requirements.lock")
        names = sorted(needed(folder / "pyproject.toml"))
    except Exception as error:  # whatever is in the files decides what fails
        reason = one_line(error, named=True)
        return Finding(
            "packages", f"pyproject.toml or requirements.lock can't be read: {reason}", "mend it, or git checkout it"
        )
    installed = {name: _installed(name) for name in names}
    missing = [f"{name} is missing ({locked.get(name, 'any')})" for name, version in installed.items() if not version]
    differing = [
        f"{name} is {version} ({locked[name]})"
        for name, version in installed.items()
        if version and name in locked and Version(version).public != locked[name]
    ]
    unlocked = [f"{name} is not locked" for name, version in installed.items() if version and name not in locked]
    problems = [*missing, *differing, *unlocked]
    if not problems:
        return Finding("packages", f"{len(installed)} installed as requirements.lock has them")
    remedy = SETUP if missing or differing else "make lock writes requirements.lock anew"
    return Finding("packages", f"other than in requirements.lock: {', '.join(problems)}", remedy)


def needed(pyproject: Path) -> set[str]:
    """Return the names of what the project and its developers need, and of what the installed ones of these need.

    The other extras are at the user's choice, and not in the lock. PyTorch's builds for the CPU do without the CUDA
    packages that the lock also has.
    """
    project = tomllib.loads(pyproject.read_text(encoding="utf-8"))["project"]
    developers = project.get("optional-dependencies", {}).get("dev", [])
    waiting = [Requirement(text) for text in [*project["dependencies"], *developers]]
    seen: defaultdict[str, set[str]] = defaultdict(set)
    while waiting:
        asked = waiting.pop()
        name = canonicalize_name(asked.name)
        new = {"", *asked.extras} - seen[name]
        seen[name] |= new
        requirements = [Requirement(text) for text in _requires(name)]
        waiting += [one for one in requirements if any(_applies(one, extra) for extra in new)]
    return set(seen)


def _applies(requirement: Requirement, extra: str) -> bool:
    """Return whether a package asked for with this extra, or ``""`` for none, asks for the requirement."""
    if requirement.marker is None:
        return extra == ""
    return requirement.marker.evaluate({"extra": extra})


def _requires(name: str) -> list[str]:
    try:
        return metadata.requires(name) or []
    except metadata.PackageNotFoundError:
        return []


def _installed(name: str) -> str | None:
    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:
        return None


def torch_and_gpus(folder: Path) -> Generator[Finding, None, int]:
    """Look at the build of torch, the GPUs that it can use, and the libraries by which processes sum.

    folder: the project's.

    Returns on how many GPUs a training can be: a power of two, or 0.
    """
    try:
        facts = ask("torch_build", seconds=SECONDS)
    except ProbeError as reason:
        yield Finding("torch", f"can't be imported: {reason}", SETUP)
        return 0
    yield Finding("torch", f"{facts['version']}, {build(facts)}{', which was not tried' if facts['rocm'] else ''}")
    yield gpus(facts, driver=DRIVER.exists())
    names = [gpu["name"] for gpu in facts["gpus"]]
    if names:
        yield checked(read_record(folder), names, torch=facts["version"], code=code_digest())
    yield Finding("Gloo", "there") if facts["gloo"] else Finding("Gloo", "not in this build of torch", SETUP)
    if facts["nccl"]:
        yield Finding("NCCL", f"{facts['nccl']}{', which is RCCL' if facts['rocm'] else ''}")
    else:
        yield Finding("NCCL", "not in this build of torch; several GPUs need it", SETUP if len(names) > 1 else None)
    return 1 << len(names).bit_length() >> 1


def build(facts: Facts) -> str:
    """Say what torch is built for."""
    kinds = {"CUDA": facts["cuda"], "ROCm": facts["rocm"]}
    return next((f"for {kind} {version}" for kind, version in kinds.items() if version), "for CPUs only")


def gpus(facts: Facts, *, driver: bool) -> Finding:
    """Name the GPUs and the runs of imgpipe that use them, or say why there are none.

    facts: of the probe torch_build.
    driver: whether the machine has NVIDIA's.
    """
    if facts["gpus"]:
        named = [f"{gpu['name']}, {gib(gpu['free'])} of {gib(gpu['total'])} free" for gpu in facts["gpus"]]
        used = [f", used by {gpu['user']}" if gpu["user"] else "" for gpu in facts["gpus"]]
        return Finding("GPUs", "; ".join(f"{i}: {text}{used[i]}" for i, text in enumerate(named)))
    if not driver:
        return Finding("GPUs", "none; training takes the CPU")
    if not facts["cuda"]:
        return Finding("GPUs", f"there is an NVIDIA driver, but torch is {build(facts)}", SETUP)
    return Finding(
        "GPUs",
        f"there is an NVIDIA driver, but torch can't use it: {facts['problem'] or 'it sees no GPU'}",
        "nvidia-smi shows driver and GPUs; see that CUDA_VISIBLE_DEVICES does not hide them",
    )


def torchvision() -> Finding:
    """Try torchvision's compiled operators: a build for another torch has none."""
    try:
        facts = ask("torchvision_ops", seconds=SECONDS)
    except ProbeError as reason:
        return Finding("torchvision", f"does not work with this torch: {reason}", SETUP)
    if facts["kept"] != [0, 2]:
        return Finding("torchvision", f"its nms keeps boxes {facts['kept']} where 0 and 2 are right", SETUP)
    return Finding("torchvision", f"{facts['version']}, its operators work")


def processes(count: int, *, seconds: float) -> Finding:
    """Let so many processes, started as training starts them, sum numbers as it sums gradients."""
    try:
        facts = ask("exchange", seconds=seconds, launcher=torchrun(count))
    except ProbeError as reason:
        return Finding(
            "processes",
            f"{count} can't sum numbers: {reason}",
            "runtime.processes: 1 does without; GLOO_SOCKET_IFNAME or NCCL_SOCKET_IFNAME names a network interface",
        )
    if facts["wrong"]:
        wrong = f"{facts['wrong']:,} of {NUMBERS:,} sums of {count} are wrong by {facts['backend']}"
        return Finding("processes", wrong, REMEDIES[facts["backend"]])
    return Finding("processes", f"{count} sum numbers by {facts['backend']}, as training does")


def same_bits() -> Finding:
    """Find out whether portable kernels have the bits here that they have on other machines."""
    if problem := problem_here():
        return Finding(BITS, f"not those of other machines, even with train.kernels portable: {problem}")
    try:
        return compared(ask("same_bits", seconds=SECONDS), known())
    except ProbeError as reason:
        return Finding(BITS, f"can't be tried: {reason}", SETUP)


def compared(facts: Facts, expected: Facts) -> Finding:
    """Compare what the probe same_bits found with what it is known to find."""
    if facts["packages"] != expected["packages"]:
        versions = ", ".join(f"{name} {version}" for name, version in expected["packages"].items())
        return Finding(BITS, f"known for {versions}, which are not what is installed")
    differing = [name for name, digest in facts["digests"].items() if digest != expected["digests"][name]]
    if differing:
        remedy = "please report it with the name of the processor; results of this machine are its own"
        return Finding(BITS, f"train.kernels portable gives others here in {', '.join(differing)}", remedy)
    return Finding(BITS, "train.kernels portable gives those of other x86-64 processors with AVX2")


def speed() -> Finding:
    """Time precisions and kernels."""
    rates: dict[str, float] = {}
    try:
        for kernels in ("portable", "native"):
            rates |= ask(f"speed_{kernels}", seconds=SECONDS)["images_per_second"]
    except ProbeError as reason:
        return Finding("speed", f"can't be measured: {reason}", SETUP)
    fastest, first = max(rates, key=rates.__getitem__), next(iter(WAYS))
    others = ", ".join(f"{' '.join(WAYS[name])} {rate / rates[first]:.2f}" for name, rate in rates.items())
    precision, kernels = WAYS[fastest]
    return Finding(
        "speed",
        f"ResNet-9 at 32 pixels: {others} (times {rates[first]:,.0f} images/s); fastest are train.precision "
        f"{precision} and train.kernels {kernels}",
    )


def dvc() -> Finding:
    """Find out how DVC links what is in its cache into the workspace."""
    try:
        facts = ask("dvc_cache", seconds=SECONDS)
    except ProbeError as reason:
        return Finding("DVC", f"can't be used here: {reason}", f"run this in the project's top folder; {SETUP}")
    where = f"{facts['version']}, cache {facts['cache']}"
    if not facts["links"]:
        wanted = ", ".join(facts["wanted"])
        return Finding("DVC", f"{where}: no link to it works ({wanted})", "dvc config cache.type reflink,copy")
    return Finding("DVC", f"{where}, linked by {facts['links'][0]}")


def checkpoints(folder: Path) -> Finding:
    """Count the trainings that did not end, and measure what they have left."""
    found = unfinished(folder / CHECKPOINTS)
    if not found:
        return Finding("checkpoints", "none is left: every training has ended")
    size = megabytes(sum(training.size for training in found))
    trainings = counted(len(found), "training")
    return Finding("checkpoints", f"of {trainings} that did not end, {size}; imgpipe clean lists them")
