"""The layouts of docs/images.md, on stand-in images with the real names, through the real stage."""

import csv
import json
import re
from collections import Counter
from collections.abc import Mapping
from types import MappingProxyType
from typing import Any

import pytest
import yaml
from closure import ROOT
from conftest import Project
from samples import encoded, noise, zip_of

PAGE = (ROOT / "docs/images.md").read_text(encoding="utf-8")
BLOCKS = re.findall(r"```yaml\n(.*?)```", PAGE, flags=re.DOTALL)
FOOD, COIL, SCANS, HUGGING_FACE = (yaml.safe_load(block)["prepare"] for block in BLOCKS)


def prepared(
    project: Project, names: list[str], settings: dict[str, Any], tables: Mapping[str, str] = MappingProxyType({})
) -> list[dict[str, str]]:
    files = {name: encoded(noise(i)) for i, name in enumerate(names)}
    files |= {name: text.encode() for name, text in tables.items()}
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


def test_scans_with_a_table_of_labels(project: Project) -> None:
    """Ten patients with four scans each, every other patient's benign."""
    kinds = ("benign", "malignant")
    rows = [(f"images/{i}.png", kinds[i // 4 % 2], f"P{i // 4:02}", str(50 + i)) for i in range(40)]
    table = "\n".join(map(",".join, [("image", "diagnosis", "patient", "age"), *rows]))
    images = prepared(project, [f"scans/{row[0]}" for row in rows], SCANS, {"scans/labels.csv": table})
    assert {(image["source"], image["label"], image["group"]) for image in images} == {
        (f"scans/{image}", label, patient) for image, label, patient, _ in rows
    }
    assert len({(image["group"], image["split"]) for image in images}) == 10
    with (project.folder / "data/slices.csv").open(encoding="utf-8") as file:
        assert {(row["file"].rpartition("/")[2], row["age"]) for row in csv.DictReader(file)} == {
            (image.removeprefix("images/"), age) for image, _, _, age in rows
        }


def test_hugging_face_s_image_folder(project: Project) -> None:
    counts = {"train": 16, "test": 6}
    tables = {
        f"{split}/metadata.csv": "\n".join(["file_name,label", *(f"{i}.jpg,{'ab'[i % 2]}" for i in range(count))])
        for split, count in counts.items()
    }
    names = [f"{split}/{i}.jpg" for split, count in counts.items() for i in range(count)]
    images = prepared(project, names, HUGGING_FACE, tables)
    assert Counter((i["source"].partition("/")[0], i["split"], i["label"]) for i in images if i["split"] == "test") == {
        ("test", "test", "a"): 3,
        ("test", "test", "b"): 3,
    }
    assert {i["split"] for i in images if i["source"].startswith("train/")} == {"train", "val"}
