"""``imgpipe verify MODEL``: what the model of a finished pipeline was made from, and what is another here."""

import hashlib
import json
import re
import shutil
import subprocess
from collections.abc import Callable
from dataclasses import replace
from importlib.metadata import version
from pathlib import Path

import pytest
import yaml
from conftest import Project
from typer.testing import CliRunner, Result

from imgpipe.commands.__main__ import app
from imgpipe.evaluate.provenance import PROVENANCE
from imgpipe.model.classifier import load_classifier, save_classifier
from imgpipe.model.description import read_head

MODEL = "models/classifier.safetensors"
ITEMS = ["data", "code", "parameters", "packages", "kernels", "commit"]


@pytest.fixture
def inside(pipeline: Project, monkeypatch: pytest.MonkeyPatch) -> Project:
    monkeypatch.chdir(pipeline.folder)
    return pipeline


def verify(*arguments: str) -> Result:
    return CliRunner().invoke(app, ["verify", *arguments])


def items(done: Result) -> dict[str, tuple[str, str]]:
    """State and text of each item."""
    lines = (line.split(maxsplit=2) for line in done.stdout.splitlines())
    return {name: (state, text) for state, name, text in lines}


def sha256(path: str) -> str:
    return hashlib.sha256(Path(path).read_bytes()).hexdigest()


def changed_byte(path: str) -> None:
    """The last byte is another. The file is a new one, since DVC's cache may share the old one."""
    content = Path(path).read_bytes()
    Path(path).unlink()
    Path(path).write_bytes(content[:-1] + bytes([content[-1] ^ 1]))


def test_all_is_the_same_where_nothing_changed(inside: Project) -> None:
    done = verify(MODEL)
    assert done.exit_code == 0
    found = items(done)
    assert list(found) == ITEMS
    assert {state for state, _ in found.values()} == {"same"}
    assert found["data"][1] == f"images.tar, SHA-256 {sha256('data/raw/images.tar')}"
    head = subprocess.run(["git", "log", "-1", "--format=%H"], capture_output=True, text=True, check=True).stdout
    assert found["commit"][1] == f"{head.strip()}, Results"


TORCH = version("torch").partition("+")[0]
CODE = "src/imgpipe/train/loop.py"
CHANGES: dict[str, tuple[Callable[[Project], object], str, str]] = {
    "a byte of the archive": (
        lambda project: changed_byte("data/raw/images.tar"),
        "data",
        r"data/raw/images.tar has SHA-256 [0-9a-f]{64}, and images.tar, of the model, [0-9a-f]{64}",
    ),
    "a byte of an image": (
        lambda project: changed_byte("images/0/0000.png"),
        "data",
        "images is modified since it was downloaded",
    ),
    "no data": (
        lambda project: shutil.rmtree("data/raw"),
        "data",
        "there is no archive in data/raw; dvc pull data/raw or dvc repro download brings it",
    ),
    "a byte of code": (lambda project: changed_byte(CODE), "code", CODE),
    "a file of code more": (
        lambda project: Path("src/imgpipe/train/more.py").write_text("MORE = 1\n"),
        "code",
        r"src/imgpipe/train/more.py \(only here\)",
    ),
    "a file of code less": (lambda project: Path(CODE).unlink(), "code", rf"{CODE} \(not here\)"),
    "parameters": (
        lambda project: project.set(train__optimizer__sgd__lr=0.2, prepare__class_names={0: "zero"}),
        "parameters",
        r'prepare.class_names null -> {"0": "zero"}, train.optimizer.sgd.lr 0.1 -> 0.2',
    ),
    "a package": (
        lambda project: project.edit("packages.yaml", f"torch: {TORCH}", "torch: 99.0.0"),
        "packages",
        rf"torch {TORCH} -> 99.0.0, torch {TORCH} \(not 99.0.0\) is installed",
    ),
}


@pytest.mark.parametrize(("change", "item", "text"), CHANGES.values(), ids=CHANGES)
def test_exactly_what_changed_is_named(
    inside: Project, change: Callable[[Project], object], item: str, text: str
) -> None:
    change(inside)
    done = verify(MODEL)
    assert done.exit_code == 1
    found = items(done)
    assert list(found) == ITEMS
    assert [name for name, (state, _) in found.items() if state != "same"] == [item]
    assert re.fullmatch(text, found[item][1])


def test_what_is_no_part_of_the_model_changes_nothing(inside: Project) -> None:
    inside.set(plot__dpi=70, runtime__threads=1)
    inside.edit("src/imgpipe/plot/figures.py", "def roc", "# curves\ndef roc")
    Path("src/imgpipe/train/.loop.py.swp").write_text("an open editor")
    shutil.rmtree("images")  # as a colleague has them not; the archive that was made of them is compared
    assert verify(MODEL).exit_code == 0


def test_a_model_of_native_kernels_may_be_rounded_otherwise_and_one_that_no_commit_has_is_said_so(
    inside: Project,
) -> None:
    classifier, head = load_classifier(Path(MODEL)), read_head(Path(MODEL))
    classifier.description = replace(classifier.description, kernels="native")
    save_classifier(Path("other.safetensors"), classifier, {PROVENANCE: head[PROVENANCE]})
    found = items(verify("other.safetensors"))
    assert found["kernels"] == ("unknown", "native: another kind of processor rounds otherwise")
    assert found["commit"] == ("missing", "no commit of this clone has the model in its dvc.lock")


