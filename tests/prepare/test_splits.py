"""Which image goes where."""

import subprocess
import sys
from collections import Counter
from dataclasses import replace

import pytest
from conftest import ROOT

from imgpipe.common.errors import InputError
from imgpipe.prepare.splits import STRATEGIES, Candidate, assign


def candidates(labels: str, given: str = "", groups: str = "") -> list[Candidate]:
    names = {"t": "train", "v": "val", "x": "test", "-": ""}
    return [
        Candidate(label, names[given[i]] if given else "", groups[i] if groups else "", f"hash {i}", alike=i)
        for i, label in enumerate(labels)
    ]


def cut(
    strategy: str,
    images: list[Candidate],
    val: float = 0.2,
    test: float = 0.1,
    seed: int = 0,
    folds: int | None = None,
    fold: int = 0,
) -> list[str]:
    chosen = STRATEGIES[strategy]
    return assign(images, chosen, val_fraction=val, test_fraction=test, seed=seed, folds=folds, fold=fold)


def alike(images: list[Candidate], *sets: list[int]) -> list[Candidate]:
    """The images, those of each set alike."""
    first = {i: members[0] for members in sets for i in members}
    return [replace(image, alike=first.get(i, i)) for i, image in enumerate(images)]


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
    """Three classes with 30 groups of 10 images each: 3 groups of each are a tenth, and 6 a fifth."""
    labels = "".join(label * 300 for label in "abc")
    groups = "".join(chr(200 + i) * 10 for i in range(90))
    images = candidates(labels, groups=groups)
    splits = cut("grouped", images)
    assert all(len({s for s, p in zip(splits, images, strict=True) if p.group == g}) == 1 for g in set(groups))
    counts = Counter((split, image.label) for split, image in zip(splits, images, strict=True))
    for label in "abc":
        assert counts["test", label] == 30
        assert counts["val", label] == 60
    assert splits == cut("grouped", images)
    assert splits != cut("grouped", images, seed=1)


def test_an_image_added_moves_no_other_where_the_hash_decides() -> None:
    images = candidates("ab" * 200)
    before = cut("hash", images)
    assert 20 <= before.count("test") <= 60
    assert 50 <= before.count("val") <= 110
    a, b = Candidate("a", "", "", "new", alike=-1), Candidate("b", "", "", "newer", alike=-2)
    after = cut("hash", [a, *images[:150], b, *images[150:]])
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
            "class 'b' has 1 image to train on and split; it needs 3 at least",
        ),
        ("stratified", candidates("abab", "ttvx"), (0.1, 0.1), "the test split has 1 class"),
        ("stratified", candidates("abab", "xxvv"), (0.1, 0.1), "class 'a' has 0 images to train on and split"),
        ("grouped", candidates("aaabbb"), (0.2, 0.2), "params.yaml: prepare.split is by group, which needs a group"),
        ("grouped_hash", candidates("aabbab", "ttttvv"), (0.2, 0.2), "params.yaml: prepare.split is by group, which"),
        ("grouped", candidates("ab" * 4, groups="1" * 8), (0.2, 0.2), "the val split has no image"),
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


@pytest.mark.parametrize(
    ("labels", "val", "test"),
    [
        ("a" * 30 + "bbb", 0.1, 0.6),
        ("a" * 90 + "bbbb", 0.1, 0.1),
        ("a" * 30 + "b" * 30, 0.2, 0.01),
    ],
)
def test_a_rare_class_or_a_small_fraction_still_leaves_each_split_an_image_of_each_class(
    labels: str, val: float, test: float
) -> None:
    splits = cut("stratified", candidates(labels), val, test)
    assert set(zip(labels, splits, strict=True)) == {(a, b) for a in "ab" for b in ("train", "val", "test")}


@pytest.mark.parametrize("strategy", ["stratified", "hash"])
def test_alike_images_and_equal_ones_are_on_one_side(strategy: str) -> None:
    """Eighty images: the first 10 are alike, and each of the last 20 has one with equal pixels."""
    images = alike(candidates("ab" * 40), list(range(10)))
    images[60:] = [replace(image, content=f"copy {i // 2}") for i, image in enumerate(images[60:])]
    for seed in range(5):
        splits = cut(strategy, images, seed=seed)
        assert len(set(splits[:10])) == 1
        assert splits[60::2] == splits[61::2]
        if strategy == "stratified":
            assert Counter(splits) == {"train": 56, "val": 16, "test": 8}


