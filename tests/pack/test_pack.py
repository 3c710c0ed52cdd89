"""Packed splits, in either encoding, and their statistics."""

import contextlib
import io
import itertools
import math
import os
import re
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from conftest import ROOT
from PIL import Image
from samples import encoded, form, noise, photo

from imgpipe.common.errors import InputError
from imgpipe.common.files import read_table, write_table
from imgpipe.data import processes
from imgpipe.data.packed import (
    INDEX,
    Split,
    Statistics,
    check_content,
    read_packed,
    read_split,
    write_statistics,
)
from imgpipe.pack.pack import mean_and_std, pack, pack_image
from stages.pack import pack as pack_stage

IMAGES = {f"train/a/{i}.png": noise(i, (20, 10 + i)) for i in range(3)} | {'train/b/#, "é".png': photo()}


def row_of(file: str, image: Image.Image) -> dict[str, str]:
    """What data/images.csv says of an image, as far as pack needs it."""
    return {"file": file, "label": file.split("/")[1], "width": str(image.width), "height": str(image.height)}


def packed(folder: Path, *, processes: int = 1, **changes: Any) -> Split:
    """The images packed at 11 pixels in colour, but for the changes."""
    rows = [row_of(file, image) for file, image in IMAGES.items()]
    how = form(**{"image_size": 11, "channels": 3, **changes})
    folder.mkdir(exist_ok=True)
    pack(
        rows,
        lambda file: encoded(IMAGES[file]),
        folder,
        images=len(rows),
        classes=["a", "b"],
        form=how,
        processes=processes,
    )
    return read_split(folder, how)


def test_raw_pixels_are_pillow_s_and_the_statistics_numpy_s(tmp_path: Path) -> None:
    split = packed(tmp_path)
    assert split.labels.tolist() == [0, 0, 0, 1]
    assert split.files == list(IMAGES)
    for i, image in enumerate(IMAGES.values()):
        scale = 11 / min(image.size)
        size = round(image.width * scale), round(image.height * scale)
        assert np.array_equal(split.image(i), np.asarray(image.resize(size, Image.Resampling.BILINEAR)))
    every_pixel = np.load(tmp_path / "images.npy").reshape(-1, 3).astype(np.float64) / 255
    mean, std = mean_and_std(split, threads=2)
    assert mean == pytest.approx(every_pixel.mean(axis=0), abs=1e-12)
    assert std == pytest.approx(every_pixel.std(axis=0), abs=1e-12)


def test_smaller_images_are_enlarged_only_where_asked(tmp_path: Path) -> None:
    heights = packed(tmp_path, enlarge=False).heights.tolist()
    assert heights == [10, 11, 11, 11]
    assert packed(tmp_path / "x", enlarge=True).heights.tolist() == [11, 11, 11, 11]


@pytest.mark.parametrize("channels", [1, 3])
def test_jpeg_images_are_files_that_others_read_and_their_statistics_those_of_what_they_show(
    tmp_path: Path, channels: int
) -> None:
    raw = packed(tmp_path / "raw", image_size=60, channels=channels)
    split = packed(tmp_path / "jpeg", image_size=60, channels=channels, encoding="jpeg")
    assert len(split.content) < len(raw.content) / 3
    for i in range(len(split)):
        image = split.image(i)
        assert image.shape == raw.image(i).shape
        content = split.content[split.offsets[i] :][: split.lengths[i]].tobytes()
        by_pillow = np.asarray(Image.open(io.BytesIO(content))).reshape(image.shape)
        assert np.abs(image.astype(int) - by_pillow).max() <= 4  # decoders round otherwise
    difference = split.image(3).astype(int) - raw.image(3)
    assert 0 < np.abs(difference).mean() < 6  # the photo; of noise JPEG makes something else
    every_pixel = np.concatenate([split.image(i).reshape(-1, channels) for i in range(len(split))]) / 255
    assert mean_and_std(split, threads=1)[0] == pytest.approx(every_pixel.mean(axis=0), abs=1e-12)


