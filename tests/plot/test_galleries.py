"""Which images the galleries show, and how."""

import base64
import io
from pathlib import Path

import numpy as np
import pytest
from matplotlib.figure import Figure
from matplotlib.text import Text
from outcome import guesses, outcome, predictions, write
from PIL import Image
from samples import form

from imgpipe.data.packed import read_split
from imgpipe.plot import drawing, galleries

pytestmark = pytest.mark.usefixtures("house_style")


def texts(figure: Figure) -> list[str]:
    return [text.get_text() for text in figure.findobj(Text) if isinstance(text, Text)]


def test_examples_are_as_many_of_each_class_spread_over_its_images() -> None:
    rows = guesses(*(["a a"] * 6 + ["b b"] * 2 + ["c c"] * 9))
    chosen = galleries.choose_examples(rows, ["a", "b", "c", "empty"], 9)
    assert [row["file"] for row in chosen] == ["0.png", "2.png", "4.png", "6.png", "7.png", "8.png", "11.png", "14.png"]
    assert [row["actual"] for row in galleries.choose_examples(rows, ["a", "b", "c"], 2)] == ["a", "b"]


def test_mistakes_come_with_the_most_confident_first_and_none_is_said_in_words() -> None:
    rows = [*guesses("a a", "a b", confidence=0.6), *guesses("b b", "b a", confidence=0.9)]
    assert [row["confidence"] for row in galleries.confident_mistakes(rows)] == ["0.9", "0.6"]
    assert texts(galleries.gallery([], "No mistakes among 4 images")) == ["No mistakes among 4 images"]


def test_the_report_begins_with_one_sure_mistake_of_each_confusion_the_most_frequent_first() -> None:
    """Twice a for b, once b for a and c for a; then the second a for b. Without a mistake the least sure come first."""
    rows = [
        *guesses("b a", confidence=0.9),
        *guesses("a a", "a b", confidence=0.8),
        *guesses("a a", "a a", "a b", confidence=0.7),
        *guesses("c c", "c c", "c c", "c a", confidence=0.6),
    ]
    named = [row | {"file": str(i)} for i, row in enumerate(rows)]
    assert [row["file"] for row in galleries.telling(named, {})] == ["2", "0", "9"]
    assert [row["file"] for row in galleries.telling(named, {"0", "5"})] == ["5", "0"]
    assert [row["file"] for row in galleries.telling(named[:6], {})] == ["2", "0", "5"]
    assert [row["file"] for row in galleries.telling([named[1], named[3], named[6]], {})] == ["6", "3", "1"]


def test_a_heatmap_covers_a_grey_image_with_orange_where_it_is_greatest() -> None:
    """There 70 % of orange and 30 % of 200 are (238, 134, 60); where there is no heat it is 200."""
    image = np.full((8, 8, 1), 200, np.uint8)
    heat = np.zeros((2, 2), np.uint8)
    heat[0, 0] = 255
    example = galleries.Example("a.png", image, "a", "b", 0.5, heat)
    kind, _, content = galleries.heatmap_uri(example).partition(";base64,")
    shown = np.asarray(Image.open(io.BytesIO(base64.b64decode(content)))).astype(int)
    assert (kind, shown.shape) == ("data:image/jpeg", (128, 128, 3))
    assert np.abs(shown[2, 2] - (238, 134, 60)).max() < 8
    assert np.abs(shown[-2, -2] - 200).max() < 8


@pytest.mark.parametrize("channels", [1, 3])
def test_images_are_shown_as_the_network_saw_them_and_mistakes_by_sign_and_dash_too(
    tmp_path: Path, channels: int
) -> None:
    """The middle 6 x 6 of 6 x 10 pixels."""
    test = outcome(["a", "b"], 40, skill=1, shape=(6, 10, channels))
    write(test, tmp_path)
    split = read_split(tmp_path / "data/packed/test", form(channels=channels))
    rows = [{key: str(value) for key, value in row.items()} for row in predictions(test)]
    right = next(row for row in rows if row["actual"] == row["predicted"])
    wrong = next(row for row in rows if row["actual"] != row["predicted"])
    heat = np.full((2, 2), 255, np.uint8)
    model = {"image_size": 6, "fit": "crop", "crop_fraction": 1.0}
    examples = galleries.load_examples([wrong, right], split, model, {wrong["file"]: heat})
    assert [example.heat is heat for example in examples] == [True, False]
    figure = galleries.gallery(examples, "nothing")
    (axes,) = figure.axes
    for image, row in zip(axes.images, (wrong, right), strict=True):
        pixels = image.get_array()
        assert pixels is not None
        seen = split.image(split.files.index(row["file"]))[:, 2:8]
        assert pixels.reshape(6, 6, channels).tolist() == seen.tolist()
    assert [frame.get_linestyle() == "-" for frame in axes.patches] == [False, True]
    assert [text[0] for text in texts(figure) if text[:1] in ("✓", "✗")] == ["✗", "✓"]
    assert f"is {drawing.in_line(wrong['actual'], 9)}" in "".join(texts(figure))


@pytest.mark.parametrize("channels", [1, 3])
def test_a_sheet_has_an_answer_above_each_image_and_its_file_s_name_below(channels: int) -> None:
    squares = list(np.random.default_rng(0).integers(0, 256, (5, 8, 8, channels), dtype=np.uint8))
    names = [f"{i}.jpg" for i in range(5)]
    given = [[("a", 0.25)], [("b", 0.999)], [("a", 0.25)], [("b", 0.6), ("a", 0.4), ("c", 0.1)], []]
    (axes,) = galleries.contact_sheet(squares, given, names, "nothing").axes
    places = []
    for image, square in zip(axes.images, squares, strict=True):
        pixels = image.get_array()
        assert pixels is not None
        assert pixels.reshape(square.shape).tolist() == square.tolist()
        assert image.get_clim() == (0, 255)
        places.append(image.get_extent())
    answers, files = axes.texts[::2], axes.texts[1::2]
    assert [text.get_text() for text in answers] == ["a (25%)", "b (100%)", "a (25%)", "b (60%) +2", "nothing"]
    assert [text.get_text() for text in files] == names
    assert all(text.get_position()[1] > top for text, (_, _, _, top) in zip(answers, places, strict=True))
    assert all(text.get_position()[1] < bottom for text, (_, _, bottom, _) in zip(files, places, strict=True))
    assert len({left for left, *_ in places}) == 3  # in a row
