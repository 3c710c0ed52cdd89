"""From a source to packed pixels: archives, splits, pictures."""

import io
import os
import tarfile
import zipfile
from collections import Counter
from pathlib import Path, PurePosixPath

import numpy as np
import pytest
from conftest import write_pictures
from PIL import Image

from imgpipe.archives import pictures
from imgpipe.errors import InputError
from imgpipe.packed import read_split
from imgpipe.packing import mean_and_std, pack
from imgpipe.pictures import open_picture, pixels
from imgpipe.prepared import picture_reader
from imgpipe.preparing import FORMATS, prepare
from imgpipe.sources import SOURCES
from imgpipe.splits import assign, label_and_split


def encoded(image: Image.Image, kind: str = "PNG", **options: object) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)
    return buffer.getvalue()


SMALL = encoded(Image.new("L", (4, 3), 200))


def zip_of(path: Path, *names: str) -> Path:
    with zipfile.ZipFile(path, "w") as archive:
        for name in names:
            archive.writestr(name, SMALL)
    return path


def test_the_digits_are_all_of_scikit_learn_s_and_the_same_bytes_each_time(tmp_path: Path) -> None:
    for name in ("one", "two"):
        (tmp_path / name).mkdir()
        SOURCES["digits"](tmp_path / name, None)
    assert (tmp_path / "one/digits.tar").read_bytes() == (tmp_path / "two/digits.tar").read_bytes()
    found = dict(pictures(tmp_path / "one/digits.tar"))
    assert len(found) == 1797
    first = np.asarray(Image.open(io.BytesIO(found[PurePosixPath("digits/0/0000.png")])))
    assert first[0].tolist() == [0, 0, 80, 207, 143, 16, 0, 0]  # levels 0 0 5 13 9 1 0 0, times 255 / 16


def test_a_folder_becomes_a_tar_whose_bytes_depend_on_names_and_contents_alone(tmp_path: Path) -> None:
    write_pictures(tmp_path / "mine", count=20, classes=2)
    (tmp_path / "mine/0/.hidden.png").write_bytes(SMALL)
    (tmp_path / "mine/.git").mkdir()
    (tmp_path / "mine/.git/x.png").write_bytes(SMALL)
    (tmp_path / "mine/notes.txt").write_text("not a picture")
    (tmp_path / "one").mkdir()
    SOURCES["folder"](tmp_path / "one", tmp_path / "mine")
    for file in (tmp_path / "mine").rglob("*"):
        os.utime(file, (1, 1))
    (tmp_path / "two").mkdir()
    SOURCES["folder"](tmp_path / "two", tmp_path / "mine")
    assert (tmp_path / "one/mine.tar").read_bytes() == (tmp_path / "two/mine.tar").read_bytes()
    assert len(list(pictures(tmp_path / "one/mine.tar"))) == 20


@pytest.mark.parametrize("ending", [".zip", ".tar", ".tar.gz", ".tar.bz2", ".tar.xz"])
def test_an_archive_stays_as_it_is_and_is_read_whatever_its_kind(tmp_path: Path, ending: str) -> None:
    source, raw = tmp_path / f"cats{ending}", tmp_path / "raw"
    raw.mkdir()
    if ending == ".zip":
        zip_of(source, "cats/a.png", "cats/b.txt", "__MACOSX/cats/._a.png")
    else:
        mode = f"w:{ending.removeprefix('.tar').removeprefix('.')}"
        with tarfile.open(source, mode) as tar:  # type: ignore[call-overload]
            for name in ("cats/a.png", "cats/b.txt", "cats/._a.png"):
                member = tarfile.TarInfo(name)
                member.size = len(SMALL)
                tar.addfile(member, io.BytesIO(SMALL))
    SOURCES["archive"](raw, source)
    assert (raw / source.name).read_bytes() == source.read_bytes()
    assert list(pictures(raw / source.name)) == [(PurePosixPath("cats/a.png"), SMALL)]


