"""What is written down of a training for its user to look at."""

import json
import logging
import re
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from time import perf_counter

import pytest
import torch
from trainings import RECIPE, classifier

from imgpipe.common import progress
from imgpipe.common.errors import InputError
from imgpipe.common.progress import steps_shown
from imgpipe.train.start import new_state
from imgpipe.train.state import Epoch
from imgpipe.train.watching import Clock, logged, new_run_folder, profiled, scalars, write_account

CPU = torch.device("cpu")


class Hands:
    """A time that stands still until it is moved."""

    def __init__(self) -> None:
        self.seconds = 100.0

    def __call__(self) -> float:
        return self.seconds

    def move(self, seconds: float) -> None:
        self.seconds += seconds


def test_a_clock_adds_up_what_each_part_took_and_the_rest_is_in_the_total() -> None:
    hands = Hands()
    clock = Clock(hands)
    for _ in range(2):
        with clock("data"):
            hands.move(2.0)
        with clock("step"):
            hands.move(0.5)
        hands.move(0.25)
    assert list(clock.seconds.items()) == [("data", 4.0), ("step", 1.0)]
    assert clock.total == 5.5


def test_a_lap_has_the_rate_since_the_one_before() -> None:
    """80 images in 4 s, then 90 in 3 s."""
    hands = Hands()
    clock = Clock(hands)
    for images, seconds in ((80, 4.0), (90, 3.0)):
        with clock("step"):
            hands.move(seconds)
        hands.move(7.0)
        clock.images += images
        assert clock.lap() == images / seconds
    assert clock.lap() == 0.0
    assert clock.rate == 170 / 7


def test_each_epoch_is_a_line_below_its_header_and_the_best_one_is_named(caplog: pytest.LogCaptureFixture) -> None:
    """Of two epochs as accurate the one with the lower loss is better; nothing is wider than 80 columns."""
    caplog.set_level(logging.INFO)
    state, clock = new_state(classifier(), RECIPE), Clock(Hands())

    def epochs() -> Iterator[Epoch]:
        for row in ((1, 0.09375, 2.27994, 0.1658, 12.1246, 0.5963), (2, 2.5e-05, 0.5, 1.0, 0.75, 0.5963)):
            state.add(Epoch(*row))
            yield state.history[-1]

    assert list(logged(epochs(), state, clock)) == state.history
    assert caplog.messages == [
        "epoch  train loss  accuracy  val loss  accuracy       lr  images/s  best so far",
        "    1      2.2799    0.1658   12.1246    0.5963    0.094         0  0.5963 (1)",
        "    2      0.5000    1.0000    0.7500    0.5963  2.5e-05         0  0.5963 (2)",
        "epoch 2 did best on the validation split: accuracy 0.5963, loss 0.7500",
        "this run took 0.0 s: ; 0 images/s",
    ]
    assert max(map(len, caplog.messages)) <= 80


def test_in_a_file_an_epoch_has_a_line_a_minute(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, capsys: pytest.CaptureFixture[str]
) -> None:
    caplog.set_level(logging.INFO)
    time = iter([0.0, 59.0, 61.0, 61.0, 100.0, 121.0, 121.0])
    monkeypatch.setattr(progress, "monotonic", lambda: next(time))
    with steps_shown("epoch 2/3", 7, done=3) as advance:
        for loss in (0.5, 0.4, 0.3, 0.2):
            advance(f"loss {loss}")
    assert caplog.messages == ["epoch 2/3: step 5 of 7, loss 0.4", "epoch 2/3: step 7 of 7, loss 0.2"]
    assert capsys.readouterr() == ("", "")


def test_a_part_that_fails_is_counted_too() -> None:
    hands = Hands()
    clock = Clock(hands)
    with pytest.raises(ZeroDivisionError), clock("step"):
        hands.move(2.0)
        _ = 1 / 0
    with clock("saving"):
        pass
    assert clock.seconds == {"step": 2.0, "saving": 0.0}


def test_without_a_time_of_its_own_a_clock_runs_on_the_machine_s() -> None:
    clock = Clock()
    with clock("step"):
        start = perf_counter()
        while perf_counter() == start:
            pass
    assert 0 < clock.seconds["step"] <= clock.total


def test_parts_within_one_another_would_be_counted_twice() -> None:
    clock = Clock()
    with pytest.raises(AssertionError, match="step within another part"), clock("data"), clock("step"):
        pass


