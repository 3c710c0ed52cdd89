"""Checkpoints on a disk that fills up, cut short, and wanted by two runs at once."""

import logging
import resource
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from imgpipe.common.errors import InputError
from imgpipe.train import checkpoints
from imgpipe.train.checkpoints import newest_checkpoint, sole_use, state_in, write_checkpoint

STATE = {"weights": torch.arange(6.0).view(2, 3), "epochs": [{"loss": 0.1}], "best": None}


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def test_the_newest_two_are_kept_and_the_newest_comes_back(tmp_path: Path) -> None:
    assert newest_checkpoint(tmp_path) is None
    for i in range(4):
        write_checkpoint(tmp_path, f"{i}", {**STATE, "step": i})
    assert names(tmp_path) == ["2.pt", "3.pt"]
    content = newest_checkpoint(tmp_path)
    assert content is not None
    state = state_in(content)
    assert torch.equal(state.pop("weights"), STATE["weights"])  # type: ignore[arg-type]
    assert state == {"epochs": [{"loss": 0.1}], "best": None, "step": 3}


def test_memory_order_comes_back_too_since_it_shows_in_sums(tmp_path: Path) -> None:
    weights = torch.zeros(2, 3, 4, 4).to(memory_format=torch.channels_last)
    write_checkpoint(tmp_path, "1", {"weights": weights})
    content = newest_checkpoint(tmp_path)
    assert content is not None
    assert state_in(content)["weights"].stride() == weights.stride()


@pytest.mark.parametrize("damage", ["cut", "flipped", "empty"])
def test_one_that_was_cut_short_is_named_and_the_one_before_it_used(
    tmp_path: Path, damage: str, caplog: pytest.LogCaptureFixture
) -> None:
    write_checkpoint(tmp_path, "1", {**STATE, "step": 1})
    write_checkpoint(tmp_path, "2", {**STATE, "step": 2})
    newest = tmp_path / "2.pt"
    content = newest.read_bytes()
    flipped = content[:500] + bytes([content[500] ^ 1]) + content[501:]
    newest.write_bytes({"cut": content[:-1], "flipped": flipped, "empty": b""}[damage])
    (tmp_path / ".3.pt.77.draft").write_bytes(b"half")
    found = newest_checkpoint(tmp_path)
    assert found is not None
    assert state_in(found)["step"] == 1
    assert "2.pt was cut short" in caplog.text
    assert names(tmp_path) == ["1.pt"]


def test_a_disk_that_takes_no_more_leaves_the_checkpoint_before(tmp_path: Path) -> None:
    write_checkpoint(tmp_path, "1", STATE)
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (100, limits[1]))
    try:
        with pytest.raises(OSError, match="File too large"):
            write_checkpoint(tmp_path, "2", STATE)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert names(tmp_path) == ["1.pt"]


HOLDER = """
import sys
from pathlib import Path
from imgpipe.train.checkpoints import sole_use
with sole_use(Path(sys.argv[1]), lambda: 0):
    print("held", flush=True)
    sys.stdin.readline()
"""


def test_a_second_run_waits_a_moment_and_then_says_who_is_at_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    folder = tmp_path / "key"
    with subprocess.Popen(
        [sys.executable, "-c", HOLDER, str(folder)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as other:
        assert other.stdout
        assert other.stdout.readline() == "held\n"
        monkeypatch.setattr(checkpoints, "PATIENCE", 0.5)
        with (
            pytest.raises(InputError, match=rf"process {other.pid} on .* is at this very training"),
            sole_use(folder, lambda: 0),
        ):
            pass
        assert f"waiting for process {other.pid}" in caplog.text
        monkeypatch.setattr(checkpoints, "PATIENCE", 60.0)
        other.kill()
        with sole_use(folder, lambda: 0):
            assert folder.is_dir()
    assert names(tmp_path) == ["key"]