@pytest.mark.parametrize("name", ["../cats/a.png", "/etc/a.png", "cats/../../a.png"])
def test_a_name_that_points_outside_the_archive_is_refused(tmp_path: Path, name: str) -> None:
    with pytest.raises(InputError, match="points outside the archive"):
        list(pictures(zip_of(tmp_path / "evil.zip", name)))


def test_links_and_devices_in_a_tar_are_left_out(tmp_path: Path) -> None:
    with tarfile.open(tmp_path / "odd.tar", "w") as tar:
        for kind in (tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.CHRTYPE, tarfile.FIFOTYPE):
            member = tarfile.TarInfo("cats/a.png")
            member.type, member.linkname = kind, "/etc/passwd"
            tar.addfile(member)
    assert list(pictures(tmp_path / "odd.tar")) == []


@pytest.mark.parametrize("kind", ["zip", "gz"])
def test_a_damaged_archive_is_named(tmp_path: Path, kind: str) -> None:
    path = tmp_path / f"cats.{kind}"
    if kind == "zip":
        zip_of(path, "cats/a.png")
        path.write_bytes(path.read_bytes().replace(SMALL, SMALL[::-1]))
    else:
        with tarfile.open(path, "w:gz") as tar:
            member = tarfile.TarInfo("cats/a.png")
            member.size = 100_000
            tar.addfile(member, io.BytesIO(os.urandom(100_000)))
        path.write_bytes(path.read_bytes()[:5000])
    with pytest.raises(InputError, match=rf"^{path} can't be read: .*; get or make it anew$"):
        list(pictures(path))


def test_splits_have_the_asked_sizes_and_each_class_its_share() -> None:
    labels = ["a"] * 60 + ["b"] * 30 + ["c"] * 10
    splits = assign(labels, [None] * 100, val_fraction=0.2, test_fraction=0.1, seed=0)
    assert Counter(splits) == {"train": 70, "val": 20, "test": 10}
    assert Counter(zip(splits, labels, strict=True)) == {
        ("test", "a"): 6, ("test", "b"): 3, ("test", "c"): 1,
        ("val", "a"): 12, ("val", "b"): 6, ("val", "c"): 2,
        ("train", "a"): 42, ("train", "b"): 21, ("train", "c"): 7,
    }  # fmt: skip
    assert splits == assign(labels, [None] * 100, val_fraction=0.2, test_fraction=0.1, seed=0)
    assert splits != assign(labels, [None] * 100, val_fraction=0.2, test_fraction=0.1, seed=1)


def test_given_splits_stay_and_a_missing_one_is_cut_from_train() -> None:
    labels = ["a", "b"] * 20
    given = [*["test"] * 10, *["train"] * 30]
    splits = assign(labels, given, val_fraction=0.2, test_fraction=0.5, seed=0)
    assert splits[:10] == ["test"] * 10
    assert Counter(splits[10:]) == {"train": 24, "val": 6}


@pytest.mark.parametrize(
    ("labels", "fractions", "message"),
    [
        (["a"] * 9, (0.2, 0.2), "the pictures have 1 class; a classifier needs at least 2 folders of pictures"),
        (
            ["a"] * 9 + ["b"],
            (0.2, 0.2),
            "class 'b' has 1 pictures to train on and split; it needs 3 at least",
        ),
        (
            ["a"] * 30 + ["b"] * 3,
            (0.1, 0.6),
            "params.yaml: prepare.val_fraction is 0.1, which is 3 pictures, "
            "and class 'b' is too small to have one in val; change the fraction",
        ),
        (
            ["a"] * 30 + ["b"] * 30,
            (0.2, 0.01),
            "params.yaml: prepare.test_fraction is 0.01, which is 1 pictures for test of 60; "
            "each of 2 classes needs one on both sides",
        ),
        (
            ["a"] * 90 + ["b"] * 4,
            (0.1, 0.1),
            "params.yaml: prepare.test_fraction is 0.1, which is 9 pictures, "
            "and class 'b' is too small to have one in test; change the fraction",
        ),
    ],
)
def test_classes_too_small_to_split_are_named(labels: list[str], fractions: tuple[float, float], message: str) -> None:
    with pytest.raises(InputError) as refusal:
        assign(labels, [None] * len(labels), val_fraction=fractions[0], test_fraction=fractions[1], seed=0)
    assert str(refusal.value) == message


