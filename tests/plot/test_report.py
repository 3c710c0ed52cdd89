"""The report, in a real browser."""

import json
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
from browser import MISSING, Browser, chromium
from outcome import Outcome, outcome, plotted, ready_to_plot

from imgpipe.common.files import read_table, write_table
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
AA, AA_LARGE = 4.5, 3.0
"""Contrasts of text that WCAG 2.2 asks for at level AA (1.4.3): large text has 24 pixels, or 18.66 and is bold."""

CONTRASTS = """
const rgba = text => { const [r, g, b, a = 1] = text.match(/[\\d.]+/g).map(Number); return [r, g, b, a]; };
const over = (above, below) => [0, 1, 2].map(i => above[3] * above[i] + (1 - above[3]) * below[i]).concat(1);
const luminance = colour => {
  const linear = v => v <= 0.04045 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4;
  const [r, g, b] = colour.slice(0, 3).map(v => linear(v / 255));
  return 0.2126 * r + 0.7152 * g + 0.0722 * b;
};
const behind = part => {
  const layers = [];
  for (let up = part; up; up = up.parentElement) layers.push(rgba(getComputedStyle(up).backgroundColor));
  return layers.reverse().reduce((below, above) => over(above, below), [255, 255, 255, 1]);
};
const found = [], walker = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
while (walker.nextNode()) {
  const part = walker.currentNode.parentElement, style = getComputedStyle(part);
  if (!walker.currentNode.data.trim() || !part.getClientRects().length || part.tagName === "SCRIPT") continue;
  const ground = behind(part), ink = part instanceof SVGElement ? style.fill : style.color;
  const [one, two] = [luminance(over(rgba(ink), ground)), luminance(ground)].sort((a, b) => b - a);
  const size = parseFloat(style.fontSize), large = size >= 24 || (size >= 18.66 && style.fontWeight >= 700);
  found.push([(one + 0.05) / (two + 0.05), large, walker.currentNode.data.trim().slice(0, 40)]);
}
return found;
"""
CUT = """
return [...document.querySelectorAll("body *:not(svg, svg *, script)")]
    .filter(part => part.getClientRects().length && part.textContent.trim())
    .filter(part => part.scrollWidth > part.clientWidth + 1 && getComputedStyle(part).display !== "inline"
        || part.getBoundingClientRect().right > innerWidth + 0.5 || part.getBoundingClientRect().left < -0.5
        || getComputedStyle(part).textOverflow === "ellipsis")
    .map(part => part.outerHTML.slice(0, 100))
"""
CUT_IN_FIGURES = """
return [...document.querySelectorAll(".plot text")].filter(text => {
    const [box, page] = [text.getBoundingClientRect(), text.closest("svg").getBoundingClientRect()];
    return box.left < page.left - 1 || box.right > page.right + 1
        || box.top < page.top - 1 || box.bottom > page.bottom + 1;
}).map(text => text.textContent)
"""


