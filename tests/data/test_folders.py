"""Folders, of which each file is read once, and nothing that is none."""

import os
import subprocess
from pathlib import Path

import pytest

from imgpipe.common.errors import InputError
from imgpipe.data.folders import files_below


def below(folder: Path, outside: bool = False) -> dict[str, str]:
    return {path.relative_to(folder).as_posix(): problem for path, problem in files_below(folder, outside=outside)}


def test_each_real_folder_is_read_once_and_where_it_stands(tmp_path: Path) -> None:
    for name in ("a", "b/c", ".store"):
        (tmp_path / name).mkdir(parents=True)
        (tmp_path / name / "x.png").touch()
        for i in range(9):
            (tmp_path / name / f"{i}").symlink_to(tmp_path)
    (tmp_path / "0").symlink_to("b")
    (tmp_path / "hidden").symlink_to(".store")
    (tmp_path / "y.png").symlink_to(".store/x.png")
    assert below(tmp_path) == dict.fromkeys(["a/x.png", "b/c/x.png", "hidden/x.png", "y.png"], "")


def test_a_link_out_of_a_folder_is_refused_by_name_or_followed_on_request(tmp_path: Path) -> None:
    (tmp_path / "mine/cat").mkdir(parents=True)
    (tmp_path / "mine-not").mkdir()
    (tmp_path / "mine-not/secret.png").touch()
    for target in ("../../mine-not", "../../mine-not/secret.png", "../inside", "/"):
        for link in (tmp_path / "mine/cat/link", tmp_path / "mine/inside"):
            link.unlink(missing_ok=True)
        (tmp_path / "mine/inside").symlink_to("../mine-not")
        (tmp_path / "mine/cat/link").symlink_to(target)
        with pytest.raises(InputError, match=r"^'.*mine/.*' is a link out of the folder, to '/.*'; put a copy in its"):
            below(tmp_path / "mine")
    (tmp_path / "mine/cat/link").unlink()
    assert below(tmp_path / "mine", outside=True) == {"inside/secret.png": ""}


def test_links_to_nothing_and_what_is_no_file_are_named_and_not_opened(tmp_path: Path) -> None:
    (tmp_path / "self").symlink_to("self")
    (tmp_path / "nothing.png").symlink_to("nowhere")
    (tmp_path / "pipe-link.png").symlink_to("pipe.png")
    os.mkfifo(tmp_path / "pipe.png")
    link, pipe = "it is a link to nothing", "it is no file but a pipe, a socket or a device"
    assert below(tmp_path) == {"self": link, "nothing.png": link, "pipe.png": pipe, "pipe-link.png": pipe}


def test_a_folder_of_1_100_levels_is_read_and_one_of_too_long_a_path_is_an_error(tmp_path: Path) -> None:
    for name, levels in (("d", 1100), ("e" * 250, 17)):
        where = os.open(tmp_path, os.O_RDONLY)
        for _ in range(levels):
            os.mkdir(name, dir_fd=where)
            deeper = os.open(name, os.O_RDONLY, dir_fd=where)
            os.close(where)
            where = deeper
        os.close(os.open("x.png", os.O_CREAT, dir_fd=where))
        os.close(where)
        if name == "d":
            assert below(tmp_path) == {"d/" * levels + "x.png": ""}
    with pytest.raises(OSError, match="File name too long"):
        below(tmp_path)
    subprocess.run(["rm", "-rf", tmp_path], check=True)  # Python's own tools go no deeper than 1,000 levels


def test_a_file_that_is_removed_while_its_folder_is_read_is_none_of_it(tmp_path: Path) -> None:
    for name in "abc":
        (tmp_path / name).touch()
    found = files_below(tmp_path, outside=False)
    assert next(found) == (tmp_path / "a", "")
    (tmp_path / "b").unlink()
    assert list(found) == [(tmp_path / "c", "")]
