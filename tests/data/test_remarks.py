"""What is said of images, with numbers worked out by hand."""

import pytest

from imgpipe.data import left_out, remarks


def test_images_that_fill_no_batch_are_counted_and_their_share_is_said_where_it_is_large() -> None:
    """208 - 128 = 80, and 80 / 208 = 0.385; of 1,257 images 9 x 128 = 1,152 are shown, and 105 / 1257 = 0.084."""
    assert left_out.left_out(208, 128, 128, least=0) == (
        "each epoch leaves out the last 80 of its 208 images, 38 %, others each time: they do not fill a batch of 128; "
        "train.last_batch keep trains on them, too, and a smaller train.batch_size on more of them"
    )
    small = left_out.left_out(1257, 1152, 128, least=0)
    assert small is not None
    assert small.startswith("each epoch leaves out the last 105 of its 1,257 images, others each time")


@pytest.mark.parametrize(("shown", "said"), [(100, False), (91, False), (90, True), (1, True)])
def test_the_report_is_told_of_a_tenth_or_more(shown: int, said: bool) -> None:
    assert bool(left_out.left_out(100, shown, 10, least=left_out.LARGE_SHARE)) == said


@pytest.mark.parametrize(
    ("images", "batch_size", "last_batch", "shown"),
    [(208, 128, "drop", 128), (208, 128, "keep", 208), (256, 128, "drop", 256), (255, 128, "drop", 128)],
)
def test_an_epoch_shows_whole_batches_or_all(images: int, batch_size: int, last_batch: str, shown: int) -> None:
    assert left_out.shown_in_an_epoch(images, batch_size=batch_size, last_batch=last_batch) == shown


def test_a_small_split_is_said_with_the_width_of_what_is_known_and_the_key_to_change() -> None:
    """0.98 / sqrt(37) = 0.161, and 0.98 / sqrt(9) = 0.327."""
    assert remarks.small_split("test", 37, 153) == (
        "test has 37 images (val 153): its accuracy is known to about 16 points either way; raise "
        "prepare.test_fraction, or, where the source gives that folder, put more images into it"
    )
    val = remarks.small_split("val", 9, 1200)
    assert val is not None
    assert val.startswith("val has 9 images (test 1,200): its accuracy is known to about 33 points either way; ")
    assert "prepare.val_fraction" in val


@pytest.mark.parametrize(
    ("images", "others", "said"),
    [
        (99, 99, True),
        (100, 100, False),
        (100, 300, False),  # a third
        (100, 301, True),
        (270, 270, False),  # the digits
        (999, 3000, True),
        (1000, 50_000, False),  # known to 3 points, whatever the other has
    ],
)
def test_a_split_is_small_below_100_images_or_a_third_of_the_other_unless_it_has_1000(
    images: int, others: int, said: bool
) -> None:
    assert bool(remarks.small_split("test", images, others)) == said


def test_classes_with_few_images_to_train_on_are_counted_the_smallest_named() -> None:
    assert remarks.few_to_train({"ant": 5, "bee": 600}) is None
    four = remarks.few_to_train({"ant": 4, "bee": 600})
    assert four is not None
    assert four.startswith("1 class has fewer than 5 images in train, 'ant': ")
    some = remarks.few_to_train({"ant": 4, "bee": 600, "cat": 1, "dog": 2})
    assert some is not None
    assert some.startswith("3 classes have fewer than 5 images in train, 1 of them a single one, such as 'cat': ")
    alone = remarks.few_to_train({"ant": 1, "bee": 5})
    assert alone is not None
    assert alone.startswith("1 class has a single image in train, 'ant': ")


def test_classes_with_few_images_to_test_on_are_counted_and_one_is_named() -> None:
    assert remarks.few_to_test({"ant": 10, "bee": 0}) is None
    one = remarks.few_to_test({"ant": 9, "bee": 10})
    assert one is not None
    assert one.startswith("1 class has fewer than 10 images in test, 'ant': scores of theirs say little")
    two = remarks.few_to_test({"ant": 9, "bee": 1})
    assert two is not None
    assert two.startswith("2 classes have fewer than 10 images in test, such as 'ant': ")