def page(folder: Path, test: Outcome, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Run the plot stage on the test, with the project's own parameters, and return the page."""
    plotted(folder, test, monkeypatch)
    return folder / "metrics/report.html"


def odd_test() -> Outcome:
    return outcome(NAMES, 150, skill=2, absent=[5], shape=(20, 30, 3))


@pytest.fixture(scope="session")
def odd(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Make a report about names that are hard to show, images that are not square, and a class without images."""
    with pytest.MonkeyPatch.context() as patch:
        return page(tmp_path_factory.mktemp("odd"), odd_test(), patch)


@pytest.fixture(scope="session")
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
    assert (
        browser.run("return document.querySelector('h1').innerText")
        == "66\N{NO-BREAK SPACE}%\nof 150 test images are recognised"
    )
    assert (
        browser.run("return [...document.images].filter(image => !image.complete || !image.naturalWidth).length") == 0
    )
    assert browser.complaints() == []
    assert browser.requests() == [odd.as_uri()]
    luminance = int(browser.run("return getComputedStyle(document.body).backgroundColor").split("(")[1].split(",")[0])
    assert (luminance < 128) == dark


@pytest.fixture(scope="session")
def sizes(tmp_path_factory: pytest.TempPathFactory, odd: Path) -> dict[str, Path]:
    """Make reports about few and many classes, of images large and small."""
    tests = {
        "2": outcome(["negative", "positive"], 60, skill=2, shape=(60, 80, 3)),
        "10": outcome([*"0123456789"], 100, skill=3),
        "100": outcome([f"class {i}" for i in range(100)], 1000, skill=2, shape=(200, 260, 3)),
    }
    with pytest.MonkeyPatch.context() as patch:
        made = {name: page(tmp_path_factory.mktemp(name), test, patch) for name, test in tests.items()}
    return made | {"odd": odd}


@pytest.mark.parametrize("width", [390, 768, 1280])
@pytest.mark.parametrize("classes", ["2", "10", "100", "odd"])
def test_the_page_is_as_wide_as_the_window_and_no_text_of_it_is_cut(
    browser: Browser, sizes: dict[str, Path], classes: str, width: int
) -> None:
    browser.open(sizes[classes], width=width)
    browser.run("document.querySelectorAll('details').forEach(part => part.open = true)")
    assert browser.run("return document.documentElement.scrollWidth") == width
    assert browser.run(CUT) == []
    assert browser.run(CUT_IN_FIGURES) == []


@pytest.mark.parametrize("dark", [False, True])
@pytest.mark.parametrize("classes", ["2", "10", "100", "odd"])
def test_every_text_stands_out_from_what_is_behind_it_in_figures_too(
    browser: Browser, sizes: dict[str, Path], classes: str, dark: bool
) -> None:
    browser.open(sizes[classes], width=1280, dark=dark)
    browser.run("document.querySelectorAll('details').forEach(part => part.open = true)")
    found = browser.run(CONTRASTS)
    assert [(round(ratio, 2), text) for ratio, large, text in found if ratio < (AA_LARGE if large else AA)] == []
    assert {"Three telling mistakes", "confidence", "taken for"} <= {text for _, _, text in found}


@pytest.mark.parametrize("width", [390, 768])
def test_text_is_no_smaller_than_12_pixels_and_that_of_figures_no_smaller_than_9(
    browser: Browser, odd: Path, width: int
) -> None:
    browser.open(odd, width=width)
    sizes = (
        "return [...document.querySelectorAll('body *:not(svg, svg *)')].map(part => getComputedStyle(part).fontSize)"
    )
    assert min(float(size.removesuffix("px")) for size in browser.run(sizes)) >= 12
    shown = """
        return [...document.querySelectorAll(".plot text")].map(text => {
            const figure = text.closest("svg");
            return parseFloat(getComputedStyle(text).fontSize) * figure.clientWidth / figure.viewBox.baseVal.width;
        })
    """
    assert min(browser.run(shown)) >= 9


def test_the_first_screen_says_what_the_result_is_and_shows_three_mistakes(
    browser: Browser, sizes: dict[str, Path]
) -> None:
    browser.open(sizes["10"], width=1280, height=800)
    bottoms = """
        return [...document.querySelectorAll("h1, .said p, .telling p, .others")].map(
            part => part.getBoundingClientRect().bottom)
    """
    assert max(browser.run(bottoms)) < 800
    assert browser.run("return document.querySelectorAll('.telling li').length") == 3


def test_images_are_squares_as_the_network_saw_them_beside_their_heatmaps(browser: Browser, odd: Path) -> None:
    """Packed are 20 x 30 pixels; the network sees 16 x 16, and a heatmap is drawn over 128 x 128."""
    browser.open(odd, width=1280)
    shapes = browser.run("return [...document.images].map(i => [i.naturalWidth, i.naturalHeight, i.width - i.height])")
    assert {tuple(shape) for shape in shapes} == {(16, 16, 0), (128, 128, 0)}
    assert browser.run("return document.querySelectorAll('.pair.two').length") == 24


def test_a_network_without_heatmaps_says_so(odd: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    ready_to_plot(tmp_path, outcome(["yes", "no"], 40, skill=1), monkeypatch)
    write_table(tmp_path / "metrics/test/heatmaps/index.csv", ["file"], [])
    np.save(tmp_path / "metrics/test/heatmaps/maps.npy", np.empty((0, 0, 0), np.uint8))
    plot()
    text = (tmp_path / "metrics/report.html").read_text(encoding="utf-8")
    assert "There are no heatmaps" not in odd.read_text(encoding="utf-8")
    assert "There are no heatmaps: this network has no map of places at its end" in text
    assert "where the network saw" not in text


def test_print_is_dark_on_light_and_has_what_is_folded_on_the_screen(browser: Browser, odd: Path) -> None:
    browser.open(odd, width=800, dark=True)
    dark = {"name": "prefers-color-scheme", "value": "dark"}
    browser.devtools("Emulation.setEmulatedMedia", media="print", features=[dark])
    try:
        assert browser.run("return getComputedStyle(document.body).backgroundColor") == "rgb(255, 255, 255)"
        assert browser.run("return getComputedStyle(document.body).color") == "rgb(27, 27, 26)"
        shown = "return [...document.querySelectorAll('details > *')].every(part => part.checkVisibility())"
        assert browser.run(shown)
        assert browser.run("return document.querySelector('.long').scrollHeight") == browser.run(
            "return document.querySelector('.long').clientHeight"
        )
    finally:
        browser.devtools("Emulation.setEmulatedMedia", media="")


def test_every_image_has_a_name_and_headings_have_no_gaps(browser: Browser, odd: Path) -> None:
    browser.open(odd, width=1280)
    browser.run("document.querySelectorAll('details').forEach(part => part.open = true)")
    tree = browser.devtools("Accessibility.getFullAXTree")["nodes"]
    images = [node for node in tree if node.get("role", {}).get("value") in ("image", "img")]
    named = [node["name"]["value"] for node in images if not node["ignored"]]
    assert len(named) == browser.run("return document.images.length") + len(report.FIGURES) > 30
    assert all(named)
    assert {"ROC", f"{NAMES[0]}, recognised"} <= set(named)
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
        return [...document.querySelectorAll("table.sortable tbody tr")].map(row => row.cells[3].textContent)
    """
    browser.open(odd, width=1280)
    for turn in (1, -1):
        browser.press("table.sortable th:nth-child(4) button", ENTER)
        *defined, last = browser.run(recalls)
        assert last == "–"
        assert defined == sorted(defined, key=lambda value: turn * float(value))
        assert len(set(defined)) > 1


def test_names_are_text_whatever_they_hold(browser: Browser, odd: Path) -> None:
    browser.open(odd, width=1280)
    assert browser.run("return document.querySelectorAll('b, i').length") == 0
    text = browser.run("return document.body.textContent")
    assert f"1 class has no image in val, '{NAMES[5]}'" in text
    assert "most often: 5 of its 30 images" in text
    titles = browser.run("return [...document.querySelectorAll('[title]')].map(part => part.title)")
    assert any(f"test/{NAMES[0]}/" in title for title in titles)
    assert "<i>0</i>.jpg" in text
    assert "And 10 more in data/rejected.csv." in text


def test_it_has_every_parameter_but_runtime_and_the_version_of_every_dependency(odd: Path) -> None:
    text = odd.read_text(encoding="utf-8")
    assert "<td>0.0005</td>" in text
    assert "optimizer.sgd.weight_decay</th><td>" in text
    assert "checkpoint_every" not in text
    versions = report.installed_versions(
        ["numpy>=2.0,<3", "ruamel.yaml.clib>=0.2", "torch[extra] ; python_version > '3'"]
    )
    assert versions["numpy"] == np.__version__
    assert "+" not in versions["torch"]
    assert f'<th scope="row">numpy</th><td>{np.__version__}</td>' in text


def test_only_pairs_of_images_that_tell_of_something_wrong_are_listed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    ready_to_plot(tmp_path, outcome(["yes", "no"], 40, skill=40), monkeypatch)
    rows = read_table(tmp_path / "data/duplicates.csv")
    write_table(tmp_path / "data/duplicates.csv", list(rows[0]), [rows[0], rows[1] | {"label": "<b>"}])
    plot()
    text = (tmp_path / "metrics/report.html").read_text(encoding="utf-8")
    assert "<h3>Images alike in two splits or classes</h3>" in text
    assert '<bdi>c.png</bdi> <span class="quiet">(before the cut, <bdi>&lt;b&gt;</bdi>) equals</span>' in text
    assert text.count("; dropped</span></li>") == 1


def test_a_test_without_mistakes_says_so_and_shows_what_was_least_sure_and_no_pair_where_none_tells_of_something_wrong(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    text = page(tmp_path, outcome(["yes", "no"], 40, skill=40), monkeypatch).read_text(encoding="utf-8")
    assert "None among 40 test images." in text
    assert "Nothing went wrong: the least sure" in text
    assert "taken for</span> <bdi>" not in text
    told = "Pairs of images: 2 equal, 2 dropped."
    assert f"{told} None is of two classes or was left in two splits." in text
    assert "<h3>Images alike in two splits or classes</h3>" not in text


def test_two_equal_runs_write_equal_pages_and_cards_without_the_folder_s_path(
    odd: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    plotted(tmp_path, odd_test(), monkeypatch)
    for name in ("report.html", "model_card.md"):
        written = (tmp_path / "metrics" / name).read_text(encoding="utf-8")
        assert written == odd.with_name(name).read_text(encoding="utf-8")
        assert str(tmp_path) not in written


def test_the_page_of_a_hundred_classes_and_large_images_stays_small(sizes: dict[str, Path]) -> None:
    assert sizes["100"].stat().st_size < 5_000_000


def test_a_metric_without_a_value_is_none_and_one_without_an_interval_has_none(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = page(tmp_path, outcome(["yes", "no"], 40, skill=2), monkeypatch)
    metrics = json.loads((tmp_path / "metrics/test/metrics.json").read_text(encoding="utf-8"))
    (tmp_path / "metrics/test/metrics.json").write_text(json.dumps(metrics | {"threshold": None}), encoding="utf-8")
    text = file.read_text(encoding="utf-8")
    assert f"<p>{report.about_threshold(metrics, 0.95)}</p>".replace(" %", "\N{NO-BREAK SPACE}%") in text
    assert "would show 1.8 on these images by chance, and more than 2.7 in 5 of 100 tests." in text
    assert all(report.MEANINGS[number.name] for number in report.numbers_of(metrics))
    plot()
    rows = [line for line in file.read_text(encoding="utf-8").splitlines() if '<th scope="row">threshold</th>' in line]
    assert rows[0].startswith('<tr><th scope="row">threshold</th><td>none</td><td></td>')


def test_a_name_that_png_figures_cannot_show_is_a_warning_and_the_report_shows_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    file = page(tmp_path, outcome(["漢", "a"], 40, skill=2), monkeypatch)
    assert caplog.messages == []
    params = tmp_path / "params.yaml"
    params.write_text(params.read_text(encoding="utf-8").replace("format: svg", "format: png"), encoding="utf-8")
    plot()
    assert "漢\u200e</text>" in file.read_text(encoding="utf-8")
    assert {path.suffix for path in (tmp_path / "metrics/figures").iterdir()} == {".png"}
    assert caplog.messages == ["png figures have boxes for letters like 漢; plot.format svg shows them"]


def remarks_in(file: Path) -> str:
    """Return the page's list of what to know about the images, as HTML; empty where it has none."""
    _, _, after = file.read_text(encoding="utf-8").partition("<h3>What to know about the images</h3>")
    return after.partition("</ul>")[0]


def test_what_to_know_about_the_images_is_a_list(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Two classes with 20 images each in val and in test and 5 x 20 + 3 in train: 206 - 128 = 78 fill no batch."""
    ready_to_plot(tmp_path, outcome(["<b>", "no"], 40, skill=2, shape=(20, 30, 3)), monkeypatch)
    file = tmp_path / "metrics/report.html"
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
