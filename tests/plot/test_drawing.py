"""What all figures have in common: their style, their letters, and equal files of equal figures."""

import re
import subprocess
import sys
import xml.etree.ElementTree as ET
from pathlib import Path

import matplotlib
import pytest
from conftest import ROOT
from outcome import guesses
from PIL import Image

from imgpipe.plot import class_figures, drawing, figures

pytestmark = pytest.mark.usefixtures("house_style")

CURVES = [
    {"class": c, "false_positive_rate": x, "true_positive_rate": y}
    for c in ("$_$", "_bg")
    for x, y in (("0.0", "0.0"), ("0.0", "0.5"), ("1.0", "1.0"))
]


def test_names_of_classes_are_shown_as_they_are_and_a_user_s_style_is_not_used(tmp_path: Path) -> None:
    sizes = []
    for size in (10, 20):
        with matplotlib.rc_context({"font.size": size}), drawing.house_style():
            figure = figures.roc(CURVES)
            drawing.save(figure, tmp_path / "roc.svg", dpi=80)
        sizes.append((tmp_path / "roc.svg").read_bytes())
    assert sizes[0] == sizes[1]
    names = [text.get_text().split(drawing.LEFT_TO_RIGHT)[1] for text in figure.legends[0].get_texts()]
    assert names == ["$_$", "_bg"]


def test_letters_that_matplotlib_lacks_are_text_in_an_svg(tmp_path: Path) -> None:
    figure = class_figures.confusion_matrix(guesses("漢字 漢字", "a a"), ["漢字", "a"])
    drawing.save(figure, tmp_path / "one.svg", dpi=80)
    assert "漢字" in [element.text for element in ET.parse(tmp_path / "one.svg").iter()]
    assert drawing.foreign_letters(figure) == ["字", "漢"]
    plain = class_figures.confusion_matrix(guesses("кошка кошка"), ["кошка"])
    drawing.save(plain, tmp_path / "two.svg", dpi=80)
    assert not [element for element in ET.parse(tmp_path / "two.svg").iter() if element.tag.endswith("text")]
    assert drawing.foreign_letters(plain) == []


ODD_NAMES = [f"a{chr(code)}b" for code in (*range(32), 0x7F, 0x9B, 0x202E, 0xFFFE, 0x1FFFF)] + ["<&'\"", "]]>", "--"]


def test_figures_are_xml_whatever_classes_are_called(tmp_path: Path) -> None:
    curves = [{**row, "class": name} for name in ODD_NAMES[::3] for row in CURVES[:3]]
    guessed = [{"actual": name, "predicted": name} for name in ODD_NAMES]
    for figure in (figures.roc(curves), class_figures.confusion_matrix(guessed, ODD_NAMES)):
        drawing.save(figure, tmp_path / "odd.svg", dpi=20)
        ET.parse(tmp_path / "odd.svg")
    assert {drawing.short(name, 24).isprintable() for name in ODD_NAMES[:32]} == {True}


@pytest.mark.parametrize("ending", ["svg", "png"])
def test_a_figure_drawn_twice_is_the_same_bytes(tmp_path: Path, ending: str) -> None:
    for name in ("one", "two"):
        (tmp_path / name).mkdir()
        drawing.save(figures.roc(CURVES), tmp_path / name / f"roc.{ending}", dpi=80)
    one, two = (tmp_path / name / f"roc.{ending}" for name in ("one", "two"))
    assert one.read_bytes() == two.read_bytes()
    if ending == "svg":
        assert ET.parse(one).getroot().tag.endswith("svg")
    else:
        assert Image.open(one).size == (336, 344)  # 4.2 x 4.3 inches of 80 dots


def test_in_a_page_texts_are_text_colours_follow_it_and_no_name_of_a_class_is_changed(tmp_path: Path) -> None:
    names = [f"<i>{drawing.INK}", "fill: #1b1b1a"]
    curves = [row | {"class": names[i // 3]} for i, row in enumerate(CURVES)]
    element = drawing.for_a_page(figures.roc(curves), "roc")
    root = ET.fromstring(element)
    assert root.tag.endswith("svg")
    texts = "".join(text for part in root.iter() if part.tag.endswith("text") for text in part.itertext())
    assert all(name in texts for name in names)
    styles = " ".join(part.get("style", "") for part in root.iter())
    assert {"var(--ink)", "var(--quiet)", "var(--accent)", "var(--paper)", "var(--line)"} <= set(
        re.findall(r"var\(--\w+\)", styles)
    )
    assert "#" not in styles.replace("url(#", "")
    names_of_parts = [part.get("id", "") for part in root.iter() if part.get("id")]
    assert all(f"#{name}" in element for name in names_of_parts)
    assert not set(names_of_parts) & set(re.findall(r' id="(\w+)"', drawing.for_a_page(figures.roc(curves), "other")))
    assert element == drawing.for_a_page(figures.roc(curves), "roc")


def test_drawing_imports_neither_torch_nor_scikit_learn() -> None:
    program = """
import sys, stages.plot
from imgpipe.plot import class_figures, drawing, figures, galleries, report, results
print(sorted({"torch", "sklearn", "scipy", "matplotlib.pyplot"} & set(sys.modules)))
"""
    run = subprocess.run([sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, check=True)
    assert run.stdout == "[]\n"
