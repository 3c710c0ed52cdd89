"""``imgpipe export``: files that answer as the test did, without imgpipe; what does not is caught and not written."""

import contextlib
import importlib.util
import io
import json
import shutil
import subprocess
import sys
import tarfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from conftest import Project, copy_of, kernels_and_threads_as_they_were
from PIL import Image, ImageOps
from samples import described, encoded, form, noise, photo
from torch import Tensor, nn
from typer.testing import CliRunner

from imgpipe.commands import export, exported, proof
from imgpipe.commands.__main__ import app
from imgpipe.commands.example import write_example, write_reference
from imgpipe.commands.inference import network_input
from imgpipe.common.errors import InputError
from imgpipe.common.files import read_table
from imgpipe.data.packed import Pixels
from imgpipe.model.classifier import Classifier, load_classifier, new_classifier, save_classifier
from imgpipe.model.crops import evaluation_squares

pytest.importorskip("onnxruntime")
pytest.importorskip("onnxscript")

MODEL = "models/classifier.safetensors"
BESIDE = ["example.py", "preprocessing.json", "reference.npy", "reference.png"]


@pytest.fixture(autouse=True)
def torch_as_it_was() -> Iterator[None]:
    with kernels_and_threads_as_they_were():
        yield


def run(*arguments: object) -> tuple[int, str, str]:
    """Exit status, standard output and standard error of the command."""
    done = CliRunner().invoke(app, ["export", *map(str, arguments)], catch_exceptions=False)
    return done.exit_code, done.stdout, done.stderr


