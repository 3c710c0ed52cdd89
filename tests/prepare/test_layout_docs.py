"""The layouts of docs/images.md, on stand-in images with the real names, through the real stage."""

import csv
import json
import re
from collections import Counter
from typing import Any

import pytest
import yaml
from closure import ROOT
from conftest import Project
from samples import encoded, noise, zip_of

PAGE = (ROOT / "docs/images.md").read_text(encoding="utf-8")
FOOD, COIL = (yaml.safe_load(block)["prepare"] for block in re.findall(r"```yaml\n(.*?)```", PAGE, flags=re.DOTALL))


def prepared(project: Project, names: list[str], settings: dict[str, Any]) -> list[dict[str, str]]:
    files = {name: encoded(noise(i)) for i, name in enumerate(names)}
    (project.folder / "data/raw").mkdir(parents=True)
    zip_of(project.folder / "data/raw/images.zip", files)
    project.set(**{f"prepare__{key}": value for key, value in settings.items()})
    project.here("prepare")
    with (project.folder / "data/images.csv").open(encoding="utf-8") as file:
        return list(csv.DictReader(file))


def test_food_11(project: Project) -> None:
    folders = {"training": 3, "validation": 2, "evaluation": 1}
    names = [f"food-11/{f}/{c}_{i}.jpg" for f, count in folders.items() for c in range(11) for i in range(count)]
    rows = prepared(project, names, FOOD)
    assert Counter(row["split"] for row in rows) == {"train": 33, "val": 22, "test": 11}
    named = {row["source"]: row["label"] for row in rows}
    assert named["food-11/training/3_0.jpg"] == "Egg"
    assert named["food-11/evaluation/10_0.jpg"] == "Vegetable_Fruit"
    assert len(set(named.values())) == 11


@pytest.mark.parametrize("split", ["grouped", "stratified"])
def test_coil_100(project: Project, split: str) -> None:
    """18 objects to eat, 20 toys and 62 others, as the data set's users class them; 4 views of each here, of 72."""
    names = [f"coil-100/obj{number}__{angle}.png" for number in range(1, 101) for angle in range(0, 360, 90)]
    rows = prepared(project, names, COIL | {"split": split})
    assert Counter(row["label"] for row in rows) == {"edible": 72, "toy": 80, "other": 248}
    splits_of_group = {row["group"]: {r["split"] for r in rows if r["group"] == row["group"]} for row in rows}
    assert len(splits_of_group) == 100
    assert (max(map(len, splits_of_group.values())) == 1) == (split == "grouped")
    told = json.loads((project.folder / "metrics/prepare.json").read_text())
    assert told["images"]["all"] == 400
    assert 40 <= told["images"]["test"] <= 80
