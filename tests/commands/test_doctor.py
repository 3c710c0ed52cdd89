"""What the doctor says of a machine, with real damage where it can be done."""

import contextlib
import os
import re
import subprocess
import sys
import time
from collections.abc import Mapping
from pathlib import Path

import pytest
from closure import ROOT
from conftest import Project

from imgpipe.commands import capacity, doctor
from imgpipe.commands.doctor import packages
from imgpipe.commands.gpu_record import RECORD, checked, code_digest, read_record, write_record
from imgpipe.commands.kernel_probes import known
from imgpipe.commands.probes import Facts, ProbeError, ask
from imgpipe.common import kernels

CUDA: Facts = {
    "version": "2.15.0",
    "cuda": "13.2",
    "rocm": None,
    "gpus": [],
    "problem": None,
    "gloo": True,
    "nccl": "2.30.7",
}


def broken(name: str, program: str, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A package of that name in front of the real one, for processes started from now on."""
    (folder / name).mkdir()
    (folder / name / "__init__.py").write_text(program)
    monkeypatch.setenv("PYTHONPATH", str(folder))


def distribution(folder: Path, name: str, version: str, *needs: str) -> None:
    """An installed package, as far as its metadata say."""
    info = folder / f"{name}-{version}.dist-info"
    info.mkdir()
    lines = [
        "Metadata-Version: 2.1",
        f"Name: {name}",
        f"Version: {version}",
        *(f"Requires-Dist: {need}" for need in needs),
    ]
    (info / "METADATA").write_text("\n".join(lines) + "\n")


def project_of(folder: Path, needs: str, lock: Mapping[str, str]) -> Path:
    (folder / "pyproject.toml").write_text(f"[project]\ndependencies = {needs}\n")
    lines = (f"{name}=={version} \\\n    --hash=sha256:00\n    # via toy\n" for name, version in lock.items())
    (folder / "requirements.lock").write_text("".join(lines))
    return folder


def test_doctor_has_one_wrong_line_where_one_thing_is_wrong(project: Project) -> None:
    project.edit("requirements.lock", "typer==", "typer==0.0.")
    project.edit("src/imgpipe/commands/kernel_probes.py", "MEASURED = 2.0", "MEASURED = 0.1")
    run = project.run("python", "-m", "imgpipe.commands", "doctor")
    assert run.status == 1
    (wrong,) = (line for line in run.out.splitlines() if not line.startswith("ok "))
    assert wrong.startswith("WRONG  packages     other than in requirements.lock: typer is ")
    assert wrong.endswith("; make setup installs what is locked")
    subjects = [line[7:].split()[0] for line in run.out.splitlines()]
    assert subjects == ["Python", "locale", "packages", "torch", "GPUs", "Gloo", "NCCL", "torchvision", "processes",
                        "same", "speed", "DVC", "disk", "memory", "checkpoints"]  # fmt: skip
    assert re.search(r"2 sum numbers by (gloo|nccl), as training does\n", run.out)
    assert "train.kernels portable gives those of other x86-64 processors with AVX2" in run.out
    assert re.search(r"fp32 portable 1\.00, fp32 native \d\.\d\d, bf16 native \d\.\d\d \(times \d+ images/s\)", run.out)


def test_bits_that_are_not_those_of_other_machines_are_named() -> None:
    facts = known()
    finding = doctor.compared({**facts, "digests": {**facts["digests"], "adamw": "0"}}, facts)
    assert finding.text == "train.kernels portable gives others here in adamw"
    assert finding.remedy


def test_bits_are_not_compared_with_those_of_other_packages_or_processors(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    facts = known()
    other = doctor.compared({**facts, "packages": {**facts["packages"], "torch": "2.0.0"}}, facts)
    assert "torch 2.15.0, which are not what is installed" in other.text
    (tmp_path / "cpuinfo").write_text("flags : sse2 avx\n")
    monkeypatch.setattr(kernels, "CPUINFO", tmp_path / "cpuinfo")
    assert doctor.same_bits().text.endswith("its processor has no AVX2 and FMA")


def test_packages_that_differ_or_are_missing_are_named_and_others_are_not(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    site = tmp_path / "site"
    site.mkdir()
    distribution(
        site, "toy_torch", "2.0+cpu", "toy-cuda; platform_system == 'Nowhere'", "toy-plain", "toy-docs; extra == 'docs'"
    )
    distribution(site, "toy_plain", "1.0")
    distribution(site, "toy_old", "1.0", "toy-gone; extra == 'fast'")
    monkeypatch.syspath_prepend(site)
    lock = {
        "toy-torch": "2.0",
        "toy-cuda": "9",
        "toy-plain": "1.0",
        "toy-docs": "1",
        "toy-old": "1.1",
        "toy-gone": "3",
        "toy-other": "1 ; sys_platform == 'nowhere'",
    }
    assert packages(project_of(tmp_path, "['toy_torch']", lock)).remedy is None
    finding = packages(project_of(tmp_path, "['toy_torch', 'toy-old[fast]']", lock))
    assert finding.text == "other than in requirements.lock: toy-gone is missing (3), toy-old is 1.0 (1.1)"
    assert finding.remedy == "make setup installs what is locked"
    del lock["toy-plain"]
    finding = packages(project_of(tmp_path, "['toy_torch']", lock))
    assert finding.text == "other than in requirements.lock: toy-plain is not locked"
    assert finding.remedy == "make lock writes requirements.lock anew"


def test_a_lock_that_a_merge_left_in_pieces_is_a_finding(tmp_path: Path) -> None:
    (project_of(tmp_path, "['toy']", {}) / "requirements.lock").write_text("<<<<<<< HEAD\ntoy==1\n")
    finding = packages(tmp_path)
    assert finding.text.startswith("pyproject.toml or requirements.lock can't be read: ")
    assert "\n" not in finding.text
    assert finding.remedy


@pytest.mark.parametrize(
    "content", ["", "project = 3", "[project]", "[project]\ndependencies = 3", "[project]\ndependencies = [3]", "\x00"]
)
def test_a_pyproject_of_another_kind_is_a_finding(tmp_path: Path, content: str) -> None:
    (tmp_path / "pyproject.toml").write_text(content)
    (tmp_path / "requirements.lock").write_text("")
    finding = doctor.packages(tmp_path)
    assert finding.text.startswith("pyproject.toml or requirements.lock can't be read: ")
    assert finding.remedy


def test_outside_a_project_the_doctor_says_where_to_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert packages(tmp_path).remedy == "run this in the project's top folder"
    monkeypatch.chdir(tmp_path)
    finding = doctor.dvc()
    assert "not inside of a DVC repository" in finding.text
    assert finding.remedy


def test_a_torchvision_for_another_torch_is_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    broken("torchvision", "raise RuntimeError('operator torchvision::nms does not exist')", tmp_path, monkeypatch)
    finding = doctor.torchvision()
    assert finding.text == "does not work with this torch: RuntimeError: operator torchvision::nms does not exist"
    assert finding.remedy == "make setup installs what is locked"


def test_a_torch_that_crashes_is_a_finding_and_the_doctor_lives(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    broken("torch", "import os, signal; os.kill(os.getpid(), signal.SIGSEGV)", tmp_path, monkeypatch)
    (finding,) = doctor.torch_and_gpus(tmp_path)
    assert finding.text == "can't be imported: it was ended by SIGSEGV"
    assert finding.remedy


def test_a_probe_that_hangs_is_ended_with_all_that_it_started(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    program = "import subprocess, time; subprocess.Popen(['sleep', '54.321'], stdout=-3, stderr=-3); time.sleep(60)"
    broken("torch", program, tmp_path, monkeypatch)
    with pytest.raises(ProbeError, match="no answer within 2 seconds"):
        ask("torch_build", seconds=2)
    deadline = time.monotonic() + 20  # the kernel takes a moment to end what it was told to
    while b"sleep\x0054.321\0" in command_lines():
        assert time.monotonic() < deadline, "what the probe started still runs"
        time.sleep(0.1)


def command_lines() -> list[bytes]:
    """Of all running processes; empty for one that has ended and waits for its parent."""
    found = []
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        with contextlib.suppress(OSError):
            found.append(path.read_bytes())
    return found


def test_processes_that_cannot_meet_are_a_finding(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GLOO_SOCKET_IFNAME", "nowhere0")
    monkeypatch.setenv("NCCL_SOCKET_IFNAME", "nowhere0")
    finding = doctor.processes(2, seconds=120)
    assert finding.text.startswith("2 can't sum numbers: ")
    assert "nowhere0" in finding.text
    assert "\n" not in finding.text
    assert finding.remedy


@pytest.mark.parametrize(
    ("environment", "expected"),
    [
        ({"LC_ALL": "C.UTF-8"}, "UTF-8 (LC_ALL=C.UTF-8)"),
        ({"LANG": "C"}, "UTF-8 (LC_CTYPE=C.UTF-8)"),  # Python's own doing, PEP 538
        (
            {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"},
            "file names are in ascii and text are in ANSI_X3.4-1968, not UTF-8 (LC_ALL=C)",
        ),
    ],
)
def test_a_locale_without_utf_8_is_found(environment: dict[str, str], expected: str) -> None:
    plain = {name: value for name, value in os.environ.items() if not name.startswith(("LC_", "LANG", "PYTHON"))}
    program = (
        "from imgpipe.commands.doctor import encoding; f = encoding(); print(f.text, bool(f.remedy), sep='|', end='')"
    )
    done = subprocess.run(
        [sys.executable, "-c", program],
        env={**plain, **environment, "PYTHONPATH": str(ROOT / "src")},
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout == f"{expected}|{'not UTF-8' in expected}"


def test_dvc_s_cache_and_links_are_those_configured_also_before_the_first_run(
    project: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(project.folder)
    assert not (project.folder / ".dvc/cache").exists()
    project.succeed("dvc", "config", "cache.type", "symlink")
    finding = doctor.dvc()
    assert finding.text.endswith(f"cache {project.folder}/.dvc/cache/files/md5, linked by symlink")
    assert finding.remedy is None
    assert not (project.folder / ".dvc/cache").exists()
    project.succeed("dvc", "cache", "dir", str(project.folder / "README.md" / "cache"))
    finding = doctor.dvc()
    assert finding.text.startswith("can't be used here: ")
    assert finding.remedy


def test_gpus_are_named_with_their_memory_and_one_that_torch_cannot_use_is_found() -> None:
    card = {"name": "Toy 9000", "free": 3 << 30, "total": 4 << 30, "user": None}
    used = {**card, "user": "process 7 on toy"}
    assert doctor.gpus({**CUDA, "gpus": [card, used]}, driver=True).text == (
        "0: Toy 9000, 3.0 GiB of 4.0 GiB free; 1: Toy 9000, 3.0 GiB of 4.0 GiB free, used by process 7 on toy"
    )
    assert doctor.gpus(CUDA, driver=False).remedy is None
    too_old = doctor.gpus({**CUDA, "problem": "driver too old"}, driver=True)
    assert too_old.text == "there is an NVIDIA driver, but torch can't use it: driver too old"
    assert too_old.remedy
    cpu_build = doctor.gpus({**CUDA, "cuda": None}, driver=True)
    assert cpu_build.text == "there is an NVIDIA driver, but torch is for CPUs only"
    assert cpu_build.remedy
    assert doctor.gpus({**CUDA, "cuda": None, "rocm": "7.1"}, driver=True).text == (
        "there is an NVIDIA driver, but torch is for ROCm 7.1"
    )


def test_the_doctor_says_that_gpus_were_not_checked_until_gpu_check_has_passed_on_them_with_this_code(
    tmp_path: Path,
) -> None:
    def said(*gpus: str, torch: str = "2.15.0", code: str | None = None) -> str:
        record = read_record(tmp_path)
        return checked(record, [*gpus], torch=torch, code=code or code_digest()).text

    wrong = "how imgpipe works on GPUs has not been checked on this machine"
    assert said("A", "A") == f"{wrong}; imgpipe gpu-check does it in about ten minutes"
    write_record(tmp_path, passed=True, gpus=["A", "A", "B"], torch="2.15.0")
    record = read_record(tmp_path)
    assert record
    passed = f"passed on {record.when}, with 2 x A, 1 x B, torch 2.15.0 and imgpipe's code {code_digest()[:8]}"
    assert said("A", "A", "B") == passed
    others = said("A", torch="2.16.0", code="0")
    assert others.startswith(f"{passed}, and not with what is here now (other GPUs, torch, code); imgpipe gpu-check")
    write_record(tmp_path, passed=False, gpus=["A"], torch="2.15.0")
    failed = checked(read_record(tmp_path), ["A"], torch="2.15.0", code=code_digest())
    assert failed.text.startswith("failed on ")
    assert failed.remedy == "imgpipe gpu-check says in what"
    (tmp_path / RECORD).write_text('{"passed": true}')
    assert said("A").startswith(wrong)


ROCM = """
import sys
from types import ModuleType, SimpleNamespace
__version__ = "2.15.0"
version = SimpleNamespace(cuda=None, hip="7.1")
nccl = SimpleNamespace(version=lambda: (2, 22, 3))
cuda = SimpleNamespace(init=lambda: None, device_count=lambda: 1, nccl=nccl)
cuda.mem_get_info, cuda.get_device_name = lambda i: (1 << 30, 2 << 30), lambda i: "Toy 300"
distributed = sys.modules["torch.distributed"] = ModuleType("torch.distributed")
distributed.is_available = distributed.is_gloo_available = distributed.is_nccl_available = lambda: True
"""


def test_a_torch_for_amd_s_gpus_is_named_as_one_that_was_not_tried(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    broken("torch", ROCM, tmp_path, monkeypatch)
    assert [finding.text for finding in doctor.torch_and_gpus(tmp_path)] == [
        "2.15.0, for ROCm 7.1, which was not tried",
        "0: Toy 300, 1.0 GiB of 2.0 GiB free",
        checked(None, ["Toy 300"], torch="2.15.0", code="").text,
        "there",
        "2.22.3, which is RCCL",
    ]


def test_little_disk_and_little_memory_are_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert capacity.disk(tmp_path).remedy is None
    monkeypatch.setattr(capacity, "LITTLE", 1 << 60)
    assert capacity.disk(tmp_path).remedy == "make room"
    assert capacity.memory().remedy


def test_a_container_s_limit_counts(tmp_path: Path) -> None:
    assert capacity._free_of_container(tmp_path) == float("inf")
    (tmp_path / "memory.current").write_text("1000\n")
    (tmp_path / "memory.stat").write_text("inactive_anon 7\ninactive_file 0\n")
    (tmp_path / "memory.max").write_text("max\n")
    assert capacity._free_of_container(tmp_path) == float("inf")
    (tmp_path / "memory.max").write_text("5000\n")
    assert capacity._free_of_container(tmp_path) == 4000


def test_files_that_a_container_s_cache_can_drop_are_free_memory(tmp_path: Path) -> None:
    for name, text in {
        "max": "8000",
        "current": "7900",
        "stat": "file 7000\ninactive_file 6000\nactive_file 900",
    }.items():
        (tmp_path / f"memory.{name}").write_text(f"{text}\n")
    assert capacity._free_of_container(tmp_path) == 6100
