"""Find what there is to see in the results, and say it in a sentence beside the report's figures and tables."""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import count

from imgpipe.common.wording import counted
from imgpipe.plot.results import Evaluation, Preparation, Row, Training

MOST_IN_MATRIX = 12
"""Classes in the report's confusion matrix, as many as a phone has room for."""


@dataclass(frozen=True)
class Confusions:
    """A confusion matrix, or the part of a large one that holds most mistakes."""

    classes: list[str]
    """In its rows and columns."""

    counts: list[list[int]]
    """Images by actual class (rows) and predicted class (columns); of a part, the last column is all others."""

    images: list[int]
    """Of each row's class."""

    whole: bool
    """Whether it has all classes."""


def confusions(predictions: Iterable[Row]) -> list[tuple[tuple[str, str], int]]:
    """Return how often one class was taken for another, actual and predicted class, the most frequent first.

    predictions: rows of predictions.csv.
    """
    answers = ((row["actual"], row["predicted"]) for row in predictions)
    counts = Counter((actual, predicted) for actual, predicted in answers if actual != predicted)
    return sorted(counts.items(), key=lambda pair: (-pair[1], pair[0]))


def confusion_matrix(predictions: Sequence[Row], classes: Sequence[str]) -> Confusions:
    """Count the images by actual and predicted class; of many classes for those that are confused most often.

    predictions: rows of predictions.csv.
    classes: all names, in their order.
    """
    whole = len(classes) <= MOST_IN_MATRIX
    shown = list(classes) if whole else _most_confused(predictions, classes)
    pairs = Counter((row["actual"], row["predicted"]) for row in predictions)
    support = Counter(row["actual"] for row in predictions)
    counts = [[pairs[actual, predicted] for predicted in shown] for actual in shown]
    if not whole:
        counts = [[*row, support[name] - sum(row)] for name, row in zip(shown, counts, strict=True)]
    return Confusions(shown, counts, [support[name] for name in shown], whole)


def _most_confused(predictions: Sequence[Row], classes: Sequence[str]) -> list[str]:
    """Return the classes of the most frequent confusions, as many as a matrix shows, in their order."""
    chosen: dict[str, None] = {}
    for pair, _ in confusions(predictions):
        if len(chosen.keys() | set(pair)) <= MOST_IN_MATRIX:
            chosen |= dict.fromkeys(pair)
    return [name for name in classes if name in chosen] or list(classes)[:MOST_IN_MATRIX]


def percent(share: float) -> str:
    """Return a share as text with so many decimals, or as many as it takes to show that it is not all.

    >>> [percent(share).replace("\\xa0", " ") for share in (0.98765, 0.5, 1.0, 0.99991)]
    ['98.8 %', '50 %', '100 %', '99.99 %']
    """
    texts = (f"{100 * share:.{decimals}f}" for decimals in count(1))
    shown = next(text for text in texts if share == 1 or float(text) < 100)
    return shown.removesuffix(".0") + "\N{NO-BREAK SPACE}%"


def named(label: str) -> str:
    """Return a class's name within quotes and apart from the text around it, which may run the other way."""
    return f"“\N{FIRST STRONG ISOLATE}{label}\N{POP DIRECTIONAL ISOLATE}”"


@dataclass(frozen=True)
class Guess:
    """What always answering one class would give."""

    label: str
    """The class that is the most frequent in training."""

    accuracy: float
    """Its share of the test images."""


def majority_guess(preparation: Preparation, test: Evaluation) -> Guess:
    """Return what whoever knows only the number of training images of each class would guess."""
    counts = preparation.classes
    label = max(counts, key=lambda name: counts[name]["train"])
    return Guess(label, sum(row["actual"] == label for row in test.predictions) / len(test.predictions))


@dataclass(frozen=True)
class Hardest:
    """The class of which the smallest share is recognised."""

    label: str
    images: int
    recognised: int

    taken_for: str
    """The class that it is taken for most often; nothing where every image is recognised."""

    times: int
    """How often."""


def hardest_class(predictions: Iterable[Row]) -> Hardest:
    """Return the class of lowest recall; of equal ones that with the most images."""
    answers: dict[str, Counter[str]] = {}
    for row in predictions:
        answers.setdefault(row["actual"], Counter())[row["predicted"]] += 1
    label = min(answers, key=lambda name: (answers[name][name] / answers[name].total(), -answers[name].total(), name))
    given = answers[label]
    wrong = sorted((-times, name) for name, times in given.items() if name != label)
    times, taken_for = wrong[0] if wrong else (0, "")
    return Hardest(label, given.total(), given[label], taken_for, -times)


def on_guess(guess: Guess, low: float | None) -> str:
    """Say what the accuracy is to be compared with.

    low: the lower end of the accuracy's interval; None where there is none.
    """
    said = f"Always answering {named(guess.label)}, the most frequent class in training, would give"
    shown = low is None or low > guess.accuracy
    return f"{said} {percent(guess.accuracy)}{'.' if shown else ': that the network does better is not shown.'}"


def on_hardest(hardest: Hardest) -> str:
    """Say which class is recognised the least, and what it is taken for."""
    if not hardest.taken_for:
        return "Every image of every class is recognised."
    times = "all" if hardest.times == hardest.images else str(hardest.times)
    return (
        f"Hardest is {named(hardest.label)}: {hardest.recognised} of {hardest.images} recognised, {times} taken for "
        f"{named(hardest.taken_for)}."
    )