def test_the_account_has_rate_memory_and_place(tmp_path: Path) -> None:
    """300 images in 1 s of data and 2 s of steps are 100 a second; validation is not counted."""
    hands = Hands()
    clock = Clock(hands)
    for part, seconds in {"data": 1.0, "step": 2.0, "validation": 5.0, "saving": 0.25}.items():
        with clock(part):
            hands.move(seconds)
    hands.move(0.5)
    clock.images = 300
    write_account(tmp_path, clock, processes=2, device=CPU)
    account = json.loads((tmp_path / "training.json").read_text())
    assert account["seconds"] == {"data": 1.0, "step": 2.0, "validation": 5.0, "saving": 0.25, "total": 8.75}
    assert account["images"] == 300
    assert account["images_per_second"] == 100.0
    assert account["processes"] == 2
    assert account["host"] == socket.gethostname()
    assert account["hardware"]["cores"] >= 1
    assert account["hardware"]["processor"]
    assert account["versions"]["torch"] == torch.__version__
    assert set(account["peak_memory_bytes"]) == {"main"}


def test_a_training_that_took_no_step_has_no_rate(tmp_path: Path) -> None:
    write_account(tmp_path, Clock(), processes=1, device=CPU)
    assert json.loads((tmp_path / "training.json").read_text())["images_per_second"] == 0.0


PEAK = """
import torch
from imgpipe.train.watching import peak_memory
before = peak_memory(torch.device("cpu"))["main"]
content = bytearray(b"x") * (before + 50_000_000)
del content
print(before, peak_memory(torch.device("cpu"))["main"])
"""


def test_peak_memory_counts_what_was_taken_and_given_back() -> None:
    """In a process of its own: one that once had more would have to take more than that."""
    done = subprocess.run([sys.executable, "-c", PEAK], capture_output=True, text=True, check=True)
    before, after = map(int, done.stdout.split())
    assert after >= before + 50_000_000
    assert before > 50_000_000  # bytes, not kilobytes: torch alone takes more


def test_runs_have_folders_of_their_own(tmp_path: Path) -> None:
    folder = new_run_folder(tmp_path / "runs")
    assert folder.is_dir()
    assert re.fullmatch(rf"\d{{8}}T\d{{6}}\.\d{{6}}Z-{re.escape(socket.gethostname())}-\d+", folder.name)


def traced(folder: Path, *, steps: int) -> int:
    """How many of five multiplications are in the trace."""
    with profiled(folder, steps=steps) as advance:
        for _ in range(5):
            torch.ones(8, 8) @ torch.ones(8, 8)
            advance()
    events = json.loads((folder / "trace.json").read_text())["traceEvents"]
    return sum(event.get("name") == "aten::matmul" for event in events)


def test_so_many_steps_are_in_the_trace_after_the_first_two(tmp_path: Path) -> None:
    assert traced(tmp_path, steps=2) == 2


def test_a_training_shorter_than_the_profile_leaves_the_trace_of_what_there_was(tmp_path: Path) -> None:
    assert traced(tmp_path, steps=100) == 3


def test_no_steps_to_profile_leave_no_trace(tmp_path: Path) -> None:
    with profiled(tmp_path, steps=0) as advance:
        advance()
    assert list(tmp_path.iterdir()) == []


def test_without_tensorboard_a_line_says_what_to_install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with (
        pytest.raises(InputError, match=r"runtime\.tensorboard is true, .* pip install tensorboard"),
        scalars(tmp_path, wanted=True),
    ):
        pass


def test_scalars_that_are_not_wanted_are_not_written(tmp_path: Path) -> None:
    with scalars(tmp_path, wanted=False) as write:
        write({"loss": 1.0}, 1)
    assert list(tmp_path.iterdir()) == []


def test_tensorboard_reads_the_scalars(tmp_path: Path) -> None:
    accumulator = pytest.importorskip("tensorboard.backend.event_processing.event_accumulator")
    with scalars(tmp_path, wanted=True) as write:
        write({"loss": 2.5, "lr": 0.5}, 1)
        write({"loss": 1.5, "lr": 0.25}, 2)
    events = accumulator.EventAccumulator(str(tmp_path))
    events.Reload()
    assert [(event.step, event.value) for event in events.Scalars("loss")] == [(1, 2.5), (2, 1.5)]
    assert [(event.step, event.value) for event in events.Scalars("lr")] == [(1, 0.5), (2, 0.25)]