@pytest.mark.parametrize("kind", FORMATS)
def test_prepared_pictures_are_the_source_s_bytes_in_either_format(tmp_path: Path, kind: str) -> None:
    source = zip_of(tmp_path / "pets.zip", *(f"pets/{c}/{i}.png" for c in ("cat", "dog") for i in range(10)))
    (tmp_path / "out").mkdir()
    table = prepare(source, tmp_path / "out", FORMATS[kind], val_fraction=0.2, test_fraction=0.2, seed=0)
    read = picture_reader(tmp_path / "out")
    assert len(table) == 20
    assert [row.file for row in table] == sorted(row.file for row in table)
    for row in table:
        assert row.file == f"{row.split}/{row.label}/{PurePosixPath(row.source).name}"
        assert (row.width, row.height) == (4, 3)
        assert read(row.file) == SMALL
    places = {"tree": {"train", "val", "test"}, "tar": {"train.tar", "val.tar", "test.tar"}}
    assert {path.name for path in (tmp_path / "out").iterdir()} == places[kind]


def test_prepared_splits_do_not_depend_on_the_order_of_the_archive(tmp_path: Path) -> None:
    names = [f"pets/{c}/{i}.png" for c in ("cat", "dog") for i in range(10)]
    tables = []
    for number, order in enumerate((names, names[::-1])):
        (tmp_path / str(number)).mkdir()
        source = zip_of(tmp_path / f"{number}.zip", *order)
        tables.append(
            prepare(source, tmp_path / str(number), FORMATS["tar"], val_fraction=0.2, test_fraction=0.2, seed=0)
        )
    assert tables[0] == tables[1]


def test_two_pictures_that_would_be_one_file_are_named(tmp_path: Path) -> None:
    names = [f"{part}/{c}/{i}.png" for part in ("one", "two") for c in ("cat", "dog") for i in range(9)]
    source = zip_of(tmp_path / "pets.zip", *names)
    (tmp_path / "out").mkdir()
    with pytest.raises(InputError, match=r"'one/\w+/\d.png' and 'two/\w+/\d.png' would both be \w+/\w+/\d.png"):
        prepare(source, tmp_path / "out", FORMATS["tar"], val_fraction=0.2, test_fraction=0.2, seed=0)


@pytest.mark.parametrize(
    ("names", "message"),
    [
        (["a.png"], "picture 'a.png' is in no folder, which would name its class; sort the pictures into folders"),
        (
            ["train/cat/a.png", "test/a.png"],
            "picture 'test/a.png' is in 'test', which names a split; put a folder for each class into it",
        ),
        (
            ["train/cat/a.png", "train/dog/b.png", "val/cat/a.png", "test/cat/b.png"],
            "the given test split has 1 class; a test needs pictures of at least 2",
        ),
        (
            ["test/cat/a.png", "test/dog/b.png", "val/cat/c.png", "val/dog/d.png"],
            "class 'cat' has 0 pictures to train on and split; it needs 1 at least",
        ),
    ],
)
def test_layouts_that_make_no_sense_are_refused(tmp_path: Path, names: list[str], message: str) -> None:
    (tmp_path / "out").mkdir()
    with pytest.raises(InputError) as refusal:
        prepare(
            zip_of(tmp_path / "x.zip", *names),
            tmp_path / "out",
            FORMATS["tar"],
            val_fraction=0.2,
            test_fraction=0.2,
            seed=0,
        )
    assert str(refusal.value) == message


