"""Archives, read to their end or refused, and nothing of them on the disk."""

import gzip
import io
import itertools
import lzma
import os
import random
import struct
import subprocess
import sys
import tarfile
import tracemalloc
import zipfile
from collections.abc import Callable
from functools import partial
from pathlib import Path

import pytest
from conftest import ROOT
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


def test_a_tar_is_written_without_keeping_what_is_written(tmp_path: Path) -> None:
    tracemalloc.start()
    archives.write_tar(tmp_path / "x.tar", ((f"{i:04}.png", b"image") for i in range(2000)))
    _, most = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert most < 200_000
    assert len(names(tmp_path / "x.tar")) == 2000


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


NEGATIVE = b"\xff" * 10 + b"\xfe\0"
"""A tar's field of a size of -512 bytes."""
END = bytes(1024)


def header(kind: bytes = b"0", size: int = 0, field: bytes = b"") -> bytes:
    """A tar's header of a.png, with this size or, where there is one, this field in its place."""
    member = tarfile.TarInfo("a.png")
    member.size = size
    block = bytearray(member.tobuf(tarfile.USTAR_FORMAT))
    block[124:136] = field or block[124:136]
    block[148:157] = b" " * 8 + kind
    block[148:156] = b"%06o\0 " % sum(block)
    return bytes(block)


def with_header(kind: bytes, content: bytes) -> bytes:
    """A member after a header of this kind, which holds the content."""
    return header(kind, len(content)) + content + bytes(-len(content) % 512) + header()


def record(keyword: str, value: str) -> bytes:
    """A record of an extended header."""
    rest = f" {keyword}={value}\n"
    return next(f"{n}{rest}".encode() for n in itertools.count() if n == len(f"{n}{rest}"))


HOSTILE_TARS = {
    "size below 0": (header(field=NEGATIVE), "a header says -512 bytes at byte 0"),
    "extended header of a size below 0": (header(b"x", field=NEGATIVE), "a header says -512 bytes at byte 0"),
    "long name of a size below 0": (header(b"L", field=NEGATIVE), "a header says -512 bytes at byte 0"),
    "extended size below 0": (with_header(b"x", record("size", "-512")), "a header says -512 bytes"),
    "extended size of 30 digits": (with_header(b"x", record("size", "9" * 30)), "unpacks to more than"),
    "extended size of 5,000 digits": (with_header(b"x", record("size", "9" * 5000)), "ValueError: Exceeds the limit"),
    "extended header of digits": (with_header(b"x", b"1" * 400_000), "a header has no records"),
    "header of all that is digits": (with_header(b"g", b"1" * 400_000), "a header has no records"),
    "record of length 0": (with_header(b"x", b"0 a=b\n"), "a header has no records"),
    "record of a length below 0": (with_header(b"x", b"-9 a=b\n"), "a header has no records"),
    "extended header of 2 MiB": (with_header(b"x", bytes(1 << 21)), "a header says 2,097,152 bytes"),
    "long name of 2 MiB": (with_header(b"L", b"a" * (1 << 21)), "a header says 2,097,152 bytes"),
    "long link of 2 MiB": (with_header(b"K", b"a" * (1 << 21)), "a header says 2,097,152 bytes"),
    "10,000 headers of one member": (with_header(b"x", record("a", "b"))[:-512] * 10_000 + header(), "RecursionError"),
    "size of 8 GiB": (header(size=(1 << 33) - 1), "unpacks to more than"),
    "size of 2^88": (header(field=b"\x80" + b"\x7f" * 11), "unpacks to more than"),
    "sparse": (header(b"S"), "'a.png' is stored without its zeros"),
    "sparse, cut within its map": (header(b"S")[:-30], "is neither a zip nor a tar"),
    "sparse as an extended header says": (with_header(b"x", record("GNU.sparse.major", "1")), "without its zeros"),
    "other tar behind the end": (header() + END + header(), "goes on behind its end, perhaps with another tar"),
    "text behind the end": (header() + END + bytes(10_240) + b"text", "goes on behind its end"),
}
"""What a tar holds before its end, and how its refusal begins."""


