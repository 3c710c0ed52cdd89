"""How it computes: what is set for the whole process, and how many threads make batches."""

import logging
import platform
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from conftest import ROOT, kernels_and_threads_as_they_were

from imgpipe.model import devices, runtime
from imgpipe.model.devices import described, device_type, set_up_computing
from imgpipe.model.runtime import Runtime

PAGES = 64 * 2**20 // 4096
"""Of an array of 64 MiB."""

MAKES_ARRAYS = """
import resource, torch
from imgpipe.model.devices import keep_freed_memory

def page_faults():
    for _ in range(20):  # the heap first grows by some arrays
        torch.ones(2**24)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    for _ in range(10):
        torch.ones(2**24)
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before

print(page_faults())
keep_freed_memory()
print(page_faults())
"""


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="with another C library nothing is changed")
def test_memory_that_was_freed_is_used_again_and_not_asked_for_anew() -> None:
    command = [sys.executable, "-c", MAKES_ARRAYS]
    done = subprocess.run(command, env={"PYTHONPATH": str(ROOT / "src")}, capture_output=True, check=True)
    plain, kept = map(int, done.stdout.split())
    assert plain >= 10 * PAGES  # as it is otherwise
    assert kept < PAGES / 10


def test_new_memory_is_not_filled_first() -> None:
    with kernels_and_threads_as_they_were():
        set_up_computing(cpu_threads=1, precision="fp32")
        assert torch.are_deterministic_algorithms_enabled()
        assert not torch.empty(1000).isnan().all()


@pytest.mark.parametrize(("precision", "tf32"), [("fp32", False), ("bf16", False), ("tf32", True)])
def test_a_gpu_takes_tf32_in_convolutions_and_products_where_that_is_the_precision_and_nowhere_else(
    precision: str, tf32: bool
) -> None:
    """By torch's own default convolutions do and products do not."""
    with kernels_and_threads_as_they_were():
        set_up_computing(cpu_threads=1, precision=precision)
        assert (torch.backends.cudnn.allow_tf32, torch.backends.cuda.matmul.allow_tf32) == (tf32, tf32)


@pytest.mark.skipif(torch.cuda.is_available(), reason="this machine has a GPU")
def test_that_a_machine_with_a_driver_trains_on_the_cpu_is_said_once_and_only_where_nobody_chose_it(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, tmp_path: Path
) -> None:
    caplog.set_level(logging.WARNING)
    monkeypatch.setattr(devices, "DRIVER", tmp_path / "none")
    assert device_type("auto", asked_by="") == "cpu"
    monkeypatch.setattr(devices, "DRIVER", tmp_path)
    assert device_type("cpu", asked_by="") == "cpu"
    assert caplog.messages == []
    assert device_type("auto", asked_by="") == "cpu"
    (said,) = caplog.messages
    assert said.startswith("this machine has NVIDIA's driver, but torch sees no GPU, so the CPU computes: ")
    monkeypatch.setenv("TORCHELASTIC_RUN_ID", "one of several processes")
    assert device_type("auto", asked_by="") == "cpu"
    assert len(caplog.messages) == 1


def test_a_gpu_is_another_where_its_model_or_what_computes_on_it_is(monkeypatch: pytest.MonkeyPatch) -> None:
    """Of the GPU stands what torch gives; there is none here."""
    gpu = SimpleNamespace(name="NVIDIA H100 PCIe", multi_processor_count=114, major=9, minor=0)
    monkeypatch.setattr(torch.cuda, "get_device_properties", lambda device: gpu)
    monkeypatch.setattr(torch.version, "cuda", "13.2")
    monkeypatch.setattr(torch.backends.cudnn, "version", lambda: 92600)
    assert described(torch.device("cuda", 1)) == (
        "NVIDIA H100 PCIe with 114 multiprocessors, compute capability 9.0, CUDA 13.2, cuDNN 92600"
    )
    assert described(torch.device("cpu")) == "cpu"


@pytest.mark.parametrize(
    ("device", "processes", "expected"),
    [("cpu", 1, 8), ("cuda", 1, 14), ("cpu", 4, 2), ("cuda", 4, 2), ("cpu", 16, 1), ("cuda", 8, 1)],
)
def test_half_the_cores_make_batches_for_a_cpu_and_all_but_two_for_a_gpu(
    monkeypatch: pytest.MonkeyPatch, device: str, processes: int, expected: int
) -> None:
    """Of 16 cores, which the processes share; at least one in each."""
    monkeypatch.setattr(runtime, "cores", lambda: 16)
    monkeypatch.setenv("LOCAL_WORLD_SIZE", str(processes))
    section = Runtime("auto", "auto", "auto", 600.0, None, False, 0)
    assert section.loader_threads(device) == expected
    assert replace(section, threads=5).loader_threads(device) == 5
