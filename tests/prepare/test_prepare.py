"""From the images of an archive to splits: what stays, what is left out, and how the files are named."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
from PIL import ImageOps
from prepare.pets import ANOTHER, SPLIT_PETS, pets, read, sort_in
from samples import encoded, noise, photo, tar_of, zip_of

from imgpipe.common.errors import InputError
from imgpipe.data import processes
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
    monkeypatch.setattr(processes, "ALONE", 0.0)
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
    with pytest.raises(InputError, match=r"1 image is equal to another, such as 'train/cat/a.png' to 'test/dog/c"):
        prepared(tmp_path, SPLIT_PETS | added, duplicates="fail")


def test_copies_go_before_splits_are_cut_so_that_sizes_are_as_asked(tmp_path: Path) -> None:
    copies = {name.replace(".png", " copy.png"): content for name, content in pets(5).items()}
    splits, duplicates = prepared(tmp_path, pets() | copies)
    assert sorted(splits.values()) == ["test"] * 4 + ["train"] * 12 + ["val"] * 4
    assert len(duplicates) == 10
    assert all(pair.dropped and pair.split == "" for pair in duplicates)


def test_equal_images_of_different_classes_are_all_left_out(tmp_path: Path) -> None:
    """Of ANOTHER there are two cats and a dog, of which one is tested; other copies are of one class."""
    bmp = encoded(noise(999), "BMP")
    contradictory = {"train/cat/a.png": ANOTHER, "test/cat/b.bmp": bmp, "val/dog/c.png": ANOTHER}
    copies = {"train/dog/d.png": encoded(noise(998)), "train/dog/e.png": encoded(noise(998))}
    splits, duplicates = prepared(tmp_path, SPLIT_PETS | contradictory | copies)
    assert set(splits) == {*SPLIT_PETS, "train/dog/d.png"}
    assert [(pair.kind, pair.source, pair.label, pair.twin, pair.twin_label, pair.dropped) for pair in duplicates] == [
        ("contradiction", "test/cat/b.bmp", "cat", "val/dog/c.png", "dog", True),
        ("contradiction", "train/cat/a.png", "cat", "test/cat/b.bmp", "cat", True),
        ("equal", "train/dog/e.png", "dog", "train/dog/d.png", "dog", True),
        ("contradiction", "val/dog/c.png", "dog", "test/cat/b.bmp", "cat", True),
    ]
    splits, duplicates = prepared(tmp_path, SPLIT_PETS | contradictory, duplicates="keep")
    assert set(contradictory) < set(splits)
    assert {pair.kind for pair in duplicates} == {"equal"}


def test_a_class_that_is_all_contradictions_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"^each image of class 'ant' is equal to one of another class, so none can"):
        prepared(tmp_path, SPLIT_PETS | {"train/ant/a.png": ANOTHER, "train/cat/b.png": ANOTHER})


def test_near_duplicates_across_given_splits_are_reported_and_go_only_where_asked(tmp_path: Path) -> None:
    """Copies of one photo, and two that only its own split has, of which one is its mirror image."""
    small, large = encoded(photo(4).resize((80, 60))), encoded(photo(4))
    added = {"train/cat/a.png": small, "test/cat/b.png": large, "train/dog/c.png": encoded(photo(4), "JPEG")}
    added |= {"val/dog/d.png": encoded(photo(5)), "val/dog/e.png": encoded(ImageOps.mirror(photo(5)))}
    rows = [
        ("near", "train/cat/a.png", "test/cat/b.png", False),
        ("near", "train/dog/c.png", "test/cat/b.png", False),
        ("near", "val/dog/e.png", "val/dog/d.png", True),
    ]
    for what in ("report", "group", "drop"):
        splits, duplicates = prepared(tmp_path, SPLIT_PETS | added, near_duplicates=what)
        assert [(p.kind, p.source, p.twin, p.mirrored) for p in duplicates] == rows
        assert all(0.97 <= pair.correlation <= 1 for pair in duplicates)
        gone = {"train/cat/a.png", "train/dog/c.png"} if what == "drop" else set()
        assert {name for name in added if name not in splits} == gone
        assert [pair.dropped for pair in duplicates] == [what == "drop", what == "drop", False]


def test_near_duplicates_are_on_one_side_of_a_cut_where_they_are_grouped(tmp_path: Path) -> None:
    """A chain: each of five crops is near to the next."""
    chain = {f"pets/cat/photo{i}.png": encoded(photo(4).crop((i, i, 140 + i, 100 + i))) for i in range(5)}
    parted = 0
    for seed in range(6):
        splits, duplicates = prepared(tmp_path, pets(20) | chain, near_duplicates="group", seed=seed)
        assert len({splits[name] for name in chain}) == 1
        assert len(duplicates) == 4
        splits, duplicates = prepared(tmp_path, pets(20) | chain, near_duplicates="report", seed=seed)
        apart = len({splits[name] for name in chain}) > 1
        assert any(pair.split != pair.twin_split for pair in duplicates) == apart
        parted += apart
    assert parted >= 4


def test_a_set_of_near_duplicates_that_is_much_of_all_images_is_said(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    burst = {f"pets/cat/photo{i:02}.png": encoded(photo(4).crop((i, 0, 140 + i, 100))) for i in range(20)}
    prepared(tmp_path, pets(40) | burst, near_duplicates="group")
    assert caplog.messages[0].startswith(
        "20 images, 20 % of all, are linked to 'pets/cat/photo00.png' as near duplicates and move to one split"
    )


def test_dropped_near_duplicates_that_were_all_of_val_are_refused(tmp_path: Path) -> None:
    small, large = encoded(photo(4).resize((80, 60))), encoded(photo(4))
    files = {f"train/{kind}/{i}.png": encoded(noise(i)) for i, kind in enumerate(("cat", "dog"))}
    files |= {"test/dog/a.png": encoded(noise(2)), "test/cat/b.png": large, "val/cat/c.png": small}
    with pytest.raises(InputError, match="the val split has no image once near duplicates are dropped"):
        prepared(tmp_path, files, near_duplicates="drop")


def test_folds_are_cut_by_the_section(tmp_path: Path) -> None:
    cuts = [prepared(tmp_path, pets(10), folds=4, fold=fold)[0] for fold in range(4)]
    for name in cuts[0]:
        assert sorted(splits[name] == "test" for splits in cuts) == [False, False, False, True]
    assert all(sorted(splits.values()).count("val") == 4 for splits in cuts)


def test_images_of_one_name_in_one_class_get_their_whole_path(tmp_path: Path) -> None:
    files = {f"{part}/{kind}/{i}.png": encoded(noise(100 * n + 10 * m + i)) for n, part in enumerate(("one", "two"))
             for m, kind in enumerate(("cat", "dog")) for i in range(5)}  # fmt: skip
    found, _ = read(zip_of(tmp_path / "pets.zip", files))
    images = sort_in(found)[0]
    assert len({image.file for image in images}) == 20
    renamed = [image for image in images if "_" in image.file]
    assert renamed
    assert all(p.file == f"{p.split}/{p.label}/{p.source.replace('/', '_')}" for p in renamed)
