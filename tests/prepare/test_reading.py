"""Archives, read image by image: what is found, and what is left out and why."""

import tarfile
from pathlib import Path

import pytest
from prepare.pets import pets, read, sort_in
from samples import encoded, noise, palette_beyond_its_end, photo, tar_of, zip_of

from imgpipe.common.errors import InputError
from imgpipe.common.files import read_table, write_records
from imgpipe.prepare import reading
from imgpipe.prepare.formats import FORMATS
from imgpipe.prepare.prepare import PreparedImage
from imgpipe.prepare.reading import Rejected, check_rejected


def test_files_that_are_left_out_are_named_with_the_reason(tmp_path: Path) -> None:
    odd = {
        "pets/cat/empty.jpg": b"",
        "pets/cat/half.jpg": encoded(photo(), "JPEG")[:2000],
        "pets/cat/page.png": b"<html>",
        "pets/cat/jpeg-in-truth.png": encoded(photo(), "JPEG"),
        "pets/cat/no-ending": encoded(photo(1), "JPEG"),
        "pets/notes.txt": b"by hand",
        "top.png": encoded(noise(7)),
        "../evil.png": encoded(noise(8)),
    }
    found, rejected = read(zip_of(tmp_path / "pets.zip", pets() | odd))
    assert {file.source: (file.reason.partition(":")[0], file.picture) for file in rejected} == {
        "../evil.png": ("its name points outside the archive", True),
        "pets/cat/empty.jpg": ("it is empty", True),
        "pets/cat/half.jpg": ("it is damaged or cut short", True),
        "pets/cat/page.png": ("its content is no image, or its start is damaged", True),
        "pets/notes.txt": ("it is no image, neither by its name nor by its content", False),
        "top.png": ("it is in no folder, which would name its class", True),
    }
    assert {"pets/cat/jpeg-in-truth.png", "pets/cat/no-ending"} < {image.source for image in found}


@pytest.mark.parametrize(
    ("path", "said"),
    [
        ("cat/" + "a" * 251 + ".png", ""),
        ("cat/" + "a" * 252 + ".png", "its path has a name of 256 bytes, and a file's or folder's has 255 at most"),
        ("cat/" + "é" * 126 + ".png", "its path has a name of 256 bytes, and a file's or folder's has 255 at most"),
        ("c" * 256 + "/a.png", "its path has a name of 256 bytes, and a file's or folder's has 255 at most"),
        ("cat/" + "a" * 140_000, "its path has a name of 140,000 bytes, and a file's or folder's has 255 at most"),
        ("d/" * 2043 + "cat/a.png", ""),
        ("d/" * 2044 + "cat/a.png", "its path has 4,097 bytes, and 4,096 are the most"),
    ],
)
@pytest.mark.parametrize("kind", ["tar", "tree"])
def test_a_path_that_is_too_long_is_rejected_and_every_table_can_be_read(
    path: str, said: str, kind: str, tmp_path: Path
) -> None:
    found, rejected = read(tar_of(tmp_path / "pets.tar", pets() | {path: encoded(noise(99))}))
    assert [file.reason for file in rejected] == ([said] if said else [])
    images, _ = sort_in(found)
    write_records(tmp_path / "rejected.csv", Rejected, rejected)
    write_records(tmp_path / "images.csv", PreparedImage, images)
    assert len(read_table(tmp_path / "rejected.csv")) == len(rejected)
    assert len(read_table(tmp_path / "images.csv")) == len(images)
    FORMATS[kind](tmp_path, ((image.file, b"") for image in images))


def test_damage_that_shows_only_when_pixels_are_converted_is_that_image_s_rejection(tmp_path: Path) -> None:
    found, rejected = read(zip_of(tmp_path / "pets.zip", pets() | {"pets/cat/bad.png": palette_beyond_its_end()}))
    assert [(file.source, file.picture) for file in rejected] == [("pets/cat/bad.png", True)]
    assert len(found) == len(pets())


def test_two_files_of_one_path_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "pets.tar"
    with tarfile.open(path, "w") as tar:
        for i in range(2):
            extra = tar_of(tmp_path / "x.tar", {"cat/a.png": encoded(noise(i))})
            with tarfile.open(extra) as other:
                (member,) = other
                tar.addfile(member, other.extractfile(member))
    with pytest.raises(InputError, match=r"holds two files of the name 'cat/a.png'; make the archive anew"):
        read(path)


def test_too_many_rejected_images_are_refused_and_other_files_do_not_count() -> None:
    rejected = [Rejected("a.jpg", "it is empty", True), Rejected("b.txt", "it is no image", False)]
    check_rejected(9, rejected, most=0.1, listed="data/rejected.csv")
    with pytest.raises(InputError) as refusal:
        check_rejected(8, rejected, most=0.1, listed="data/rejected.csv")
    assert str(refusal.value) == (
        "1 of 9 images is rejected, more than params.yaml: prepare.max_rejected of 0.1 allows; "
        "data/rejected.csv names all, such as 'a.jpg': it is empty"
    )
    with pytest.raises(InputError, match="the archive holds no images"):
        check_rejected(0, rejected[1:], most=0.1, listed="data/rejected.csv")


@pytest.mark.parametrize("processes", [1, 2])
def test_only_images_that_are_read_are_put_on_the_disk(tmp_path: Path, processes: int) -> None:
    odd = {"cat/zeros.txt": bytes(1 << 20), "cat/zeros.png": bytes(1 << 20), "../evil.png": encoded(noise(8))}
    images = pets(20)
    found, rejected = read(zip_of(tmp_path / "pets.zip", odd | images), processes)
    assert len(rejected) == 3
    spool = (tmp_path / "pets.spool").read_bytes()
    assert {image.source: spool[image.offset : image.offset + image.bytes] for image in found} == images
    assert len(spool) == sum(map(len, images.values()))


def test_more_images_than_fit_on_the_disk_are_refused_by_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reading, "COPIES", 1 << 60)  # of each image, for which no disk has room
    with pytest.raises(InputError, match=r"pets.zip holds more images than fit .*: 'pets/cat/0.png' is the first "):
        read(zip_of(tmp_path / "pets.zip", pets()))
