"""``imgpipe.load``: in a program, the answers that the test and ``imgpipe predict`` give."""

import tarfile
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from conftest import Project
from PIL import Image
from samples import described, encoded, form, noise, photo

import imgpipe
from imgpipe.commands.inference import network_input
from imgpipe.common.errors import InputError
from imgpipe.common.files import read_table
from imgpipe.model.classifier import load_classifier, new_classifier, save_classifier
from imgpipe.model.predict import predict_batch

MODEL = "models/classifier.safetensors"


@pytest.fixture(scope="module")
def tested(finished: Project, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the test images of the finished project as files, ``test/<class>/<file>``."""
    folder = tmp_path_factory.mktemp("tested")
    with tarfile.open(finished.folder / "data/prepared/test.tar") as tar:
        tar.extractall(folder / "test", filter="data")
    return folder


def test_a_path_its_bytes_its_pillow_image_and_its_pixels_get_what_the_test_found(
    finished: Project, tested: Path
) -> None:
    rows = read_table(finished.folder / "metrics/test/predictions.csv")
    probabilities = np.load(finished.folder / "metrics/test/probabilities.npy")
    files = [tested / row["file"] for row in rows]
    assert len(files) == 36
    model = imgpipe.load(finished.folder / MODEL, device="cpu")
    assert model.classes == ["0", "1", "2", "3"]
    given = {
        "paths": files,
        "texts": [str(file) for file in files],
        "bytes": [file.read_bytes() for file in files],
        "images": [Image.open(file) for file in files],
        "arrays": [np.asarray(Image.open(file)) for file in files],
    }
    for kind, images in given.items():
        found = model.predict(images)
        assert [(p.label, str(round(p.confidence, 6))) for p in found] == [
            (row["predicted"], row["confidence"]) for row in rows
        ], kind
        assert np.array([list(p.probabilities.values()) for p in found]) == pytest.approx(probabilities, abs=1e-6)
        assert all(list(p.probabilities) == model.classes for p in found)
        assert all(p.probabilities[p.label] == p.confidence for p in found)


def test_one_image_is_a_list_of_one_and_a_batch_more_than_the_network_takes_at_once(
    finished: Project, tested: Path
) -> None:
    model = imgpipe.load(str(finished.folder / MODEL))
    file = next((tested / "test/3").iterdir())
    (one,) = model.predict(file)
    assert model.predict([]) == []
    many = model.predict([file] * 70)
    assert [p.label for p in many] == [one.label] * 70
    assert [p.confidence for p in many] == pytest.approx([one.confidence] * 70, abs=1e-6)


@pytest.mark.parametrize("encoding", ["raw", "jpeg"])
def test_pillow_images_and_arrays_are_prepared_as_their_files_are(tmp_path: Path, encoding: str) -> None:
    """Colour photos of any proportions, turned, transparent or grey, resized, encoded and cropped."""
    how = form(image_size=20, channels=3, encoding=encoding, jpeg_quality=60)
    description = described(form=how, size=16, crop_fraction=0.9, temperature=1.5)
    torch.manual_seed(0)
    classifier = new_classifier(description, [0.4, 0.4, 0.4], [0.02, 0.02, 0.02]).eval()
    save_classifier(tmp_path / "model.safetensors", classifier)
    model = imgpipe.load(tmp_path / "model.safetensors", device="cpu")
    turned = Image.Exif()
    turned[0x0112] = 6  # upright after a quarter turn
    files = {
        "photo": encoded(photo()),
        "turned": encoded(photo(1, (90, 60)), "PNG", exif=turned),
        "clear": encoded(noise(2, (50, 70)).convert("RGBA")),
        "grey": encoded(noise(3, (60, 41)).convert("L")),
    }
    opened = [Image.open(_written(tmp_path / name, content)) for name, content in files.items()]
    squares = torch.from_numpy(np.stack([network_input(content, description) for content in files.values()]))
    expected = (predict_batch(classifier, squares) / 1.5).softmax(1)[:, 0].tolist()
    assert len({round(p, 4) for p in expected}) == len(files)
    for images in (list(files.values()), opened):
        assert [p.probabilities["a"] for p in model.predict(images)] == pytest.approx(expected, abs=1e-6)
    arrays = [np.asarray(image) for image in (opened[0], opened[3])]
    assert [array.ndim for array in arrays] == [3, 2]
    found = [p.probabilities["a"] for p in model.predict(arrays)]
    assert found == pytest.approx([expected[0], expected[3]], abs=1e-6)


def test_a_prediction_set_holds_the_classes_that_are_likely_enough(finished: Project, tested: Path) -> None:
    """Sets for 90 % and 97 % as by hand; the others refused; without a coverage the label alone."""
    files = sorted((tested / "test").rglob("*.png"))
    model = imgpipe.load(finished.folder / MODEL)
    plain = model.predict(files)
    assert [p.classes for p in plain] == [[p.label] for p in plain]
    thresholds = load_classifier(finished.folder / MODEL).description.set_thresholds
    for coverage in (0.9, 0.97):
        least = thresholds[f"{coverage:.2f}"]
        found = model.predict(files, coverage=coverage)
        assert [replace(p, classes=[p.label]) for p in found] == plain
        for prediction in found:
            of_class = prediction.probabilities
            assert set(prediction.classes) == {name for name, p in of_class.items() if p >= least}
            assert prediction.classes == sorted(prediction.classes, key=of_class.__getitem__, reverse=True)
    for coverage, message in (
        (0.98, "coverage is 0.98, which takes 49 images in the val split, and the model was evaluated with 36; "),
        (1.0, "coverage is 1.0; it must be from 0.50 to 0.99, in steps of 0.01"),
    ):
        with pytest.raises(InputError) as raised:
            model.predict(files, coverage=coverage)
        assert str(raised.value).startswith(message)


def test_a_class_that_is_just_likely_enough_is_in_and_a_set_may_be_empty(
    finished: Project, tested: Path, tmp_path: Path
) -> None:
    classifier = load_classifier(finished.folder / MODEL)
    file = next((tested / "test/3").iterdir())
    (plain,) = imgpipe.load(finished.folder / MODEL, device="cpu").predict(file)
    for least, expected in ((plain.confidence, [plain.label]), (np.nextafter(plain.confidence, 1), [])):
        classifier.description = replace(classifier.description, set_thresholds={"0.50": float(least)})
        save_classifier(tmp_path / "model", classifier)
        (found,) = imgpipe.load(tmp_path / "model", device="cpu").predict(file, coverage=0.5)
        assert (found.classes, found.label) == (expected, plain.label)


def test_the_model_says_from_which_confidence_on_it_may_be_believed(tmp_path: Path) -> None:
    for threshold in (0.625, None):
        save_classifier(tmp_path / "model", new_classifier(described(threshold=threshold), [0.5], [0.2]))
        assert imgpipe.load(tmp_path / "model").threshold == threshold


def _written(path: Path, content: bytes) -> Path:
    path.write_bytes(content)
    return path


def test_an_image_that_cannot_be_read_is_named(finished: Project, tested: Path, tmp_path: Path) -> None:
    model = imgpipe.load(finished.folder / MODEL)
    good = next((tested / "test/0").iterdir())
    notes, cut = tmp_path / "notes.txt", tmp_path / "cut.png"
    notes.write_text("no image")
    cut.write_bytes(good.read_bytes()[:60])
    floats, four = np.zeros((8, 8)), np.zeros((8, 8, 4), np.uint8)
    cases = (
        ([good, notes], f"{notes}: its content is no image, or its start is damaged"),
        (str(tmp_path / "gone.png"), f"{tmp_path / 'gone.png'}: it can't be read: No such file or directory"),
        ([good, b""], "images[1]: it is empty"),
        ([Image.open(cut)], "images[0]: it is damaged or cut short: "),
        ([good, good, Image.new("F", (8, 8))], "images[2]: its pixels are floating-point numbers"),
        (floats, "images[0]: it is an array of float64 (8, 8); it must be uint8 (height, width, 3) or (height, width)"),
        (four, "images[0]: it is an array of uint8 (8, 8, 4); it must be"),
        (np.zeros((0, 8), np.uint8), "images[0]: it is"),
        ([good, 7], "images[1]: it is of type int; give a path, bytes, a Pillow image or a numpy array"),
    )
    for images, message in cases:
        with pytest.raises(InputError) as raised:
            model.predict(images)
        assert str(raised.value).startswith(message)
        assert "\n" not in str(raised.value)


def test_what_is_no_model_and_a_device_that_is_not_there_are_refused(finished: Project, tmp_path: Path) -> None:
    (tmp_path / "text.safetensors").write_text("no model")
    cases = (
        (tmp_path / "gone", "auto", f"there is no model file '{tmp_path / 'gone'}'; dvc repro makes one"),
        (tmp_path / "text.safetensors", "auto", f"'{tmp_path / 'text.safetensors'}' is no classifier that"),
        (finished.folder / MODEL, "gpu", "device is 'gpu'; it must be auto, cpu or cuda"),
    )
    for path, device, message in cases:
        with pytest.raises(InputError) as raised:
            imgpipe.load(path, device=device)
        assert str(raised.value).startswith(message)


def test_the_program_s_own_number_of_threads_stays(finished: Project, tested: Path) -> None:
    """The model computes with one, as it was tested."""
    before = torch.get_num_threads()
    try:
        torch.set_num_threads(2)
        imgpipe.load(finished.folder / MODEL).predict(next((tested / "test/0").iterdir()))
        assert torch.get_num_threads() == 2
    finally:
        torch.set_num_threads(before)
