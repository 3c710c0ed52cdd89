"""``imgpipe compare`` on several runs a side, in a repository of Git and DVC."""

from pathlib import Path

import numpy as np
import pytest
from committed_runs import Repository
from compare_command import as_json, compare, one_line_error
from numpy.typing import NDArray

from imgpipe.commands.comparing.crossed import crossed

IMAGES = 60
RANDOM = np.random.default_rng(0)


def luck(share: float) -> NDArray[np.bool_]:
    """Right on about so many images; the first ones are easy, the last hard."""
    return (np.linspace(1, 0, IMAGES) + RANDOM.normal(0, 0.15, IMAGES) > 1 - share).astype(np.bool_)


BASE = [luck(0.6) for _ in range(4)]
NEW = [luck(0.8) for _ in range(3)]
TEST = {"test": luck(0.7)}


@pytest.fixture(scope="module")
def repository(tmp_path_factory: pytest.TempPathFactory) -> Repository:
    """4 runs of a recipe, 3 of a better one, and what is wrong with others."""
    made = Repository(tmp_path_factory.mktemp("runs"))
    for seed, right in enumerate(BASE):
        made.run(f"base-{seed}", {"val": right, **TEST}, {"train.seed": seed, "runtime.processes": 1 + seed})
    for seed, right in enumerate(NEW):
        made.run(f"new-{seed}", {"val": right, **TEST}, {"train.seed": seed, "train.epochs": 9})
    made.run("same-seed", {"val": BASE[0], **TEST}, {"train.seed": 0})
    made.run("other-rate", {"val": BASE[0], **TEST}, {"train.seed": 9, "train.optimizer.sgd.lr": 0.2})
    made.run("other-choice", {"val": BASE[0], **TEST}, {"train.seed": 9, "train.optimizer.adam.lr": 0.2})
    for seed in range(2):
        made.run(f"elsewhere-{seed}", {"val": BASE[seed], **TEST}, {"train.seed": seed, "prepare.seed": 1}, part=1)
    for number in range(2 * 4):
        recipe, fold = ("fold-a", "fold-b")[number % 2], number // 2
        right = RANDOM.permutation(np.arange(IMAGES) < 40 + 10 * (number % 2) + fold)
        params = {"prepare.fold": fold, "train.epochs": 3 + number % 2}
        made.run(f"{recipe}-{fold}", {"val": right, "test": right}, params, part=2 + fold)
    return made


