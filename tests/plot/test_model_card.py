"""The model card: what the hub reads of it, and what a reader of Markdown shows."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from conftest import ROOT
from markdown_it import MarkdownIt
from outcome import Outcome, outcome, plotted, ready_to_plot

from imgpipe.common import params
from imgpipe.common.errors import without_secrets
from imgpipe.common.files import write_table
from imgpipe.plot import findings, model_card, report
from stages.plot import plot

HOSTILE = [
    "a|b",
    "two\nlines\r\n---\nlicense: mit",
    "*loud* _low_ `code` ~~gone~~",
    "<script>alert(1)</script> &lt;",
    "[link](http://example.org) ![image](x.png)",
    "$x$ \\(y\\) \\",
    "- name: {value: [1, 'it''s', \"so\"]} # no",
    "漢字",
]
Parameters = dict[str, dict[str, Any]]


def card(folder: Path, test: Outcome, monkeypatch: pytest.MonkeyPatch) -> str:
    """Run the plot stage on the test, with the project's own parameters, and return the card."""
    plotted(folder, test, monkeypatch)
    return (folder / "metrics/model_card.md").read_text(encoding="utf-8")


def front_of(text: str) -> dict[str, Any]:
    """Return the YAML between the first two lines of three dashes."""
    start, front, _ = text.split("---\n", 2)
    assert start == ""
    return dict(yaml.safe_load(front))


def tables_in(text: str) -> list[list[list[str]]]:
    """Return the tables that a Markdown reader finds below the front matter: rows of cells, as text."""
    tables: list[list[list[str]]] = []
    tokens = MarkdownIt("commonmark").enable("table").parse(text.split("---\n", 2)[2])
    for i, token in enumerate(tokens):
        if token.type == "table_open":
            tables.append([])
        elif token.type == "tr_open":
            tables[-1].append([])
        elif token.type in ("td_open", "th_open"):
            parts = tokens[i + 1].children or []
            assert all(part.type in ("text", "text_special") for part in parts), tokens[i + 1].content
            tables[-1][-1].append("".join(part.content for part in parts))
    return tables


