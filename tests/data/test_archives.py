"""Archives, read to their end or refused, and nothing of them on the disk."""

import io
import os
import tarfile
import zipfile
from pathlib import Path

import pytest
from samples import encoded, noise, tar_of, zip_of

from imgpipe.common.errors import InputError
from imgpipe.data import archives
from imgpipe.data.archives import Member, is_image, members

SMALL = encoded(noise(0))


def names(path: Path) -> list[str]:
    return [member.name for member in members(path)]


@pytest.mark.parametrize("kind", ["zip", "", "gz", "bz2", "xz"])
def test_files_come_in_the_archive_s_order_without_hidden_ones_and_folders(tmp_path: Path, kind: str) -> None:
    files = {"cats/b.png": SMALL, "cats/a.txt": b"notes", "__MACOSX/cats/._b.png": b"x", ".git/c.png": b"x"}
    path = zip_of(tmp_path / "x", files) if kind == "zip" else tar_of(tmp_path / "x", files, kind)
    assert list(members(path)) == [Member("cats/b.png", SMALL, ""), Member("cats/a.txt", b"notes", "")]


@pytest.mark.parametrize("name", ["../cats/a.png", "/etc/a.png", "cats/../../a.png", "..\\a.png"])
def test_a_name_that_points_outside_comes_without_content(tmp_path: Path, name: str) -> None:
    (member,) = members(zip_of(tmp_path / "evil.zip", {name: SMALL}))
    assert (member.content, member.problem) == (None, "its name points outside the archive")


def test_names_from_windows_are_paths(tmp_path: Path) -> None:
    assert names(zip_of(tmp_path / "x.zip", {"cats\\a.png": SMALL})) == ["cats/a.png"]


def test_links_and_devices_come_without_content(tmp_path: Path) -> None:
    with tarfile.open(tmp_path / "odd.tar", "w") as tar:
        for kind in (tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.CHRTYPE, tarfile.FIFOTYPE):
            member = tarfile.TarInfo("cats/a.png")
            member.type, member.linkname = kind, "/etc/passwd"
            tar.addfile(member)
    found = list(members(tmp_path / "odd.tar"))
    assert [member.content for member in found] == [None] * 4
    assert [member.problem for member in found] == ["a link", "a link", "a device or the like", "a device or the like"]


