"""What docs/sharing.md says, line by line, with real Git and DVC; remotes are a folder and an S3-compatible server."""

import os
import shlex
import shutil
import sys
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from conftest import OUTPUTS, ROOT, Project, copy_of

PAGE = (ROOT / "docs/sharing.md").read_text(encoding="utf-8")
SERVER = "https://s3.example.org"
Follow = Callable[[Project, str], str]


@pytest.fixture(autouse=True)
def closed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing of who runs the tests is read: no keys, and no settings of Git, DVC and proxies."""
    for name in list(os.environ):
        if name.startswith(("AWS_", "DVC_", "GIT_")) or name.lower().endswith("_proxy"):
            monkeypatch.delenv(name)
    for name in ("HOME", "XDG_CONFIG_HOME", "XDG_CONFIG_DIRS"):
        monkeypatch.setenv(name, str(tmp_path / "home"))
    monkeypatch.setenv("GIT_CONFIG_NOSYSTEM", "1")
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")


@pytest.fixture
def server() -> Iterator[str]:
    """The address of an S3-compatible server with a bucket."""
    from moto.server import ThreadedMotoServer  # takes a second, which no other test needs

    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0)
    server.start()
    host, port = server.get_host_and_port()
    urllib.request.urlopen(urllib.request.Request(f"http://{host}:{port}/flowers", method="PUT")).close()
    yield f"http://{host}:{port}"
    server.stop()


@pytest.fixture
def follow(tmp_path: Path, request: pytest.FixtureRequest) -> Follow:
    """Runs a line of the page in a project, with places of the test for the page's, and returns what it printed."""
    places = {
        "git@github.com:ann/flowers.git": str(tmp_path / "flowers.git"),
        "/mnt/share/flowers": str(tmp_path / "storage"),
        "/srv/dvc-cache": str(tmp_path / "cache"),
    }

    def run(project: Project, line: str) -> str:
        assert line in [shown.partition("    #")[0].strip() for shown in PAGE.splitlines()], f"not on the page: {line}"
        if SERVER in line:
            places[SERVER] = request.getfixturevalue("server")
        return project.succeed(*(places.get(word, word) for word in shlex.split(line))).out

    return run


@pytest.fixture
def ann(finished_project: Project, tmp_path: Path, follow: Follow) -> Project:
    """A finished pipeline of images that Git does not track; its repository is its own, cloned from the template."""
    ann = copy_of(finished_project, tmp_path / "ann")
    for name in ("template", "flowers"):
        ann.succeed("git", "init", "--quiet", "--bare", "--initial-branch", "main", f"../{name}.git")
    ann.succeed("git", "remote", "add", "origin", "../template.git")
    ann.succeed("git", "push", "--quiet", "origin", "main")
    follow(ann, "git remote rename origin template")
    follow(ann, "git remote set-url --push template no_push")
    follow(ann, "git remote add origin git@github.com:ann/flowers.git")
    follow(ann, "git push --set-upstream origin main")
    with (ann.folder / ".gitignore").open("a", encoding="utf-8") as ignored:
        ignored.write("/images\n")
    ann.succeed("git", "rm", "--quiet", "-r", "--cached", "images")
    return ann


def publish(ann: Project, follow: Follow) -> None:
    ann.succeed("git", "add", "--all")
    for line in ('git commit --all --message "Flowers"', "dvc push", "git push"):
        follow(ann, line)


def cloned(ann: Project, follow: Follow, name: str = "bob") -> Project:
    """A colleague's clone, without images, outputs and DVC's cache."""
    desk = ann.folder.parent / name
    desk.mkdir()
    follow(Project(desk), "git clone git@github.com:ann/flowers.git")
    return Project(desk / "flowers")


def test_a_colleague_without_the_images_runs_nothing_and_takes_up_an_experiment_from_one_s_own_repository(
    ann: Project, follow: Follow
) -> None:
    follow(ann, "dvc remote add --default storage /mnt/share/flowers")
    publish(ann, follow)
    bob = cloned(ann, follow)
    assert not (bob.folder / "images").exists()
    run = bob.succeed("make", f"VENV={sys.prefix}", "--old-file", "setup", "repro")
    assert "params.yaml: download.location is 'images', which is not here; " in run.out
    assert run.stages_run == []
    assert bob.fingerprint(*OUTPUTS) == ann.fingerprint(*OUTPUTS)

    assert ann.run("git", "push", "template", "main").status != 0
    run = ann.succeed("dvc", "exp", "run", "--name", "dense", "--set-param", "prepare.val_fraction=0.2", "prepare")
    assert run.stages_run == ["prepare"]
    follow(ann, "dvc exp push origin dense")
    assert "dense" in follow(bob, "dvc exp list origin")
    follow(bob, "dvc exp pull origin dense")
    follow(bob, "dvc exp apply dense")
    assert bob.fingerprint(*OUTPUTS) == ann.fingerprint(*OUTPUTS)
    template = Project(ann.folder.parent / "template.git")
    assert template.succeed("git", "for-each-ref", "--format", "%(refname)").out.split() == ["refs/heads/main"]


