import json
import logging
import tomllib
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

from imgpipe.common import params
from imgpipe.common import stage as command
from imgpipe.common.files import read_table, replacing_folder, write_text
from imgpipe.common.progress import counting
from imgpipe.common.rules import Interval
from imgpipe.data.packed import read_split, read_statistics

TEST = Path("metrics/test")
CURVES = ("precision_recall", "reliability", "roc", "thresholds")


@dataclass(frozen=True)
class Plot:
    """params.yaml: plot."""

    format: Literal["svg", "png"]
    dpi: Annotated[int, Interval(low=30, high=1200)]
    examples: Annotated[int, Interval(low=1, high=1000)]
    mistakes: Annotated[int, Interval(low=1, high=1000)]


def plot() -> None:
    """Draw the figures and write the report.

    Reads the history, the tables in metrics/test, what prepare found, the packed test images and params.yaml; writes
    metrics/figures and metrics/report.html. docs/report.md says what they show.
    """
    section = params.read("plot", Plot)

    from imgpipe.plot import class_figures, drawing, figures, galleries, report

    test = {name: read_table(TEST / f"{name}.csv") for name in ("classes", "predictions")}
    curves = {name: read_table(TEST / "curves" / f"{name}.csv") for name in CURVES}
    metrics = json.loads((TEST / "metrics.json").read_text(encoding="utf-8"))
    prepared = json.loads(Path("metrics/prepare.json").read_text(encoding="utf-8"))
    parameters = {name: values for name, values in params.load(params.PARAMS).items() if name != "runtime"}
    statistics = read_statistics(Path("data/packed/statistics.json"))
    images = read_split(Path("data/packed/test"), statistics.form)
    wrong = galleries.confident_mistakes(test["predictions"])
    chosen = galleries.choose_examples(test["predictions"], statistics.classes, section.examples)
    mistakes = galleries.with_pixels(wrong[: section.mistakes], images)
    examples = galleries.with_pixels(chosen, images)

    with drawing.house_style(), replacing_folder(Path("metrics/figures")) as folder:
        drawn = {
            "curves": figures.training_curves(read_table(Path("metrics/train/history.csv"))),
            "confusion": class_figures.confusion_matrix(test["predictions"], statistics.classes),
            "classes": class_figures.class_scores(test["classes"]),
            "balance": class_figures.class_balance(prepared["classes"]),
            "roc": figures.roc(curves["roc"]),
            "precision_recall": figures.precision_recall(curves["precision_recall"]),
            "reliability": figures.reliability(curves["reliability"]),
            "thresholds": figures.threshold_curves(
                curves["thresholds"],
                threshold=metrics["threshold"],
                target=float(parameters["evaluate"]["target_precision"]),
            ),
            "predictions": galleries.image_grid(examples, "No test images"),
            "mistakes": galleries.image_grid(mistakes, f"No mistakes among {len(images)} images"),
        }
        embedded, foreign = {}, set[str]()
        for name, figure in counting("drawing", drawn.items(), len(drawn)):
            path = folder / f"{name}.{section.format}"
            drawing.save(figure, path, dpi=section.dpi)
            foreign |= set(drawing.foreign_letters(figure) if section.format == "png" else ())
            embedded[name] = report.embedded(path, figure.get_figwidth())
    if foreign:
        logging.warning("png figures have boxes for letters like %s; plot.format svg shows them", min(foreign))
    page = report.render(
        title=f"Test of {parameters['model']['name']}",
        metrics=metrics,
        figures=embedded,
        classes=test["classes"],
        predictions=test["predictions"],
        examples=examples,
        mistakes=mistakes,
        prepared=prepared,
        rejected=read_table(Path("data/rejected.csv")),
        duplicates=read_table(Path("data/duplicates.csv")),
        parameters=parameters,
        versions=report.installed(_requirements()),
    )
    write_text(Path("metrics/report.html"), page)


def _requirements() -> list[str]:
    """The packages that the project needs, as pyproject.toml has them."""
    project = tomllib.loads(Path("pyproject.toml").read_text(encoding="utf-8"))["project"]
    return list(project["dependencies"])


if __name__ == "__main__":
    command.run(plot)
