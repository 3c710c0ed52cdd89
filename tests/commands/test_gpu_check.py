"""The check of GPUs, on CPUs: by real processes and Gloo groups; and each of its checks fails where it should.

What needs a GPU to happen is judged from stand-ins for what a part would have found on one.
"""

import json
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
from closure import ROOT

from imgpipe.commands.gpu_check import lines
from imgpipe.commands.gpu_checking import plan
from imgpipe.commands.gpu_checking.checks import judge_gpus, judge_speed, run, with_processes
from imgpipe.commands.gpu_checking.failures import judge_end
from imgpipe.commands.gpu_checking.launching import PartError
from imgpipe.commands.gpu_checking.outcome import Facts, Name, Outcome, Status
from imgpipe.commands.gpu_checking.plan import Machine
from imgpipe.commands.gpu_record import read_record

NAMES = [name.value for name in Name]
H100: Facts = {"name": "H100", "uuid": "0", "capability": "9.0", "processors": 132, "free": 2**36, "total": 2**36}
CUDA: Facts = {
    "torch": "2.15.0",
    "cuda": "13.2",
    "hip": None,
    "cudnn": 92000,
    "driver": None,
    "nccl": "2.30.7",
    "problem": None,
    "gpus": [H100] * 6,
    "peers": [],
    "cores": 64,
    "environment": {},
}


def gpu_check(folder: Path, *options: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "imgpipe.commands", "gpu-check", *options]
    return subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=500, check=False)


def test_gpu_check_on_the_cpu_passes_in_two_processes_and_says_what_it_leaves_out(tmp_path: Path) -> None:
    done = gpu_check(tmp_path, "--device", "cpu", "--json", "report.json")
    assert (done.returncode, done.stderr) == (0, ""), done.stdout
    said = [line.split("  ")[0] for line in done.stdout.splitlines() if not line.startswith(" ")]
    assert said == ["passed", "passed", "left out", *["passed"] * 5], done.stdout
    report = json.loads((tmp_path / "report.json").read_text(encoding="utf-8"))
    found = {check["name"]: check["found"] for check in report["checks"]}
    assert list(found) == NAMES
    assert report["passed"]
    alone, both = found["bits"].values()
    assert alone["fp32"]["whole"] == both["fp32"]["whole"] == both["fp32"]["resumed"] != alone["fp16"]["whole"]
    assert found["failures"]["SIGTERM"]["status"] == 143
    assert [path.name for path in tmp_path.iterdir()] == ["report.json"]


def test_gpu_check_without_a_gpu_says_so_and_leaves_that_on_record_for_the_doctor(tmp_path: Path) -> None:
    (tmp_path / "dvc.yaml").touch()
    done = gpu_check(tmp_path)
    assert done.returncode == 1
    first, to_do, *others, last = done.stdout.splitlines()
    assert first.startswith("FAILED    facts ")
    assert "can't use a GPU: " in first
    assert to_do.endswith("--device cpu checks what needs no GPU")
    assert [line.split()[:3] for line in others] == [["left", "out", name] for name in NAMES[1:]]
    assert last == "1 check failed: facts"
    record = read_record(tmp_path)
    assert record
    assert not record.passed