def test_classes_absent_from_a_split_are_counted_and_one_is_named() -> None:
    assert remarks.absent("val", {"ant": 1, "bee": 1}) is None
    two = remarks.absent("test", {"ant": 0, "bee": 1, "cat": 0})
    assert two is not None
    assert two.startswith("2 classes have no image in test, such as 'ant': it says nothing of them; add images, or ")


def test_splits_and_classes_that_are_large_enough_are_no_remark() -> None:
    counts = {"train": 500, "val": 60, "test": 50}
    both = {split: 2 * count for split, count in counts.items()}
    assert remarks.on_splits(both, {"ant": counts, "bee": counts}) == []
    said = remarks.on_splits({"train": 504, "val": 60, "test": 110}, {"ant": counts, "bee": {**counts, "train": 4}})
    assert [remark.partition(":")[0] for remark in said] == [
        "val has 60 images (test 110)",
        "1 class has fewer than 5 images in train, 'bee'",
    ]


def test_an_image_that_occurs_five_times_may_be_a_placeholder_and_one_that_occurs_four_times_is_none() -> None:
    assert remarks.repeated([("x.jpg", "a", "a")] * 3, dropped=True) is None
    said = remarks.repeated([("x.jpg", "a", "a")] * 4, dropped=True)
    assert said == (
        "one image occurs 5 times, such as 'x.jpg': a placeholder? copies are dropped, and one of each that is under "
        "one class stays; take all out of the source where they show nothing of their class"
    )
    others = remarks.repeated([(f"{i}.jpg", "a", "a") for i in range(40)], dropped=True)
    assert others is None  # forty pairs are no placeholder


def test_of_several_placeholders_one_under_several_classes_is_named_before_a_more_frequent_one() -> None:
    copies = [("often.jpg", "a", "a")] * 39 + [("worse.jpg", "a", "b")] * 4 + [("worse.jpg", "a", "c")]
    said = remarks.repeated(copies, dropped=False)
    assert said is not None
    assert said.startswith(
        "2 images occur 5 times or more; one occurs 6 times, such as 'worse.jpg', under 3 classes: placeholders? "
        "copies are kept; prepare.duplicates drops them; "
    )


def test_small_images_among_others_are_counted_with_the_smallest() -> None:
    assert remarks.enlarged({80: 2, 255: 410, 256: 2000, 900: 588}, 256, enlarge=True) == (
        "412 of 3,000 images are smaller than pack.image_size of 256 pixels (short sides from 80) and are enlarged: a "
        "smaller pack.image_size enlarges fewer of them, and pack.enlarge false none"
    )
    one = remarks.enlarged({255: 1, 256: 1}, 256, enlarge=True)
    assert one is not None
    assert one.startswith("1 of 2 images is smaller than pack.image_size of 256 pixels (short sides from 255) and is ")


@pytest.mark.parametrize(
    ("sides", "size", "enlarge", "said"),
    [
        ({256: 10}, 256, True, False),
        ({255: 1, 256: 9}, 256, False, False),
        ({8: 1797}, 16, True, False),  # the digits: all of them, to twice their size
        ({7: 1, 8: 1796}, 16, True, True),
        ({80: 3000}, 256, True, True),
    ],
)
def test_nothing_is_said_where_no_image_grows_or_all_do_to_twice_their_size_at_most(
    sides: dict[int, int], size: int, enlarge: bool, said: bool
) -> None:
    assert bool(remarks.enlarged(sides, size, enlarge=enlarge)) == said


def test_the_short_side_is_the_width_or_the_height() -> None:
    rows = [{"width": "30", "height": "20"}, {"width": "20", "height": "40"}, {"width": "9", "height": "9"}]
    assert remarks.short_sides(rows) == {20: 2, 9: 1}
