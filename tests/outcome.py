"""What the stages before plot leave behind, made from random logits: consistent tables for any number of classes.

scikit-learn does the arithmetic.
"""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from sklearn import metrics

from imgpipe.common.files import write_table

EPOCHS = 12
BINS = 15


@dataclass(frozen=True)
class Outcome:
    """A test of a model. labels: (images,), sorted; probabilities: (images, classes); shape: of an image."""

    classes: Sequence[str]
    labels: "np.ndarray[Any, np.dtype[np.int64]]"
    probabilities: "np.ndarray[Any, np.dtype[np.float64]]"
    shape: tuple[int, int, int]

    @property
    def predicted(self) -> "np.ndarray[Any, np.dtype[np.int64]]":
        return np.asarray(self.probabilities.argmax(axis=1))

    @property
    def confidence(self) -> "np.ndarray[Any, np.dtype[np.float64]]":
        return np.asarray(self.probabilities.max(axis=1))

    @property
    def right(self) -> "np.ndarray[Any, np.dtype[np.bool_]]":
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
    """skill: by how much the true class's logit is raised above noise of deviation 1. absent: classes without test
    images. shape: height, width and channels of the packed images."""
    random = np.random.default_rng(0)
    present = [c for c in range(len(classes)) if c not in absent]
    labels = np.array([present[i % len(present)] for i in range(images)])
    logits = random.normal(size=(images, len(classes))) * 1.2
    logits[np.arange(images), labels] += skill
    probabilities = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    return Outcome(classes, np.sort(labels), probabilities[np.argsort(labels, kind="stable")], shape)


def write(test: Outcome, folder: Path) -> None:
    """All that the plot stage reads, in the places of the project."""
    for place in ("metrics/test", "metrics/train", "data/packed/test"):
        (folder / place).mkdir(parents=True)
    _tables(test, folder / "metrics/test")
    _numbers(test, folder / "metrics/test/metrics.json")
    _history(folder / "metrics/train/history.csv")
    _data(test, folder)
    _packed(test, folder / "data/packed")


def predictions(test: Outcome) -> list[dict[str, Any]]:
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


def _tables(test: Outcome, folder: Path) -> None:
    labels, probabilities = test.labels, test.probabilities
    write_table(folder / "predictions.csv", ["file", "actual", "predicted", "confidence", "rank"], predictions(test))
    precision, recall, f1, support = metrics.precision_recall_fscore_support(
        labels, test.predicted, labels=range(len(test.classes)), zero_division=0
    )
    present = [c for c in range(len(test.classes)) if support[c]]
    areas = {c: metrics.roc_auc_score(labels == c, probabilities[:, c]) for c in present}
    write_table(
        folder / "classes.csv",
        ["class", "support", "precision", "recall", "f1", "auroc"],
        (
            {
                "class": name,
                "support": int(support[c]),
                "precision": float(precision[c]) if support[c] else "",
                "recall": float(recall[c]) if support[c] else "",
                "f1": float(f1[c]) if support[c] else "",
                "auroc": areas.get(c, ""),
            }
            for c, name in enumerate(test.classes)
        ),
    )
    roc, curve = [], []
    for c in present:
        for x, y in zip(*metrics.roc_curve(labels == c, probabilities[:, c])[:2], strict=True):
            roc.append({"class": test.classes[c], "false_positive_rate": float(x), "true_positive_rate": float(y)})
        falling = metrics.precision_recall_curve(labels == c, probabilities[:, c])[:2]
        for y, x in list(zip(*falling, strict=True))[::-1]:
            curve.append({"class": test.classes[c], "recall": float(x), "precision": float(y)})
    write_table(folder / "curves/roc.csv", ["class", "false_positive_rate", "true_positive_rate"], roc)
    write_table(folder / "curves/precision_recall.csv", ["class", "recall", "precision"], curve)

    rows = []
    for threshold in np.linspace(0, 1, 101):
        answered = test.confidence >= threshold
        right = (answered & test.right).sum()
        share, got = right / max(answered.sum(), 1), right / len(labels)
        row = {"threshold": round(float(threshold), 2), "coverage": answered.mean(), "recall": got}
        row |= {"precision": share if answered.any() else "", "f1": 2 * share * got / (share + got) if right else 0.0}
        rows.append(row)
    write_table(folder / "curves/thresholds.csv", ["threshold", "coverage", "precision", "recall", "f1"], rows)

    bins = []
    for scaling, sharpness in (("before", 1.0), ("after", 0.8)):
        scaled = probabilities**sharpness
        confidence = (scaled / scaled.sum(axis=1, keepdims=True)).max(axis=1)
        for i in range(BINS):
            inside = (confidence > i / BINS) & (confidence <= (i + 1) / BINS)
            row = {"scaling": scaling, "low": i / BINS, "high": (i + 1) / BINS, "pictures": int(inside.sum())}
            if inside.any():
                row |= {"confidence": confidence[inside].mean(), "accuracy": test.right[inside].mean()}
            bins.append(row)
    write_table(
        folder / "curves/reliability.csv", ["scaling", "low", "high", "pictures", "confidence", "accuracy"], bins
    )


