"""The commands of README and docs: their options are taken by the real programs, and a test runs each or says why not.

A page's commands are those of its indented blocks. Bash itself reads them, with no program to be found: so comments,
loops, pipes and quotes are as they are for a reader, and nothing runs.
"""

import ast
import re
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from functools import cache
from importlib.util import find_spec
from pathlib import Path
from textwrap import dedent

import pytest
import typer
from closure import ROOT

from imgpipe.commands.__main__ import app
from imgpipe.commands.params_file import values_of, with_values
from imgpipe.common.params import load
from stages.check import check

PAGES = ["README.md", "CONTRIBUTING.md", *sorted(f"docs/{page.name}" for page in ROOT.glob("docs/*.md"))]

RUN_BY = {
    "dask scheduler": "data/test_cluster.py",
    "dvc add": "pipeline/test_sharing.py",
    "dvc artifacts get": "pipeline/test_registry.py",
    "dvc cache dir": "pipeline/test_sharing.py",
    "dvc checkout": "pipeline/test_sharing.py",
    "dvc config": "pipeline/test_sharing.py",
    "dvc exp apply": "pipeline/test_sharing.py",
    "dvc exp list": "pipeline/test_sharing.py",
    "dvc exp pull": "pipeline/test_sharing.py",
    "dvc exp push": "pipeline/test_sharing.py",
    "dvc exp run": "pipeline/test_experiments.py",
    "dvc exp show": "pipeline/test_experiments.py",
    "dvc metrics diff": "pipeline/test_experiments.py",
    "dvc plots diff": "plot/test_plots.py",
    "dvc pull": "pipeline/test_sharing.py",
    "dvc push": "pipeline/test_sharing.py",
    "dvc queue start": "pipeline/test_experiments.py",
    "dvc remote add": "pipeline/test_sharing.py",
    "dvc remote modify": "pipeline/test_sharing.py",
    "dvc repro": "pipeline/test_reruns.py",
    "dvc unprotect": "pipeline/test_sharing.py",
    "gto assign": "pipeline/test_registry.py",
    "gto register": "pipeline/test_registry.py",
    "imgpipe audit": "commands/test_audit.py",
    "imgpipe clean": "commands/test_clean.py",
    "imgpipe compare": "commands/test_compare.py",
    "imgpipe doctor": "commands/test_doctor.py",
    "imgpipe export": "commands/test_export.py",
    "imgpipe gpu-check": "commands/test_gpu_check.py",
    "imgpipe predict": "commands/test_predict.py",
    "imgpipe recipe": "commands/test_recipe.py",
    "imgpipe result": "commands/test_result.py",
    "imgpipe start": "commands/test_start.py",
    "imgpipe upgrade": "commands/test_upgrade.py",
    "imgpipe verify": "commands/test_verify.py",
    "python -m imgpipe.commands.probes": "commands/test_doctor.py",
    "python -m imgpipe.commands.worker": "data/test_cluster.py",
    "python -m stages.train": "train/test_machines.py",
    "torchrun": "train/test_processes.py",
}
"""The file of tests that runs a command, by the words that the command begins with."""

NOT_RUN = {
    "docker": "needs Docker's daemon; tests/pipeline/test_ci.py reads the Dockerfile",
    "dvc params diff": "DVC's own, and it only shows",
    "dvc plots show": "DVC's own, and it only shows",
    "find": "the system's own",
    "git": "Git's own",
    "gto show": "GTO's own, and it only shows",
    "make TORCH=cpu setup": "gigabytes, and the network",
    "make bench-accuracy": "an hour or more of training",
    "make bench-loader": "minutes of measuring",
    "make bench-neighbours": "minutes of measuring",
    "make bench-kernels": "tests/train/test_launches.py counts so, on a smaller network",
    "make bench-peers": "minutes of training, and what the network has of the peers",
    "make bench-train": "minutes of training",
    "make bench-million": "an hour or more",
    "make check": "continuous integration runs it beside these tests",
    "make fuzz": "minutes; tests/fuzzing has its short form",
    "make help": "it only shows",
    "make lock": "the network",
    "make repro": "continuous integration runs it, twice",
    "make setup": "gigabytes; continuous integration does it first",
    "make test": "these are the tests",
    "make verify": "the whole pipeline; tests/commands/test_verify.py runs what compares",
    "make verify-portable": "minutes on emulated processors",
    "mkdir": "the system's own",
    "pre-commit install": "pre-commit's own",
    "python -m json.tool": "Python's own",
    "sort": "the system's own",
    "tar": "the system's own",
    "uv pip install": "the network",
    "uv venv": "uv's own",
}
"""Why no test runs a command."""

NO_COMMANDS = (
    "90.7 % of the 270",
    "Experiment  ",
    "epoch  train loss",
    "False verdicts at",
    "On 309 val images",
    "WRONG  packages",
    "def tiny(",
    "error: params.yaml:",
    "error: process 1 was killed",
    "identical: all",
    "images          uint8",
    "model.weights: the last layer",
    "model:\n",
    "onnx: 0 of",
    "passed    facts",
    "source -> download",
    "stages/            six",
)
"""Beginnings of blocks that are neither commands nor Python: what a command prints, a table, a part of a file."""

READING = r"""
command_not_found_handle() { local words; printf -v words '%s\x1f' "$@"; printf '%s\x1e' "$words" >> "$RECORD"; }
cd() { :; }
source() { :; }
.() { :; }
eval "$1"
"""
"""Bash's program that writes down the words of each command. A record is one write, for pipes run side by side."""


