"""A repository of Git and DVC in which each tag is a run: params.yaml, the images, and what was predicted for them.

Files are in Git, which DVC reads as it does its own: nothing is trained.
"""

import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import yaml
from numpy.typing import NDArray

from imgpipe.common.files import write_table

CLASSES = ("cat", "dog", "owl")
PARAMS = {
    "runtime": {"processes": 1},
    "prepare": {"seed": 0, "fold": 0},
    "train": {"seed": 0, "epochs": 3, "optimizer": {"name": "sgd", "sgd": {"lr": 0.1}, "adam": {"lr": 0.001}}},
}


class Repository:
    def __init__(self, folder: Path) -> None:
        self.folder = folder
        (folder / "dvc.yaml").write_text("stages: {}\n", encoding="utf-8")
        self.git("init", "--quiet", "--initial-branch", "main")
        for name in (".dvc", ".dvc/tmp"):
            (folder / name).mkdir()
        (folder / ".dvc/config").write_text("[core]\n    analytics = false\n", encoding="utf-8")
        (folder / ".dvc/.gitignore").write_text("/tmp\n/cache\n", encoding="utf-8")

    def git(self, *arguments: str) -> str:
        settings = ("-c", "user.name=Tester", "-c", "user.email=tester@example.org", "-c", "commit.gpgsign=false")
        command = ["git", *settings, *arguments]
        return subprocess.run(command, cwd=self.folder, capture_output=True, text=True, check=True).stdout.strip()

    def run(
        self,
        tag: str,
        right: Mapping[str, NDArray[np.bool_]],
        params: Mapping[str, Any] | None = None,
        *,
        groups: Sequence[str] | None = None,
        part: int = 0,
    ) -> None:
        """Commit a run under a tag.

        right: by split, whether it is right on each image, whose class is its number modulo 3.
        params: values of params.yaml by keys in full, where they are not PARAMS.
        groups: of the images of val and of test.
        part: which images the splits hold: those of another part are other images.
        """
        rows = []
        for split, of_split in right.items():
            labels = np.arange(len(of_split)) % 3
            files = [f"{split}/{CLASSES[c]}/{part}-{i}.png" for i, c in enumerate(labels)]
            rows += [
                {
                    "file": file,
                    "split": split,
                    "label": CLASSES[c],
                    "pixels": file,
                    "group": groups[i] if groups else "",
                }
                for i, (file, c) in enumerate(zip(files, labels, strict=True))
            ]
            self._predictions(split, files, labels, of_split)
        rows += [
            {"file": f"train/{i}", "split": "train", "label": "cat", "pixels": f"t{i}", "group": ""} for i in range(80)
        ]
        write_table(self.folder / "data/images.csv", ["file", "split", "label", "pixels", "group"], rows)
        values = yaml.safe_load(yaml.safe_dump(PARAMS))
        for name, value in (params or {}).items():
            *sections, key = name.split(".")
            place = values
            for section in sections:
                place = place[section]
            place[key] = value
        (self.folder / "params.yaml").write_text(yaml.safe_dump(values), encoding="utf-8")
        self.git("add", "--all")
        self.git("commit", "--quiet", "--allow-empty", "--message", tag)
        self.git("tag", tag)

    def _predictions(
        self, split: str, files: Sequence[str], labels: NDArray[np.int64], right: NDArray[np.bool_]
    ) -> None:
        """Write what evaluate writes: 0.8 for the predicted class, 0.1 for the others."""
        predicted = np.where(right, labels, (labels + 1) % 3)
        folder = self.folder / "metrics" / split
        write_table(
            folder / "predictions.csv",
            ["file", "actual", "predicted"],
            (
                {"file": file, "actual": CLASSES[a], "predicted": CLASSES[p]}
                for file, a, p in zip(files, labels, predicted, strict=True)
            ),
        )
        write_table(folder / "classes.csv", ["class"], ({"class": name} for name in CLASSES))
        np.save(folder / "probabilities.npy", np.where(np.arange(3) == predicted[:, None], 0.8, 0.1).astype(np.float32))
