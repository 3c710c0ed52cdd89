"""Every recipe: checked as a params file, and run for a few steps on stand-in images of its layout."""

import csv
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from closure import ROOT
from conftest import Project
from download.test_datasets import idx, write
from safetensors import safe_open
from samples import encoded, noise, zip_of

from imgpipe.commands.params_file import values_of, with_values
from imgpipe.common.params import load, without_other_choices
from imgpipe.model.names import torchvision_name
from imgpipe.train.weight_names import packaged_file
from stages.check import check

RECIPES = {path.stem: path for path in sorted((ROOT / "recipes").glob("*.yaml"))}
FOR_ANY_IMAGES = ("finetune",)
"""Recipes that say nothing of where images come from and how they are prepared."""


def in_place(name: str) -> str:
    """The text of params.yaml once a recipe's values are in it."""
    given = dict(values_of(load(RECIPES[name])))
    return with_values((ROOT / "params.yaml").read_text(encoding="utf-8"), given, {})


def test_the_recipe_digits_is_params_yaml_as_it_comes_below_its_head() -> None:
    """imgpipe upgrade takes new keys from there, comments and all."""
    recipe, params = ((ROOT / name).read_text(encoding="utf-8") for name in ("recipes/digits.yaml", "params.yaml"))
    assert recipe.partition("\n\n")[2] == params.partition("\n\n")[2]


