"""Which images a user names: by files, folders, patterns and a list."""

import os
from collections.abc import Sequence
from pathlib import Path

import pytest
from samples import encoded, noise

from imgpipe.commands.gathering import gather_images


def paths(names: Sequence[str], listed: Sequence[str] = ()) -> list[str]:
    return gather_images(names, listed)[0]


def test_names_give_images_each_once_and_in_order(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in (
        "b/2.JPG",
        "b/10.png",
        "b/a/é 1.webp",
        "b/.hidden.png",
        "b/.git/x.png",
        "b/notes.txt",
        "c.txt",
        "[x].png",
    ):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()
    (tmp_path / "b/a/back").symlink_to(tmp_path / "b")
    monkeypatch.chdir(tmp_path)
    in_b = ["b/10.png", "b/2.JPG", "b/a/é 1.webp"]
    assert paths(["b"]) == in_b
    (tmp_path / "b/a/back").unlink()
    assert paths(["b/2.JPG", "b/"]) == ["b/2.JPG", "b/10.png", "b/a/é 1.webp"]
    assert paths(["c.txt", "./c.txt", str(tmp_path / "c.txt")]) == ["c.txt"]
    assert paths(["b/*.*"]) == ["b/10.png", "b/2.JPG", "b/notes.txt"]
    assert paths(["b/*"]) == [*in_b, "b/notes.txt"]
    assert paths(["**/*.png"]) == ["[x].png", "b/10.png"]
    assert paths(["[x].png", "-"], ["b/a", "c.txt", "c.txt"]) == ["[x].png", "b/a/é 1.webp", "c.txt"]


def test_in_a_folder_the_content_counts_where_the_name_says_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "d").mkdir()
    for name, content in {
        "x.jfif": encoded(noise(0), "JPEG"),
        "without": encoded(noise(1), "WEBP"),
        "broken.png": b"no image",
        "notes.txt": b"no image",
        "empty": b"",
    }.items():
        (tmp_path / "d" / name).write_bytes(content)
    monkeypatch.chdir(tmp_path)
    assert paths(["d"]) == ["d/broken.png", "d/without", "d/x.jfif"]


def test_a_link_to_itself_is_none_of_a_folder_s_images_and_a_name_may_be_too_long(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "d").mkdir()
    (tmp_path / "d/self").symlink_to("self")
    (tmp_path / "d/a.png").write_bytes(encoded(noise(0)))
    monkeypatch.chdir(tmp_path)
    long = "x" * 304
    found, skipped = gather_images(["d", long, long + "*"], [])
    assert found == ["d/a.png"]
    assert [(one.path, one.reason) for one in skipped] == [
        (long, "it can't be read: File name too long"),
        (long + "*", "nothing matches this pattern"),
    ]


def test_names_that_give_no_image_say_why(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "empty").mkdir()
    monkeypatch.chdir(tmp_path)
    found, skipped = gather_images(["empty", "gone.png", "", "*.jpg", "-"], ["*.png"])
    assert found == []
    assert {one.path: one.reason.partition(";")[0] for one in skipped} == {
        "empty": "the folder holds no images",
        "gone.png": "there is no such file or folder",
        "": "there is no such file or folder",
        "*.jpg": "nothing matches this pattern",
        "*.png": "there is no such file or folder",  # in a list a name is a name
    }


def test_what_a_pattern_matches_that_gives_no_image_keeps_no_other_from_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("a_empty").mkdir()
    Path("b_broken").symlink_to("nowhere")
    Path("c.png").write_bytes(encoded(noise(0)))
    found, skipped = gather_images(["*"], [])
    assert found == ["c.png"]
    assert [one.path for one in skipped] == ["a_empty", "b_broken"]


def test_pipes_and_links_to_nothing_are_named_and_not_opened_and_links_out_of_a_folder_are_followed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    for folder in ("d", "elsewhere"):
        Path(folder).mkdir()
        Path(folder, "a.png").write_bytes(encoded(noise(0)))
    os.mkfifo("d/pipe.png")
    os.mkfifo("d/pipe")
    Path("d/nothing.png").symlink_to("nowhere")
    Path("d/link").symlink_to("../elsewhere")
    found, skipped = gather_images(["d", "d/p*"], ["d/pipe"])
    assert found == ["d/a.png", "d/link/a.png"]
    pipe = "it is no file but a pipe, a socket or a device"
    assert [(one.path, one.reason) for one in skipped] == [
        ("d/nothing.png", "it is a link to nothing"),
        *[(name, pipe) for name in ("d/pipe.png", "d/pipe", "d/pipe.png")],
    ]