@pytest.fixture
def place(elaborate: Project, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """The elaborate project's folder, to work in; exports are removed afterwards."""
    monkeypatch.chdir(elaborate.folder)
    yield elaborate.folder
    shutil.rmtree("models/export", ignore_errors=True)


@pytest.fixture(scope="module")
def elaborate(finished: Project, tmp_path_factory: pytest.TempPathFactory) -> Project:
    """A project of colour images with a crop, mirror images and a temperature; the classes differ in colour alone."""
    project = copy_of(finished, tmp_path_factory.mktemp("elaborate") / "project")
    for name in ("data/raw", "data/prepared", "data/packed", "images"):
        shutil.rmtree(project.folder / name)
    for name, colour in (("red", (90, 0, 0)), ("blue", (0, 0, 90)), ("green", (0, 90, 0))):
        for i in range(40):
            levels = np.asarray(noise(hash_of(name) + i, (17, 14))) // 2 + np.array(colour, np.uint8)
            (project.folder / "images" / name).mkdir(parents=True, exist_ok=True)
            Image.fromarray(levels).save(project.folder / "images" / name / f"{i}.png")
    project.set(
        pack__image_size=13,
        pack__channels=3,
        model__image_size=9,
        model__crop_fraction=0.8,
        evaluate__flips=True,
        evaluate__temperature_scaling=True,
        train__precision="fp32",
        train__epochs=3,
        train__batch_size=8,
    )
    project.here("download", "prepare", "pack", "train", "evaluate")
    description = load_classifier(project.folder / MODEL).description
    assert description.flips
    assert not 0.8 < description.temperature < 1.25  # its absence would show
    return project


def hash_of(name: str) -> int:
    return sum(map(ord, name)) * 1000


@dataclass(frozen=True)
class Written:
    """A finished export of the elaborate project, and what the command said."""

    folder: Path
    status: int
    out: str
    err: str


@pytest.fixture(scope="module")
def written(elaborate: Project, tmp_path_factory: pytest.TempPathFactory) -> Written:
    """Made once, in both formats, in place of an older export of three files, in a project with a model card."""
    folder = tmp_path_factory.mktemp("written") / "new" / "export"
    folder.mkdir(parents=True)
    for name in ("classifier.onnx", "README.md", "reference.png"):
        (folder / name).write_text("older")
    card = elaborate.folder / "metrics/model_card.md"
    card.write_text("# A model\n")
    with contextlib.chdir(elaborate.folder), kernels_and_threads_as_they_were():
        status, out, err = run("--output", folder)
    card.unlink()
    return Written(folder, status, out, err)


def test_each_file_answers_as_the_test_did_and_says_so(written: Written, elaborate: Project) -> None:
    assert (written.status, written.err) == (0, "")
    assert len(read_table(elaborate.folder / "metrics/test/predictions.csv")) == 18
    for name, line in zip(("onnx", "pt2"), written.out.splitlines(), strict=True):
        file = written.folder / f"classifier.{name}"
        start, _, rest = line.partition("differ by ")
        assert start == f"{name}: 0 of 18 test images flip; probabilities "
        difference, _, end = rest.partition(" at most; ")
        assert float(difference) < 1e-5
        assert end == f"{file.stat().st_size / 1e6:.1f} MB; {file}"


def test_the_folder_holds_the_files_and_the_model_card_and_nothing_of_an_older_export(written: Written) -> None:
    names = sorted(path.name for path in written.folder.iterdir())
    assert names == sorted(["README.md", "classifier.onnx", "classifier.pt2", "model_card.md", *BESIDE])
    assert (written.folder / "model_card.md").read_text() == "# A model\n"
    readme = (written.folder / "README.md").read_text()
    assert readme.startswith("# A classifier of 3 classes, as classifier.onnx and classifier.pt2\n")
    assert "    pip install numpy pillow onnxruntime\n" in readme
    assert (written.folder / "classifier.onnx").stat().st_size > 1000
    assert [path.name for path in written.folder.parent.iterdir()] == ["export"]


def test_a_file_has_the_classes_the_description_and_named_ends_and_nothing_of_this_machine(
    written: Written, elaborate: Project
) -> None:
    onnxruntime = pytest.importorskip("onnxruntime")
    description = load_classifier(elaborate.folder / MODEL).description
    session = onnxruntime.InferenceSession(written.folder / "classifier.onnx", providers=["CPUExecutionProvider"])
    (given,), (answer,) = session.get_inputs(), session.get_outputs()
    assert (given.name, given.type, given.shape) == ("images", "tensor(uint8)", ["batch", 9, 9, 3])
    assert (answer.name, answer.type, answer.shape) == ("probabilities", "tensor(float)", ["batch", 3])
    beside = {"classes": "", "description": ""}
    torch.export.load(written.folder / "classifier.pt2", extra_files=beside)
    for found in (session.get_modelmeta().custom_metadata_map, beside):
        assert json.loads(found["classes"]) == ["blue", "green", "red"]
        assert json.loads(found["description"]) == description.as_json()
    ours = str(Path(exported.__file__).parent.parent).encode()
    for file in written.folder.iterdir():
        assert ours not in file.read_bytes(), file


def test_a_file_and_its_description_give_the_prediction_sets_of_the_test(written: Written, elaborate: Project) -> None:
    """As docs/exporting.md has it, in two lines: as many hold the true class, and as large, as metrics.json says."""
    onnxruntime = pytest.importorskip("onnxruntime")

    session = onnxruntime.InferenceSession(written.folder / "classifier.onnx", providers=["CPUExecutionProvider"])
    description = json.loads(session.get_modelmeta().custom_metadata_map["description"])
    with contextlib.chdir(elaborate.folder):
        model = load_classifier(Path(MODEL)).description
        split = proof.read_tested(model).split
        order = np.arange(len(split))
        squares = evaluation_squares(split, order, model.size, fit=model.fit, fraction=model.crop_fraction)
    probabilities = session.run(["probabilities"], {"images": squares})[0]
    sets = probabilities >= description["set_thresholds"]["0.90"]
    numbers = json.loads((elaborate.folder / "metrics/test/metrics.json").read_text())
    held = sets[order, split.labels]
    assert held.mean() == pytest.approx(numbers["set_coverage_90"], abs=1e-6)
    assert sets.sum(axis=1).mean() == pytest.approx(numbers["set_size_90"], abs=1e-6)


def test_any_number_of_images_goes_through_a_file_at_once(written: Written, elaborate: Project) -> None:
    classifier = load_classifier(elaborate.folder / MODEL)
    images = np.random.default_rng(0).integers(0, 256, (7, 9, 9, 3), dtype=np.uint8)
    expected = exported.probabilities_in_fp32(classifier, images)
    for ending, runner in proof.RUNNERS.items():
        with runner(written.folder / f"classifier{ending}", classifier.description) as compute:
            for count in (1, 2, 7):
                assert compute(images[:count]) == pytest.approx(expected[:count], abs=1e-6)


def test_the_specification_names_the_steps_in_order_with_their_numbers(written: Written) -> None:
    found = json.loads((written.folder / "preprocessing.json").read_text())
    assert [step["step"] for step in found["steps"]] == ["decode", "eight_bits", "resize", "crop"]
    assert found["steps"][2]["short_side"] == 13
    assert (found["steps"][3]["size"], found["steps"][3]["fraction"]) == (9, 0.8)
    assert found["input"]["shape"] == ["batch", 9, 9, 3]
    assert found["classes"] == ["blue", "green", "red"]
    assert sum(found["reference"]["probabilities"]) == pytest.approx(1)
    assert np.load(written.folder / "reference.npy").shape == (1, 9, 9, 3)


class Swapped(exported.Exported):
    """Takes blue for red."""

    def forward(self, images: Tensor) -> Tensor:
        return super().forward(images.flip(3))


class NotNormalised(exported.Exported):
    """Takes levels as they are."""

    def __init__(self, classifier: Classifier) -> None:
        super().__init__(classifier)
        self.mean, self.std = torch.zeros_like(self.mean), torch.ones_like(self.std)


class NoTemperature(exported.Exported):
    """Is as sure as the logits are: the classes are right, the probabilities are not."""

    def __init__(self, classifier: Classifier) -> None:
        super().__init__(classifier)
        self.temperature = 1.0


FLIPS = "test images another class than metrics/test/predictions.csv: test/"


@pytest.mark.parametrize(
    ("wrong", "kind", "message"),
    [
        (Swapped, "onnx", FLIPS),
        (Swapped, "pt2", FLIPS),
        (NotNormalised, "onnx", "a probability differs by a factor of "),
        (NoTemperature, "onnx", " from metrics/test/probabilities.npy; a probability differs by a factor of "),
    ],
)
def test_a_file_that_answers_otherwise_is_not_written(
    place: Path, monkeypatch: pytest.MonkeyPatch, wrong: type, kind: str, message: str
) -> None:
    """And an older export stays as it was."""
    Path("models/export").mkdir()
    Path("models/export/classifier.onnx").write_text("older")
    monkeypatch.setattr(exported, "Exported", wrong)
    status, out, err = run("--format", kind)
    assert (status, out, err.count("\n")) == (1, "", 1)
    assert err.startswith(f"error: classifier.{kind} is not proven, and nothing was written: ")
    assert message in err
    assert err.endswith(
        "from what the model itself computes here; torch exports this network wrongly: try the other --format\n"
    )
    assert [path.read_text() for path in Path("models/export").iterdir()] == ["older"]
    assert not list(Path("models").glob(".*.draft"))


class Branching(exported.Exported):
    """Computes what depends on the levels, which torch can't follow."""

    def forward(self, images: Tensor) -> Tensor:
        return super().forward(images if images.sum() > 7 else 255 - images)


@pytest.mark.parametrize("kind", ["onnx", "pt2"])
def test_a_network_that_torch_cannot_export_is_one_line(
    place: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str], kind: str
) -> None:
    monkeypatch.setattr(exported, "Exported", Branching)
    status, out, err = run("--format", kind)
    assert (status, out, err.count("\n")) == (1, "", 1)
    assert err.startswith("error: the network 'simple_cnn' can't be exported to torch.export (")
    assert capfd.readouterr() == ("", "")
    assert not Path("models/export").exists()


