"""Sources, each to one archive."""

import hashlib
import http.server
import io
import os
import shutil
import threading
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import get_args, get_type_hints

import fsspec
import numpy as np
import pytest
from conftest import Project, write_images
from PIL import Image
from samples import encoded, noise, tar_of, zip_of

from imgpipe.common.errors import InputError
from imgpipe.data.archives import members
from imgpipe.data.folders import content_of
from imgpipe.download import sources
from imgpipe.download.params import Download
from imgpipe.download.sources import SOURCES, identified


def bring(raw: Path, source: str, **values: object) -> list[str]:
    """The names of the files that a source leaves in the folder, given some values of params.yaml: download."""
    usual = {"location": "nowhere", "url": None, "name": None, "sha256": None}
    section = Download(source=source, **{**usual, **values})  # type: ignore[arg-type]
    raw.mkdir()
    SOURCES[source](raw, section, raw.parent / "partial")
    return [file.name for file in raw.iterdir()]


def folder_of(folder: Path, files: Mapping[str, bytes]) -> None:
    for name, content in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(content)


def test_there_is_a_function_for_each_source_that_params_yaml_may_name() -> None:
    assert tuple(SOURCES) == get_args(get_type_hints(Download)["source"])


def test_the_digits_are_all_of_scikit_learn_s_and_the_same_bytes_each_time(tmp_path: Path) -> None:
    assert bring(tmp_path / "one", "digits") == bring(tmp_path / "two", "digits") == ["digits.tar"]
    assert (tmp_path / "one/digits.tar").read_bytes() == (tmp_path / "two/digits.tar").read_bytes()
    found = {member.name: member.content for member in members(tmp_path / "one/digits.tar")}
    assert len(found) == 1797
    first = np.asarray(Image.open(io.BytesIO(found["digits/0/0000.png"] or b"")))
    assert first[0].tolist() == [0, 0, 80, 207, 143, 16, 0, 0]  # levels 0 0 5 13 9 1 0 0, times 255 / 16


def test_a_folder_becomes_a_tar_whose_bytes_depend_on_names_and_contents_alone(tmp_path: Path) -> None:
    write_images(tmp_path / "mine", count=20, classes=2)
    (tmp_path / "mine/0/.hidden.png").write_bytes(b"x")
    (tmp_path / "mine/.git").mkdir()
    (tmp_path / "mine/.git/x.png").write_bytes(b"x")
    (tmp_path / "mine/notes.txt").write_text("not an image")
    bring(tmp_path / "one", "folder", location=str(tmp_path / "mine"))
    for file in (tmp_path / "mine").rglob("*"):
        os.utime(file, (1, 1))
    bring(tmp_path / "two", "folder", location=str(tmp_path / "mine"))
    assert (tmp_path / "one/mine.tar").read_bytes() == (tmp_path / "two/mine.tar").read_bytes()
    assert len(list(members(tmp_path / "one/mine.tar"))) == 20