def on_classes(predictions: Sequence[Row]) -> str:
    """Say how many classes are recognised whole, and which class's name is given wrongly most often."""
    support, guessed = (Counter(row[key] for row in predictions) for key in ("actual", "predicted"))
    right = Counter(row["actual"] for row in predictions if row["actual"] == row["predicted"])
    whole = sum(right[name] == images for name, images in support.items())
    if whole == len(support):
        return f"All {whole} classes are recognised without a mistake."
    said = f"{whole or 'None'} of {len(support)} classes {'is' if whole == 1 else 'are'} recognised without a mistake."
    wrongly = {name: images - right[name] for name, images in guessed.items()}
    worst = max(sorted(wrongly), key=lambda name: (wrongly[name] / guessed[name], wrongly[name]))
    return f"{said} The answer {named(worst)} is wrong most often, in {wrongly[worst]} of {guessed[worst]}."


def on_confusions(pairs: Sequence[tuple[tuple[str, str], int]], matrix: Confusions) -> str:
    """Say which class is taken for which most often.

    pairs: see ``confusions``.
    matrix: what is shown.
    """
    if not pairs:
        return "No class is taken for another."
    (actual, predicted), times = pairs[0]
    images = dict(zip(matrix.classes, matrix.images, strict=True))[actual]
    said = f"{named(actual)} is taken for {named(predicted)} most often: {times} of its {counted(images, 'image')}."
    back = dict(pairs).get((predicted, actual), 0)
    return f"{said} The other way round it is {back}." if back else f"{said} It never happens the other way round."


def on_training(training: Training, tested: str) -> str:
    """Say how the training went: which epoch was the best, and what came after it.

    tested: which weights, best or last.
    """
    history, best = training.history, training.best
    chosen, last = history[best - 1], history[-1]
    right = percent(float(chosen["val_accuracy"]))
    said = (
        f"Epoch {best} of {len(history)} did best on the validation split, with {right} right; the {tested} was tested."
    )
    if best == len(history):
        return f"{said} It is the last: more epochs may do better."
    before, after = float(chosen["val_loss"]), float(last["val_loss"])
    later = f"rose from {before:.3f} to {after:.3f}" if after > 1.1 * before else "did not rise by a tenth"
    return f"{said} After it the validation loss {later}."


def on_curves(areas: Mapping[str, float], what: str) -> str:
    """Say which class's curve is the worst, and of how many the area is as good as full.

    areas: under the curve, by class.
    what: the area's name.
    """
    full = sum(area >= 0.9995 for area in areas.values())
    if full == len(areas):
        return f"Of every class the {what} is 1.000 when rounded."
    worst = min(areas, key=lambda name: areas[name])
    rest = f" For {full} of {len(areas)} classes it is 1.000 when rounded." if full else ""
    return f"The lowest {what}, {areas[worst]:.3f}, is that of {named(worst)}.{rest}"


def on_confidence(metrics: Mapping[str, float | None], predictions: Sequence[Row]) -> str:
    """Say whether the confidence can be believed, and which way it errs.

    metrics: of metrics.json.
    predictions: rows of predictions.csv.
    """
    error, most, accuracy = (_known(metrics, name) for name in ("ece", "ece_null_q95", "accuracy"))
    if error <= most:
        return "It is as sure as it is right, as far as these images can tell."
    mean = sum(float(row["confidence"]) for row in predictions) / len(predictions)
    way = "surer than" if mean > accuracy else "less sure than"
    return f"It is {way} it is right: {percent(mean)} sure on average, and {percent(accuracy)} right."


def on_calibration(metrics: Mapping[str, float | None]) -> str:
    """Say how far confidence and accuracy are apart, and how much of that is chance.

    metrics: of metrics.json.
    """
    error, chance, most = (100 * _known(metrics, name) for name in ("ece", "ece_null_mean", "ece_null_q95"))
    return (
        f"They are {error:.1f} points apart on average. A perfectly calibrated model would show {chance:.1f} on these "
        f"images by chance, and more than {most:.1f} in 5 of 100 tests."
    )


def _known(metrics: Mapping[str, float | None], name: str) -> float:
    value = metrics[name]
    assert value is not None
    return value


def telling_pairs(duplicates: Iterable[Row]) -> list[Row]:
    """Return the pairs of images alike that tell of something wrong: of two classes, or both kept in two splits.

    duplicates: rows of data/duplicates.csv.
    """
    return [
        row
        for row in duplicates
        if row["label"] != row["twin_label"] or (row["dropped"] != "True" and row["split"] != row["twin_split"])
    ]


def on_duplicates(duplicates: Sequence[Row], telling: int) -> str:
    """Say how many images are alike and what became of them.

    telling: how many ``telling_pairs`` there are.
    """
    if not duplicates:
        return "No two images are alike."
    near = sum(row["kind"] == "near" for row in duplicates)
    dropped = sum(row["dropped"] == "True" for row in duplicates)
    counts = ((len(duplicates) - near, "equal"), (near, "much alike"), (dropped, "dropped"))
    said = f"Pairs of images: {', '.join(f'{number:,} {what}' for number, what in counts if number)}."
    return said if telling else f"{said} None is of two classes or was left in two splits."
