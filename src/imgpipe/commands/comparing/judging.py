"""Judge sets of runs, each against the first: recipes by several runs, or models where each set is a single run."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from imgpipe.commands.comparing.crossed import (
    Array,
    CrossedEstimate,
    Estimate,
    ResampledEstimate,
    crossed,
    resampled,
    strata_of,
)
from imgpipe.commands.comparing.outcomes import Outcome, places_in
from imgpipe.commands.comparing.paired import Comparison, Predictions
from imgpipe.commands.comparing.paired import compare as compare_models
from imgpipe.commands.comparing.runs import RunSet, check_recipes, different
from imgpipe.commands.comparing.verdicts import (
    NOT_YET_KNOWN,
    Needed,
    Verdict,
    model_verdicts,
    needed,
    needed_for_equivalence,
    verdicts,
)
from imgpipe.common.errors import InputError
from imgpipe.evaluate.groups import number_groups

METRICS = {"accuracy": True, "balanced_accuracy": True, "loss": False}
"""What recipes are compared by, and whether more of it is better."""
LONGEST_NAME = 24
"""Characters of a set's name; a longer one gets a letter."""


@dataclass(frozen=True)
class OnSplit:
    """What the runs of all sets predicted for the same images."""

    reference: Outcome
    """Of the run whose order the images have."""
    actual: Array
    """Numbers of the true classes, int64 (images,)."""
    groups: Array
    """Numbers of what is independent, int64 (images,): groups, and images that are in none."""
    predicted: list[Array]
    """By set: numbers of the predicted classes, int64 (runs, images)."""
    losses: list[Array]
    """By set: the cross-entropy, float64 (runs, images)."""

    def scores(self, which: int, metric: str) -> Array:
        """Return the scores of which a weighted mean is the metric of a set's runs: float64 (runs, images)."""
        return self.losses[which] if metric == "loss" else (self.predicted[which] == self.actual).astype(np.float64)

    def weights(self, metric: str) -> Array:
        """Return the weights of that mean, float64 (images,)."""
        if metric == "balanced_accuracy":
            counts = np.bincount(self.actual)
            return np.asarray(1 / (counts > 0).sum() / counts[self.actual])
        return np.full(len(self.actual), 1 / len(self.actual))

    def metric(self, which: int, metric: str) -> Array:
        """Return the metric of each run of a set, float64 (runs,)."""
        return np.asarray(self.scores(which, metric) @ self.weights(metric))

    @property
    def in_groups(self) -> bool:
        """Whether some images are in groups."""
        return int(self.groups.max()) + 1 < len(self.groups)


@dataclass(frozen=True)
class Changed:
    """An image on which two sets differ."""

    file: str
    """As the first run of the base calls it."""
    actual: str
    """The name of its true class."""
    runs: tuple[int, int]
    """Of the base and of the candidate."""
    right: tuple[int, int]
    """How many of them are right."""
    predicted: tuple[str, str]
    """The class that most of the runs of either predict that are wrong, of as many the first; else the true one."""
    gained: float
    """Share of the candidate's runs that are right, less that of the base's."""
    loss: float
    """How much higher the candidate's mean loss is."""


@dataclass(frozen=True)
class Candidate:
    """What is to be better than the base, and what was found."""

    number: int
    """Of its set."""
    name: str
    verdict: Verdict
    estimates: dict[str, Estimate]
    """By metric; of models there are none."""
    models: Comparison | None
    """Of single models."""
    needed: Needed | None
    """What would settle it, where that is not yet known."""
    parameters: dict[str, tuple[Any, Any]]
    """Keys of params.yaml whose values differ, of the base and of this one."""
    changed: list[Changed]
    """Images on which they differ, the most telling first."""