@pytest.fixture(scope="module")
def hostile(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Make a card about names that mean something in Markdown and YAML; the last has no test image."""
    test = outcome(HOSTILE, 140, skill=1.5, absent=[7])
    with pytest.MonkeyPatch.context() as patch:
        folder = tmp_path_factory.mktemp("hostile")
        card(folder, test, patch)
    return folder


def test_the_hub_s_own_reader_finds_the_numbers_of_metrics_json(hostile: Path) -> None:
    hub = pytest.importorskip("huggingface_hub")
    data = hub.ModelCard.load(hostile / "metrics/model_card.md").data
    metrics = json.loads((hostile / "metrics/test/metrics.json").read_text(encoding="utf-8"))
    assert {result.metric_type: result.metric_value for result in data.eval_results} == {
        "accuracy": metrics["accuracy"],
        "balanced_accuracy": metrics["balanced_accuracy"],
        "f1": metrics["f1_macro"],
        "loss": metrics["loss"],
    }
    assert {(result.dataset_name, result.dataset_split, result.task_type) for result in data.eval_results} == {
        ("digits", "test", "image-classification")
    }
    assert (data.library_name, data.pipeline_tag, data.model_name) == ("imgpipe", "image-classification", "simple_cnn")


def test_the_front_matter_says_what_is_known_and_no_more(hostile: Path) -> None:
    front = front_of((hostile / "metrics/model_card.md").read_text(encoding="utf-8"))
    assert list(front) == ["library_name", "pipeline_tag", "tags", "metrics", "model-index"]
    assert front["tags"] == ["image-classification", "imgpipe", "simple_cnn"]
    assert front["metrics"] == ["accuracy", "balanced_accuracy", "f1", "loss"]


def test_a_metric_that_is_undefined_is_left_out() -> None:
    parameters: Parameters = {"model": {"name": "tiny"}, "download": {"source": "digits"}}
    front = model_card.front_matter(parameters, {"accuracy": 0.75, "f1_macro": None})
    assert front["metrics"] == ["accuracy"]
    (result,) = front["model-index"][0]["results"]
    assert result["metrics"] == [{"type": "accuracy", "name": "Accuracy", "value": 0.75}]


def test_names_are_whole_cells_of_the_tables_whatever_they_hold(hostile: Path) -> None:
    """Of each class 5 times as many images as in test, and 3, are in train: 140 / 7 = 20, and 103."""
    tables = tables_in((hostile / "metrics/model_card.md").read_text(encoding="utf-8"))
    assert [table[0] for table in tables] == [
        ["class", "train", "val", "test"],
        ["parameter", "value"],
        ["metric", "value", "95 % interval"],
        ["class", "recall", "test images"],
        ["class", "taken for", "images"],
        ["package", "version"],
    ]
    one_line = [" ".join(name.split()) for name in HOSTILE]
    assert tables[0][1:] == [[name, "103", "20", "20"] for name in one_line[:7]] + [[one_line[7], "3", "0", "0"]]
    assert {name for row in tables[4][1:] for name in row[:2]} <= set(one_line)
    assert {len(row) for table in tables for row in table} == {2, 3, 4}


def test_nothing_of_a_name_is_html_or_yaml(hostile: Path) -> None:
    text = (hostile / "metrics/model_card.md").read_text(encoding="utf-8")
    assert "<" not in text
    assert "license" not in front_of(text)
    assert "\nlicense" not in text


def test_the_worst_classes_and_the_most_frequent_confusions_are_named() -> None:
    rows = [
        {"class": name, "recall": recall, "support": "10"}
        for name, recall in (("a", "0.9"), ("b", "1.0"), ("c", ""), ("d", "0.2"), ("e", "0.9"), ("f", "0.95"))
    ]
    assert [row["class"] for row in model_card.worst_classes(rows)] == ["d", "a", "e"]
    answers = ["a b", "a b", "b a", "c c", "a c", "a c"]
    predictions = [dict(zip(("actual", "predicted"), answer.split(), strict=True)) for answer in answers]
    assert findings.confusions(predictions) == [(("a", "b"), 2), (("a", "c"), 2), (("b", "a"), 1)]


def test_limits_are_facts_with_their_numbers(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Two classes of 9 test images each: 2 x (5 x 9 + 3) = 96 to train on, and 0.98 / sqrt(18) is 23 points."""
    ready_to_plot(tmp_path, outcome(["ant", "bee"], 18, skill=1), monkeypatch)
    pair = {"kind": "near", "source": "a", "split": "train", "label": "ant", "correlation": 1.0, "dropped": False}
    pair |= {"twin": "b", "twin_split": "test", "twin_label": "ant"}
    pairs = [pair, pair, pair | {"dropped": True}, pair | {"kind": "equal"}, pair | {"kind": "equal", "split": "test"}]
    write_table(tmp_path / "data/duplicates.csv", list(pair), pairs)
    plot()
    text = (tmp_path / "metrics/model_card.md").read_text(encoding="utf-8")
    limits = text.partition("## Limits\n")[2].partition("##")[0]
    metrics = json.loads((tmp_path / "metrics/test/metrics.json").read_text(encoding="utf-8"))
    low, high = (f"{metrics[f'accuracy_ci_{end}']:.4f}" for end in ("low", "high"))
    assert f"- On 18 test images the 95 % interval of the accuracy is {low} to {high}.\n" in limits
    assert "- 2 classes have fewer than 10 images in test, such as 'ant': scores of theirs say little" in limits
    assert "- Images much like one in another split, by their thumbnails: 2." in limits
    assert "- Images equal to one in another split, pixel for pixel: 1. They were kept.\n" in limits
    assert "- Test has 18 images (val 18): its accuracy is known to about 23 points either way; raise" in limits
    assert "Copies of other images, pixel for pixel: 2, kept." in text


def test_a_model_without_mistakes_or_a_threshold_says_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    text = card(tmp_path, outcome(["ant", "bee"], 240, skill=40), monkeypatch)
    assert "No test image was taken for another class." in text
    assert "The classes of lowest recall" not in text
    metrics = json.loads((tmp_path / "metrics/test/metrics.json").read_text(encoding="utf-8"))
    undefined = metrics | dict.fromkeys((name for name in metrics if name.startswith("threshold")), None)
    (tmp_path / "metrics/test/metrics.json").write_text(json.dumps(undefined), encoding="utf-8")
    plot()
    text = (tmp_path / "metrics/model_card.md").read_text(encoding="utf-8")
    assert "No threshold of confidence was shown on the validation split to make 95 % of the answers right.\n" in text


def test_the_card_says_what_the_threshold_gives_in_the_test_and_what_groups_there_are(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    text = card(tmp_path, outcome(["ant", "bee"], 240, skill=2), monkeypatch)
    metrics = json.loads((tmp_path / "metrics/test/metrics.json").read_text(encoding="utf-8"))
    shown = report.about_threshold(metrics, 0.95)
    assert shown.startswith(
        "The validation split shows that 95 % of the answers from a confidence of 0.6000 on are right."
    )
    assert shown.endswith(", and 96.0 % (95 % interval 94.0 to 98.0) of these answers are right.")
    assert f"{shown}\n" in text
    assert "A perfectly calibrated model would show 0.0180 by chance, and more than 0.0270 in 5 of 100 tests." in text
    assert "On 240 test images:" in text
    (tmp_path / "metrics/test/metrics.json").write_text(json.dumps(metrics | {"groups": 15}), encoding="utf-8")
    plot()
    text = (tmp_path / "metrics/model_card.md").read_text(encoding="utf-8")
    assert "On 240 test images in 15 groups:" in text
    assert "- On 240 test images in 15 groups the 95 % interval" in text


def test_a_threshold_that_no_test_image_reaches_has_a_coverage_and_no_precision() -> None:
    metrics = {"threshold": 0.9, "threshold_precision": None, "threshold_precision_ci_low": None}
    metrics |= {"threshold_precision_ci_high": None, "threshold_coverage": 0.0, "threshold_coverage_ci_low": 0.0}
    assert report.about_threshold(metrics | {"threshold_coverage_ci_high": 0.1}, 0.9).endswith(
        "Of the test images 0.0 % (95 % interval 0.0 to 10.0) are answered from there on."
    )


def test_source_and_first_weights_are_named_with_their_hashes_and_without_a_password(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    ready_to_plot(tmp_path, outcome(["ant", "bee"], 40, skill=2), monkeypatch)
    written = (tmp_path / "params.yaml").read_text(encoding="utf-8")
    for old, new in (
        ("source: digits ", "source: url "),
        ("url: null ", "url: https://me:secret@example.org/a_b/pets.zip?token=hidden#part "),
        ("sha256: null          #", f"sha256: {'ab' * 32} #"),
        ("weights: none ", "weights: https://me:secret@example.org/first.pt?token=hidden "),
        ("weights_sha256: null ", f"weights_sha256: {'cd' * 32} "),
    ):
        assert old in written, old
        written = written.replace(old, new, 1)
    (tmp_path / "params.yaml").write_text(written, encoding="utf-8")
    plot()
    text = (tmp_path / "metrics/model_card.md").read_text(encoding="utf-8")
    assert not any(word in text for word in ("secret", "hidden", "#part"))
    assert "- Source: an archive from https://example.org/a_b/pets.zip.\n" in text
    assert f"- SHA-256 of the archive: {'ab' * 32}\n" in text
    assert f"It began with the weights https://example.org/first.pt (SHA-256 {'cd' * 32}).\n" in text
    (result,) = front_of(text)["model-index"][0]["results"]
    assert result["dataset"] == {"type": "url", "name": "https://example.org/a_b/pets.zip", "split": "test"}


@pytest.mark.parametrize(
    ("fit", "said"),
    [
        ("pad", "- The network sees the whole image, its long side resized to 16 pixels, with black beside it where"),
        ("squash", "- The network sees the whole image, resized to 16 x 16 pixels whatever its proportions.\n"),
        ("crop", "- The network sees the middle: a square of 100 % of the short side, resized to 16 x 16 pixels.\n"),
    ],
)
def test_how_images_are_fitted_is_said(fit: str, said: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    ready_to_plot(tmp_path, outcome(["ant", "bee"], 40, skill=2), monkeypatch)
    params = tmp_path / "params.yaml"
    params.write_text(params.read_text().replace("fit: crop ", f"fit: {fit} "))
    plot()
    assert said in (tmp_path / "metrics/model_card.md").read_text()


def test_a_package_of_weights_is_named_with_its_version() -> None:
    """numpy stands in for one: only the name and the version are looked at."""
    assert model_card.weights_name("package/numpy") == f"package/numpy {np.__version__}"
    assert model_card.weights_name("package/none-such") == "package/none-such"
    assert model_card.weights_name("DEFAULT") == "DEFAULT"


def test_a_place_that_is_hard_to_write_breaks_no_front_matter(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    ready_to_plot(tmp_path, outcome(["ant", "bee"], 40, skill=2), monkeypatch)
    written = (tmp_path / "params.yaml").read_text(encoding="utf-8").replace("source: digits ", "source: folder ", 1)
    odd = '"it\'s: [\\n---\\nlicense: mit"'
    (tmp_path / "params.yaml").write_text(written.replace("location: data/source", f"location: {odd}", 1), "utf-8")
    plot()
    text = (tmp_path / "metrics/model_card.md").read_text(encoding="utf-8")
    front = front_of(text)
    assert "license" not in front
    assert front["model-index"][0]["results"][0]["dataset"]["name"] == "it's: [ --- license: mit"
    assert "- Source: the folder it's: &#91; --- license: mit.\n" in text


@pytest.mark.parametrize(
    ("address", "shown"),
    [
        ("http://me@example.org:80/x", "http://example.org:80/x"),
        ("https://me:p@ss@example.org/x", "https://example.org/x"),
        ("https://me:pa/ss@example.org/x", "https://..."),
        ("https://me:12/ss@example.org/x", "https://..."),
        ("zip://x::https://me:pass@example.org/x", "zip://..."),
        ("s3://bucket/pets.zip", "s3://bucket/pets.zip"),
        ("https://[", "https://..."),
        ("../pets?.zip", "../pets?.zip"),
    ],
)
def test_an_address_is_shown_without_user_query_and_fragment(address: str, shown: str) -> None:
    assert without_secrets(address) == shown


@pytest.mark.parametrize(
    ("source", "name"),
    [
        ("digits", "digits"),
        ("folder", "images"),
        ("table", "images"),
        ("archive", "images"),
        ("torchvision", "MNIST"),
    ],
)
def test_a_source_is_named_without_the_folders_of_this_machine(source: str, name: str) -> None:
    section = {"source": source, "location": "../images", "url": None, "name": "MNIST"}
    assert model_card.source_name(section) == name


def test_the_recipe_has_what_matters_and_not_what_is_off(hostile: Path) -> None:
    text = (hostile / "metrics/model_card.md").read_text(encoding="utf-8")
    recipe = {row[0]: row[1] for row in tables_in(text)[1]}
    train = params.load(ROOT / "params.yaml")["train"]
    assert recipe["train.seed"] == str(train["seed"])
    assert recipe["train.optimizer.sgd.weight_decay"] == str(train["optimizer"]["sgd"]["weight_decay"])
    assert not {"train.micro_batches", "train.mixup_alpha", "model.freeze", "train.ema_decay"} & set(recipe)
    assert "It began with random weights." in text