def test_images_are_known_by_their_content_too_and_other_files_are_counted(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    files = {"cat/a.png": encoded(noise(0)), "cat/b": encoded(noise(1)), "cat/c.jfif": encoded(noise(2), "JPEG")}
    others = {"cat/d.mp4": b"\0\0\0\x18ftypisom", "cat/notes.txt": b"x"}
    folder_of(tmp_path / "mine", files | others)
    bring(tmp_path / "raw", "folder", location=str(tmp_path / "mine"))
    assert {member.name: member.content for member in members(tmp_path / "raw/mine.tar")} == files
    assert caplog.messages == [f"2 files left out, no images by name or content, such as {tmp_path}/mine/cat/d.mp4"]


def test_a_folder_s_tables_come_with_its_images_and_are_none_themselves(tmp_path: Path) -> None:
    files = {"labels.csv": b"file,label", "cat/LABELS.CSV": b"", "cat/a.png": encoded(noise(0))}
    folder_of(tmp_path / "mine", files)
    bring(tmp_path / "raw", "folder", location=str(tmp_path / "mine"))
    assert {member.name: member.content for member in members(tmp_path / "raw/mine.tar")} == files
    (tmp_path / "mine/cat/a.png").unlink()
    with pytest.raises(InputError, match=r"'.*mine', which holds no images; their names end in "):
        bring(tmp_path / "two", "folder", location=str(tmp_path / "mine"))


def test_a_table_becomes_a_tar_of_itself_and_the_files_that_its_cells_name(tmp_path: Path) -> None:
    table = (
        b"\xef\xbb\xbfid,image,mask\n1,one/a.png,.\\masks\\a.png\n2,./b,\n3,missing.png,.hidden.png\n4,../out.png,one\n"
    )
    image = encoded(noise(0))
    there = ["one/a.png", "one/b.png", "masks/a.png", "b", ".hidden.png", "../out.png"]
    folder_of(tmp_path / "mine", {"labels.csv": table, **dict.fromkeys(there, image)})
    location = str(tmp_path / "mine/labels.csv")
    assert bring(tmp_path / "raw", "table", location=location) == ["mine.tar"]
    assert {member.name: member.content for member in members(tmp_path / "raw/mine.tar")} == {
        "labels.csv": table,
        **dict.fromkeys(["b", "masks/a.png", "one/a.png"], image),
    }
    bring(tmp_path / "two", "table", location=location)
    assert (tmp_path / "raw/mine.tar").read_bytes() == (tmp_path / "two/mine.tar").read_bytes()


def test_of_a_table_dvc_notices_the_csv_and_brings_changed_images_where_it_is_forced(project: Project) -> None:
    table, image = project.folder / "images/labels.csv", project.folder / "images/0/0000.png"
    table.write_text("file,label\n0/0000.png,none\n", encoding="utf-8")
    project.set(download__source="table", download__location="images/labels.csv")

    def brought() -> list[bytes | None]:
        return [member.content for member in members(project.folder / "data/raw/images.tar")]

    project.succeed("dvc", "repro", "download")
    image.write_bytes(encoded(noise(0)))
    assert project.succeed("dvc", "repro", "download").stages_run == []
    project.succeed("dvc", "repro", "--force", "download")
    assert brought() == [table.read_bytes(), image.read_bytes()]
    table.write_text("file,label\n1/0001.png,one\n", encoding="utf-8")
    project.succeed("dvc", "repro", "download")
    assert brought() == [table.read_bytes(), (project.folder / "images/1/0001.png").read_bytes()]


def test_a_table_that_names_no_file_or_can_t_be_read_is_refused(tmp_path: Path) -> None:
    folder_of(tmp_path / "mine", {"a.csv": b"file\nb.png\na.csv\n", "latin.csv": b"\xe4\n", "c.png": b""})
    refused = {
        "a.csv": "where no cell names a file; it must have their paths, from the table's folder",
        "nowhere.csv": "which is no file; name the table of the images",
    }
    for number, (name, message) in enumerate(refused.items()):
        table = tmp_path / "mine" / name
        with pytest.raises(InputError) as refusal:
            bring(tmp_path / str(number), "table", location=str(table))
        assert str(refusal.value) == f"params.yaml: download.location is '{table}', {message}"
    with pytest.raises(InputError, match=r"latin.csv is not UTF-8 text, as line 1 shows; save it as UTF-8$"):
        bring(tmp_path / "raw", "table", location=str(tmp_path / "mine/latin.csv"))


def test_an_archive_of_images_without_endings_is_taken(tmp_path: Path) -> None:
    path = zip_of(tmp_path / "cats.zip", {"cats/a": encoded(noise(0))})
    assert bring(tmp_path / "raw", "archive", location=str(path)) == ["cats.zip"]


def test_what_is_hidden_as_a_source_is_not_in_data_raw(tmp_path: Path) -> None:
    write_images(tmp_path / ".mine", count=4, classes=2)
    path = zip_of(tmp_path / ".cats.zip", {"cats/a.png": encoded(noise(0))})
    assert bring(tmp_path / "one", "folder", location=str(tmp_path / ".mine")) == ["mine.tar"]
    assert bring(tmp_path / "two", "archive", location=str(path)) == ["cats.zip"]


def test_links_within_a_folder_are_followed_and_what_they_lead_to_is_read_once(tmp_path: Path) -> None:
    write_images(tmp_path / "mine", count=20, classes=2)
    (tmp_path / "mine/1/up").symlink_to(tmp_path / "mine")
    (tmp_path / "mine/0/again").symlink_to("../1")
    bring(tmp_path / "raw", "folder", location=str(tmp_path / "mine"))
    assert Counter(member.name[:2] for member in members(tmp_path / "raw/mine.tar")) == {"0/": 11, "1/": 9}


def test_a_link_out_of_a_folder_or_a_table_s_folder_is_refused_and_nothing_is_copied(tmp_path: Path) -> None:
    folder_of(tmp_path / "mine", {"labels.csv": b"file\ncat/a.png\n", "cat/b.png": encoded(noise(0))})
    (tmp_path / "secret.png").write_bytes(encoded(noise(1)))
    (tmp_path / "mine/cat/a.png").symlink_to("../../secret.png")
    for source, location in {"folder": tmp_path / "mine", "table": tmp_path / "mine/labels.csv"}.items():
        with pytest.raises(InputError) as refusal:
            bring(tmp_path / source, source, location=str(location))
        assert str(refusal.value) == (
            f"params.yaml: download.location is '{location}', and '{tmp_path}/mine/cat/a.png' is a link out of the "
            f"folder, to '{tmp_path}/secret.png'; put a copy in its place"
        )
        assert not list((tmp_path / source).iterdir())


def test_links_to_nothing_and_what_is_no_file_are_left_out_and_named(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    folder_of(tmp_path / "mine", {"cat/c.png": encoded(noise(0))})
    (tmp_path / "mine/cat/a.png").symlink_to("nowhere.png")
    os.mkfifo(tmp_path / "mine/cat/b.png")
    bring(tmp_path / "raw", "folder", location=str(tmp_path / "mine"))
    assert [member.name for member in members(tmp_path / "raw/mine.tar")] == ["cat/c.png"]
    assert caplog.messages == [f"2 paths left out, such as {tmp_path}/mine/cat/a.png: it is a link to nothing"]


@pytest.mark.parametrize("name", ["a.png", "labels.csv"])
def test_a_file_of_20_gb_is_refused_before_it_is_read(tmp_path: Path, name: str) -> None:
    folder_of(tmp_path / "mine", {"labels.csv": b"file\na.png\n", "a.png": b"x"})
    os.truncate(tmp_path / "mine" / name, 20_000_000_000)  # which takes no room
    for source, location in {"folder": tmp_path / "mine", "table": tmp_path / "mine/labels.csv"}.items():
        with pytest.raises(
            InputError, match=rf", and '.*{name}': its 20,000,000,000 bytes are more than the [\d,]+ tha"
        ):
            bring(tmp_path / source, source, location=str(location))


def test_cells_that_name_odd_things_name_no_file(tmp_path: Path) -> None:
    odd = ["", ".", "..", "/etc/passwd", "x" * 5000, "a\0b", "~", "*", "cat", "../out.png", "pipe", ".hidden.png"]
    folder_of(tmp_path / "mine", {"cat/a.png": encoded(noise(0)), ".hidden.png": b"x", "../out.png": b"x"})
    os.mkfifo(tmp_path / "mine/pipe")
    (tmp_path / "mine/labels.csv").write_text("\n".join([*odd, "cat/a.png"]))
    bring(tmp_path / "raw", "table", location=str(tmp_path / "mine/labels.csv"))
    assert [member.name for member in members(tmp_path / "raw/mine.tar")] == ["labels.csv", "cat/a.png"]


def test_a_file_that_is_removed_while_the_folder_is_copied_is_an_error_in_one_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder_of(tmp_path / "mine", {"cat/a.png": encoded(noise(0)), "cat/b.png": encoded(noise(1))})

    def also_removing(path: Path) -> bytes:
        (tmp_path / "mine/cat/b.png").unlink(missing_ok=True)
        return content_of(path)

    monkeypatch.setattr(sources, "content_of", also_removing)
    with pytest.raises(InputError, match=r"which can't be read whole: .*No such file or directory: '.*b.png'; change"):
        bring(tmp_path / "raw", "folder", location=str(tmp_path / "mine"))


def test_what_fetch_has_verified_is_not_hashed_again(tmp_path: Path) -> None:
    (tmp_path / "pets.zip").write_bytes(b"not these bytes")
    url = Download("url", "nowhere", "http://localhost/pets.zip", None, "AB" * 32)
    assert identified(tmp_path, url) == {"file": "pets.zip", "sha256": "ab" * 32}
    with pytest.raises(InputError, match=r"download.sha256 is 'AB.*', but pets.zip has "):
        identified(tmp_path, replace(url, source="archive"))


@pytest.mark.parametrize(
    ("address", "name"), [("%00", "archive"), ("a%00b.zip", "ab.zip"), ("..%2f..%2f.x.tar", "x.tar"), ("%ff", "\ufffd")]
)
def test_whatever_an_address_is_named_the_file_lies_in_its_folder(tmp_path: Path, address: str, name: str) -> None:
    fsspec.filesystem("memory").pipe(f"/{address}", b"images")
    url, sha256 = f"memory://{address}", hashlib.sha256(b"images").hexdigest()
    assert bring(tmp_path / "raw", "url", url=url.replace("memory://", "memory:///"), sha256=sha256) == [name]


@pytest.mark.parametrize("url", ["http://[::1", "http://a:b@[x/pets.zip?token=secret"])
def test_what_is_no_address_is_said_in_one_line_and_without_its_secrets(tmp_path: Path, url: str) -> None:
    with pytest.raises(InputError, match=r"^params.yaml: download.url is 'http://\.\.\.', which is no address: ") as no:
        bring(tmp_path / "raw", "url", url=url)
    assert "secret" not in str(no.value)


def test_an_archive_stays_as_it_is(tmp_path: Path) -> None:
    source = tar_of(tmp_path / "cats.tar.xz", {"cats/a.png": encoded(noise(0))}, "xz")
    bring(tmp_path / "raw", "archive", location=str(source))
    assert (tmp_path / "raw/cats.tar.xz").read_bytes() == source.read_bytes()
    notes = zip_of(tmp_path / "notes.zip", {"a.txt": b""})
    with pytest.raises(InputError, match=r"which holds no images; their names end in \.avif"):
        bring(tmp_path / "one", "archive", location=str(notes))
    with pytest.raises(InputError, match=r"'.*nowhere.zip', which does not exist; name the archive"):
        bring(tmp_path / "two", "archive", location=str(tmp_path / "nowhere.zip"))


@pytest.fixture
def address(tmp_path: Path) -> Iterator[str]:
    """Of a real server that has a folder ``served``."""
    (tmp_path / "served").mkdir()
    handler = partial(http.server.SimpleHTTPRequestHandler, directory=str(tmp_path / "served"))
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()


def test_an_address_is_fetched_once_its_hash_is_pasted(project: Project, address: str, tmp_path: Path) -> None:
    shutil.make_archive(str(tmp_path / "served/my images"), "zip", project.folder / "images")
    sha256 = hashlib.sha256((tmp_path / "served/my images.zip").read_bytes()).hexdigest()
    project.set(download__source="url", download__url=f"{address}/my%20images.zip?v=1")
    run = project.run("dvc", "repro", "download")
    assert run.status != 0
    assert (
        f"error: params.yaml: download.sha256 is null, which a URL needs; what came has sha256: {sha256} (" in run.out
    )
    (tmp_path / "served/my images.zip").unlink()  # what came is kept
    project.set(download__sha256=sha256)
    project.succeed("dvc", "repro", "download")
    assert [file.name for file in (project.folder / "data/raw").iterdir()] == ["my images.zip"]
    assert not list((project.folder / "data/partial").iterdir())
    assert "data/partial" not in project.succeed("git", "status", "--porcelain").out


def test_errors_name_the_parameter_that_does_not_fit(address: str, tmp_path: Path) -> None:
    (tmp_path / "served/cats.zip").write_bytes(b"cats")
    url, sha256 = f"{address}/cats.zip", hashlib.sha256(b"dogs").hexdigest()
    with pytest.raises(InputError) as refusal:
        bring(tmp_path / "one", "url", url=url, sha256=sha256)
    assert str(refusal.value).startswith(f"params.yaml: download.sha256 is '{sha256}', but {url} has ")
    with pytest.raises(InputError) as refusal:
        bring(tmp_path / "two", "url", url=f"{address}/dogs.zip", sha256=sha256)
    assert str(refusal.value).startswith(
        f"params.yaml: download.url is '{address}/dogs.zip', and the server answers 404"
    )


def test_a_torchvision_dataset_becomes_one_tar(tmp_path: Path) -> None:
    """EuroSAT's own layout, which torchvision takes for downloaded."""
    for kind in ("Forest", "River"):
        folder = tmp_path / "partial/EuroSAT/eurosat/2750" / kind
        folder.mkdir(parents=True)
        (folder / f"{kind}_1.jpg").write_bytes(encoded(noise(0), "JPEG"))
    bring(tmp_path / "raw", "torchvision", name="EuroSAT")
    found = [member.name for member in members(tmp_path / "raw/EuroSAT.tar")]
    assert found == ["Forest/Forest_1.jpg", "River/River_1.jpg"]
    assert not (tmp_path / "partial/EuroSAT").exists()