def test_groups_that_share_alike_images_are_one() -> None:
    """Ten groups of 6 images of one class each; the first two, of different classes, share an image."""
    images = candidates("".join(label * 6 for label in "ababababab"), groups="".join(c * 6 for c in "0123456789"))
    linked = alike(images, [5, 6])
    sides = {tuple(cut("grouped", linked, test=0.2, seed=seed)[place] for place in (0, 11)) for seed in range(20)}
    assert {one for one, _ in sides} == {other for _, other in sides} == {"train", "val", "test"}
    assert all(one == other for one, other in sides)
    assert any(
        len({cut("grouped", images, test=0.2, seed=seed)[place] for place in (0, 11)}) == 2 for seed in range(20)
    )


def test_a_class_in_too_few_groups_for_all_splits_is_trained_on_first_and_then_tested() -> None:
    """Of class c there are two groups, of class d one."""
    images = candidates("a" * 40 + "b" * 40 + "ccd", groups="".join(chr(200 + i) * 4 for i in range(20)) + "xyz")
    for seed in range(10):
        splits = cut("grouped", images, seed=seed)
        assert sorted(splits[80:82]) == ["test", "train"]
        assert splits[82] == "train"


def test_a_group_added_moves_no_other_where_its_hash_decides() -> None:
    """200 groups of 2 images, of two classes each."""
    images = candidates("ab" * 200, groups="".join(chr(200 + i) * 2 for i in range(200)))
    before = cut("grouped_hash", images)
    assert before[::2] == before[1::2]
    assert 20 <= before.count("test") <= 60
    assert 50 <= before.count("val") <= 110
    new = [Candidate(label, "", "new", f"new {label}", alike=-1) for label in "ab"]
    assert cut("grouped_hash", [*new, *images])[2:] == before
    assert cut("grouped_hash", images, seed=1) != before


@pytest.mark.parametrize("strategy", STRATEGIES)
def test_over_all_folds_each_image_is_tested_once_and_val_is_of_the_rest(strategy: str) -> None:
    """200 images of two classes in 50 groups of 4; two images of other groups are alike."""
    images = candidates("ab" * 100, groups="".join(chr(200 + i) * 4 for i in range(50)))
    images = alike(images, [0, 5])
    cuts = [cut(strategy, images, val=0.2, folds=5, fold=fold) for fold in range(5)]
    assert all([splits[i] for splits in cuts].count("test") == 1 for i in range(200))
    even = strategy in ("stratified", "grouped")
    for splits in cuts:
        assert splits[0] == splits[5]
        for label in (0, 1):
            assert abs(splits[label::2].count("test") - 20) <= (2 if even else 15)
            assert abs(splits[label::2].count("val") - 20) <= (2 if even else 15)
        if "group" in strategy:
            assert all(len(set(splits[place : place + 4])) == 1 for place in range(0, 200, 4))
    assert cuts[0] == cut(strategy, images, val=0.2, folds=5, fold=0)
    assert cuts[0] != cut(strategy, images, val=0.2, folds=5, fold=0, seed=1)


def test_a_class_with_fewer_images_than_folds_is_trained_on_in_each_of_them() -> None:
    """Of b there are two images, each in another fold."""
    images = candidates("a" * 30 + "bb" + "c" * 30)
    cuts = [cut("stratified", images, folds=5, fold=fold) for fold in range(5)]
    assert all("train" in splits[30:32] for splits in cuts)
    assert sorted(splits[30:32].count("test") for splits in cuts) == [0, 0, 0, 1, 1]


def test_folds_are_refused_where_they_cannot_be() -> None:
    with pytest.raises(InputError, match=r"^params.yaml: prepare.folds cuts the test split, and the source gives one"):
        cut("stratified", candidates("ab" * 10, "x" * 4 + "t" * 16), folds=5)
    for fold in range(5):  # also in those that do not test it
        with pytest.raises(InputError, match=r"^class 'b' is in a single one of the folds"):
            cut("stratified", alike(candidates("a" * 30 + "bb" + "c" * 30), [30, 31]), folds=5, fold=fold)


def test_a_split_that_is_far_from_its_fraction_is_said(caplog: pytest.LogCaptureFixture) -> None:
    """Four groups of 10 of each class: the least that can be tested is a quarter."""
    images = candidates("a" * 40 + "b" * 40, groups="".join(chr(200 + i) * 10 for i in range(8)))
    cut("grouped", images, val=0.25, test=0.05)
    assert caplog.messages == ["test is 25.0 % of the images, and 5.0 % were asked"]


def test_params_yaml_is_checked_and_the_stage_started_without_scikit_learn() -> None:
    program = """
import sys, imgpipe.prepare.params
print({"sklearn", "numpy", "PIL", "torch"} & set(sys.modules))
import imgpipe.prepare.summary
print({"sklearn", "torch"} & set(sys.modules))
"""
    done = subprocess.run([sys.executable, "-c", program], cwd=ROOT / "src", capture_output=True, text=True, check=True)
    assert done.stdout == "set()\nset()\n"
