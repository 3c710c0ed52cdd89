"""From an archive to splits: what stays, what is left out, and the account of it."""

import tarfile
from collections.abc import Mapping
from pathlib import Path, PurePosixPath
from typing import Any

import pytest
from samples import encoded, noise, photo, tar_of, zip_of

from imgpipe.common.errors import InputError
from imgpipe.data import parallel
from imgpipe.pack.pack import image_reader
from imgpipe.prepare.prepare import FORMATS, Duplicate, ListedImage, contents, prepare, summary
from imgpipe.prepare.reading import Found, Rejected, check_rejected, read_archive
from imgpipe.prepare.splits import WAYS
from stages.prepare import _report


def pets(count: int = 10) -> dict[str, bytes]:
    """So many images of cats and as many of dogs, each another."""
    return {
        f"pets/{kind}/{i}.png": encoded(noise(100 * number + i))
        for number, kind in enumerate(("cat", "dog"))
        for i in range(count)
    }


def read(path: Path, pattern: str = "auto", processes: int = 1) -> tuple[list[Found], list[Rejected]]:
    return read_archive(path, path.with_suffix(".spool"), pattern=pattern, processes=processes)


def sort_in(found: list[Found], **changes: Any) -> tuple[list[tuple[ListedImage, Found]], list[Duplicate]]:
    settings: dict[str, Any] = {
        "class_names": None,
        "class_map": None,
        "way": WAYS["stratified"],
        "val_fraction": 0.2,
        "test_fraction": 0.2,
        "seed": 0,
        "duplicates": "drop",
        "near_duplicates": "report",
        "near_distance": 0,
    }
    return prepare(found, **{**settings, **changes})


def prepared(path: Path, files: Mapping[str, bytes], **changes: Any) -> tuple[dict[str, str], list[Duplicate]]:
    """Source and split of each image that stays, and the duplicates."""
    found, rejected = read(zip_of(path / "pets.zip", files))
    assert not rejected
    images, duplicates = sort_in(found, **changes)
    return {image.source: image.split for image, _ in images}, duplicates


@pytest.mark.parametrize("kind", FORMATS)
def test_prepared_images_are_the_source_s_bytes_in_either_format(tmp_path: Path, kind: str) -> None:
    files = pets()
    source = zip_of(tmp_path / "pets.zip", files)
    found, _ = read(source)
    images, _ = sort_in(found)
    (tmp_path / "out").mkdir()
    FORMATS[kind](tmp_path / "out", contents(source.with_suffix(".spool"), images))
    look_up = image_reader(tmp_path / "out")
    assert len(images) == 20
    assert [image.file for image, _ in images] == sorted(image.file for image, _ in images)
    for image, _ in images:
        assert image.file == f"{image.split}/{image.label}/{PurePosixPath(image.source).name}"
        assert (image.width, image.height) == (12, 10)
        assert look_up(image.file) == files[image.source]
        assert image.bytes == len(files[image.source])
    places = {"tree": {"train", "val", "test"}, "tar": {"train.tar", "val.tar", "test.tar"}}
    assert {path.name for path in (tmp_path / "out").iterdir()} == places[kind]
    if kind == "tar":
        with tarfile.open(tmp_path / "out/train.tar") as tar:
            assert {name.split("/")[0] for name in tar.getnames()} == {"cat", "dog"}


