"""Audit what revisions predicted, and write what there is to say as tables and as text for a terminal."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from imgpipe.commands.auditing.images import Predicted, read_predicted
from imgpipe.commands.auditing.labels import LabelAudit, audit_labels
from imgpipe.commands.auditing.slices import FEWEST_GROUPS, FEWEST_IMAGES, Slice, SliceAudit, audit_slices
from imgpipe.common.files import write_records


@dataclass(frozen=True)
class Doubt:
    """An image whose label is not its most probable class; a row of labels.csv."""

    rank: int
    """From 1, the label that is most probably wrong."""
    revision: str
    """The run that predicted the image."""
    file: str
    """As data/images.csv of that run has it."""
    source: str
    """Its path in the archive."""
    label: str
    suggested: str
    """The class that it looks like."""
    p_label: float
    """How probable the label is."""
    p_suggested: float
    score: float
    """The normalized margin: from 0, surely wrong, to 1, surely right."""
    counted: bool
    """Whether it is among the labels that are probably wrong."""


@dataclass(frozen=True)
class Pair:
    """Two classes, of which images of the one are labelled as the other."""

    label: str
    suggested: str
    counted: int
    """Images that are probably so."""
    estimate: float
    """How many are estimated to be so, of all images."""


@dataclass(frozen=True)
class Audit:
    """What there is to say of the images' labels and of the predictions."""

    predicted: Predicted
    labels: LabelAudit
    slices: SliceAudit

    doubts: list[Doubt]
    """The worst first."""
    pairs: list[Pair]
    """The most frequent first."""
    right: int
    """How many predictions are right."""

    @property
    def counted(self) -> int:
        """How many labels are probably wrong."""
        return int(self.labels.counted.sum())


def audit_of(revisions: Sequence[str]) -> Audit:
    """Audit the revisions of these names. Raises InputError as ``read_predicted`` does."""
    predicted = read_predicted(revisions)
    actual, images, names = predicted.labels, predicted.images, predicted.classes
    labels = audit_labels(actual, predicted.probabilities)
    right = predicted.probabilities.argmax(axis=1) == actual
    doubts = [
        Doubt(
            rank=rank,
            revision=images[i].revision,
            file=images[i].file,
            source=images[i].source,
            label=images[i].label,
            suggested=names[labels.suggested[i]],
            p_label=round(float(predicted.probabilities[i, actual[i]]), 6),
            p_suggested=round(float(predicted.probabilities[i, labels.suggested[i]]), 6),
            score=round(float(labels.scores[i]), 6),
            counted=bool(labels.counted[i]),
        )
        for rank, i in enumerate(labels.worst_first.tolist(), start=1)
    ]
    found = Counter((doubt.label, doubt.suggested) for doubt in doubts if doubt.counted)
    numbers = {name: number for number, name in enumerate(names)}
    pairs = [
        Pair(*pair, count, float(labels.joint[numbers[pair[0]], numbers[pair[1]]])) for pair, count in found.items()
    ]
    pairs.sort(key=lambda pair: (-pair.counted, -pair.estimate, pair.label, pair.suggested))
    return Audit(predicted, labels, audit_slices(images, right), doubts, pairs, int(right.sum()))


def write_tables(folder: Path, audit: Audit) -> None:
    """Write labels.csv, every image that looks like another class than its label, and slices.csv into the folder."""
    write_records(folder / "labels.csv", Doubt, audit.doubts)
    write_records(folder / "slices.csv", Slice, audit.slices.slices)


def about_images(audit: Audit) -> list[str]:
    """Return sentences that say which images were audited, and which were not."""
    predicted, images = audit.predicted, len(audit.predicted.images)
    accuracy = f"{audit.right / images:.4f} of the predictions are right"
    if len(predicted.revisions) > 1:
        runs = f"each tested by one of {len(predicted.revisions)} runs that was not trained on it"
        sentences = [f"{images:,} images, {runs}; {accuracy}."]
        return sentences + ([f"Images that no run tested: {predicted.untested:,}."] if predicted.untested else [])
    return [
        f"{images:,} images, the validation and test images of {predicted.revisions[0]}; {accuracy}.",
        "The validation images chose the epoch: on new images the model is a little less often right.",
        f"Images that were not audited, since the model was trained on them: {predicted.untested:,}; "
        "a cross-validation audits all.",
    ]


def about_labels(audit: Audit) -> str:
    """Return sentences that say how many labels are wrong."""
    images, counted, estimate = len(audit.predicted.images), audit.counted, audit.labels.estimate
    share = f"{estimate / images:.1%}"
    others = "; which the others are can't be told" if round(estimate) > counted else ""
    known = f"Labels that are probably wrong: {counted:,}."
    return f"{known} Estimated in all: {estimate:,.0f} of {images:,} ({share}){others}."


def about_slices(audit: Audit) -> str:
    """Return sentences that say which slices there are."""
    slices, small = audit.slices.slices, audit.slices.small
    worse = f"Slices that are worse than the other images by more than chance: {sum(one.worse for one in slices):,}"
    grouped = any(image.group for image in audit.predicted.images)
    fewest = f"{FEWEST_IMAGES} images" + (f" or {FEWEST_GROUPS} groups" if grouped else "")
    return f"{worse} of {len(slices):,}." + (f" Left out, of fewer than {fewest}: {small:,}." if small else "")