@dataclass(frozen=True)
class Judgement:
    """What there is to say about several sets of runs."""

    split: str
    """val or test."""
    metric: str
    """By which they were judged."""
    margin: float | None
    sets: list[RunSet]
    """The base, then the candidates."""
    tested: list[OnSplit]
    """By split of the data."""
    candidates: list[Candidate]

    def label(self, number: int) -> str:
        """Return what a set is called: its name, or a letter where that is long."""
        name = self.sets[number].name
        return name if len(name) <= LONGEST_NAME else chr(ord("A") + number)

    @property
    def of_models(self) -> bool:
        """Whether single models were compared, and not recipes."""
        return all(len(one.runs) == 1 for one in self.sets)

    def values(self, which: int, metric: str) -> list[float]:
        """Return the metric of each run of a set; where there are several splits the mean over the runs of each."""
        if len(self.tested) == 1:
            return [float(value) for value in self.tested[0].metric(which, metric)]
        return [float(on.metric(which, metric).mean()) for on in self.tested]


def judge(sets: Sequence[RunSet], *, split: str, metric: str, margin: float | None) -> Judgement:
    """Compare the sets, each with the first.

    Raises InputError where they can't be compared.
    """
    of_models = all(len(one.runs) == 1 for one in sets)
    if not of_models:
        check_recipes(sets)
    elif margin is not None:
        raise InputError("--margin takes several runs of each recipe, and each set here is a single run")
    tested = on_splits(sets)
    found = _models(sets, tested[0]) if of_models else _recipes(sets, tested, metric, margin)
    return Judgement(split, metric, margin, list(sets), tested, found)


def on_splits(sets: Sequence[RunSet]) -> list[OnSplit]:
    """Sort the runs by the images that they were tested on, and bring these into one order.

    Raises InputError where the sets were not all tested on the same splits.
    """
    contents = dict.fromkeys(run.outcome.content for run in sets[0].runs)
    references = {run.outcome.content: run.outcome for run in reversed(sets[0].runs)}
    tested = []
    for content in contents:
        of_sets = [[run.outcome for run in one.runs if run.outcome.content == content] for one in sets]
        for one, outcomes in zip(sets, of_sets, strict=True):
            if not outcomes:  # which says why not
                places_in(one.runs[0].outcome, references[content])
                _refuse_other_splits(sets[0], one)
        tested.append(_on_split(references[content], of_sets))
    for one in sets[1:]:
        if any(run.outcome.content not in contents for run in one.runs):
            _refuse_other_splits(sets[0], one)
    return tested


def _refuse_other_splits(base: RunSet, one: RunSet) -> None:
    raise InputError(
        f"'{base.name}' and '{one.name}' were not tested on the same splits of the data: run both with the same values "
        "of prepare.seed and prepare.fold"
    )


def _on_split(reference: Outcome, of_sets: Sequence[Sequence[Outcome]]) -> OnSplit:
    numbers = {name: number for number, name in enumerate(reference.classes)}
    predicted, losses = [], []
    for outcomes in of_sets:
        places = [places_in(outcome, reference) for outcome in outcomes]
        ordered = list(zip(outcomes, places, strict=True))
        predicted.append(np.array([[numbers[o.predicted[i]] for i in order] for o, order in ordered]))
        losses.append(np.stack([outcome.losses[order] for outcome, order in ordered]))
    groups = number_groups(reference.files, dict(zip(reference.files, reference.groups, strict=True)))
    return OnSplit(
        reference=reference,
        actual=np.array([numbers[name] for name in reference.actual]),
        groups=np.arange(len(reference.files)) if groups is None else groups,
        predicted=predicted,
        losses=losses,
    )


def _models(sets: Sequence[RunSet], on: OnSplit) -> list[Candidate]:
    """Judge each set's single model."""
    alone = [Predictions(predicted[0], losses[0]) for predicted, losses in zip(on.predicted, on.losses, strict=True)]
    found = [compare_models(on.actual, alone[0], model, on.groups) for model in alone[1:]]
    judged = model_verdicts([(one.p_value, one.only_b_right - one.only_a_right) for one in found])
    return [
        _candidate(sets, [on], number, verdict, models=models)
        for number, (models, verdict) in enumerate(zip(found, judged, strict=True), start=1)
    ]


