"""What paths say."""

import pytest

from imgpipe.common.errors import InputError
from imgpipe.prepare.layouts import PathParts, classes_of, read_path

FOOD = r"(?P<split>training|validation|evaluation)/(?P<label>[0-9]+)_"
COIL = r"(?P<group>obj(?P<label>[0-9]+))__"


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("pets/cat/1.jpg", PathParts("cat", "", "")),
        ("Training/cat/1.jpg", PathParts("cat", "train", "")),
        ("pets/valid/indoors/cat/1.jpg", PathParts("cat", "val", "")),
        ("pets/evaluation/dog/1.jpg", PathParts("dog", "test", "")),
    ],
)
def test_folders_name_class_and_split(name: str, expected: PathParts) -> None:
    assert read_path(name, "auto") == expected


@pytest.mark.parametrize(
    ("name", "pattern", "expected"),
    [
        ("food-11/training/3_120.jpg", FOOD, PathParts("3", "train", "")),
        ("food-11/evaluation/10_7.jpg", FOOD, PathParts("10", "test", "")),
        ("coil-100/obj14__35.png", COIL, PathParts("14", "", "obj14")),
    ],
)
def test_a_pattern_reads_any_other_layout(name: str, pattern: str, expected: PathParts) -> None:
    assert read_path(name, pattern) == expected


@pytest.mark.parametrize(
    ("name", "pattern", "reason"),
    [
        ("1.jpg", "auto", "it is in no folder, which would name its class"),
        ("test/1.jpg", "auto", "it is in 'test', which names a split, and in no folder below"),
        ("other/3_120.jpg", FOOD, f"prepare.pattern '{FOOD}' matches no part of its path"),
        (
            "cat/1.jpg",
            "(?P<label>[0-9]*)_?",
            "prepare.pattern '(?P<label>[0-9]*)_?' matches '' of its path, where its label",
        ),
        (
            "a/b/1.jpg",
            "(?P<split>a)/(?P<label>b)",
            "its path names the split 'a', which is none of train, training, val",
        ),
    ],
)
def test_a_path_out_of_the_layout_gets_a_reason(name: str, pattern: str, reason: str) -> None:
    with pytest.raises(InputError) as refusal:
        read_path(name, pattern)
    assert str(refusal.value).startswith(reason)


def test_labels_get_names_and_are_merged_by_name() -> None:
    assert classes_of(["1", "0", "1"], None, None) == {"0": "0", "1": "1"}
    assert classes_of(["1", "0"], {0: "cat", 1: "dog", 2: "cow"}, None) == {"0": "cat", "1": "dog"}
    assert classes_of(["1", "2", "3"], None, {"pet": [1, 2], "other": "rest"}) == {"1": "pet", "2": "pet", "3": "other"}
    assert classes_of(["0", "1"], {0: "cat", 1: "car"}, {"pet": ["cat"], "other": "rest"}) == {"0": "pet", "1": "other"}


@pytest.mark.parametrize(
    ("names", "merged", "message"),
    [
        ({"cats": "c", "dog": "d"}, None, "prepare.class_names has no name for label 'cat'; did you mean cats?"),
        (None, {"pet": ["cat", "dgo"], "x": "rest"}, "prepare.class_map lists under 'pet' what no image has: label "
         "'dgo'; did you mean dog?"),
        (None, {"pet": ["cat"]}, "prepare.class_map has no class for (nor a class with the word rest): label 'dog'"),
        (None, {"pet": ["cat"], "x": ["cat", "dog"]}, "prepare.class_map lists 'cat' under two classes"),
        ({"cat": "a/b", "dog": "d"}, None, "a class can't be named 'a/b': it is a folder's name"),
        ({"cat": "..", "dog": "d"}, None, "a class can't be named '..'"),
    ],
)  # fmt: skip
def test_names_and_classes_that_do_not_fit_are_refused(names: object, merged: object, message: str) -> None:
    with pytest.raises(InputError) as refusal:
        classes_of(["cat", "dog"], names, merged)  # type: ignore[arg-type]
    assert message in str(refusal.value)


def test_classes_that_differ_in_their_unicode_form_alone_are_one_and_that_is_said(
    caplog: pytest.LogCaptureFixture,
) -> None:
    """Four names of which two pairs look the same; NFD alone stays as it is."""
    composed, apart, alone = "caf\u00e9", "cafe\u0301", "o\u0308l"
    classes = classes_of([composed, apart, alone, "cat"], None, None)
    assert classes == {composed: composed, apart: composed, alone: alone, "cat": "cat"}
    assert caplog.messages == [
        f"class '{composed}' is written in 2 Unicode forms, which look the same: 'cafe\\u0301', 'caf\\xe9'; "
        "they are taken for one class"
    ]
    assert classes_of(["1", "2"], {1: composed, 2: apart}, None) == {"1": composed, "2": composed}
    assert classes_of(["1", "2"], None, {composed: [1], apart: [2]}) == {"1": composed, "2": composed}


def test_a_class_s_name_that_no_folder_can_have_is_refused_and_cut_short() -> None:
    assert classes_of(["c" * 255], None, None) == {"c" * 255: "c" * 255}
    for label in ("c" * 256, "é" * 128, "c" * 140_000):
        with pytest.raises(
            InputError, match=r"^a class can't be named '.{40}\.\.\.', of [\d,]+ bytes: it is a folder's"
        ):
            classes_of([label], None, None)
