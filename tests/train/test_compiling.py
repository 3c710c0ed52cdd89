"""Compiled code gives the same bits whatever the process computed before: on 1 and 2 processes, resumed anywhere."""

import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import compiled_training
import pytest
import torch
from compiled_training import COMPILED, begun
from conftest import kernels_and_threads_as_they_were
from torch import Tensor, nn
from trainings import ALONE, classifier, goes_on, random_split

from imgpipe.common.errors import InputError
from imgpipe.model.devices import set_up_computing
from imgpipe.train import compiling
from imgpipe.train.loop import train_step
from imgpipe.train.micro_batches import MicroBatch
from imgpipe.train.reduction import FixedTree
from imgpipe.train.start import new_state
from imgpipe.train.state import TrainingState

pytestmark = pytest.mark.skipif(shutil.which("g++") is None, reason="torch.compile needs a C++ compiler here")


@pytest.fixture(autouse=True)
def new_process() -> Iterator[None]:
    """As in a process that has compiled nothing yet. The code that it compiles is found on the disk by the next one."""
    torchs_own: dict[str, Any] = {
        "optimize_ddp": True,
        "recompile_limit": 8,
        "accumulated_recompile_limit": 256,
        "fail_on_recompile_limit_hit": False,
    }
    with kernels_and_threads_as_they_were(), torch._dynamo.config.patch(torchs_own):
        set_up_computing(cpu_threads=1, precision="fp32")
        torch._dynamo.reset()
        yield


def differing(one: TrainingState, other: TrainingState) -> list[str]:
    """The names of the weights and statistics that are not the same to the bit."""
    values = other.classifier.state_dict()
    return [name for name, value in one.classifier.state_dict().items() if not torch.equal(value, values[name])]


def test_two_processes_and_one_that_goes_on_from_them_end_in_the_bits_of_one(tmp_path: Path) -> None:
    """Of the two, which stop in the second epoch, the first alone has seen a short micro-batch."""
    whole, rest = begun(), begun()
    assert goes_on(whole, COMPILED, tmp_path / "whole", images=22)
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    command = [sys.executable, compiled_training.__file__, str(tmp_path / "left")]
    pair = [subprocess.Popen([*command, str(rank)], env=environment) for rank in range(2)]
    assert [process.wait(timeout=200) for process in pair] == [0, 0]
    torch._dynamo.reset()
    assert goes_on(rest, COMPILED, tmp_path / "left", images=22)
    assert differing(whole, rest) == []
    assert whole.history == rest.history


def test_resumed_at_a_short_batch_it_ends_in_the_same_bits(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """All code is compiled in one mode, too, the first piece as well as those that follow."""
    from torch._inductor import codecache, config

    modes = []
    describe = codecache.FxGraphHashDetails.__init__

    def watched(*arguments: Any, **options: Any) -> None:
        modes.append(config.deterministic)
        describe(*arguments, **options)

    monkeypatch.setattr(codecache.FxGraphHashDetails, "__init__", watched)
    whole, begins, rest = begun(), begun(), begun()
    assert goes_on(whole, COMPILED, tmp_path / "whole", images=18)
    torch._dynamo.reset()
    assert not goes_on(begins, COMPILED, tmp_path / "left", images=18, leave_after=1)
    torch._dynamo.reset()
    assert goes_on(rest, COMPILED, tmp_path / "left", images=18)
    assert differing(whole, rest) == []
    assert whole.history == rest.history
    assert set(modes) == {True}


def one_step(*weights: float) -> TrainingState:
    """The training after a step of micro-batches of the same four images, which count so much."""
    state, split = begun(), random_split(4)
    images, labels = torch.from_numpy(split.content.reshape(4, 8, 8, 1)), torch.from_numpy(split.labels)
    made = [MicroBatch(images, labels, weight, mix=None, dropout_seed=i) for i, weight in enumerate(weights)]
    state.classifier.train()
    train_step(state, FixedTree(state.classifier, ALONE), made, COMPILED, None)
    return state


def test_a_filler_adds_nothing_to_the_gradient_nor_to_the_statistics() -> None:
    whole, with_filler = one_step(1.0), one_step(1.0, 0.0)
    assert len(differing(whole, begun())) == len(whole.classifier.network.state_dict())
    assert differing(whole, with_filler) == []


def test_code_that_was_kept_for_other_instructions_is_not_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """On a processor with AVX-512; laid out for that, code run with AVX2 takes every second half of its numbers."""
    monkeypatch.setenv("TORCHINDUCTOR_CACHE_DIR", str(tmp_path))
    expected = one_step(1.0)
    torch._dynamo.reset()
    shutil.rmtree(tmp_path)
    with monkeypatch.context() as machine:
        machine.setattr(torch.backends.cpu, "get_cpu_capability", lambda: "AVX512")
        machine.setenv("ATEN_CPU_CAPABILITY", "avx512")
        one_step(1.0)
    torch._dynamo.reset()
    assert differing(one_step(1.0), expected) == []


class Counting(nn.Module):
    """Has the network compiled anew each time that it runs."""

    def __init__(self) -> None:
        super().__init__()
        self.runs = 0

    def forward(self, features: Tensor) -> Tensor:
        self.runs += 1
        return features


def test_a_network_that_no_code_fits_twice_is_refused_and_not_run_uncompiled(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(compiling, "MOST_GRAPHS", 3)
    counting = Counting()
    with pytest.raises(
        InputError, match=r"^params.yaml: train.compile is true, and torch.compile has made \d+ versions"
    ):
        goes_on(begun(counting), COMPILED, tmp_path / "key")
    assert counting.runs == 3


def test_a_batchnorm_that_gets_a_single_value_is_explained_as_without_compiling(tmp_path: Path) -> None:
    """Four micro-batches of one image each."""
    recipe = replace(COMPILED, batch_size=4)
    state = new_state(classifier(nn.AdaptiveAvgPool2d(1), nn.BatchNorm2d(4), nn.Upsample(6)), recipe)
    with pytest.raises(InputError, match="BatchNorm needs more than one value"):
        goes_on(state, recipe, tmp_path / "key", images=4)
