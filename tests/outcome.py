"""Make what the stages before plot leave behind, from random logits: consistent tables for any number of classes.

scikit-learn does the arithmetic.
"""

import json
import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from closure import ROOT
from numpy.typing import NDArray
from sklearn import metrics

from imgpipe.common.files import write_table
from imgpipe.data.packed import INDEX
from stages.plot import plot

EPOCHS = 12
BINS = 15


@dataclass(frozen=True)
class Outcome:
    """The test of a model."""

    classes: Sequence[str]

    labels: NDArray[np.int64]
    """True classes, sorted, (images,)."""

    probabilities: NDArray[np.float64]
    """(images, classes)."""

    shape: tuple[int, int, int]
    """Height, width and channels of a packed image."""

    @property
    def predicted(self) -> NDArray[np.int64]:
        return np.asarray(self.probabilities.argmax(axis=1))

    @property
    def confidence(self) -> NDArray[np.float64]:
        return np.asarray(self.probabilities.max(axis=1))

    @property
    def right(self) -> NDArray[np.bool_]:
        return np.asarray(self.predicted == self.labels)

    @property
    def files(self) -> list[str]:
        return [f"test/{self.classes[label]}/{i:05}.png" for i, label in enumerate(self.labels)]


def outcome(
    classes: Sequence[str],
    images: int = 400,
    *,
    skill: float = 4.0,
    absent: Sequence[int] = (),
    shape: tuple[int, int, int] = (16, 16, 1),
) -> Outcome:
    """Make the test of a model that knows something.

    skill: by how much the true class's logit is raised above noise of deviation 1.
    absent: numbers of the classes without test images.
    shape: height, width and channels of the packed images.
    """
    random = np.random.default_rng(0)
    present = [c for c in range(len(classes)) if c not in absent]
    labels = np.array([present[i % len(present)] for i in range(images)])
    logits = random.normal(size=(images, len(classes))) * 1.2
    logits[np.arange(images), labels] += skill
    probabilities = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    return Outcome(classes, np.sort(labels), probabilities[np.argsort(labels, kind="stable")], shape)


def predictions(test: Outcome) -> list[dict[str, Any]]:
    """Return the rows of predictions.csv."""
    true = test.probabilities[np.arange(len(test.labels)), test.labels]
    ranks = 1 + (test.probabilities > true[:, None]).sum(axis=1)
    columns = zip(test.files, test.labels, test.predicted, test.confidence, ranks, strict=True)
    return [
        {
            "file": file,
            "actual": test.classes[label],
            "predicted": test.classes[guess],
            "confidence": round(float(sure), 6),
            "rank": int(rank),
        }
        for file, label, guess, sure, rank in columns
    ]


def guesses(*pairs: str, confidence: float = 0.5) -> list[dict[str, str]]:
    """Return rows as read from predictions.csv, of "actual predicted" each."""
    return [
        {"file": f"{i}.png", "actual": pair.split()[0], "predicted": pair.split()[1], "confidence": str(confidence)}
        for i, pair in enumerate(pairs)
    ]


def write(test: Outcome, folder: Path) -> None:
    """Write all that the plot stage reads, in the places of the project."""
    for place in ("metrics/test", "metrics/train", "data/packed/test"):
        (folder / place).mkdir(parents=True)
    names = ["file", "actual", "predicted", "confidence", "rank"]
    write_table(folder / "metrics/test/predictions.csv", names, predictions(test))
    _classes(test, folder / "metrics/test/classes.csv")
    _roc(test, folder / "metrics/test/curves/roc.csv")
    _precision_recall(test, folder / "metrics/test/curves/precision_recall.csv")
    _thresholds(test, folder / "metrics/test/curves/thresholds.csv")
    _reliability(test, folder / "metrics/test/curves/reliability.csv")
    _heatmaps(test, folder / "metrics/test/heatmaps")
    _numbers(test, folder / "metrics/test/metrics.json")
    _training(folder / "metrics/train")
    _data(test, folder)
    _packed(test, folder / "data/packed")


def _classes(test: Outcome, path: Path) -> None:
    precision, recall, f1, support = metrics.precision_recall_fscore_support(
        test.labels, test.predicted, labels=range(len(test.classes)), zero_division=0
    )
    rows = []
    for c, name in enumerate(test.classes):
        row: dict[str, Any] = {"class": name, "support": int(support[c])}
        if support[c]:
            row |= {"precision": float(precision[c]), "recall": float(recall[c]), "f1": float(f1[c])}
            row |= {"auroc": metrics.roc_auc_score(test.labels == c, test.probabilities[:, c])}
        rows.append(row)
    write_table(path, ["class", "support", "precision", "recall", "f1", "auroc"], rows)


