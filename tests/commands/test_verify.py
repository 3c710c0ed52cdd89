"""``make verify`` on metrics that are null, in a folder with what it reads and nothing else."""

import json
import subprocess
from pathlib import Path

import pytest
import typer

from imgpipe.commands.verify import LOCK, METRICS, verify


def write(folder: Path, md5: str, metrics: dict[str, float | None]) -> None:
    (folder / LOCK).write_text(f"stages: {{train: {{outs: [{{path: model, md5: {md5}}}]}}}}\n")
    (folder / METRICS).parent.mkdir(parents=True, exist_ok=True)
    (folder / METRICS).write_text(json.dumps(metrics))


def test_a_difference_is_said_only_of_numbers(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    write(tmp_path, "aa", {"accuracy": 0.5, "lost": 0.25, "found": None, "never": None})
    for command in ("init --quiet", "add .", "-c user.name=T -c user.email=t@example.org commit --quiet -m All"):
        subprocess.run(["git", *command.split()], check=True)
    write(tmp_path, "bb", {"accuracy": 0.75, "lost": None, "found": 0.5, "never": None, "more": 1})
    with pytest.raises(typer.Exit):
        verify()
    assert capsys.readouterr().out.splitlines()[:-1] == [
        "not identical: model",
        "  accuracy             0.5 -> 0.75  (+0.250000)",
        "  lost                 0.25 -> None",
        "  found                None -> 0.5",
        "  never                None -> None",
        "  more                 None -> 1  (new)",
    ]