def test_a_split_is_found_at_any_depth() -> None:
    assert label_and_split(PurePosixPath("pets/Training/indoors/cat/1.jpg")) == ("cat", "train")
    assert label_and_split(PurePosixPath("pets/cat/1.jpg")) == ("cat", None)


def test_folders_behind_links_are_read_once(tmp_path: Path) -> None:
    write_pictures(tmp_path / "elsewhere", count=20, classes=2)
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine/cat").symlink_to(tmp_path / "elsewhere/0")
    (tmp_path / "mine/dog").symlink_to(tmp_path / "elsewhere/1")
    (tmp_path / "elsewhere/1/up").symlink_to(tmp_path / "mine")
    (tmp_path / "raw").mkdir()
    SOURCES["folder"](tmp_path / "raw", tmp_path / "mine")
    assert Counter(str(name.parent) for name, _ in pictures(tmp_path / "raw/mine.tar")) == {"cat": 11, "dog": 9}


def test_sixteen_bits_are_scaled_to_eight_and_transparent_pixels_are_white() -> None:
    deep = Image.fromarray(np.array([[0, 257 * 200, 65535]], dtype=np.uint16))
    for channels in (1, 3):
        read = pixels(open_picture(encoded(deep), "x"), short_side=1, channels=channels)
        assert read[0, :, 0].tolist() == [0, 200, 255]
    clear = Image.new("RGBA", (2, 2), (255, 0, 0, 0))
    assert pixels(open_picture(encoded(clear), "x"), short_side=2, channels=3).min() == 255


def gradient(mode: str) -> Image.Image:
    levels = np.linspace(0, 255, 48, dtype=np.uint8).reshape(6, 8)
    return Image.fromarray(levels).convert("RGB").convert(mode)


@pytest.mark.parametrize(
    ("mode", "kind"), [("L", "PNG"), ("P", "PNG"), ("RGBA", "PNG"), ("CMYK", "JPEG"), ("1", "PNG")]
)
def test_pictures_of_any_mode_are_read(mode: str, kind: str) -> None:
    image = gradient(mode)
    read = pixels(open_picture(encoded(image, kind), "x"), short_side=6, channels=3)
    assert read.shape == (6, 8, 3)
    assert np.abs(read.astype(int) - np.asarray(image.convert("RGB")).astype(int)).max() <= 8


def test_a_picture_on_its_side_is_turned_as_its_exif_says() -> None:
    exif = Image.Exif()
    exif[0x0112] = 6  # turn clockwise to see it upright
    upright = open_picture(encoded(gradient("L"), "JPEG", quality=95, exif=exif), "x")
    assert upright.size == (6, 8)
    assert np.asarray(upright)[0, -1] < 20  # the dark corner was top left


def test_packed_pixels_are_pillow_s_and_the_statistics_numpy_s(tmp_path: Path) -> None:
    random = np.random.default_rng(0)
    images = {
        f"train/a/{i}.png": Image.fromarray(random.integers(0, 256, (10 + i, 20, 3), dtype=np.uint8)) for i in range(3)
    }
    rows = [{"file": file, "label": "a", "width": str(i.width), "height": str(i.height)} for file, i in images.items()]
    pack(rows, lambda file: encoded(images[file]), tmp_path, classes=["a"], image_size=10, channels=3)
    split = read_split(tmp_path, 3)
    assert len(split) == 3
    for i, (file, image) in enumerate(images.items()):
        width = round(20 * 10 / image.height)
        expected = np.asarray(image.resize((width, 10), Image.Resampling.BILINEAR))
        assert split.files[i] == file
        assert np.array_equal(split.picture(i), expected)
    every_pixel = np.load(tmp_path / "images.npy").reshape(-1, 3).astype(np.float64) / 255
    mean, std = mean_and_std(split)
    assert mean == pytest.approx(every_pixel.mean(axis=0), abs=1e-12)
    assert std == pytest.approx(every_pixel.std(axis=0), abs=1e-12)
