"""Versions of the model, with real GTO and DVC, as docs/predicting.md has them."""

from pathlib import Path

from conftest import Project

TAGGED = {"GIT_COMMITTER_NAME": "Tester", "GIT_COMMITTER_EMAIL": "tester@example.org"}


def test_a_registered_version_is_found_by_its_stage_and_holds_the_model_of_its_commit(
    pipeline: Project, tmp_path: Path
) -> None:
    tested = (pipeline.folder / "models/classifier.safetensors").read_bytes()
    pipeline.succeed("dvc", "remote", "add", "--default", "storage", str(tmp_path / "storage"))
    pipeline.commit("A remote")
    commit = pipeline.succeed("git", "rev-parse", "HEAD").out.strip()
    pipeline.succeed("gto", "register", "classifier", **TAGGED)
    pipeline.succeed("gto", "assign", "classifier", "--version", "v0.0.1", "--stage", "prod", **TAGGED)
    assert pipeline.succeed("git", "tag").out.splitlines() == ["classifier#prod#1", "classifier@v0.0.1"]
    pipeline.succeed("dvc", "push")

    pipeline.set(evaluate__flips=True)  # another model, which is no version
    pipeline.here("evaluate")
    pipeline.succeed("dvc", "commit", "--force", "evaluate")
    pipeline.commit("Another model")
    assert (pipeline.folder / "models/classifier.safetensors").read_bytes() != tested
    shown = pipeline.succeed("python", "-c", "import dvc.api; print(dvc.api.artifacts_show('classifier'))").out
    assert shown == f"{{'rev': '{commit}', 'path': 'models/classifier.safetensors'}}\n"
    got = tmp_path / "got.safetensors"
    pipeline.succeed("dvc", "artifacts", "get", ".", "classifier", "--stage", "prod", "-o", str(got))
    assert got.read_bytes() == tested
