"""The report, in a real browser."""

import json
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path

import pytest
from browser import MISSING, Browser, chromium
from outcome import Outcome, outcome, plotted

from imgpipe.common.files import write_table
from imgpipe.plot import report
from stages.plot import plot

NAMES = [
    "<b>&\"'",
    "a name that goes on and on_and_on_without_a_single_space_in_it_as_some_do",
    "漢字",
    "10",
    "9",
    "none",
]
ENTER = "\ue007"


def page(folder: Path, test: Outcome, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Run the plot stage on the test, with the project's own parameters, and return the page."""
    plotted(folder, test, monkeypatch)
    return folder / "metrics/report.html"


@pytest.fixture(scope="module")
def odd(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Make a report about names that are hard to show, images that are not square, and a class without images."""
    test = outcome(NAMES, 150, skill=2, absent=[5], shape=(20, 30, 3))
    with pytest.MonkeyPatch.context() as patch:
        return page(tmp_path_factory.mktemp("odd"), test, patch)


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    if MISSING:
        pytest.skip(f"no {' and no '.join(MISSING)}: apt-get install chromium chromium-driver")
    with chromium() as opened:
        yield opened


def first_cells(browser: Browser) -> list[str]:
    """Return the classes in the order of their table."""
    rows = "return [...document.querySelectorAll('table.sortable tbody th')].map(cell => cell.textContent)"
    return list(browser.run(rows))


@pytest.mark.parametrize("dark", [False, True])
def test_it_opens_without_a_complaint_and_asks_for_nothing_but_itself(browser: Browser, odd: Path, dark: bool) -> None:
    browser.complaints(), browser.requests()
    browser.open(odd, width=1280, dark=dark)
    assert browser.run("return document.querySelector('h1').textContent") == "Test of simple_cnn"
    assert (
        browser.run("return [...document.images].filter(image => !image.complete || !image.naturalWidth).length") == 0
    )
    assert browser.complaints() == []
    assert browser.requests() == [odd.as_uri()]
    luminance = int(browser.run("return getComputedStyle(document.body).backgroundColor").split("(")[1].split(",")[0])
    assert (luminance < 128) == dark


@pytest.mark.parametrize("width", [360, 1280])
def test_the_page_is_as_wide_as_the_window_and_no_text_of_it_is_cut(browser: Browser, odd: Path, width: int) -> None:
    browser.open(odd, width=width)
    browser.run("document.querySelectorAll('details').forEach(part => part.open = true)")
    assert browser.run("return document.documentElement.scrollWidth") == width
    beyond = """
        return [...document.querySelectorAll("body *")]
            .filter(part => !part.closest(".scroll") && part.getBoundingClientRect().right > innerWidth + 0.5)
            .map(part => part.outerHTML.slice(0, 100))
    """
    assert browser.run(beyond) == []


def test_text_on_a_phone_is_no_smaller_than_12_pixels_and_that_of_figures_no_smaller_than_5(
    browser: Browser, odd: Path
) -> None:
    """The smallest letters of a figure have 6 points, 8 pixels; it may be shown at no less than 0.6 of its size."""
    browser.open(odd, width=360)
    sizes = "return [...document.querySelectorAll('body *')].map(part => getComputedStyle(part).fontSize)"
    assert min(float(size.removesuffix("px")) for size in browser.run(sizes)) >= 12
    scale = "return Math.min(...[...document.querySelectorAll('figure img')].map(i => i.width / i.naturalWidth))"
    assert browser.run(scale) >= 0.6


def test_every_image_has_a_name_and_headings_have_no_gaps(browser: Browser, odd: Path) -> None:
    browser.open(odd, width=1280)
    tree = browser.devtools("Accessibility.getFullAXTree")["nodes"]
    images = [node for node in tree if node.get("role", {}).get("value") in ("image", "img")]
    named = [node["name"]["value"] for node in images if not node["ignored"]]
    assert len(named) == browser.run("return document.images.length") > 30
    assert all(named)
    assert {"Confusion matrix", f"{NAMES[0]}, recognised"} <= set(named)
    levels = browser.run("return [...document.querySelectorAll('h1, h2, h3')].map(head => +head.tagName[1])")
    assert levels[0] == 1
    assert levels.count(1) == 1
    assert all(after <= before + 1 for before, after in pairwise(levels))


def test_a_click_sorts_the_classes_and_another_turns_them_round(browser: Browser, odd: Path) -> None:
    browser.open(odd, width=1280)
    assert first_cells(browser) == NAMES
    browser.click("table.sortable th:nth-child(1) button")
    up = first_cells(browser)
    assert sorted(up) == sorted(NAMES)
    assert up.index("9") < up.index("10")
    assert browser.run("return document.querySelector('table.sortable th').getAttribute('aria-sort')") == "ascending"
    browser.click("table.sortable th:nth-child(1) button")
    assert first_cells(browser) == up[::-1]


def test_the_keyboard_sorts_too_and_undefined_scores_stay_last(browser: Browser, odd: Path) -> None:
    recalls = """
        return [...document.querySelectorAll("table.sortable tbody tr")].map(row => row.cells[4].textContent)
    """
    browser.open(odd, width=1280)
    for turn in (1, -1):
        browser.press("table.sortable th:nth-child(5) button", ENTER)
        *defined, last = browser.run(recalls)
        assert last == "–"
        assert defined == sorted(defined, key=lambda value: turn * float(value))
        assert len(set(defined)) > 1


def test_names_are_text_whatever_they_hold(browser: Browser, odd: Path) -> None:
    browser.open(odd, width=1280)
    assert browser.run("return document.querySelectorAll('b, i').length") == 0
    text = browser.run("return document.body.textContent")
    assert f"test/{NAMES[0]}/00000.png" in text
    assert "<i>0</i>.jpg" in text
    assert "And 10 more in data/rejected.csv." in text


def test_it_has_every_parameter_but_runtime_and_the_version_of_every_dependency(odd: Path) -> None:
    text = odd.read_text(encoding="utf-8")
    assert "<td>0.0005</td>" in text
    assert "optimizer.sgd.weight_decay</th><td>" in text
    assert "log_every" not in text
    versions = report.installed_versions(
        ["numpy>=2.0,<3", "ruamel.yaml.clib>=0.2", "torch[extra] ; python_version > '3'"]
    )
    import numpy as np

    assert versions["numpy"] == np.__version__
    assert "+" not in versions["torch"]
    assert f'<th scope="row">numpy</th><td>{np.__version__}</td>' in text


def test_a_copy_dropped_before_the_cut_has_no_split(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    text = page(tmp_path, outcome(["yes", "no"], 40, skill=40), monkeypatch).read_text(encoding="utf-8")
    assert "<td>before the cut, <bdi>a</bdi></td>" in text


def test_a_test_without_mistakes_says_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    text = page(tmp_path, outcome(["yes", "no"], 40, skill=40), monkeypatch).read_text(encoding="utf-8")
    assert "None among 40 test pictures." in text
    assert "Most confident mistakes" not in text


def test_two_equal_runs_write_equal_pages_and_a_hundred_classes_stay_small(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    test = outcome([f"class {i}" for i in range(100)], 1000, skill=2, shape=(200, 260, 3))
    one, two = (page(tmp_path / name, test, monkeypatch) for name in ("one", "two"))
    assert one.read_bytes() == two.read_bytes()
    assert str(tmp_path) not in one.read_text(encoding="utf-8")
    assert one.stat().st_size < 3_000_000


def test_a_metric_without_a_value_is_none_and_one_without_an_interval_has_none(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = page(tmp_path, outcome(["yes", "no"], 40, skill=2), monkeypatch)
    metrics = json.loads((tmp_path / "metrics/test/metrics.json").read_text(encoding="utf-8"))
    (tmp_path / "metrics/test/metrics.json").write_text(json.dumps(metrics | {"threshold": None}), encoding="utf-8")
    text = file.read_text(encoding="utf-8")
    assert f'<p class="quiet">{report.about_threshold(metrics, 0.95)}</p>' in text
    assert "would show 0.0180 on these images by chance, and more than 0.0270 in 5 of 100 tests." in text
    assert all(report.MEANINGS[number.name] for number in report.numbers_of(metrics))
    plot()
    rows = [line for line in file.read_text(encoding="utf-8").splitlines() if '<th scope="row">threshold</th>' in line]
    assert rows[0].startswith('<tr><th scope="row">threshold</th><td>none</td><td></td>')


def test_png_figures_are_in_the_report_too_and_a_name_they_cannot_show_is_a_warning(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    file = page(tmp_path, outcome(["漢", "a"], 40, skill=2), monkeypatch)
    assert caplog.messages == []
    params = tmp_path / "params.yaml"
    params.write_text(params.read_text(encoding="utf-8").replace("format: svg", "format: png"), encoding="utf-8")
    plot()
    assert file.read_text(encoding="utf-8").count('src="data:image/png;base64,') > 8
    assert {path.suffix for path in (tmp_path / "metrics/figures").iterdir()} == {".png"}
    assert caplog.messages == ["png figures have boxes for letters like 漢; plot.format svg shows them"]


def remarks_in(file: Path) -> str:
    """Return the page's list of what to know about the images, as HTML; empty where it has none."""
    _, _, after = file.read_text(encoding="utf-8").partition("<h3>What to know about the images</h3>")
    return after.partition("</ul>")[0]


def test_what_to_know_about_the_images_is_a_list(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Two classes with 20 images each in val and in test and 5 x 20 + 3 in train: 206 - 128 = 78 fill no batch."""
    file = page(tmp_path, outcome(["<b>", "no"], 40, skill=2, shape=(20, 30, 3)), monkeypatch)
    copy = {"kind": "equal", "source": "a.png", "split": "", "label": "no", "correlation": 1.0, "dropped": False}
    copy |= {"twin": "<i>.png", "twin_split": "val", "twin_label": "<b>"}
    write_table(tmp_path / "data/duplicates.csv", list(copy), [copy] * 6)
    sizes = [{"file": f"{i}.png", "width": 30, "height": height} for i, height in enumerate([19, 20, 20])]
    write_table(tmp_path / "data/images.csv", list(sizes[0]), sizes)
    plot()
    listed = remarks_in(file)
    assert listed.count("<li>") == 5
    assert "<li>val has 40 images (test 40): its accuracy is known to about 15 points either way; raise" in listed
    assert "<li>test has 40 images (val 40): " in listed
    assert "<li>one image occurs 7 times, such as &#39;&lt;i&gt;.png&#39;, under 2 classes: a placeholder? " in listed
    assert "<li>1 of 3 images is smaller than pack.image_size of 20 pixels (short sides from 19) and is en" in listed
    assert "<li>each epoch leaves out the last 78 of its 206 images, 38 %, others each time" in listed
    assert "Each epoch trains on 128 of the 206 training images, others each time: the rest" in file.read_text(
        encoding="utf-8"
    )


def test_images_of_which_there_is_nothing_to_know_have_no_such_list(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """240 images in val and test; 2 x (5 x 120 + 3) = 1,206 in train, of which 9 x 128 = 1,152 are shown: 4 % lost."""
    file = page(tmp_path, outcome(["yes", "no"], 240, skill=2), monkeypatch)
    text = file.read_text(encoding="utf-8")
    assert "What to know about the images" not in text
    assert "Each epoch trains on 1,152 of the 1,206 training images, others each time" in text
    parameters = tmp_path / "params.yaml"
    kept = parameters.read_text(encoding="utf-8").replace("last_batch: drop", "last_batch: keep")
    parameters.write_text(kept, encoding="utf-8")
    plot()
    assert "Each epoch trains on" not in file.read_text(encoding="utf-8")
