"""Slices of images that are made up: what the slices are, in what order, and which are left out."""

import numpy as np

from imgpipe.commands.auditing.images import AuditedImage
from imgpipe.commands.auditing.slices import Slice, audit_slices


def image(number: int, label: str = "cat", group: str = "", size: int = 64, **columns: str) -> AuditedImage:
    return AuditedImage("main", f"test/{label}/{number}.png", f"{number}.png", str(number), label, group, size, columns)


def by(name: str, slices: list[Slice]) -> dict[str, Slice]:
    return {one.value: one for one in slices if one.by == name}


def test_each_class_is_compared_with_the_others() -> None:
    """Of 20 cats 10 are right, of 30 dogs all."""
    images = [image(i, "cat" if i < 20 else "dog") for i in range(50)]
    audit = audit_slices(images, np.arange(50) >= 10)
    classes = by("class", audit.slices)
    cat, dog = classes["cat"], classes["dog"]
    assert (cat.images, cat.accuracy, cat.others) == (20, 0.5, 1.0)
    assert (dog.images, dog.accuracy, dog.others) == (30, 1.0, 0.5)
    assert cat.worse
    assert not dog.worse
    assert audit.slices == [cat, dog]  # folder and size are of all images and are no slices


def test_the_worst_is_the_one_that_is_surely_bad_not_one_of_few_images() -> None:
    """Three of ten right can be up to 0.6, and 300 of 1,000 no more than 0.33."""
    images = [image(i, kind="few" if i < 10 else "many" if i < 1010 else "rest") for i in range(3000)]
    right = np.concatenate([np.arange(10) < 3, np.arange(1000) < 310, np.ones(1990, dtype=bool)])
    assert [one.value for one in audit_slices(images, right).slices] == ["many", "few", "rest"]


def test_slices_of_fewer_than_ten_images_are_counted_and_left_out() -> None:
    images = [image(i, kind="ten" if i < 10 else "nine" if i < 19 else "rest") for i in range(60)]
    audit = audit_slices(images, np.arange(60) % 2 == 0)
    assert {*by("kind", audit.slices)} == {"ten", "rest"}
    assert audit.small == 1


def test_slices_of_the_same_images_are_tested_once() -> None:
    images = [image(i, "cat" if i < 20 else "dog", again=str(i < 20)) for i in range(40)]
    assert [one.by for one in audit_slices(images, np.arange(40) % 3 > 0).slices] == ["class", "class"]


def test_many_numbers_are_cut_into_quarters_and_few_are_not() -> None:
    images = [image(i, size=(i + 1) * 100, age=str(i / 2), stars=str(i % 3)) for i in range(80)]
    slices = audit_slices(images, np.arange(80) % 7 > 0).slices
    assert {*by("pixels", slices)} == {"100 to 2,000", "2,100 to 4,000", "4,100 to 6,000", "6,100 to 8,000"}
    assert {*by("stars", slices)} == {"0", "1", "2"}
    assert "age" not in {one.by for one in slices}  # its quarters have the same images
    images = [image(i, age=str(i / 2)) for i in range(80)]
    slices = audit_slices(images, np.arange(80) % 7 > 0).slices
    assert {*by("age", slices)} == {"0 to 9.5", "10 to 19.5", "20 to 29.5", "30 to 39.5"}


def test_equal_numbers_are_in_one_quarter() -> None:
    images = [image(i, size=64 if i < 45 else 100 + i) for i in range(60)]
    assert {*by("pixels", audit_slices(images, np.arange(60) % 2 > 0).slices)} == {"64", "145 to 159"}


def test_a_column_that_some_cells_do_not_fill_with_numbers_is_of_words() -> None:
    images = [image(i, age=str(i % 12) if i % 2 else "nan") for i in range(240)]
    assert "nan" in by("age", audit_slices(images, np.arange(240) % 7 > 0).slices)


def test_p_values_are_corrected_for_all_slices() -> None:
    images = [image(i, "cat" if i < 20 else "dog", kind=str(i % 2), place=str(i % 3)) for i in range(60)]
    slices = audit_slices(images, np.arange(60) >= 9).slices
    cat = by("class", slices)["cat"]
    assert len(slices) == 7
    assert cat.p_adjusted == 7 * cat.p_value


def test_where_there_are_groups_they_are_what_is_independent() -> None:
    """Two classes of five groups each; one group of cats is all wrong, which is no news about cats."""
    images = [image(i, "cat" if i < 100 else "dog", group=str(i // 20)) for i in range(200)]
    audit = audit_slices(images, np.arange(200) >= 20)
    cat = by("class", audit.slices)["cat"]
    assert cat.groups == 5
    assert cat.p_value > 0.3
    assert not cat.worse
    of_images = audit_slices([image(i, "cat" if i < 100 else "dog") for i in range(200)], np.arange(200) >= 20)
    assert by("class", of_images.slices)["cat"].worse
    assert of_images.slices[0].groups == ""


def test_a_group_itself_is_judged_by_its_own_images() -> None:
    images = [image(i, group=str(i // 20)) for i in range(200)]
    group = by("group", audit_slices(images, np.arange(200) >= 20).slices)["0"]
    assert (group.accuracy, group.others, group.worse, group.groups) == (0.0, 1.0, True, "")


def test_a_class_that_is_one_group_is_judged_as_this_group() -> None:
    images = [image(i, str(i // 20), group=str(i // 20)) for i in range(200)]
    slices = audit_slices(images, np.arange(200) >= 20).slices
    assert {one.by for one in slices} == {"group"}
    assert by("group", slices)["0"].worse


def test_a_slice_of_one_group_is_left_out_where_images_have_groups() -> None:
    images = [image(i, group=str(i // 20), place="here" if i < 10 else "there") for i in range(200)]
    audit = audit_slices(images, np.arange(200) % 5 > 0)
    assert not by("place", audit.slices)
    assert audit.small == 1 + 1  # here is of one group, and there has only that one beside it


def test_images_without_a_group_are_groups_of_their_own() -> None:
    images = [image(i, "cat" if i < 30 else "dog", group="a" if i >= 40 else "") for i in range(60)]
    audit = audit_slices(images, np.arange(60) % 5 > 0)
    assert by("class", audit.slices)["cat"].groups == 30
    assert by("class", audit.slices)["dog"].groups == 11