def test_neither_the_order_of_the_archive_nor_processes_change_the_result(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(parallel, "ALONE", 0.0)
    files = pets()
    one = read(zip_of(tmp_path / "one.zip", files), processes=1)
    backwards = read(tar_of(tmp_path / "two.tar.xz", dict(reversed(files.items())), "xz"), processes=3)
    tables = [[image for image, _ in sort_in(found)[0]] for found, _ in (one, backwards)]
    assert tables[0] == tables[1]


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


def test_too_many_rejected_images_are_refused_and_other_files_do_not_count() -> None:
    rejected = [Rejected("a.jpg", "it is empty", True), Rejected("b.txt", "it is no image", False)]
    check_rejected(9, rejected, most=0.1, listed="data/rejected.csv")
    with pytest.raises(InputError) as refusal:
        check_rejected(8, rejected, most=0.1, listed="data/rejected.csv")
    assert str(refusal.value) == (
        "1 of 9 images are rejected, more than params.yaml: prepare.max_rejected of 0.1 allows; "
        "data/rejected.csv names all, such as 'a.jpg': it is empty"
    )
    with pytest.raises(InputError, match="the archive holds no images"):
        check_rejected(0, rejected[1:], most=0.1, listed="data/rejected.csv")


SAME = encoded(noise(999))
COPIES = {
    f"{split}/{kind}/{split}{i}.png": encoded(noise(100 * n + 10 * m + i))
    for n, split in enumerate(("train", "val", "test"))
    for m, kind in enumerate(("cat", "dog"))
    for i in range(4)
}


def test_of_equal_images_the_training_copy_goes_then_that_of_val(tmp_path: Path) -> None:
    bmp = encoded(noise(999), "BMP")
    added = {"train/cat/a.png": SAME, "val/cat/b.bmp": bmp, "test/cat/c.png": SAME, "test/cat/d.png": SAME}
    splits, duplicates = prepared(tmp_path, COPIES | added)
    assert [name for name in added if name in splits] == ["test/cat/c.png"]
    assert [(pair.source, pair.split, pair.twin, pair.dropped) for pair in duplicates] == [
        ("test/cat/d.png", "test", "test/cat/c.png", True),
        ("train/cat/a.png", "train", "test/cat/c.png", True),
        ("val/cat/b.bmp", "val", "test/cat/c.png", True),
    ]


def test_copies_may_be_kept_or_refused(tmp_path: Path) -> None:
    added = {"train/cat/a.png": SAME, "test/dog/c.png": SAME}
    splits, (pair,) = prepared(tmp_path, COPIES | added, duplicates="keep")
    assert set(added) < set(splits)
    assert (pair.source, pair.label, pair.twin, pair.twin_label) == ("train/cat/a.png", "cat", "test/dog/c.png", "dog")
    assert not pair.dropped
    with pytest.raises(InputError, match=r"1 images are copies of others, such as 'train/cat/a.png' of 'test/dog/c"):
        prepared(tmp_path, COPIES | added, duplicates="fail")


def test_copies_go_before_splits_are_cut_so_that_sizes_are_as_asked(tmp_path: Path) -> None:
    copies = {f"pets/cat/copy{i}.png": content for i, content in enumerate(pets(5).values())}
    splits, duplicates = prepared(tmp_path, pets() | copies)
    assert sorted(splits.values()) == ["test"] * 4 + ["train"] * 12 + ["val"] * 4
    assert len(duplicates) == 10
    assert all(pair.dropped and pair.split == "" for pair in duplicates)


def test_near_duplicates_across_splits_are_reported_and_go_only_where_asked(tmp_path: Path) -> None:
    small, large = encoded(photo(0).resize((80, 60))), encoded(photo(0))
    added = {"train/cat/a.png": small, "test/cat/b.png": large, "train/dog/c.png": encoded(photo(0), "JPEG")}
    splits, duplicates = prepared(tmp_path, COPIES | added, near_distance=4)
    assert set(added) < set(splits)
    assert [(p.kind, p.source, p.twin, p.dropped) for p in duplicates] == [
        ("near", "train/cat/a.png", "test/cat/b.png", False),
        ("near", "train/dog/c.png", "test/cat/b.png", False),
    ]
    assert all(0 <= pair.differing_bits <= 4 for pair in duplicates)
    splits, duplicates = prepared(tmp_path, COPIES | added, near_distance=4, near_duplicates="drop")
    assert "train/cat/a.png" not in splits
    assert "test/cat/b.png" in splits
    assert all(pair.dropped for pair in duplicates)


def test_a_class_that_a_given_split_lacks_is_said(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    files = {f"train/{kind}/{i}.png": encoded(noise(i)) for i, kind in enumerate(("cat", "dog", "ant"))}
    files |= {f"{split}/{kind}/{split}.png": encoded(noise(len(split) + ord(kind[0]))) for split, kind in
              (("val", "cat"), ("val", "ant"), ("test", "cat"), ("test", "dog"))}  # fmt: skip
    found, rejected = read(zip_of(tmp_path / "pets.zip", files))
    images, duplicates = sort_in(found)
    _report(summary([image for image, _ in images], rejected, duplicates), duplicates)
    assert caplog.messages == [
        "1 classes have no image in val, such as 'dog'",
        "1 classes have no image in test, such as 'ant'",
    ]


def test_dropped_near_duplicates_that_were_all_of_val_are_refused(tmp_path: Path) -> None:
    small, large = encoded(photo(0).resize((80, 60))), encoded(photo(0))
    files = {f"train/{kind}/{i}.png": encoded(noise(i)) for i, kind in enumerate(("cat", "dog"))}
    files |= {"test/dog/a.png": encoded(noise(2)), "test/cat/b.png": large, "val/cat/c.png": small}
    with pytest.raises(InputError, match="the val split has no image once near duplicates are dropped"):
        prepared(tmp_path, files, near_distance=4, near_duplicates="drop")


def test_images_of_one_name_in_one_class_get_their_whole_path(tmp_path: Path) -> None:
    files = {f"{part}/{kind}/{i}.png": encoded(noise(100 * n + 10 * m + i)) for n, part in enumerate(("one", "two"))
             for m, kind in enumerate(("cat", "dog")) for i in range(5)}  # fmt: skip
    found, _ = read(zip_of(tmp_path / "pets.zip", files))
    images = [image for image, _ in sort_in(found)[0]]
    assert len({image.file for image in images}) == 20
    renamed = [image for image in images if "_" in image.file]
    assert renamed
    assert all(p.file == f"{p.split}/{p.label}/{p.source.replace('/', '_')}" for p in renamed)


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


def test_the_summary_counts_what_is_there_and_what_is_not(tmp_path: Path) -> None:
    added = {"train/cat/a.png": SAME, "test/dog/c.png": SAME, "train/cat/large.png": encoded(photo())}
    found, _ = read(zip_of(tmp_path / "pets.zip", COPIES | added))
    images, duplicates = sort_in(found)
    rejected = [Rejected("x.jpg", "it is empty", True), Rejected("notes.txt", "no image", False)]
    told = summary([image for image, _ in images], rejected, duplicates)
    assert told["images"] == {"all": 26, "train": 9, "val": 8, "test": 9}
    assert told["classes"] == {
        "cat": {"train": 5, "val": 4, "test": 4},
        "dog": {"train": 4, "val": 4, "test": 5},
    }
    assert told["pixels"]["width"] == {"min": 12, "median": 12.0, "max": 160}
    assert told["rejected"] == {"images": 1, "other_files": 1}
    assert told["duplicates"] == {
        "equal": 1,
        "equal_across_splits": 1,
        "equal_with_other_label": 1,
        "near_across_splits": 0,
        "dropped": {"train": 1, "val": 0, "test": 0, "before_the_cut": 0},
    }