def blocks(page: str) -> Iterator[str]:
    """Yield the indented blocks of a page that are not Python. Those in fences are YAML, which other tests read."""
    text = (ROOT / page).read_text(encoding="utf-8")
    fences = re.compile(r"^```(\w*)$.*?^```$", flags=re.MULTILINE | re.DOTALL)
    assert {fence[1] for fence in fences.finditer(text)} <= {"yaml"}, f"{page}: only YAML stands in fences; indent it"
    for block in re.findall(r"\n\n((?: {4,}.*\n)(?:(?: {4,}.*)?\n)*)", f"\n\n{fences.sub('', text)}\n"):
        try:
            ast.parse(dedent(block))
        except SyntaxError:
            yield dedent(block).strip("\n")


@cache
def in_blocks(page: str) -> list[list[list[str]]]:
    """Return the words of each command, by the blocks of a page. A transcript's commands are those after a $."""
    scripts = (block for block in blocks(page) if not block.startswith(NO_COMMANDS))
    typed = (re.findall(r"^\$ (.*)$", script, flags=re.MULTILINE) or [script] for script in scripts)
    return [read_by_bash("\n".join(lines)) for lines in typed]


def commands(page: str) -> list[list[str]]:
    return [command for block in in_blocks(page) for command in block]


def read_by_bash(script: str) -> list[list[str]]:
    bash = shutil.which("bash")
    assert bash
    with tempfile.TemporaryDirectory() as folder:
        Path(folder, "src/imgpipe/commands").mkdir(parents=True)  # a page has a command that writes there
        environment = {"PATH": folder, "HOME": "/home/me", "RECORD": f"{folder}/record"}
        read = subprocess.run(
            [bash, "-c", READING, "bash", script],
            cwd=folder,
            env=environment,
            capture_output=True,
            text=True,
            check=False,
        )
        assert not read.stderr, f"bash does not read\n{script}\n{read.stderr}"
        lines = Path(folder, "record").read_text(encoding="utf-8").split("\x1e")
    return [line.removesuffix("\x1f").split("\x1f") for line in lines if line]


def listed(command: list[str]) -> list[str]:
    """Return the entries of the tables with whose words the command begins."""
    return [entry for entry in (*RUN_BY, *NOT_RUN) if command[: len(entry.split())] == entry.split()]


@pytest.mark.parametrize("page", PAGES)
def test_a_command_is_run_by_a_test_or_a_reason_says_why_not(page: str) -> None:
    for command in commands(page):
        assert listed(command), (
            f"{page}: no test is known to run '{' '.join(command)}'; name the file of one in RUN_BY, or in NOT_RUN why "
            "there is none; where it is no command, name the beginning of its block in NO_COMMANDS"
        )


def test_the_tables_have_no_command_that_no_page_has_and_name_files_that_run_theirs() -> None:
    in_pages = {entry for page in PAGES for command in commands(page) for entry in listed(command)}
    assert in_pages == {*RUN_BY, *NOT_RUN}
    for entry, file in RUN_BY.items():
        text = (ROOT / "tests" / file).read_text(encoding="utf-8")
        for word in entry.split():
            assert word in {"dvc", "gto", "imgpipe", "python", "-m"} or word in text, f"{file} does not run {entry}"


@pytest.mark.parametrize("page", PAGES)
def test_a_program_takes_the_options_and_values_that_a_page_gives_it(
    page: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    for block in in_blocks(page):
        params = (ROOT / "params.yaml").read_text(encoding="utf-8")
        for program, *words in block:
            match program:
                case "imgpipe":
                    params = imgpipe_takes(words, params)
                case "dvc":
                    dvc_takes(words, params)
                case "make":
                    make_takes(words)
                case "python":
                    assert words[0] == "-m"
                    assert find_spec(words[1]), words[1]


def imgpipe_takes(words: list[str], params: str) -> str:
    """Have typer read the command. Returns the text of params.yaml afterwards: a recipe puts its values there."""
    group = typer.main.get_command(app)
    name, command, rest = group.resolve_command(typer.Context(group), words)  # type: ignore[attr-defined]
    given = command.make_context(name, rest).params
    if name == "recipe" and given["name"]:
        return with_values(params, dict(values_of(load(ROOT / f"recipes/{given['name']}.yaml"))), {})
    return params


def dvc_takes(words: list[str], params: str) -> None:
    """Have DVC read the command, and change params.yaml as its experiments would; each change must be allowed."""
    from dvc.cli.parser import get_main_parser
    from dvc.utils.hydra import get_hydra_sweeps

    args = get_main_parser().parse_args(words)
    for overrides in get_hydra_sweeps({"params.yaml": getattr(args, "set_param", None) or []}):
        check_changed(params, tuple(overrides["params.yaml"]))


@cache
def check_changed(params: str, overrides: tuple[str, ...]) -> None:
    from dvc.utils.hydra import apply_overrides

    Path("params.yaml").write_text(params, encoding="utf-8")
    apply_overrides("params.yaml", list(overrides))
    check()


def make_takes(words: list[str]) -> None:
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    subprocess.run(["make", "--dry-run", *words], cwd=ROOT, check=True, capture_output=True)
    for name in (word.partition("=")[0] for word in words if "=" in word):
        assert f"$({name})" in makefile, f"the Makefile does not use {name}"