@pytest.mark.parametrize("name", RECIPES)
def test_a_recipe_has_every_key_of_its_sections_but_those_of_choices_that_it_does_not_take(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    recipe, shipped = load(RECIPES[name]), load(RECIPES["digits"])
    for sections_of in (recipe, shipped):
        sections_of.pop("runtime", None)  # is the machine's, and no recipe sets it
    sections = ("pack", "model", "train") if name in FOR_ANY_IMAGES else tuple(shipped)
    (tmp_path / "params.yaml").write_text(in_place(name))
    whole = load(tmp_path / "params.yaml")
    for section in sections:
        assert without_other_choices(recipe[section]) == without_other_choices(whole[section])
    assert tuple(recipe) == sections
    monkeypatch.chdir(tmp_path)
    check()


@pytest.mark.parametrize("name", RECIPES)
def test_the_weights_that_a_recipe_starts_from_are_there(name: str) -> None:
    """The stand-in trainings below start from none: those of VGG-16 alone are half a gigabyte."""
    model = load(RECIPES[name])["model"]
    if model["weights"].startswith("package/"):
        packaged = packaged_file(model["weights"])
        assert packaged
        assert packaged.is_file()
    elif model["weights"] != "none":
        from torchvision.models import get_model_weights

        assert model["weights"] in get_model_weights(torchvision_name(model["name"])).__members__


@dataclass(frozen=True)
class StandIn:
    """Images in the layout of a recipe, and what is to come of them.

    names: of the images in the archive. counts: in train, val and test. lr: in the middle of the last update.
    small: values of the recipe that are made smaller.
    """

    names: list[str]
    counts: tuple[int, int, int]
    classes: list[str]
    lr: float
    small: dict[str, Any]


def in_folders(counts: Mapping[str, int], classes: list[str], ending: str) -> list[str]:
    return [f"{split}/{name}/{i}.{ending}" for split, n in counts.items() for name in classes for i in range(n)]


DIGITS = ["zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine"]
FOOD = ["Bread", "Dairy_product", "Dessert", "Egg", "Fried_food", "Meat", "Noodles_Pasta", "Rice", "Seafood", "Soup",
        "Vegetable_Fruit"]  # fmt: skip
FOLDERS = {"training": 4, "validation": 2, "evaluation": 1}
STAND_INS = {
    "mnist-simplecnn": StandIn(
        names=[],  # write_mnist
        counts=(64, 16, 20),
        classes=[f"{number} - {name}" for number, name in enumerate(DIGITS)],
        lr=0.001 * (1 - 3**0.5 / 2) / 2,  # of three updates the last: the cosine of 150 degrees
        small={"train.batch_size": 24},
    ),
    "cifar10-resnet9": StandIn(
        names=in_folders({"train": 20, "test": 4}, ["cat", "dog", "frog"], "png"),  # as the download stage leaves it
        counts=(54, 6, 12),
        classes=["cat", "dog", "frog"],
        lr=0.4 * 5 / 6 / 5,  # of three updates, in the first of five epochs of warm-up
        small={"train.batch_size": 16, "pack.image_size": 16, "model.image_size": 16},
    ),
    "cifar10-resnet9-narrow": StandIn(
        names=in_folders({"train": 25, "test": 4}, ["cat", "dog"], "png"),
        counts=(48, 2, 8),
        classes=["cat", "dog"],
        lr=0.3 * 5 / 6 / 3,  # of three updates, in the first of three epochs of warm-up
        small={"train.batch_size": 16},
    ),
    "food11-densenet121": StandIn(
        names=[f"food-11/{folder}/{c}_{i}.jpg" for folder, n in FOLDERS.items() for c in range(11) for i in range(n)],
        counts=(44, 22, 11),
        classes=FOOD,
        lr=0.0004,
        small={"train.batch_size": 16, "pack.image_size": 40, "model.image_size": 32, "model.weights": "none"},
    ),
    "coil100-vgg-funnel": StandIn(
        names=[f"coil-100/obj{number}__{5 * (number % 72)}.png" for number in range(1, 101)],
        counts=(80, 10, 10),
        classes=["edible", "other", "toy"],
        lr=1e-5,
        small={"train.micro_batches": 1, "pack.image_size": 32, "model.image_size": 32, "model.weights": "none"},
    ),
    "finetune": StandIn(
        names=in_folders({"train": 20, "test": 4}, ["cat", "dog"], "png"),
        counts=(34, 6, 8),
        classes=["cat", "dog"],
        lr=0.001 * 5 / 6,  # of three updates, in the only epoch of warm-up
        small={"train.batch_size": 16, "pack.image_size": 40, "model.image_size": 32},
    ),
    "imagenet-resnet50": StandIn(
        names=in_folders({"train": 25, "test": 5}, ["n01440764", "n01443537"], "JPEG"),
        counts=(48, 2, 10),
        classes=["n01440764", "n01443537"],
        lr=0.001,
        small={
            "prepare.val_fraction": 0.04,
            "train.optimizer.sgd.lr": 0.001,
            "train.batch_size": 24,
            "pack.image_size": 40,
            "model.image_size": 32,
        },
    ),
}


@pytest.mark.parametrize("name", STAND_INS)
def test_a_recipe_trains_on_images_of_its_layout(name: str, project: Project) -> None:
    stand_in, folder = STAND_INS[name], project.folder
    (folder / "params.yaml").write_text(in_place(name))
    changes = {"runtime.processes": 1, "runtime.device": "cpu", "train.epochs": 1, "train.cpu_threads": 1}
    if stand_in.names:
        zip_of(folder / "images.zip", {name: encoded(noise(i)) for i, name in enumerate(stand_in.names)})
        changes |= {"download.source": "archive", "download.location": "images.zip"}
    else:
        write_mnist(folder / "data/partial/MNIST/MNIST/raw")
    changes |= stand_in.small
    project.set(**{key.replace(".", "__"): value for key, value in changes.items()})
    project.here("download", "prepare", "pack", "train")

    images = json.loads((folder / "metrics/prepare.json").read_text())["images"]
    assert (images["train"], images["val"], images["test"]) == stand_in.counts
    with safe_open(folder / "models/last.safetensors", framework="np") as file:
        described = json.loads(file.metadata()["imgpipe"])
    assert described["model"] == load(RECIPES[name])["model"]["name"]
    assert described["classes"] == stand_in.classes
    with (folder / "metrics/train/history.csv").open() as table:
        (epoch,) = csv.DictReader(table)
    assert float(epoch["lr"]) == pytest.approx(stand_in.lr)
    assert np.isfinite([float(value) for value in epoch.values()]).all()


def write_mnist(folder: Path) -> None:
    """80 images of noise to train on and 20 to test, each class as often."""
    random = np.random.default_rng(0)
    for prefix, count in (("train", 80), ("t10k", 20)):
        write(folder / f"{prefix}-images-idx3-ubyte", idx(random.integers(0, 256, (count, 28, 28), dtype=np.uint8)))
        write(folder / f"{prefix}-labels-idx1-ubyte", idx(np.arange(count, dtype=np.uint8) % 10))