@pytest.mark.parametrize(
    ("name", "fault", "processes", "said"),
    [
        (Name.FACTS, "no torch", 1, ["process 0: ImportError: libcudart.so.99: cannot open"]),
        (Name.FACTS, "crash", 1, ["ended by SIGSEGV"]),
        (Name.FACTS, "hang", 1, ["no answer within 6 seconds: process 0 was in gpu_checking/part.py:"]),
        (
            Name.OPERATORS,
            "odd networks",
            1,
            [
                "simple_cnn: InputError: ",
                "put_ does not have a deterministic implementation",
                "resnet9_narrow: two equal steps differ first in classifier.network.",
            ],
        ),
        (
            Name.CARDS,
            "other card",
            2,
            ["process 1 on ", " differs from the first, first in classifier.network.", " numbers, by "],
        ),
        (Name.BITS, "other order", 2, ["2 processes, fp32: first in classifier.", "resumed, first in classifier."]),
        (Name.EXCHANGE, "wrong sum", 2, ["the sum of 1 numbers is wrong: process 0: 1 of 1 numbers, by "]),
        (Name.SPEED, "slow step", 1, [" times the time of a plain loop"]),
        (
            Name.FAILURES,
            "no explanation",
            1,
            ["out of memory: ", "lines were said", "SIGTERM: no checkpoint was saved"],
        ),
    ],
)
def test_a_check_fails_where_its_fault_is_put_in(
    name: Name, fault: str, processes: int, said: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PYTHONPATH", str(ROOT / "tests/faults"))
    monkeypatch.setenv("FAULT", fault)
    sizes = replace(plan.CPU, seconds=6) if fault == "hang" else replace(plan.CPU, speed_steps=2)
    monkeypatch.setitem(plan.SIZES, "cpu", sizes)
    outcome, _ = run(name, Machine("cpu", processes, 1, tmp_path), lambda doing: None)
    assert outcome.status == Status.FAILED
    assert outcome.remedy
    for part in said:
        assert part in outcome.text


def test_a_step_that_waits_for_the_gpu_is_found_with_its_place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without a GPU torch's watch is a stand-in; the loop reads the loss of each step at once on a CPU."""
    monkeypatch.setenv("PYTHONPATH", str(ROOT / "tests/faults"))
    monkeypatch.setenv("FAULT", "reading loop")
    scale = replace(plan.CPU.alone, steps=10)
    job = Machine("cpu", 1, 1, tmp_path).everywhere("syncs", {"scales": {"fp32": scale}})
    with pytest.raises(PartError) as failure:
        Machine("cpu", 1, 1, tmp_path).ask("syncs", job, lambda doing: None)
    said = "process 0 (at fp32): RuntimeError: called a synchronizing CUDA operation, in train/run.py:"
    assert str(failure.value).startswith(said)
    assert str(failure.value).endswith(" (after_step)")


def test_gpus_are_counted_and_too_few_are_refused() -> None:
    """Of six GPUs four train, unless another number is asked for."""
    machine = Machine("cuda", 0, 1, Path())
    assert with_processes(machine, CUDA).processes == 4
    passed = judge_gpus(CUDA, machine)
    assert passed.text == (
        "4 x H100, 64.0 GiB each, torch 2.15.0, CUDA 13.2, cuDNN 92000, NCCL 2.30.7, 64 cores, 4 processes"
    )
    many = judge_gpus(CUDA, replace(machine, processes=8))
    assert (many.status, many.text) == (Status.FAILED, "8 processes need a GPU each, and there are 6")


@pytest.mark.parametrize(
    ("ratio", "loaded", "status", "remedy"),
    [
        (1.15, 950, Status.PASSED, None),
        (1.15, 800, Status.PASSED, "images come too slowly for it from 6 threads: give more cores"),
        (1.16, 950, Status.FAILED, "at most 1.15 times is right"),
    ],
)
def test_speed_is_judged_by_the_ratio_and_a_slow_loader_is_advice(
    ratio: float, loaded: float, status: Status, remedy: str | None
) -> None:
    rates = {"plain loop": [1000.0] * 3, "ours": [900.0, 1000.0, 1100.0], "ours with the loader": [loaded] * 3}
    found = {"images_per_second": rates, "threads": 6, "ratio": ratio}
    outcome = judge_speed(found, plan.CUDA.speed, 1.15, alone=False)
    assert outcome.status == status
    assert outcome.remedy == remedy if remedy is None else (outcome.remedy or "").startswith(remedy)


ONE_LINE = ["error: memory does not suffice for micro-batches of 8 images"]


@pytest.mark.parametrize(
    ("status", "said", "seconds", "cause", "problems"),
    [
        (1, ONE_LINE, 14.9, True, []),
        (1, ["error: the connection to another process is lost"], 3.0, False, []),
        (1, ["error: the connection to another process is lost"], 3.0, True, ["it says: error: the connection to"]),
        (1, ONE_LINE, 16.0, True, ["the processes ended only after 16 s, and 15 are right"]),
        (None, ONE_LINE, 330.0, True, ["the processes ended only after 330 s, and 15 are right"]),
        (134, ONE_LINE, 3.0, True, ["exit status 134, and 1 is right"]),
        (1, [*ONE_LINE, "Traceback"], 3.0, True, ["2 lines were said, 1 of them an error, and one is right"]),
    ],
)
def test_an_end_after_a_failure_is_right_within_15_seconds_with_one_line_and_status_1(
    status: int | None, said: list[str], seconds: float, cause: bool, problems: list[str]
) -> None:
    found = judge_end(status, said, seconds, came=True, cause=cause)["problems"]
    assert len(found) == len(problems)
    assert all(one.startswith(start) for one, start in zip(found, problems, strict=True))


def test_a_check_is_a_line_with_what_to_do_below_and_nothing_that_commands_a_terminal() -> None:
    outcome = Outcome(Status.FAILED, "a GPU called \x1b[31mred", "take it out")
    assert lines(Name.CARDS, outcome, 12.34) == (
        "FAILED    cards       12.3 s  a GPU called \\x1b[31mred\n          to do: take it out"
    )


def test_a_number_of_processes_that_is_no_power_of_two_is_refused(tmp_path: Path) -> None:
    done = gpu_check(tmp_path, "--device", "cpu", "--processes", "3")
    assert done.returncode == 1
    assert done.stderr == "error: --processes is 3; it must be a power of two, such as 1, 2, 4 or 8\n"