def test_the_record_is_the_same_for_what_dvc_takes_for_equal_and_holds_no_password(inside: Project) -> None:
    inside.here("evaluate")
    before = Path(MODEL).read_bytes()
    inside.edit("params.yaml", "mixup_alpha: 0.0", "mixup_alpha: 0")
    inside.edit("params.yaml", "{lr: 0.1, momentum: 0.9,", "{momentum: 0.9, lr: 1e-1,")
    inside.here("evaluate")
    assert Path(MODEL).read_bytes() == before
    inside.set(download__url="https://me:secret@example.org/a.zip?token=hidden")
    inside.here("evaluate")
    made_from = read_head(Path(MODEL))[PROVENANCE]
    assert made_from["parameters"]["download"]["url"] == "https://example.org/a.zip"
    assert not re.search(b"secret|hidden", Path(MODEL).read_bytes())


def test_the_record_has_what_evaluation_found(inside: Project) -> None:
    made_from = read_head(Path(MODEL))[PROVENANCE]
    assert list(made_from) == ["sources", "code", "parameters", "packages", "metrics"]
    for split in ("val", "test"):
        assert made_from["metrics"][split] == json.loads(Path(f"metrics/{split}/metrics.json").read_text())


def test_the_statement_is_json_and_has_the_digests_of_all(inside: Project) -> None:
    """Its form is that of in-toto's Statement v1 and of SLSA's build provenance v1."""
    done = verify(MODEL, "--statement")
    assert done.exit_code == 0
    said = json.loads(done.stdout)
    assert said["_type"] == "https://in-toto.io/Statement/v1"
    assert said["predicateType"] == "https://slsa.dev/provenance/v1"
    (subject,) = said["subject"]
    assert (subject["name"], subject["digest"]) == ("classifier.safetensors", {"sha256": sha256(MODEL)})
    definition = said["predicate"]["buildDefinition"]
    assert definition["externalParameters"]["train"]["seed"] == 0
    assert definition["internalParameters"]["kernels"] == "portable"
    dependencies = {one["name"]: one for one in definition["resolvedDependencies"]}
    assert len(dependencies) == len(definition["resolvedDependencies"])
    assert dependencies["images.tar"]["digest"] == {"sha256": sha256("data/raw/images.tar")}
    files = [name for name in dependencies if name.endswith(".py")]
    assert CODE in files
    assert all(dependencies[name]["digest"] == {"sha256": sha256(name)} for name in files)
    assert dependencies["torch"]["uri"] == f"pkg:pypi/torch@{TORCH}"
    head = subprocess.run(["git", "rev-parse", "HEAD"], capture_output=True, text=True, check=True).stdout.strip()
    assert dependencies["commit"]["digest"] == {"gitCommit": head}


def test_made_again_it_is_identical_or_its_metrics_moved(inside: Project) -> None:
    command = ("python", "-m", "imgpipe.commands", "verify", MODEL, "--remake")
    digest = sha256(MODEL)
    assert inside.succeed(*command).out.splitlines()[-1] == f"identical: made again, it has SHA-256 {digest}"
    assert inside.succeed("git", "status", "--porcelain").out == ""  # dvc.lock is as it was, too
    before = json.loads(Path("metrics/test/metrics.json").read_text())
    inside.set(evaluate__flips=True)
    stages = yaml.safe_load(Path("dvc.yaml").read_text())["stages"]
    kept = {name: stages[name] for name in ("download", "evaluate")}
    Path("dvc.yaml").write_text(yaml.safe_dump({"stages": kept}))  # what runs again
    run = inside.run(*command)
    assert run.status == 1
    assert "differs  parameters  evaluate.flips false -> true\n" in run.out
    after = json.loads(Path("metrics/test/metrics.json").read_text())
    assert before["loss"] != after["loss"]
    *_, moved = re.findall(r"  loss +(\S+) -> (\S+) ", run.out)
    assert moved == (str(before["loss"]), str(after["loss"]))


REFUSALS = {
    "no file": (("gone.safetensors",), "there is no model file 'gone.safetensors'; dvc repro makes one, "),
    "another file": (("params.yaml",), "'params.yaml' is no classifier that this imgpipe can read ("),
    "no provenance": (("models/best.safetensors",), "'models/best.safetensors' does not say what it was made from; "),
    "remake what": (("--remake",), "--remake is of a model; name its file: imgpipe verify "),
    "state what": (("--statement",), "--statement is of a model; name its file: imgpipe verify "),
    "both": ((MODEL, "--remake", "--statement"), "--statement prints what the file says and --remake runs the "),
}


@pytest.mark.parametrize(("arguments", "line"), REFUSALS.values(), ids=REFUSALS)
def test_a_refusal_is_one_line(
    finished: Project, monkeypatch: pytest.MonkeyPatch, arguments: tuple[str, ...], line: str
) -> None:
    monkeypatch.chdir(finished.folder)
    done = verify(*arguments)
    assert (done.exit_code, done.stdout) == (1, "")
    assert done.stderr.startswith(f"error: {line}")
    assert done.stderr.count("\n") == 1


def test_elsewhere_than_in_the_project_s_top_folder_it_is_refused(inside: Project, tmp_path: Path) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(tmp_path)
        done = verify(str(inside.folder / MODEL))
    assert done.exit_code == 1
    assert done.stderr.startswith(f"error: dvc.yaml is not in {tmp_path}; ")
