"""A training left at every one of its steps and resumed in another state: the same bits as in one go."""

import logging
import re
import resource
import subprocess
import sys
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
from conftest import ROOT
from torch import nn
from trainings import ALONE, RECIPE, classifier, goes_on

from imgpipe.train import checkpoints, optim, schedules
from imgpipe.train.checkpoints import resumed, write_checkpoint
from imgpipe.train.locks import sole_use
from imgpipe.train.params import Train
from imgpipe.train.start import new_state
from imgpipe.train.state import Epoch, TrainingState

SHORT = replace(RECIPE, epochs=4, batch_size=4)
"""4 epochs of 5 steps."""
RECIPES = {
    "momentum and BatchNorm": SHORT,
    "an average, a short batch, dropout": replace(SHORT, ema_decay=0.9, last_batch="keep"),
    "adamw on plateaus": replace(
        SHORT,
        optimizer=partial(optim.adamw, lr=0.01, beta1=0.9, beta2=0.999, weight_decay=0.01),
        schedule=partial(schedules.plateau, warmup_epochs=0, factor=0.5, patience=0, threshold=0.0),
    ),
    "fp16 with its scale": replace(SHORT, precision="fp16"),
    "rmsprop, mixup and early stopping": replace(
        SHORT,
        optimizer=partial(optim.rmsprop, lr=0.001, alpha=0.9, momentum=0.9, weight_decay=0.0),
        mixup_alpha=0.4,
        early_stop_epochs=2,
    ),
}


def begun(recipe: Train) -> TrainingState:
    """A state before the first step, with BatchNorm and dropout."""
    return new_state(classifier(nn.BatchNorm2d(4), nn.Dropout(0.2), precision=recipe.precision), recipe)


def train(
    folder: Path, recipe: Train, leave_after: int | None = None, every_steps: int | None = None
) -> TrainingState | None:
    """A state made anew, resumed from the folder, trained for so many steps or to the end; None if it was left."""
    state = begun(recipe)
    return state if goes_on(state, recipe, folder, leave_after=leave_after, every_steps=every_steps) else None


def bits(state: TrainingState) -> dict[str, Any]:
    return {**state.used.state_dict(), **{f"best {name}": value for name, value in state.best_weights.items()}}


@pytest.mark.parametrize("recipe", RECIPES.values(), ids=RECIPES)
def test_left_at_each_step_it_ends_in_the_same_bits(tmp_path: Path, recipe: Train) -> None:
    whole = train(tmp_path / "whole", recipe)
    assert whole
    for stride in (1, 3):
        state, times = None, 0
        while state is None:
            state, times = train(tmp_path / "left", recipe, leave_after=stride), times + 1
        assert times > 5
        assert state.history == whole.history
        assert state.best == whole.best
        assert all(torch.equal(value, bits(whole)[name]) for name, value in bits(state).items())
    assert [path for path in tmp_path.glob("**/*") if path.is_file()] == []


def test_steps_between_two_checkpoints_are_steps_and_not_the_ends_of_epochs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    saved = list[str]()
    monkeypatch.setattr(checkpoints, "write_checkpoint", lambda folder, name, state: saved.append(name))
    train(tmp_path / "key", SHORT, every_steps=4)
    assert saved == ["000000-000000004", "000001-000000003", "000002-000000002", "000003-000000001", "000003-000000005"]


def test_the_first_checkpoint_comes_after_a_minute_also_where_later_ones_take_longer(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each step takes 11 seconds: the first after a minute is the sixth, the next 100 seconds later the 16th."""
    saved, seconds = list[int](), 0
    monkeypatch.setattr(checkpoints, "monotonic", lambda: seconds)
    monkeypatch.setattr(checkpoints, "write_checkpoint", lambda folder, name, state: saved.append(seconds))
    with resumed(begun(SHORT), tmp_path / "key", ALONE, every_seconds=100, every_steps=None, stop_signal=int) as save:
        for _ in range(20):
            seconds += 11
            save(0)
    assert saved == [6 * 11, 16 * 11]


def test_a_training_that_stops_and_can_t_be_saved_says_so(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (100, limits[1]))
    try:
        train(tmp_path / "key", SHORT, leave_after=1)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert re.fullmatch(
        r"no checkpoint could be saved \(.*File too large.*\); the next run goes on from the one before, or .* anew",
        caplog.messages[-1],
    )


def test_a_resumed_training_says_where_it_stands(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """8 steps of 5 an epoch end in the second epoch."""
    caplog.set_level(logging.INFO)
    train(tmp_path / "key", SHORT, leave_after=8)
    assert "resuming" not in caplog.text
    assert caplog.messages[-2:] == [
        "SIGTERM stops the training in epoch 2, after step 3 of 5",
        "it is saved, and the next run resumes it",
    ]
    train(tmp_path / "key", SHORT, leave_after=1)
    assert "resuming the training in epoch 2, after step 3 of 5; epoch 1 did best so far" in caplog.messages

    state = begun(SHORT)
    state.add(Epoch(1, 0.1, 1.0, 0.5, 1.0, 0.5))
    write_checkpoint(tmp_path / "between", "1", state.saved())
    train(tmp_path / "between", SHORT, leave_after=1)
    assert "resuming the training after epoch 1; epoch 1 did best so far" in caplog.messages


WAITING = """
import sys
from pathlib import Path
import stages
import torch, torch.distributed as dist
from imgpipe.model.devices import World
from imgpipe.train import locks
from imgpipe.train.processes import deferred_signals
from imgpipe.train.checkpoints import resumed
import logging

logging.basicConfig(level=logging.INFO, format="%(message)s", stream=sys.stdout)
locks.PATIENCE = 10.0
rank, folder = int(sys.argv[1]), Path(sys.argv[2])
dist.init_process_group("gloo", init_method=f"file://{folder}.meeting", rank=rank, world_size=2)
world = World(rank, 2, torch.device("cpu"))
try:
    with deferred_signals() as stop_signal:
        with resumed(None, folder, world, every_seconds=1e9, every_steps=None, stop_signal=stop_signal):
            pass
finally:
    dist.destroy_process_group()
"""


def test_asked_to_stop_while_they_wait_for_another_run_all_processes_end(tmp_path: Path) -> None:
    folder = tmp_path / "key"
    with sole_use(folder, lambda: 0):
        command = [sys.executable, "-c", WAITING]
        first, second = (
            subprocess.Popen([*command, str(rank), str(folder)], cwd=ROOT, stdout=subprocess.PIPE, text=True)
            for rank in range(2)
        )
        assert first.stdout
        assert "waiting for process" in first.stdout.readline()
        first.terminate()
        first.communicate(timeout=60)
        second.communicate(timeout=60)
    assert (first.returncode, second.returncode) == (143, 143)