@pytest.mark.parametrize("encoding", ["raw", "jpeg"])
@pytest.mark.parametrize("channels", [1, 3])
def test_each_level_of_a_pyramid_has_half_the_size_and_means_of_four_pixels(
    tmp_path: Path, encoding: str, channels: int
) -> None:
    whole = packed(tmp_path / "1", image_size=60, channels=channels, encoding=encoding)
    split = packed(tmp_path / "3", image_size=60, channels=channels, encoding=encoding, levels=3)
    check_content(split, tmp_path / "3", part=0, parts=1)
    assert mean_and_std(split, threads=1) == mean_and_std(whole, threads=1)
    assert (len(split.content) == len(whole.content)) == (encoding == "jpeg")
    for i in range(len(split)):
        image = split.image(i)
        assert np.array_equal(image, whole.image(i))
        for level in (1, 2):
            height, width = (math.ceil(side / 2**level) for side in image.shape[:2])
            assert split.image(i, level).shape == (height, width, channels)
            side = 2**level
            blocks = image[: image.shape[0] // side * side, : image.shape[1] // side * side]
            means = blocks.reshape(blocks.shape[0] // side, side, blocks.shape[1] // side, side, channels).mean((1, 3))
            got = split.image(i, level)[: means.shape[0], : means.shape[1]]
            off = np.abs(got - means)
            assert off.max() <= 0.5 if encoding == "raw" else off.mean() < 5  # libjpeg leaves out high frequencies


@pytest.mark.parametrize("encoding", ["raw", "jpeg"])
def test_processes_and_threads_change_no_byte(tmp_path: Path, encoding: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(processes, "ALONE", 0.0)
    for count in (1, 4):
        split = packed(tmp_path / str(count), encoding=encoding, processes=count)
        (tmp_path / str(count) / "statistics").write_text(str(mean_and_std(split, threads=count)))
    for name in ("images.npy", "index.csv", "statistics"):
        assert (tmp_path / "1" / name).read_bytes() == (tmp_path / "4" / name).read_bytes()


def test_a_prepared_image_that_broke_is_named(tmp_path: Path) -> None:
    row = row_of("train/a/x.png", noise(0))
    with pytest.raises(InputError, match=r"prepared image train/a/x.png: it is empty; take it out"):
        pack([row], lambda file: b"", tmp_path, images=1, classes=["a"], form=form(), processes=1)


def test_the_longest_image_is_packed_with_a_shorter_short_side_where_else_it_would_be_too_large() -> None:
    """At a short side of 2,000 it would be 100,000 long: JPEG ends at 65,500, and all at 67,108,864 pixels."""
    height, width, _ = pack_image(encoded(Image.new("L", (2, 100))), form(image_size=2000, encoding="jpeg"))
    assert (height, width) == (57_926, 1159)


def _becomes_a_folder(path: Path) -> None:
    path.unlink()
    path.mkdir()


DAMAGES: dict[str, tuple[str, Callable[[Path], object], str]] = {
    "cut": ("images.npy", lambda path: os.truncate(path, path.stat().st_size - 1), "mmap length is greater"),
    "cut header": ("images.npy", lambda path: os.truncate(path, 20), "EOF"),
    "empty": ("images.npy", lambda path: path.write_bytes(b""), "is not as"),
    "folder": ("images.npy", _becomes_a_folder, "Is a directory"),
    "gone": ("images.npy", Path.unlink, "No such file"),
    "objects": ("images.npy", lambda path: np.save(path, np.array([print]), allow_pickle=True), "Python objects"),
    "zip": ("images.npy", lambda path: np.savez(path.open("wb"), a=np.zeros(3)), "magic string"),
    "floats": ("images.npy", lambda path: np.save(path, np.zeros(9)), "images.npy is float64 (9,), and not uint8"),
    "two dimensions": ("images.npy", lambda path: np.save(path, np.zeros((3, 3), np.uint8)), "is uint8 (3, 3)"),
    "longer": ("images.npy", lambda path: np.save(path, np.zeros(9999, np.uint8)), "has 9,999 bytes, and the images"),
    "no table": ("index.csv", lambda path: path.write_bytes(b"\xff\0"), "is not as"),
    "no column": ("index.csv", lambda path: path.write_text("file,label\na,0\n"), "its columns are not file, label"),
    "no rows": ("index.csv", lambda path: path.write_text("file,label,offset,bytes,height,width,crc32\n"), "no data"),
    "cell of 200,000": ("index.csv", lambda path: path.write_text("file\n" + "a" * 200_000), "its columns are not"),
}  # fmt: skip


@pytest.mark.parametrize("name", DAMAGES)
def test_packed_files_that_are_damaged_are_refused_in_one_line(name: str, tmp_path: Path) -> None:
    packed(tmp_path)
    file, damage, said = DAMAGES[name]
    damage(tmp_path / file)
    _refused(tmp_path, said)


ODD = ("-1", "0", "1", "12", "255", "99999999999", "9" * 5000, "1.5", "", "x")


@pytest.mark.parametrize("column", INDEX[1:])
def test_no_odd_number_in_the_index_gets_past_both_checks(column: str, tmp_path: Path) -> None:
    packed(tmp_path)
    index = read_table(tmp_path / "index.csv")
    for row, odd in itertools.product(range(len(index)), ODD):
        if index[row][column] != odd:
            changed = [cells | {column: odd} if i == row else cells for i, cells in enumerate(index)]
            write_table(tmp_path / "index.csv", INDEX, changed)
            _refused(tmp_path, "is not as pack wrote it")


@pytest.mark.parametrize(("parts", "at_once"), [(4, 1024), (2, 1), (1, 3)])
def test_a_flipped_byte_of_any_image_is_found_by_whoever_checks_that_part(
    parts: int, at_once: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("imgpipe.data.packed.AT_ONCE", at_once)
    split = packed(tmp_path)
    path = tmp_path / "images.npy"
    whole = path.read_bytes()
    start = len(whole) - len(split.content)
    for part in range(parts):
        check_content(split, tmp_path, part=part, parts=parts)
    for number, file in enumerate(split.files):
        damaged = bytearray(whole)
        damaged[start + int(split.offsets[number])] ^= 1
        path.write_bytes(damaged)
        broken = read_split(tmp_path, split.form)
        for part in range(parts):
            its = part == number * parts // len(split)
            with pytest.raises(InputError, match=f"image {file} is another") if its else contextlib.nullcontext():
                check_content(broken, tmp_path, part=part, parts=parts)


def test_a_label_of_no_class_and_statistics_that_are_none_are_refused(tmp_path: Path) -> None:
    split = packed(tmp_path / "train")
    whole = Statistics(["a", "b"], split.form, [0.5] * 3, [0.2] * 3)
    write_statistics(tmp_path / "statistics.json", whole)
    assert read_packed(tmp_path, ["train"])[0] == whole
    for wrong in (replace(whole, classes=["a"]), replace(whole, mean=[0.5]), replace(whole, std=[float("nan")] * 3)):
        write_statistics(tmp_path / "statistics.json", wrong)
        with pytest.raises(InputError, match="is not as pack wrote it"):
            read_packed(tmp_path, ["train"])
    for text in ("", "[]", "{}", "[" * 100_000, '{"classes": 3}'):
        (tmp_path / "statistics.json").write_text(text)
        with pytest.raises(InputError, match=r"statistics.json is not as pack wrote it"):
            read_packed(tmp_path, ["train"])


def _refused(folder: Path, said: str) -> None:
    """Either on opening or on reading all, in one line that names what is damaged and says what to do."""
    with pytest.raises(InputError, match=re.escape(said)) as refusal:
        check_content(read_split(folder, form(image_size=11, channels=3)), folder, part=0, parts=1)
    assert re.fullmatch(r".*(images.npy|index.csv|" + re.escape(str(folder)) + r") is not as pack wrote it \(.*"
                        r"\); where dvc checkout does not help, .*", str(refusal.value))  # fmt: skip


def test_images_of_one_size_are_known_to_be(tmp_path: Path) -> None:
    assert packed(tmp_path).common_shape is None
    alike = {"train/a/0.png": noise(0), "train/a/1.png": noise(1)}
    rows = [row_of(file, image) for file, image in alike.items()]
    how = form(image_size=10, enlarge=False, channels=3, levels=2)
    pack(rows, lambda file: encoded(alike[file]), tmp_path, images=len(rows), classes=["a"], form=how, processes=1)
    split = read_split(tmp_path, how)
    assert split.common_shape == (10, 12)
    assert np.array_equal(split.together, np.stack([split.image(0), split.image(1)]))


def test_the_stage_says_how_many_images_it_enlarges(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """The project's own pack.image_size is 16: one image of three is smaller."""
    rows = []
    for i, (split, size) in enumerate([("train", (12, 30)), ("train", (16, 16)), ("val", (40, 16))]):
        file = tmp_path / f"data/prepared/{split}/a/{i}.png"
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(encoded(noise(i, size)))
        rows.append({"file": f"{split}/a/{i}.png", "split": split, "label": "a", "width": size[0], "height": size[1]})
    write_table(tmp_path / "data/images.csv", list(rows[0]), rows)
    shutil.copy(ROOT / "params.yaml", tmp_path)
    monkeypatch.chdir(tmp_path)
    pack_stage()
    assert caplog.messages == [
        "1 of 3 images is smaller than pack.image_size of 16 pixels (short sides from 12) and is enlarged: a smaller "
        "pack.image_size enlarges fewer of them, and pack.enlarge false none"
    ]