def _roc(test: Outcome, path: Path) -> None:
    rows = []
    for c in np.unique(test.labels):
        for x, y in zip(*metrics.roc_curve(test.labels == c, test.probabilities[:, c])[:2], strict=True):
            rows.append({"class": test.classes[c], "false_positive_rate": float(x), "true_positive_rate": float(y)})
    write_table(path, ["class", "false_positive_rate", "true_positive_rate"], rows)


def _precision_recall(test: Outcome, path: Path) -> None:
    rows = []
    for c in np.unique(test.labels):
        falling = metrics.precision_recall_curve(test.labels == c, test.probabilities[:, c])[:2]
        for y, x in list(zip(*falling, strict=True))[::-1]:
            rows.append({"class": test.classes[c], "recall": float(x), "precision": float(y)})
    write_table(path, ["class", "recall", "precision"], rows)


def _thresholds(test: Outcome, path: Path) -> None:
    rows = []
    for threshold in np.linspace(0, 1, 101):
        answered = test.confidence >= threshold
        right = (answered & test.right).sum()
        share, got = right / max(answered.sum(), 1), right / len(test.labels)
        row = {"threshold": round(float(threshold), 2), "coverage": answered.mean(), "recall": got}
        row |= {"precision": share if answered.any() else "", "f1": 2 * share * got / (share + got) if right else 0.0}
        rows.append(row)
    write_table(path, ["threshold", "coverage", "precision", "recall", "f1"], rows)


def _reliability(test: Outcome, path: Path) -> None:
    rows = []
    for scaling, sharpness in (("before", 1.0), ("after", 0.8)):
        scaled = test.probabilities**sharpness
        confidence = (scaled / scaled.sum(axis=1, keepdims=True)).max(axis=1)
        for i in range(BINS):
            inside = (confidence > i / BINS) & (confidence <= (i + 1) / BINS)
            row = {"scaling": scaling, "low": i / BINS, "high": (i + 1) / BINS, "pictures": int(inside.sum())}
            if inside.any():
                row |= {"confidence": confidence[inside].mean(), "accuracy": test.right[inside].mean()}
            rows.append(row)
    write_table(path, ["scaling", "low", "high", "pictures", "confidence", "accuracy"], rows)


def _heatmaps(test: Outcome, folder: Path) -> None:
    """Write a heatmap for each of 24 mistakes at most, the most confident first: a corner is hot."""
    wrong = np.flatnonzero(~test.right)
    chosen = wrong[np.argsort(-test.confidence[wrong], kind="stable")][:24]
    maps = np.zeros((len(chosen), 4, 4), np.uint8)
    maps[:, 0, 0] = 255
    write_table(folder / "index.csv", ["file"], ({"file": test.files[i]} for i in chosen))
    np.save(folder / "maps.npy", maps)


def _numbers(test: Outcome, path: Path) -> None:
    accuracy = float(test.right.mean())
    f1 = float(metrics.f1_score(test.labels, test.predicted, average="macro"))
    loss = float(metrics.log_loss(test.labels, test.probabilities, labels=range(len(test.classes))))
    coverage = float((test.confidence >= 0.6).mean())
    numbers = {
        "accuracy": accuracy,
        "accuracy_ci_low": max(0.0, accuracy - 0.02),
        "accuracy_ci_high": min(1.0, accuracy + 0.02),
        "balanced_accuracy": float(np.mean([test.right[test.labels == c].mean() for c in np.unique(test.labels)])),
        "f1_macro": f1,
        "f1_macro_ci_low": max(0.0, f1 - 0.03),
        "f1_macro_ci_high": min(1.0, f1 + 0.03),
        "loss": loss,
        "loss_ci_low": loss * 0.9,
        "loss_ci_high": loss * 1.1,
        "ece": 0.021,
        "ece_null_mean": 0.018,
        "ece_null_q95": 0.027,
        "temperature": 1.25,
        "ece_before_scaling": 0.084,
        "threshold": 0.6,
        "images": len(test.labels),
        "groups": None,
        "threshold_precision": 0.96,
        "threshold_precision_ci_low": 0.94,
        "threshold_precision_ci_high": 0.98,
        "threshold_coverage": coverage,
        "threshold_coverage_ci_low": max(0.0, coverage - 0.05),
        "threshold_coverage_ci_high": min(1.0, coverage + 0.05),
    }
    path.write_text(json.dumps(numbers), encoding="utf-8")