@pytest.fixture(autouse=True)
def there(repository: Repository, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(repository.folder)


def test_several_runs_a_side_are_judged_by_the_crossed_test() -> None:
    report = as_json("base-*", "new-*")
    (one,) = report["candidates"]
    expected = crossed(
        np.array(BASE, float), np.array(NEW, float), np.full(60, 1 / 60), np.zeros(60, int), np.arange(60)
    )
    assert (report["judges"], report["split"], one["verdict"]) == ("recipes", "val", "better")
    assert one["p_value"] == pytest.approx(expected.p_value)
    assert one["estimates"]["accuracy"]["base"] == pytest.approx(np.mean(BASE))
    assert one["estimates"]["accuracy"]["candidate"] == pytest.approx(np.mean(NEW))
    assert one["estimates"]["loss"]["difference"] == pytest.approx((np.mean(NEW) - np.mean(BASE)) * np.log(0.1 / 0.8))
    assert one["parameters"] == {"train.epochs": {"base": 3, "candidate": 9}}
    assert len(report["sets"][0]["runs"]) == 4


def test_a_person_is_told_the_verdict_the_parameters_and_the_most_telling_images() -> None:
    said = compare("base-*", "new-*").stdout
    assert said.rstrip().splitlines()[-1].startswith("new-* is better than base-* in accuracy (+")
    assert "Parameters that differ:\n  train.epochs: 3 -> 9\n" in said
    assert "On 60 val images: base-*, 4 runs; new-*, 3 runs." in said
    assert "accuracy (judged by)" in said
    table = said.split("Images on which new-* is right more often")[1].splitlines()
    gained = np.mean(NEW, axis=0) - np.mean(BASE, axis=0)
    first = table[2].split()[0]
    assert gained[int(first.split("-")[1].removesuffix(".png"))] == gained.max()


def test_half_of_the_runs_against_the_other_half_are_not_yet_told_apart_and_what_it_takes_is_said() -> None:
    result = compare("base-0,base-1", "base-2,base-3", "--fail-if-worse")
    assert result.exit_code == 0
    last = result.stdout.rstrip().splitlines()[-1]
    assert last.startswith(
        "It is not yet known whether base-2,base-3 is better or worse than base-0,base-1 in accuracy"
    )
    assert "With 2 runs a side a true difference of " in last
    assert "Nothing but the seed differs: base-2,base-3 and base-0,base-1 are one recipe." in result.stdout


def test_a_margin_makes_recipes_equivalent_that_differ_by_less() -> None:
    said = compare("base-0,base-1", "base-2,base-3", "--margin", "0.5").stdout
    assert "base-2,base-3 is equivalent to base-0,base-1 in accuracy within 0.5 (" in said


def test_several_candidates_are_corrected_for_their_number() -> None:
    alone = as_json("base-0,base-1", "new-*")["candidates"][0]
    both = as_json("base-0,base-1", "new-*", "base-2,base-3")["candidates"]
    assert both[0]["p_value"] == pytest.approx(2 * alone["p_value"])
    assert [one["name"] for one in both] == ["new-*", "base-2,base-3"]


def test_a_worse_recipe_fails_where_that_is_asked_for_by_whatever_metric() -> None:
    assert compare("new-*", "base-*", "--fail-if-worse").exit_code == 3
    assert compare("new-*", "base-*", "--fail-if-worse", "--metric", "loss").exit_code == 3
    assert compare("base-*", "new-*", "--fail-if-worse", "--metric", "loss").exit_code == 0


def test_one_run_a_side_judges_models_and_says_so() -> None:
    result = compare("base-0", "new-0")
    assert "The model new-0 is " in result.stdout
    assert result.stdout.rstrip().endswith("That says nothing of their recipes, which takes several runs of each.")
    assert "McNemar's exact test: p = " in result.stdout
    assert as_json("base-0", "new-0")["judges"] == "models"


def test_folds_are_judged_by_the_corrected_resampled_t() -> None:
    """Accuracies 40, 41, 42, 43 of 60 against 10 more: a difference of 1/6 on each fold, without any variance."""
    report = as_json("fold-a-*", "fold-b-*", "--test")
    (one,) = report["candidates"]
    assert (report["splits"], one["verdict"]) == (4, "better")
    assert one["estimates"]["accuracy"]["difference"] == pytest.approx(1 / 6)
    assert one["estimates"]["accuracy"]["degrees_of_freedom"] == 3
    said = compare("fold-a-*", "fold-b-*").stdout
    assert "On the val images of 4 splits of the data" in said
    assert said.rstrip().endswith("and so for other splits of the data.")


def test_markdown_begins_with_the_verdict_and_keeps_its_stars() -> None:
    first = compare("base-*", "new-*", "--md").stdout.split("\n\n")[0]
    assert first.startswith("**new-&#42; is better than base-&#42; in accuracy")


@pytest.mark.parametrize("name", ["forest.svg", "forest.png"])
@pytest.mark.parametrize(
    "sets", [("base-*", "new-*", "--margin", "0.02"), ("base-0", "new-0", "base-1"), ("fold-a-*", "fold-b-*")]
)
def test_a_picture_is_drawn_of_whatever_is_compared(tmp_path: Path, sets: tuple[str, ...], name: str) -> None:
    assert compare(*sets, "--figure", str(tmp_path / name)).exit_code == 0
    assert (tmp_path / name).stat().st_size > 5000


@pytest.mark.parametrize(
    ("arguments", "error"),
    [
        (("base-*", "nothing-*"), "'nothing-*' matches no experiment, branch or tag"),
        (("base-*", "new-0"), "'new-0' is one run, which says nothing of how far runs of its recipe differ"),
        (("base-*,other-rate", "new-*"), "train.optimizer.sgd.lr is 0.1 in 'base-0' and 0.2 in 'other-rate'"),
        (("base-*,same-seed", "new-*"), "'base-0' and 'same-seed' of 'base-*,same-seed' both have train.seed 0"),
        (("base-*", "base-3,new-*"), "the run 'base-3' is both in 'base-*' and in 'base-3,new-*'"),
        (("base-*", "elsewhere-*"), "'base-0' and 'elsewhere-0' were tested on different images (60 and 60, 0 of"),
        (("fold-a-*", "fold-b-0,fold-b-1"), "'fold-a-2' and 'fold-b-0' were tested on different images"),
        (("fold-a-0,fold-a-1", "fold-b-*"), "were not tested on the same splits of the data"),
        (("base-*", "new-*", "--margin", "0"), "--margin is 0.0; it must be above 0, such as 0.01"),
        (("base-0", "new-0", "--margin", "0.1"), "--margin takes several runs of each recipe"),
        (("base-*", "new-*", "--figure", "forest.jpg"), "its name must end in .png or .svg"),
    ],
)
def test_what_can_not_be_compared_is_said_in_one_line(arguments: tuple[str, ...], error: str) -> None:
    assert error in one_line_error(*arguments)


def test_long_names_of_sets_get_a_letter() -> None:
    """27 characters, where 24 have room."""
    said = compare("base-0,base-1,base-2,base-3", "new-0,new-1,new-2").stdout
    assert "A = base-0,base-1,base-2,base-3, 4 runs; new-0,new-1,new-2, 3 runs." in said
    assert "new-0,new-1,new-2 is better than A in accuracy" in said


def test_models_of_one_recipe_differ_by_luck() -> None:
    assert compare("base-0", "base-1").stdout.rstrip().endswith("so it is luck of the training.")


def test_values_of_a_choice_that_is_not_taken_make_no_other_recipe() -> None:
    assert as_json("base-*,other-choice", "new-*")["sets"][0]["runs"][-1]["name"] == "other-choice"


def test_groups_make_the_interval_wider(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Groups of 6 images that are right or wrong together: 10 things were tested, and not 60."""
    monkeypatch.chdir(tmp_path)
    made = Repository(tmp_path)
    groups = [f"person {i // 6}" for i in range(IMAGES)]
    for seed in range(2):
        for recipe, share in (("a", 0.5), ("b", 0.7)):
            right = np.repeat(RANDOM.random(10) < share, 6)
            made.run(
                f"{recipe}{seed}", {"val": right}, {"train.seed": seed, "train.epochs": len(recipe)}, groups=groups
            )
            made.run(f"alone-{recipe}{seed}", {"val": right}, {"train.seed": seed})
    grouped, alone = as_json("a?", "b?"), as_json("alone-a?", "alone-b?")
    assert (grouped["groups"], alone["groups"]) == ([10], [None])
    errors = [report["candidates"][0]["estimates"]["accuracy"]["standard_error"] for report in (grouped, alone)]
    assert errors[0] >= errors[1]
