"""Draw the figures, write the report and the model card: ``python -m stages.plot``, from the project's top folder."""

import tomllib
from pathlib import Path

from imgpipe.common import params, stage
from imgpipe.common.files import replacing_folder, write_text
from imgpipe.common.wording import counted
from imgpipe.data.packed import read_split, read_statistics
from imgpipe.plot.params import Plot
from imgpipe.plot.results import read_evaluation, read_preparation, read_training


def plot() -> None:
    """Draw the figures, write the report and the model card.

    Reads metrics/train and metrics/test, what prepare found, the packed test images and params.yaml; writes
    metrics/figures, metrics/report.html and metrics/model_card.md. docs/report.md says what they show.
    """
    section = params.read("plot", Plot)

    # These import matplotlib, which nobody waits for where params.yaml does not fit.
    from imgpipe.plot import class_figures, drawing, figures, galleries, model_card, report

    training = read_training(Path("metrics/train"))
    test = read_evaluation(Path("metrics/test"))
    parameters = {name: values for name, values in params.load(params.PARAMS).items() if name != "runtime"}
    project = tomllib.loads(Path("pyproject.toml").read_text(encoding="utf-8"))["project"]
    versions = report.installed_versions(project["dependencies"])
    packed = read_statistics(Path("data/packed/statistics.json"))
    data = read_preparation(Path("metrics/prepare.json"), Path("data"), form=packed.form, train=parameters["train"])
    images = read_split(Path("data/packed/test"), packed.form)
    shown = {
        "telling": galleries.telling(test.predictions, test.heatmaps),
        "mistakes": galleries.confident_mistakes(test.predictions)[: section.mistakes],
        "examples": galleries.choose_examples(test.predictions, packed.classes, section.examples),
    }
    loaded = {
        name: galleries.load_examples(rows, images, parameters["model"], test.heatmaps) for name, rows in shown.items()
    }
    threshold, target = test.metrics["threshold"], float(parameters["evaluate"]["target_precision"])

    with drawing.house_style(), replacing_folder(Path("metrics/figures")) as folder:
        drawn = {
            "curves": figures.training_curves(training.history, best=training.best),
            "confusion": class_figures.confusion_matrix(test.predictions, packed.classes),
            "classes": class_figures.class_scores(test.classes),
            "balance": class_figures.class_balance(data.classes),
            "roc": figures.roc(test.roc),
            "precision_recall": figures.precision_recall(test.precision_recall),
            "reliability": figures.reliability(test.reliability),
            "thresholds": figures.threshold_curves(test.thresholds, threshold=threshold, target=target),
            "predictions": galleries.gallery(loaded["examples"], "No test images"),
            "mistakes": galleries.gallery(loaded["mistakes"], f"No mistakes among {counted(len(images), 'image')}"),
        }
        drawing.save_all(drawn, folder, ending=section.format, dpi=section.dpi)
        on_page = {name: drawing.for_a_page(drawn[name], name) for name in report.FIGURES}

    page = report.render(
        evaluation=test,
        preparation=data,
        drawn=on_page,
        training=training,
        pictures=report.Pictures(**loaded),
        parameters=parameters,
        versions=versions,
    )
    write_text(Path("metrics/report.html"), page)
    card = model_card.render_card(
        evaluation=test, preparation=data, packed=packed, parameters=parameters, versions=versions
    )
    write_text(Path("metrics/model_card.md"), card)


if __name__ == "__main__":
    stage.run(plot)
