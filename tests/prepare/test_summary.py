"""The account of what was prepared."""

from pathlib import Path

import pytest
from prepare.pets import ANOTHER, SPLIT_PETS, pets, read, sort_in
from samples import encoded, noise, photo, zip_of

from imgpipe.prepare.reading import Rejected
from imgpipe.prepare.summary import log_summary, summary


def test_the_summary_counts_what_is_there_and_what_is_not(tmp_path: Path) -> None:
    added = {"train/cat/a.png": ANOTHER, "test/dog/c.png": ANOTHER, "train/cat/large.png": encoded(photo(4))}
    added |= {"val/cat/b.png": encoded(noise(998)), "train/cat/b.png": encoded(noise(998))}
    added |= {"val/cat/c.jpg": encoded(photo(4), "JPEG"), "val/cat/d.jpg": encoded(photo(4), "JPEG", quality=50)}
    found, _ = read(zip_of(tmp_path / "pets.zip", SPLIT_PETS | added))
    images, duplicates = sort_in(found)
    rejected = [Rejected("x.jpg", "it is empty", True), Rejected("notes.txt", "no image", False)]
    told = summary(images, rejected, duplicates)
    assert told["images"] == {"all": 28, "train": 9, "val": 11, "test": 8}
    assert told["classes"] == {
        "cat": {"train": 5, "val": 7, "test": 4},
        "dog": {"train": 4, "val": 4, "test": 4},
    }
    assert told["pixels"]["width"] == {"min": 12, "median": 12.0, "max": 160}
    assert told["rejected"] == {"pictures": 1, "other_files": 1}
    assert told["duplicates"] == {
        "equal": 1,
        "equal_across_splits": 1,
        "equal_with_other_label": 0,
        "contradictions": 2,
        "near": 2,
        "near_across_splits": 1,
        "dropped": {"train": 2, "val": 0, "test": 1, "before_the_cut": 0},
    }


def test_a_class_that_a_given_split_lacks_is_said(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    files = {f"train/{kind}/{i}.png": encoded(noise(i)) for i, kind in enumerate(("cat", "dog", "ant"))}
    files |= {f"{split}/{kind}/{split}.png": encoded(noise(len(split) + ord(kind[0]))) for split, kind in
              (("val", "cat"), ("val", "ant"), ("test", "cat"), ("test", "dog"))}  # fmt: skip
    found, rejected = read(zip_of(tmp_path / "pets.zip", files))
    images, duplicates = sort_in(found)
    log_summary(summary(images, rejected, duplicates), duplicates)
    said = [message.partition(":")[0] for message in caplog.messages]
    assert said == [
        "val has 2 images (test 2)",
        "test has 2 images (val 2)",
        "1 class has no image in val, 'dog'",
        "1 class has no image in test, 'ant'",
        "3 classes have a single image in train, such as 'ant'",
        "2 classes have fewer than 10 images in test, such as 'cat'",
    ]


def test_an_image_that_stands_for_many_is_said_with_its_classes_and_with_what_became_of_its_copies(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """Of ANOTHER there are three cats and two dogs: five times one image, of which prepare drops all."""
    copies = [f"pets/cat/x{i}.png" for i in range(3)] + [f"pets/dog/x{i}.png" for i in range(2)]
    found, rejected = read(zip_of(tmp_path / "pets.zip", pets(200) | dict.fromkeys(copies, ANOTHER)))
    for settings, became in (
        ({}, "copies are dropped, and one of each that is under one class stays"),
        ({"duplicates": "keep"}, "copies are kept; prepare.duplicates drops them"),
    ):
        caplog.clear()
        images, duplicates = sort_in(found, val_fraction=0.3, test_fraction=0.3, **settings)
        log_summary(summary(images, rejected, duplicates), duplicates)
        (said,) = [message for message in caplog.messages if "placeholder" in message]
        assert said == (
            f"one image occurs 5 times, such as 'pets/cat/x0.png', under 2 classes: a placeholder? {became}; "
            "take all out of the source where they show nothing of their class"
        )
