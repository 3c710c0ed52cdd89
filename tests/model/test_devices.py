"""How it computes: what is set for the whole process."""

import platform
import subprocess
import sys

import pytest
import torch
from conftest import ROOT, kernels_and_threads_as_they_were

from imgpipe.model.devices import set_up_computing

PAGES = 64 * 2**20 // 4096
"""Of an array of 64 MiB."""

MAKES_ARRAYS = """
import resource, sys, torch
from imgpipe.model.devices import keep_freed_memory
if sys.argv[1] == "kept":
    keep_freed_memory()
for _ in range(20):  # the heap first grows by some arrays
    torch.ones(2**24)
before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
for _ in range(10):
    torch.ones(2**24)
print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
"""


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="with another C library nothing is changed")
def test_memory_that_was_freed_is_used_again_and_not_asked_for_anew() -> None:
    def page_faults(way: str) -> int:
        command = [sys.executable, "-c", MAKES_ARRAYS, way]
        done = subprocess.run(command, env={"PYTHONPATH": str(ROOT / "src")}, capture_output=True, check=True)
        return int(done.stdout)

    assert page_faults("plain") >= 10 * PAGES  # as it is otherwise
    assert page_faults("kept") < PAGES / 10


def test_new_memory_is_not_filled_first() -> None:
    with kernels_and_threads_as_they_were():
        set_up_computing(cpu_threads=1, precision="fp32")
        assert torch.are_deterministic_algorithms_enabled()
        assert not torch.empty(1000).isnan().all()