def _training(folder: Path) -> None:
    rows = [
        {
            "epoch": epoch,
            "lr": 0.1 * (1 - epoch / EPOCHS),
            "train_loss": 2 / epoch,
            "train_accuracy": 1 - 0.8 / epoch,
            "val_loss": 2.2 / epoch,
            "val_accuracy": 1 - 0.9 / epoch,
        }
        for epoch in range(1, EPOCHS + 1)
    ]
    write_table(folder / "history.csv", list(rows[0]), rows)
    (folder / "metrics.json").write_text(json.dumps({"best": rows[-1], "last": rows[-1]}))


def _data(test: Outcome, folder: Path) -> None:
    support = np.bincount(test.labels, minlength=len(test.classes)).tolist()
    counts = {name: {"train": 5 * n + 3, "val": n, "test": n} for name, n in zip(test.classes, support, strict=True)}
    images = {split: sum(by_split[split] for by_split in counts.values()) for split in ("train", "val", "test")}
    summary = {
        "images": {"all": sum(images.values()), **images},
        "classes": counts,
        "rejected": {"pictures": 30, "other_files": 1},
        "duplicates": {"equal": 1, "dropped": {"train": 1, "val": 0, "test": 0, "before_the_cut": 0}},
    }
    (folder / "metrics/prepare.json").write_text(json.dumps(summary), encoding="utf-8")
    height, width, _ = test.shape
    sizes = ({"file": f"{i}.png", "width": width, "height": height} for i in range(summary["images"]["all"]))
    write_table(folder / "data/images.csv", ["file", "width", "height"], sizes)
    rejected = [{"source": f"<i>{i}</i>.jpg", "reason": "not a picture", "picture": True} for i in range(30)]
    write_table(folder / "data/rejected.csv", ["source", "reason", "picture"], rejected)
    pair = {"kind": "equal", "source": "a.png", "split": "train", "label": "a", "correlation": 1.0, "dropped": True}
    pair |= {"twin": "b.png", "twin_split": "test", "twin_label": "a"}
    names = ["kind", "source", "split", "label", "twin", "twin_split", "twin_label", "correlation", "dropped"]
    write_table(folder / "data/duplicates.csv", names, [pair, pair | {"source": "c.png", "split": ""}])


def _packed(test: Outcome, folder: Path) -> None:
    height, width, channels = test.shape
    size = height * width * channels
    rows = np.linspace(0, 255, height, dtype=np.uint8)[None, :, None, None]
    images = np.broadcast_to(rows, (len(test.labels), height, width, channels)).copy()
    images[:, : height // 2, : width // 2, 0] = (test.labels * 37 % 256)[:, None, None]
    np.save(folder / "test/images.npy", images.reshape(-1))
    index = (
        dict(zip(INDEX, (file, label, i * size, size, height, width, 0), strict=True))
        for i, (file, label) in enumerate(zip(test.files, test.labels.tolist(), strict=True))
    )
    write_table(folder / "test/index.csv", INDEX, index)
    statistics = {"classes": list(test.classes), "encoding": "raw", "channels": channels, "mean": [0.5] * channels}
    statistics |= {"image_size": min(height, width), "enlarge": True, "jpeg_quality": 90, "levels": 1}
    (folder / "statistics.json").write_text(json.dumps(statistics | {"std": [0.25] * channels}), encoding="utf-8")


def ready_to_plot(folder: Path, test: Outcome, monkeypatch: pytest.MonkeyPatch) -> None:
    """Write the test and the project's own parameters to a folder, which becomes the current one."""
    folder.mkdir(exist_ok=True)
    for name in ("params.yaml", "pyproject.toml"):
        shutil.copy(ROOT / name, folder / name)
    write(test, folder)
    monkeypatch.chdir(folder)


def plotted(folder: Path, test: Outcome, monkeypatch: pytest.MonkeyPatch) -> None:
    """Run the plot stage on the test, with the project's own parameters, in a folder that becomes the current one."""
    ready_to_plot(folder, test, monkeypatch)
    plot()