@pytest.mark.parametrize("packed", [bytes, gzip.compress, partial(lzma.compress, preset=0)], ids=["tar", "gz", "xz"])
@pytest.mark.parametrize("kind", HOSTILE_TARS)
def test_a_hostile_header_of_a_tar_is_refused_in_one_line_whether_first_or_not(
    tmp_path: Path, kind: str, packed: Callable[[bytes], bytes]
) -> None:
    content, reason = HOSTILE_TARS[kind]
    for before in (b"", header()):
        path = tmp_path / "x.tar"
        path.write_bytes(packed(before + content + END))
        with pytest.raises(InputError) as refusal:
            for count, _ in enumerate(members(path)):
                assert count < 5, "members without end"
        assert str(refusal.value).startswith(str(path))
        assert (reason.replace("at byte 0", "") if before else reason) in str(refusal.value) or "neither" in reason


def test_extended_headers_give_names_and_sizes_as_tarfile_reads_them(tmp_path: Path) -> None:
    name = "ä/" + "long" * 60 + ".png"
    with tarfile.open(tmp_path / "x.tar", "w", format=tarfile.PAX_FORMAT, pax_headers={"comment": "of all"}) as tar:
        for extra in ({}, {"path": name + "x", "size": "3", "comment": "odd = signs\n in it"}):
            member = tarfile.TarInfo(name)
            member.size, member.pax_headers = 3, extra
            tar.addfile(member, io.BytesIO(b"abc"))
    assert list(members(tmp_path / "x.tar")) == [Member(name, b"abc", ""), Member(name + "x", b"abc", "")]


