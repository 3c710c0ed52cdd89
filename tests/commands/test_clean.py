"""What ``imgpipe clean`` lists, keeps and removes, beside the checkpoints of real keys and real locks."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
from closure import ROOT
from conftest import Project

from imgpipe.commands.clean import clean
from imgpipe.commands.doctor import checkpoints
from imgpipe.common.errors import InputError
from imgpipe.train.keys import digests_of_inputs, key_of
from imgpipe.train.locks import CHECKPOINTS

OLD, RUNNING = 16 * "0a", 16 * "0b"
HOLDER = """
import sys
from pathlib import Path
from imgpipe.train.locks import sole_use
with sole_use(Path(sys.argv[1]), lambda: 0):
    print("held", flush=True)
    sys.stdin.readline()
"""


def saved(key: str, *names: str, day: int) -> None:
    """Files of a million bytes in the folder of a training, last changed at noon of a day in May."""
    folder = CHECKPOINTS / key
    folder.mkdir(parents=True)
    for name in names:
        (folder / name).write_bytes(bytes(1_000_000))
    noon = subprocess.check_output(["date", "--date", f"2026-05-{day:02} 12:00", "+%s"])
    os.utime(folder, (int(noon), int(noon)))


def test_what_will_be_resumed_or_runs_is_kept_and_the_rest_removed_when_told_to(
    pipeline: Project, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(pipeline.folder)
    clean()
    assert capsys.readouterr().out.startswith("no checkpoints are left in .dvc/tmp/imgpipe: every training has ended\n")
    present = key_of(digests_of_inputs("train", device="cpu"))
    saved(present, "000014-000000000.pt", "000013-000000002.pt", day=3)
    saved(OLD, "000001-000000003.pt", "000001-000000002.pt.not-ours", day=2)
    saved(RUNNING, day=1)
    (CHECKPOINTS / f"{OLD}.not-ours").write_text("a file")
    (CHECKPOINTS / f"{OLD}.lock").write_text("left by a run that was killed")
    (CHECKPOINTS / "a note of mine").write_text("kept")
    with subprocess.Popen(
        [sys.executable, "-c", HOLDER, str(CHECKPOINTS / RUNNING)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        env={**os.environ, "PYTHONPATH": str(ROOT / "src")},
    ) as other:
        assert other.stdout
        assert other.stdout.readline() == b"held\n"
        clean()
        lines = capsys.readouterr().out.splitlines()
        assert lines[0] == f"Kept, since process {other.pid} on {os.uname().nodename} is at it:"
        assert lines[1] == "  0b0b0b0b  2026-05-01 12:00        0.0 MB  no checkpoint"
        assert lines[2] == "Kept, since the next dvc repro resumes it:"
        assert lines[3] == f"  {present[:8]}  2026-05-03 12:00        2.0 MB  after epoch 14"
        assert lines[4] == "Of other parameters, data, code or packages than the present ones:"
        assert lines[5].endswith("        2.0 MB  in epoch 2, after step 3")
        assert lines[6] == "imgpipe clean --yes removes those of 1 of 3 trainings, 2.0 MB"
        assert (CHECKPOINTS / OLD).is_dir()
        assert checkpoints(pipeline.folder).text.startswith("of 3 trainings that did not end, 4.0 MB")
        clean(yes=True)
        assert "removed those of 1 of 3 trainings, 2.0 MB\n" in capsys.readouterr().out
        left = sorted(path.name for path in CHECKPOINTS.iterdir())
        assert left == sorted([RUNNING, f"{RUNNING}.lock", "a note of mine", present])
    Path("data/packed/statistics.json").unlink()
    with pytest.raises(InputError, match=r"data/packed/statistics\.json is not there, so it can't be told which"):
        clean(yes=True)
    assert (CHECKPOINTS / present).is_dir()