def _numbers(test: Outcome, path: Path) -> None:
    accuracy = float(test.right.mean())
    f1 = float(metrics.f1_score(test.labels, test.predicted, average="macro"))
    loss = float(metrics.log_loss(test.labels, test.probabilities, labels=range(len(test.classes))))
    numbers = {
        "accuracy": accuracy,
        "accuracy_ci_low": max(0.0, accuracy - 0.02),
        "accuracy_ci_high": min(1.0, accuracy + 0.02),
        "f1_macro": f1,
        "f1_macro_ci_low": max(0.0, f1 - 0.03),
        "f1_macro_ci_high": min(1.0, f1 + 0.03),
        "loss": loss,
        "loss_ci_low": loss * 0.9,
        "loss_ci_high": loss * 1.1,
        "ece": 0.021,
        "threshold": 0.6,
        "threshold_coverage": float((test.confidence >= 0.6).mean()),
        "images": len(test.labels),
    }
    path.write_text(json.dumps(numbers), encoding="utf-8")


def _history(path: Path) -> None:
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
    write_table(path, list(rows[0]), rows)


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
    rejected = [{"source": f"<i>{i}</i>.jpg", "reason": "not a picture", "picture": True} for i in range(30)]
    write_table(folder / "data/rejected.csv", ["source", "reason", "picture"], rejected)
    pair = {"kind": "equal", "source": "a.png", "split": "train", "label": "a", "differing_bits": 0, "dropped": True}
    pair |= {"twin": "b.png", "twin_split": "test", "twin_label": "a"}
    names = ["kind", "source", "split", "label", "twin", "twin_split", "twin_label", "differing_bits", "dropped"]
    write_table(folder / "data/duplicates.csv", names, [pair, pair | {"source": "c.png", "split": ""}])


def _packed(test: Outcome, folder: Path) -> None:
    height, width, channels = test.shape
    size = height * width * channels
    rows = np.linspace(0, 255, height, dtype=np.uint8)[None, :, None, None]
    images = np.broadcast_to(rows, (len(test.labels), height, width, channels)).copy()
    images[:, : height // 2, : width // 2, 0] = (test.labels * 37 % 256)[:, None, None]
    np.save(folder / "test/images.npy", images.reshape(-1))
    index = (
        {"file": file, "label": label, "offset": i * size, "bytes": size, "height": height, "width": width}
        for i, (file, label) in enumerate(zip(test.files, test.labels.tolist(), strict=True))
    )
    write_table(folder / "test/index.csv", ["file", "label", "offset", "bytes", "height", "width"], index)
    statistics = {"classes": list(test.classes), "encoding": "raw", "channels": channels, "mean": [0.5] * channels}
    statistics |= {"image_size": min(height, width), "enlarge": True, "jpeg_quality": 90}
    (folder / "statistics.json").write_text(json.dumps(statistics | {"std": [0.25] * channels}), encoding="utf-8")