def test_a_tar_unpacks_to_no_more_than_its_own_size_explains(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(archives, "ALWAYS_UNPACKED", 1 << 20)
    for name, content in {
        "members": b"".join(header(size=1 << 20) + bytes(1 << 20) for _ in range(4)),
        "not wanted": b"".join(header(size=1 << 20) + bytes(1 << 20) for _ in range(4)),
        "zeros behind the end": header() + bytes(4 << 20),
    }.items():
        path = tmp_path / "x.tar"
        path.write_bytes(lzma.compress(content + END))  # some 1,300 bytes, which may unpack to 2.4 MB
        with pytest.raises(InputError, match=r"x.tar unpacks to more than [\d,]+ bytes, which images do not; if you"):
            list(members(path, wanted=lambda _, name=name: name == "members"))  # type: ignore[misc]


def test_streams_of_xz_behind_each_other_are_one_and_other_bytes_behind_them_are_refused(tmp_path: Path) -> None:
    path = tar_of(tmp_path / "x.tar", {"a.png": SMALL, "b.png": os.urandom(100_000)})
    plain = path.read_bytes()
    expected = list(members(path))
    packed = lzma.compress(plain[:700]) + bytes(8) + lzma.compress(plain[700:], preset=9)
    path.write_bytes(packed)
    assert list(members(path)) == expected
    path.write_bytes(lzma.compress(plain, lzma.FORMAT_ALONE))
    assert list(members(path)) == expected
    path.write_bytes(packed + b"more")
    with pytest.raises(InputError, match=r"EOFError: the xz file ends within a stream; get or make it anew"):
        list(members(path))


def test_the_dictionary_of_an_xz_file_is_bounded_in_each_of_its_streams(tmp_path: Path) -> None:
    large = [{"id": lzma.FILTER_LZMA2, "preset": 0, "dict_size": 1 << 30}]
    tar = header() + END
    for packed in (lzma.compress(tar, filters=large), lzma.compress(tar[:512]) + lzma.compress(END, filters=large)):
        (tmp_path / "x.tar.xz").write_bytes(packed)
        with pytest.raises(InputError, match="LZMAError: Memory usage limit exceeded; get or make it anew"):
            list(members(tmp_path / "x.tar.xz"))


METHODS = {"stored": 0, "deflate": 8, "bzip2": 12, "lzma": 14}


def zipped(path: Path, method: int, files: dict[str, bytes], said: int | None = None) -> Path:
    """A zip that says of each file, where that is given, that it has so many bytes."""
    with zipfile.ZipFile(path, "w", method) as archive:
        for name, content in files.items():
            archive.writestr(name, content)
    whole = bytearray(path.read_bytes())
    place = -1
    while said is not None and (place := whole.find(b"PK\1\2", place + 1)) >= 0:
        whole[place + 24 : place + 28] = struct.pack("<I", said)
    path.write_bytes(whole)
    return path


@pytest.mark.parametrize("method", METHODS)
def test_every_method_of_a_zip_is_read(tmp_path: Path, method: str) -> None:
    files = {"a.png": os.urandom((1 << 20) + 1), "b.png": SMALL, "c.png": b"", "d.png": bytes(2 << 20)}
    path = zipped(tmp_path / "x.zip", METHODS[method], files)
    assert list(members(path)) == [Member(name, content, "") for name, content in files.items()]


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("said", [0, 1000, 4 << 20], ids=["nothing", "little", "more"])
def test_a_member_of_a_zip_that_has_not_the_size_it_says_is_damaged(tmp_path: Path, method: str, said: int) -> None:
    path = zipped(tmp_path / "x.zip", METHODS[method], {"a.png": bytes(2 << 20), "b.png": bytes(1 << 20)}, said)
    for member in members(path):
        assert member.content is None
        assert member.problem.startswith("damaged: ")


def test_a_zip_that_holds_more_than_it_says_takes_no_memory_for_it(tmp_path: Path) -> None:
    """The bzip2 member has 128 MiB in a hundred bytes; the address space that is left would not hold half of it."""
    path = zipped(tmp_path / "x.zip", METHODS["bzip2"], {"a.png": bytes(128 << 20)}, 1000)
    program = f"""
from pathlib import Path
from resource import RLIMIT_AS, setrlimit
from mmap import PAGESIZE
from imgpipe.data.archives import members
pages = int(Path("/proc/self/statm").read_text().split()[0])
setrlimit(RLIMIT_AS, (pages * PAGESIZE + (48 << 20),) * 2)
(member,) = members(Path({str(path)!r}))
print(member.problem)
"""
    run = subprocess.run([sys.executable, "-c", program], cwd=ROOT / "src", capture_output=True, text=True, check=True)
    assert run.stdout == "damaged: BadZipFile Bad CRC-32 for file 'a.png'\n"


def test_members_of_a_zip_in_the_same_bytes_are_refused(tmp_path: Path) -> None:
    path = zipped(tmp_path / "x.zip", 8, {"a.png": bytes(1000), "b.png": bytes(1000)})
    content = bytearray(path.read_bytes())
    second = content.rindex(b"PK\1\2")
    content[second + 42 : second + 46] = bytes(4)  # where it begins
    path.write_bytes(content)
    with pytest.raises(InputError, match=r"x.zip holds 'a.png' and 'b.png' in the same bytes; make the archive anew"):
        list(members(path))


def test_a_zip_unpacks_to_no_more_than_its_own_size_explains(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(archives, "ALWAYS_UNPACKED", 1 << 20)
    path = zipped(tmp_path / "x.zip", METHODS["bzip2"], {f"{i}.png": bytes(1 << 20) for i in range(4)})
    with pytest.raises(InputError, match=r"x.zip unpacks to more than [\d,]+ bytes"):
        list(members(path))
    assert len(list(members(path, wanted=lambda name: name == "0.png"))) == 4


@pytest.mark.parametrize("kind", ["zip", "bzip2", "", "gz", "bz2", "xz"])
def test_whatever_byte_of_an_archive_is_damaged_it_is_read_or_refused(tmp_path: Path, kind: str) -> None:
    files = {"cat/a.png": SMALL[:300], "ä" * 120 + ".png": SMALL[:200], "dog/b.png": b""}
    if kind in ("zip", "bzip2"):
        path = zipped(tmp_path / "x", METHODS.get(kind, 8), files)
    else:
        path = tar_of(tmp_path / "x", files, kind)
    whole, choice = path.read_bytes(), random.Random(0)
    for _ in range(150):
        content = bytearray(whole)
        for _ in range(choice.choice([1, 1, 3])):
            content[choice.randrange(len(content))] = choice.choice([0, 0x7F, 0x80, 0xFF, choice.randrange(256)])
        path.write_bytes(content[: choice.choice([None, None, choice.randrange(len(content))])])
        try:
            assert len(list(members(path))) <= 4
        except InputError as refusal:
            assert str(refusal).startswith(str(path))


def test_what_is_no_file_is_no_archive_and_is_not_opened(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "x.zip")
    with pytest.raises(InputError, match=r"x.zip is no file that can be read as an archive; name a zip or tar"):
        list(members(tmp_path / "x.zip"))