@pytest.mark.parametrize("make", [zip_of, tar_of])
def test_a_member_that_is_too_large_is_not_read(tmp_path: Path, make: object, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(archives, "LARGEST", 1000)
    path = make(tmp_path / "x", {"a.png": bytes(1001), "b.png": bytes(1000)})  # type: ignore[operator]
    large, small = members(path)
    assert (large.content, large.problem) == (None, "its 1,001 bytes are more than the 1,000 that are read")
    assert small.content == bytes(1000)


def test_one_damaged_member_of_a_zip_spares_the_others(tmp_path: Path) -> None:
    path = zip_of(tmp_path / "x.zip", {"a.png": SMALL, "b.png": SMALL[:-1]})
    path.write_bytes(path.read_bytes().replace(SMALL, SMALL[::-1], 1))
    damaged, whole = members(path)
    assert damaged.content is None
    assert damaged.problem == "damaged: BadZipFile Bad CRC-32 for file 'a.png'"
    assert whole.content == SMALL[:-1]


def test_an_encrypted_member_is_named(tmp_path: Path) -> None:
    path = zip_of(tmp_path / "x.zip", {"a.png": SMALL})
    content = bytearray(path.read_bytes())
    content[6] |= 1
    content[content.index(b"PK\x01\x02") + 8] |= 1
    path.write_bytes(content)
    (member,) = members(path)
    assert member.content is None
    assert "encrypted" in member.problem


@pytest.mark.parametrize("kind", ["", "gz", "bz2", "xz"])
def test_a_tar_that_was_cut_short_is_refused(tmp_path: Path, kind: str) -> None:
    path = tar_of(tmp_path / "cats.tar", {f"{i}.png": os.urandom(5000) for i in range(9)}, kind)
    path.write_bytes(path.read_bytes()[:25_000])
    with pytest.raises(InputError, match=rf"^{path} (can't be read: .*; get or make it anew|is neither .*)$"):
        list(members(path))


def test_a_tar_that_lacks_its_end_is_refused_even_where_a_file_ends(tmp_path: Path) -> None:
    path = tar_of(tmp_path / "cats.tar", {"a.png": bytes(512), "b.png": bytes(512)})
    path.write_bytes(path.read_bytes()[: 4 * 512])
    with pytest.raises(InputError, match="empty header at byte 2,048"):
        list(members(path))


def test_a_damaged_header_within_a_tar_is_no_silent_end(tmp_path: Path) -> None:
    path = tar_of(tmp_path / "cats.tar", {"a.png": bytes(512), "b.png": bytes(512)})
    content = bytearray(path.read_bytes())
    content[1024 + 3] ^= 1
    path.write_bytes(content)
    with pytest.raises(InputError, match="bad checksum at byte 1,024"):
        list(members(path))


def test_a_wrong_checksum_at_the_end_of_a_compressed_tar_is_found(tmp_path: Path) -> None:
    path = tar_of(tmp_path / "cats.tar.gz", {"a.png": SMALL}, "gz")
    content = bytearray(path.read_bytes())
    content[-5] ^= 1
    path.write_bytes(content)
    with pytest.raises(InputError, match="CRC"):
        list(members(path))


def test_what_is_no_archive_is_refused(tmp_path: Path) -> None:
    (tmp_path / "x.zip").write_text("a page that says 404")
    with pytest.raises(InputError, match="is neither a zip nor a tar archive"):
        list(members(tmp_path / "x.zip"))
    whole = zip_of(tmp_path / "cut.zip", {"a.png": SMALL})
    whole.write_bytes(whole.read_bytes()[:-30])
    with pytest.raises(InputError, match=r"cut.zip is a zip archive without its end; get or make it anew"):
        list(members(whole))
    with pytest.raises(InputError, match="is a folder"):
        list(members(tmp_path))


def test_an_image_is_known_by_its_name_or_else_by_its_content() -> None:
    assert is_image("a.JPEG", b"")
    assert is_image("a", encoded(noise(0), "JPEG")[:12])
    assert is_image("a.dat", encoded(noise(0), "WEBP")[:12])
    assert is_image("a.dat", encoded(noise(0), "AVIF")[:12])
    for brand in (b"avif", b"avis", b"heic", b"heix", b"heim", b"heis", b"hevc", b"mif1", b"msf1"):
        assert is_image("a.dat", b"\0\0\0\x18ftyp" + brand)
    assert not is_image("a.mp4", b"\0\0\0\x18ftypisom")
    assert not is_image("a.txt", b"some text in a file")


def test_a_tar_s_bytes_depend_on_names_and_contents_alone(tmp_path: Path) -> None:
    for name in ("one.tar", "two.tar"):
        archives.write_tar(tmp_path / name, [("ä/" + "long" * 40 + ".png", SMALL)])
    assert (tmp_path / "one.tar").read_bytes() == (tmp_path / "two.tar").read_bytes()
    with tarfile.open(tmp_path / "one.tar") as tar:
        (member,) = tar
        assert (member.name, member.mtime, member.uid) == ("ä/" + "long" * 40 + ".png", 0, 0)


def test_a_zip_behind_a_tar_is_not_taken_for_the_archive(tmp_path: Path) -> None:
    """is_zipfile looks at the end of a file, where the last member of a tar may be a zip."""
    inner = io.BytesIO()
    with zipfile.ZipFile(inner, "w") as archive:
        archive.writestr("inside.png", SMALL)
    assert names(tar_of(tmp_path / "x.tar", {"a.png": SMALL, "b.zip": inner.getvalue()})) == ["a.png", "b.zip"]


@pytest.mark.parametrize("kind", ["zip", "tar", "xz"])
def test_members_that_are_not_wanted_come_by_name_alone(tmp_path: Path, kind: str) -> None:
    files = {"a.csv": b"one", "b.png": b"two"}
    path = tmp_path / f"a.{kind}"
    archive = zip_of(path, files) if kind == "zip" else tar_of(path, files, kind.removeprefix("tar"))
    found = list(members(archive, wanted=lambda name: name == "a.csv"))
    assert [(member.name, member.content, member.problem) for member in found] == [
        ("a.csv", b"one", ""),
        ("b.png", None, ""),
    ]