def _recipes(sets: Sequence[RunSet], tested: Sequence[OnSplit], metric: str, margin: float | None) -> list[Candidate]:
    """Judge each set's recipe."""
    estimates = [{name: _estimate(tested, number, name, sets) for name in METRICS} for number in range(1, len(sets))]
    judged = verdicts([of[metric] for of in estimates], margin=margin, higher_is_better=METRICS[metric])
    return [
        _candidate(
            sets,
            tested,
            number,
            verdict,
            estimates=of,
            settled_by=_settled_by(of[metric], verdict, margin, candidates=len(estimates)),
        )
        for number, (of, verdict) in enumerate(zip(estimates, judged, strict=True), start=1)
    ]


def _estimate(
    tested: Sequence[OnSplit], number: int, metric: str, sets: Sequence[RunSet]
) -> CrossedEstimate | ResampledEstimate:
    if len(tested) == 1:
        (on,) = tested
        strata = strata_of(on.actual) if metric == "balanced_accuracy" else np.zeros_like(on.actual)
        return crossed(on.scores(0, metric), on.scores(number, metric), on.weights(metric), strata, on.groups)
    a, b = ([float(on.metric(which, metric).mean()) for on in tested] for which in (0, number))
    shares = [len(on.actual) / on.reference.trained_on for on in tested]
    return resampled(a, b, tested_to_trained=float(np.mean(shares)))


def _settled_by(
    estimate: CrossedEstimate | ResampledEstimate, verdict: Verdict, margin: float | None, *, candidates: int
) -> Needed | None:
    """Return what would show the difference, or that it is within the margin, where the verdict is still out."""
    if verdict.verdict != NOT_YET_KNOWN:
        return None
    if margin is not None and abs(estimate.difference) < margin:
        return needed_for_equivalence(estimate, margin, candidates=candidates)
    return needed(estimate, abs(estimate.difference), candidates=candidates) if estimate.difference else None


def _candidate(
    sets: Sequence[RunSet],
    tested: Sequence[OnSplit],
    number: int,
    verdict: Verdict,
    *,
    estimates: Mapping[str, Estimate] | None = None,
    models: Comparison | None = None,
    settled_by: Needed | None = None,
) -> Candidate:
    base, one = sets[0], sets[number]
    values = (base.recipe, one.recipe) if estimates else (base.runs[0].values, one.runs[0].values)
    return Candidate(
        number=number,
        name=one.name,
        verdict=verdict,
        estimates=dict(estimates or {}),
        models=models,
        needed=settled_by,
        parameters=different(*values),
        changed=_most_telling(image for on in tested for image in _changed(on, number)),
    )


def _changed(on: OnSplit, number: int) -> Iterable[Changed]:
    """Yield the images on which a set is right more or less often than the base."""
    right = [on.predicted[which] == on.actual for which in (0, number)]
    losses = on.losses[number].mean(axis=0) - on.losses[0].mean(axis=0)
    for i in np.flatnonzero(right[0].mean(axis=0) != right[1].mean(axis=0)).tolist():
        said = [_mostly(on.predicted[which][:, i], int(on.actual[i])) for which in (0, number)]
        yield Changed(
            file=on.reference.files[i],
            actual=on.reference.actual[i],
            runs=(len(right[0]), len(right[1])),
            right=(int(right[0][:, i].sum()), int(right[1][:, i].sum())),
            predicted=(on.reference.classes[said[0]], on.reference.classes[said[1]]),
            gained=float(right[1][:, i].mean() - right[0][:, i].mean()),
            loss=float(losses[i]),
        )


def _mostly(predicted: Array, actual: int) -> int:
    """Return the wrong class that was predicted most often, or the true one where there is none."""
    wrong = predicted[predicted != actual]
    return int(np.bincount(wrong).argmax()) if len(wrong) else actual


def _most_telling(images: Iterable[Changed]) -> list[Changed]:
    """Sort by the share of the runs that changed sides, and of equal ones by how far the loss moved."""
    return sorted(images, key=lambda image: (-abs(image.gained), -abs(image.loss)))
