"""Which image goes where."""

import subprocess
import sys
from collections import Counter

import pytest
from conftest import ROOT

from imgpipe.common.errors import InputError
from imgpipe.prepare.splits import STRATEGIES, Candidate, assign


def candidates(labels: str, given: str = "", groups: str = "") -> list[Candidate]:
    names = {"t": "train", "v": "val", "x": "test", "-": ""}
    return [
        Candidate(label, names[given[i]] if given else "", groups[i] if groups else "", f"hash {i}")
        for i, label in enumerate(labels)
    ]


def cut(strategy: str, images: list[Candidate], val: float = 0.2, test: float = 0.1, seed: int = 0) -> list[str]:
    return assign(images, STRATEGIES[strategy], val_fraction=val, test_fraction=test, seed=seed)


def test_splits_have_the_asked_sizes_and_each_class_its_share() -> None:
    images = candidates("a" * 60 + "b" * 30 + "c" * 10)
    splits = cut("stratified", images)
    assert Counter((split, image.label) for split, image in zip(splits, images, strict=True)) == {
        ("test", "a"): 6, ("test", "b"): 3, ("test", "c"): 1,
        ("val", "a"): 12, ("val", "b"): 6, ("val", "c"): 2,
        ("train", "a"): 42, ("train", "b"): 21, ("train", "c"): 7,
    }  # fmt: skip
    assert splits == cut("stratified", images)
    assert splits != cut("stratified", images, seed=1)


@pytest.mark.parametrize("strategy", STRATEGIES)
def test_given_splits_stay_and_a_missing_one_is_cut_from_train(strategy: str) -> None:
    images = candidates("ab" * 40, "x" * 10 + "t" * 70, groups="ab" * 5 + "".join(chr(200 + i) for i in range(70)))
    splits = cut(strategy, images, test=0.5)
    assert splits[:10] == ["test"] * 10
    assert "test" not in splits[10:]
    assert 7 <= splits[10:].count("val") <= 21


def test_no_group_is_on_two_sides_and_classes_are_in_proportion() -> None:
    """Three classes with 30 groups of 10 images each: a fold of 20 is 4 or 5 groups."""
    labels = "".join(label * 300 for label in "abc")
    groups = "".join(chr(200 + i) * 10 for i in range(90))
    images = candidates(labels, groups=groups)
    splits = cut("grouped", images)
    assert all(len({s for s, p in zip(splits, images, strict=True) if p.group == g}) == 1 for g in set(groups))
    counts = Counter((split, image.label) for split, image in zip(splits, images, strict=True))
    for label in "abc":
        assert 20 <= counts["test", label] <= 40
        assert 40 <= counts["val", label] <= 80
    assert splits == cut("grouped", images)
    assert splits != cut("grouped", images, seed=1)


def test_an_image_added_moves_no_other_where_the_hash_decides() -> None:
    images = candidates("ab" * 200)
    before = cut("hash", images)
    assert 20 <= before.count("test") <= 60
    assert 50 <= before.count("val") <= 110
    more = [Candidate("a", "", "", "new"), *images[:150], Candidate("b", "", "", "newer"), *images[150:]]
    after = cut("hash", more)
    assert after[1:151] + after[152:] == before
    assert cut("hash", images, seed=1) != before


@pytest.mark.parametrize(
    ("strategy", "images", "fractions", "message"),
    [
        ("hash", candidates("aaa"), (0.2, 0.2), "the images have 1 class; a classifier needs at least 2 folders"),
        (
            "stratified",
            candidates("aaaaaaaaab"),
            (0.2, 0.2),
            "class 'b' has 1 images to train on and split; it needs 3 at least",
        ),
        (
            "stratified",
            candidates("a" * 30 + "bbb"),
            (0.1, 0.6),
            "params.yaml: prepare.val_fraction is 0.1, which is 3 images, "
            "and class 'b' is too small to have one in val; add images of it, merge it",
        ),
        (
            "stratified",
            candidates("a" * 30 + "b" * 30),
            (0.2, 0.01),
            "params.yaml: prepare.test_fraction is 0.01, which is 1 images for test of 60; "
            "each of 2 classes needs one on both sides",
        ),
        (
            "stratified",
            candidates("a" * 90 + "bbbb"),
            (0.1, 0.1),
            "params.yaml: prepare.test_fraction is 0.1, which is 9 images, "
            "and class 'b' is too small to have one in test; add images of it, merge it",
        ),
        ("stratified", candidates("abab", "ttvx"), (0.1, 0.1), "the test split has 1 class"),
        ("stratified", candidates("abab", "xxvv"), (0.1, 0.1), "class 'a' has 0 images to train on and split"),
        ("grouped", candidates("aaabbb"), (0.2, 0.2), "params.yaml: prepare.split is 'grouped', which needs"),
        ("grouped", candidates("aabbab", "ttttvv"), (0.2, 0.2), "params.yaml: prepare.split is 'grouped', which needs"),
        ("grouped", candidates("aaabbb", groups="112345"), (0.2, 0.2), "class 'a' has images of 2 groups; to split"),
        (
            "grouped",
            candidates("aabbabab", "ttttvvxx", "12341234"),
            (0.2, 0.2),
            "group '1' has images in train and in val, as the source gives them",
        ),
        ("hash", candidates("aaabbb"), (0.001, 0.001), "the val split has no image"),
    ],
)
def test_what_can_t_be_split_is_refused(
    strategy: str, images: list[Candidate], fractions: tuple[float, float], message: str
) -> None:
    with pytest.raises(InputError) as refusal:
        cut(strategy, images, *fractions)
    assert str(refusal.value).startswith(message)


def test_params_yaml_is_checked_and_the_stage_started_without_scikit_learn() -> None:
    program = """
import sys, imgpipe.prepare.params
print({"sklearn", "numpy", "PIL", "torch"} & set(sys.modules))
import imgpipe.prepare.summary
print({"sklearn", "torch"} & set(sys.modules))
"""
    done = subprocess.run([sys.executable, "-c", program], cwd=ROOT / "src", capture_output=True, text=True, check=True)
    assert done.stdout == "set()\nset()\n"
