"""From the images of an archive to splits: what stays, what is left out, and how the files are named."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
from prepare.pets import ANOTHER, SPLIT_PETS, pets, read, sort_in
from samples import encoded, noise, photo, tar_of, zip_of

from imgpipe.common.errors import InputError
from imgpipe.data import parallel
from imgpipe.prepare.prepare import Duplicate


def prepared(path: Path, files: Mapping[str, bytes], **changes: Any) -> tuple[dict[str, str], list[Duplicate]]:
    """Source and split of each image that stays, and the duplicates."""
    found, rejected = read(zip_of(path / "pets.zip", files))
    assert not rejected
    images, duplicates = sort_in(found, **changes)
    return {image.source: image.split for image in images}, duplicates


def test_neither_the_order_of_the_archive_nor_processes_change_the_result(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(parallel, "ALONE", 0.0)
    files = pets()
    one = read(zip_of(tmp_path / "one.zip", files), processes=1)
    backwards = read(tar_of(tmp_path / "two.tar.xz", dict(reversed(files.items())), "xz"), processes=3)
    tables = [sort_in(found)[0] for found, _ in (one, backwards)]
    assert tables[0] == tables[1]


def test_of_equal_images_the_training_copy_goes_then_that_of_val(tmp_path: Path) -> None:
    bmp = encoded(noise(999), "BMP")
    added = {"train/cat/a.png": ANOTHER, "val/cat/b.bmp": bmp, "test/cat/c.png": ANOTHER, "test/cat/d.png": ANOTHER}
    splits, duplicates = prepared(tmp_path, SPLIT_PETS | added)
    assert [name for name in added if name in splits] == ["test/cat/c.png"]
    assert [(pair.source, pair.split, pair.twin, pair.dropped) for pair in duplicates] == [
        ("test/cat/d.png", "test", "test/cat/c.png", True),
        ("train/cat/a.png", "train", "test/cat/c.png", True),
        ("val/cat/b.bmp", "val", "test/cat/c.png", True),
    ]


def test_copies_may_be_kept_or_refused(tmp_path: Path) -> None:
    added = {"train/cat/a.png": ANOTHER, "test/dog/c.png": ANOTHER}
    splits, (pair,) = prepared(tmp_path, SPLIT_PETS | added, duplicates="keep")
    assert set(added) < set(splits)
    assert (pair.source, pair.label, pair.twin, pair.twin_label) == ("train/cat/a.png", "cat", "test/dog/c.png", "dog")
    assert not pair.dropped
    with pytest.raises(InputError, match=r"1 images are copies of others, such as 'train/cat/a.png' of 'test/dog/c"):
        prepared(tmp_path, SPLIT_PETS | added, duplicates="fail")


def test_copies_go_before_splits_are_cut_so_that_sizes_are_as_asked(tmp_path: Path) -> None:
    copies = {f"pets/cat/copy{i}.png": content for i, content in enumerate(pets(5).values())}
    splits, duplicates = prepared(tmp_path, pets() | copies)
    assert sorted(splits.values()) == ["test"] * 4 + ["train"] * 12 + ["val"] * 4
    assert len(duplicates) == 10
    assert all(pair.dropped and pair.split == "" for pair in duplicates)


def test_near_duplicates_across_splits_are_reported_and_go_only_where_asked(tmp_path: Path) -> None:
    small, large = encoded(photo(0).resize((80, 60))), encoded(photo(0))
    added = {"train/cat/a.png": small, "test/cat/b.png": large, "train/dog/c.png": encoded(photo(0), "JPEG")}
    splits, duplicates = prepared(tmp_path, SPLIT_PETS | added, near_distance=4)
    assert set(added) < set(splits)
    assert [(p.kind, p.source, p.twin, p.dropped) for p in duplicates] == [
        ("near", "train/cat/a.png", "test/cat/b.png", False),
        ("near", "train/dog/c.png", "test/cat/b.png", False),
    ]
    assert all(0 <= pair.differing_bits <= 4 for pair in duplicates)
    splits, duplicates = prepared(tmp_path, SPLIT_PETS | added, near_distance=4, near_duplicates="drop")
    assert "train/cat/a.png" not in splits
    assert "test/cat/b.png" in splits
    assert all(pair.dropped for pair in duplicates)


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
    images = sort_in(found)[0]
    assert len({image.file for image in images}) == 20
    renamed = [image for image in images if "_" in image.file]
    assert renamed
    assert all(p.file == f"{p.split}/{p.label}/{p.source.replace('/', '_')}" for p in renamed)