@pytest.fixture(scope="module")
def in_bf16(finished: Project, tmp_path_factory: pytest.TempPathFactory) -> Project:
    """A project that was trained and tested in bf16."""
    project = copy_of(finished, tmp_path_factory.mktemp("bf16") / "project")
    project.set(train__precision="bf16", train__kernels="native")
    project.here("train", "evaluate")
    return project


@pytest.mark.parametrize("wrong", [NotNormalised, NoTemperature])
def test_a_wrong_file_is_not_taken_for_rounding_where_the_test_was_computed_in_bf16(
    in_bf16: Project, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, wrong: type
) -> None:
    """As many flips as there are images are allowed, and any difference from the test's probabilities is."""
    monkeypatch.chdir(in_bf16.folder)
    monkeypatch.setattr(exported, "Exported", wrong)
    description = load_classifier(Path(MODEL)).description
    assert description.precision == "bf16"
    assert description.temperature != 1
    status, out, err = run("--format", "onnx", "--output", tmp_path / "export", "--max-flips", 36)
    assert (status, out) == (1, "")
    assert err.startswith(
        "error: classifier.onnx is not proven, and nothing was written: a probability differs by a factor of "
    )
    assert not list(tmp_path.iterdir())


def test_a_model_that_was_tested_in_bf16_is_exported_in_fp32(
    in_bf16: Project, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(in_bf16.folder)
    status, out, err = run("--format", "onnx", "--output", tmp_path / "export")
    assert (status, err) == (0, "")
    assert out.startswith("onnx: 0 of 36 test images flip; ")
    difference = float(out.partition("differ by ")[2].split()[0])
    assert 1e-6 < difference < 0.05


def test_so_many_flips_as_allowed_are_let_through_and_others_named(place: Path, tmp_path: Path) -> None:
    """Two answers of the test are made other ones."""
    table = Path("metrics/test/predictions.csv")
    before = table.read_bytes()
    rows = read_table(table)
    changed = {row["file"]: ("red" if row["predicted"] == "blue" else "blue", row["predicted"]) for row in rows[3:5]}
    text = before.decode().splitlines()
    for place_of in (4, 5):
        file, actual, predicted, *rest = text[place_of].split(",")
        assert changed[file][1] == predicted
        text[place_of] = ",".join([file, actual, changed[file][0], *rest])
    table.unlink()
    table.write_text("\n".join(text) + "\n")
    try:
        status, out, err = run("--format", "onnx", "--max-flips", 1)
        assert (status, out) == (1, "")
        named = ", ".join(f"{file} ({was} became {now})" for file, (was, now) in changed.items())
        assert f"it gives 2 of 18 test images another class than {table}: {named}; " in err
        assert err.endswith("--max-flips 2 allows that many\n")
        assert not Path("models/export").exists()
        status, out, err = run("--format", "onnx", "--max-flips", 2)
        assert (status, err) == (0, "")
        assert out.startswith("onnx: 2 of 18 test images flip; ")
    finally:
        table.write_bytes(before)


def test_flips_of_a_test_in_bf16_are_said_to_come_of_it_and_other_differences_are_not() -> None:
    near = proof.Proof(
        images=9, flips=["test/a/1.png (a became b)"], difference=0.02, furthest="test/b/2.png", here=1.0001
    )
    wrong, no_number = replace(near, here=1.02), replace(near, here=float("inf"), difference=float("inf"))
    cases = (
        (near, "bf16", 0, "in bf16 and the file computes in fp32, so that an image .*: --max-flips 1 allows it$"),
        (near, "fp32", 0, r"test/a/1.png \(a became b\); it gives test/b/2.png .* by 0.02 from .* --max-flips 1 "),
        (
            near,
            "fp32",
            1,
            "it gives test/b/2.png a probability that differs by 0.02 from .* dvc repro makes both anew$",
        ),
        (wrong, "bf16", 1, "by a factor of 1.02 from what the model itself computes here; .* the other --format$"),
        (no_number, "bf16", 1, "by a factor of inf from"),
        (no_number, "fp32", 1, "differs by inf from metrics/test/probabilities.npy"),
    )
    for found, precision, allowed, message in cases:
        with pytest.raises(InputError, match=message):
            proof.refuse_unproven("x.onnx", found, described(precision=precision), max_flips=allowed)
    proof.refuse_unproven("x.onnx", near, described(precision="bf16"), max_flips=1)
    proof.refuse_unproven("x.onnx", near, described(device="cuda"), max_flips=1)
    proof.refuse_unproven("x.onnx", replace(near, difference=1e-5), described(), max_flips=1)


def test_mistakes_are_one_line_and_exit_status_1_before_any_work(place: Path, tmp_path: Path) -> None:
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine/notes.txt").write_text("")
    cases: dict[tuple[object, ...], str] = {
        ("--model", "gone"): "there is no model file 'gone'; dvc repro makes one",
        ("--output", tmp_path / "mine"): f"'{tmp_path / 'mine'}' holds notes.txt, which is of no export; name another",
        ("--output", "models"): "'models' holds ",
        ("--output", "."): "--output is '.'; name a new folder",
        ("--output", "params.yaml"): "'params.yaml' is no folder; name another for the files",
        ("--output", "/proc/x"): "'/proc/x' can't be written: No such file or directory; name another",
    }
    for arguments, message in cases.items():
        status, out, err = run(*arguments)
        assert (status, out, err.count("\n")) == (1, "", 1), arguments
        assert err.startswith(f"error: {message}"), err


@pytest.mark.parametrize(
    "missing",
    ["data/packed/test/index.csv", "data/packed/statistics.json", "metrics/test/predictions.csv", proof.PROBABILITIES],
)
def test_without_what_the_test_found_there_is_no_export(place: Path, missing: str) -> None:
    kept = Path("kept")
    Path(missing).rename(kept)
    try:
        message = f"there is no {missing}, with which an export is compared; dvc repro makes it, dvc pull brings it"
        status, out, err = run()
        assert (status, out) == (1, "")
        assert err == f"error: {message}\n"
    finally:
        kept.rename(missing)


def test_results_of_another_model_are_refused(place: Path, finished: Project, tmp_path: Path) -> None:
    status, _, err = run("--model", finished.folder / MODEL)
    assert status == 1
    assert err.startswith(
        "error: the model knows 4 classes (0, 1, 2, ...), and data/packed has 3 (blue, green, red); dvc"
    )
    probabilities = Path("metrics/test/probabilities.npy")
    before = probabilities.read_bytes()
    probabilities.unlink()
    np.save(probabilities, np.zeros((5, 3), np.float32))
    try:
        status, _, err = run()
        assert status == 1
        assert err.startswith("error: metrics/test/probabilities.npy has the shape (5, 3), and not (18, 3) ")
    finally:
        probabilities.write_bytes(before)
    table = Path("metrics/test/predictions.csv")
    text = table.read_text()
    table.unlink()
    table.write_text(text[: text.rindex("test/")])
    try:
        status, _, err = run()
        assert status == 1
        assert err.startswith(
            "error: metrics/test/predictions.csv has other images (17) than data/packed/test (18); dvc"
        )
    finally:
        table.write_text(text)


def test_without_the_extra_pt2_is_written_and_onnx_is_refused(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The model is missing, too, which is said only where the packages are there."""
    real = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None if name == "onnxscript" else real(name))
    message = "--format onnx needs the packages onnx, onnxscript and onnxruntime: pip install 'imgpipe[export]'"
    for kind in ("onnx", "both"):
        status, _, err = run("--format", kind, "--model", "gone")
        assert (status, err) == (1, f"error: {message}; --format pt2 needs no other\n")
    assert run("--format", "pt2")[0] == 0
    assert "import torch" in Path("models/export/example.py").read_text()


def alone(folder: Path, *arguments: object) -> tuple[int, str]:
    """Run example.py in a process that finds nothing of ours, and fails where it imports more than it says."""
    program = (
        "import runpy, sys; sys.argv = sys.argv[1:]\n"
        "try: runpy.run_path(sys.argv[0], run_name='__main__')\n"
        "finally: assert not {'imgpipe', 'torch', 'cv2', 'safetensors'} & set(sys.modules)"
    )
    command = [sys.executable, "-I", "-c", program, str(folder / "example.py"), *map(str, arguments)]
    done = subprocess.run(command, cwd="/", capture_output=True, text=True, check=False)
    assert done.stderr == ""
    return done.returncode, done.stdout


@pytest.mark.parametrize("fit", ["crop", "pad", "squash"])
def test_the_example_program_gives_test_images_the_answers_of_predict(
    fit: str, place: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The same weights and another fit, whose test predict makes: example.py is given files."""
    if fit != "crop":
        classifier = load_classifier(Path(MODEL))
        classifier.description = replace(classifier.description, fit=fit)
        shutil.copytree(place, tmp_path / "other", symlinks=True, ignore=shutil.ignore_patterns(".dvc", ".git"))
        monkeypatch.chdir(tmp_path / "other")
        for name in ("best.safetensors", "last.safetensors"):
            save_classifier(Path("models") / name, classifier)
        Project(tmp_path / "other").here("evaluate")
    assert run("--format", "onnx")[0] == 0
    folder = Path("models/export").absolute()
    with tarfile.open("data/prepared/test.tar") as tar:
        tar.extractall(tmp_path / "test", filter="data")
    status, out = alone(folder)
    assert (status, out.splitlines()[0].split()) == (0, ["pixels:", "equal"])
    files = [tmp_path / row["file"] for row in read_table(Path("metrics/test/predictions.csv"))]
    status, out = alone(folder, *files)
    assert status == 0
    answers = [line.split("\t") for line in out.splitlines()]
    rows = read_table(Path("metrics/test/predictions.csv"))
    assert [(file, name) for file, name, _ in answers] == [
        (str(file), row["predicted"]) for file, row in zip(files, rows, strict=True)
    ]
    assert [float(sure) for *_, sure in answers] == pytest.approx([float(row["confidence"]) for row in rows], abs=5e-6)


def function_of_example(folder: Path) -> Callable[[Path], Pixels]:
    """The program's own tensor_of, taken out of it: what stands before it opens the model."""
    source = (folder / "example.py").read_text()
    start, end = source.index("def tensor_of"), source.index("def probabilities_of")
    names: dict[str, Any] = {"np": np, "io": io, "Image": Image, "ImageOps": ImageOps}
    names["BILINEAR"] = Image.Resampling.BILINEAR
    exec(source[start:end], names)
    function: Callable[[Path], Pixels] = names["tensor_of"]
    return function


@pytest.mark.parametrize("channels", [1, 3])
def test_the_example_program_encodes_and_decodes_jpeg_where_packing_does(tmp_path: Path, channels: int) -> None:
    """To a level or two, as decoders differ; without that step noise would be off by tens of them."""
    how = form(image_size=40, channels=channels, encoding="jpeg", jpeg_quality=20)
    description = described(form=how, size=40)
    write_example(tmp_path, description, "classifier.onnx")
    (tmp_path / "noise.png").write_bytes(encoded(noise(0, (40, 40))))
    made = function_of_example(tmp_path)(tmp_path / "noise.png")[0].astype(int)
    expected = network_input((tmp_path / "noise.png").read_bytes(), description).astype(int)
    assert abs(made - expected).max() <= 2
    plain = network_input(
        (tmp_path / "noise.png").read_bytes(), replace(description, form=replace(how, encoding="raw"))
    )
    assert abs(plain.astype(int) - expected).max() > 20


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("enlarge", [True, False])
@pytest.mark.parametrize("fit", ["crop", "pad", "squash"])
def test_the_example_program_makes_the_pixels_that_the_network_sees_to_the_bit(
    tmp_path: Path, channels: int, enlarge: bool, fit: str
) -> None:
    """For images turned, transparent, grey, of 16 bits, with a palette, and tiny."""
    turned = Image.Exif()
    turned[0x0112] = 6
    ramp = np.arange(70 * 51, dtype=np.uint16).reshape(51, 70) * 18
    files = {
        "photo": encoded(photo()),
        "turned": encoded(photo(1, (90, 61)), "JPEG", exif=turned),
        "clear": encoded(Image.merge("RGBA", [*noise(2, (50, 71)).split(), noise(4, (50, 71)).convert("L")])),
        "grey": encoded(noise(3, (60, 41)).convert("L")),
        "deep": encoded(Image.fromarray(ramp)),
        "palette": encoded(photo(5, (77, 50)).quantize(20)),
        "tiny": encoded(noise(6, (5, 9))),
    }
    description = described(
        form=form(image_size=40, channels=channels, enlarge=enlarge), size=24, fit=fit, crop_fraction=0.85
    )
    write_example(tmp_path, description, "classifier.onnx")
    reference = write_reference(tmp_path, description)
    tensor_of = function_of_example(tmp_path)
    for name, content in files.items():
        (tmp_path / name).write_bytes(content)
        made = tensor_of(tmp_path / name)
        assert np.array_equal(made[0], network_input(content, description)), name
        assert made.dtype == np.uint8
    assert np.array_equal(tensor_of(tmp_path / "reference.png"), reference)
    assert reference.shape == (1, 24, 24, channels)
    assert len(np.unique(reference)) > 50  # it is no single colour


NETWORKS = ("resnet18", "densenet121", "timm/tf_efficientnet_lite0")


@pytest.fixture(scope="module")
def programs() -> dict[str, tuple[Classifier, torch.export.ExportedProgram]]:
    """What was traced of each network, for both formats."""
    return {}


@pytest.mark.parametrize("ending", [".onnx", ".pt2"])
@pytest.mark.parametrize("network", NETWORKS)
def test_networks_of_others_give_in_a_file_what_they_give_here(
    network: str,
    ending: str,
    tmp_path: Path,
    programs: dict[str, tuple[Classifier, torch.export.ExportedProgram]],
) -> None:
    """Random weights, and BatchNorm's statistics of random images, without which all answers would be alike."""
    if network.startswith("timm/"):
        pytest.importorskip("timm")
    images = np.random.default_rng(1).integers(0, 256, (5, 64, 64, 3), dtype=np.uint8)
    if network not in programs:
        torch.manual_seed(0)
        description = described(model=network, form=form(channels=3), size=64, classes=list("abcd"), temperature=0.5)
        classifier = new_classifier(description, [0.5, 0.4, 0.3], [0.3, 0.2, 0.1]).train()
        for layer in classifier.modules():
            if isinstance(layer, nn.BatchNorm2d):
                layer.momentum = None  # the mean of all that it sees
        with torch.no_grad():
            classifier(torch.from_numpy(images))
        programs[network] = classifier.eval(), exported.traced(classifier)
    classifier, program = programs[network]
    path = tmp_path / f"x{ending}"
    (exported.write_onnx if ending == ".onnx" else exported.write_pt2)(program, path, classifier.description)
    expected = exported.probabilities_in_fp32(classifier, images)
    assert np.ptp(expected, axis=0).max() > 0.01
    with proof.RUNNERS[ending](path, classifier.description) as compute:
        assert compute(images) == pytest.approx(expected, abs=5e-4)
        assert compute(images[:1]) == pytest.approx(expected[:1], abs=5e-4)


def test_the_output_is_checked_for_every_name_that_is_written() -> None:
    assert sorted(export.BESIDE) == sorted([*BESIDE, "README.md", "model_card.md"])