def test_a_bucket_on_an_s3_compatible_server_has_every_output_and_keys_stay_out_of_git(
    ann: Project, follow: Follow
) -> None:
    keys = (
        "dvc remote modify --local storage access_key_id ANN",
        "dvc remote modify --local storage secret_access_key SECRET",
    )
    follow(ann, "dvc remote add --default storage s3://flowers/imgpipe")
    follow(ann, f"dvc remote modify storage endpointurl {SERVER}")
    for line in keys:
        follow(ann, line)
    publish(ann, follow)
    assert ann.run("git", "grep", "--quiet", "access_key", "HEAD", "--", ".dvc").status == 1
    bob = cloned(ann, follow)
    for line in keys:
        follow(bob, line)
    follow(bob, "dvc pull")
    assert bob.fingerprint(*OUTPUTS) == ann.fingerprint(*OUTPUTS)
    assert bob.succeed("dvc", "repro", "--allow-missing").stages_run == []
    assert bob.succeed("git", "status", "--porcelain").out == ""


def test_images_under_dvc_come_with_the_rest_by_a_shared_cache_too_and_their_versions_go_back(
    ann: Project, follow: Follow
) -> None:
    """A folder of images; the page has the lines for an archive of them."""
    ann.edit(".gitignore", "/images\n", "")
    ann.succeed("dvc", "add", "images")
    ann.commit("Flowers")
    follow(ann, "git push")
    shutil.move(ann.folder / ".dvc/cache", ann.folder.parent / "cache")
    bob = cloned(ann, follow)
    follow(bob, "dvc cache dir --local /srv/dvc-cache")
    follow(bob, "dvc config --local cache.shared group")
    follow(bob, "dvc checkout")
    assert bob.fingerprint("images", *OUTPUTS) == ann.fingerprint("images", *OUTPUTS)
    assert bob.succeed("dvc", "repro").stages_run == []
    image = bob.folder / "images/0/0000.png"
    before = image.read_bytes()
    image.write_bytes((bob.folder / "images/1/0001.png").read_bytes())
    assert bob.succeed("dvc", "repro", "download").stages_run == ["download"]
    assert " M images.dvc\n" in bob.succeed("git", "status", "--porcelain").out
    bob.succeed("git", "checkout", "--quiet", "images.dvc")
    bob.succeed("dvc", "checkout", "images.dvc")
    assert image.read_bytes() == before


def test_an_archive_under_dvc_and_its_copy_in_data_raw_are_kept_once(pipeline: Project, follow: Follow) -> None:
    def kept() -> list[Path]:
        return sorted((pipeline.folder / ".dvc/cache/files").rglob("*"))

    before = kept()
    shutil.copy(pipeline.folder / "data/raw/images.tar", pipeline.folder / "photos.tar")
    follow(pipeline, "dvc add photos.tar")
    follow(pipeline, "git add photos.tar.dvc .gitignore")
    assert kept() == before


def test_an_output_edited_in_its_place_is_no_edit_of_dvc_s_copy_and_hard_links_are_asked_for(
    pipeline: Project, follow: Follow
) -> None:
    pipeline.succeed("dvc", "checkout", "--relink")  # copying the fixture has cut links, if there were any
    table = pipeline.folder / "data/images.csv"
    before = table.read_bytes()
    with table.open("a", encoding="utf-8") as file:
        file.write("edited\n")
    run = pipeline.succeed("dvc", "repro", "pack")
    assert (run.stages_run, run.stages_restored) == ([], ["prepare"])
    assert table.read_bytes() == before
    follow(pipeline, "dvc config --local cache.type reflink,hardlink,copy")
    follow(pipeline, "dvc checkout --relink")
    follow(pipeline, "dvc unprotect data/images.csv")
    assert (table.stat().st_nlink, table.stat().st_mode & 0o200) == (1, 0o200)
