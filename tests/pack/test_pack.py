"""Packed splits, in either encoding, and their statistics."""

import io
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from conftest import ROOT
from PIL import Image
from samples import encoded, form, noise, photo

from imgpipe.common.errors import InputError
from imgpipe.common.files import write_table
from imgpipe.data import parallel
from imgpipe.data.packed import Split, read_split
from imgpipe.pack.pack import mean_and_std, pack
from stages.pack import pack as pack_stage

IMAGES = {f"train/a/{i}.png": noise(i, (20, 10 + i)) for i in range(3)} | {"train/b/0.png": photo()}


def packed(folder: Path, *, processes: int = 1, **changes: Any) -> Split:
    """The images packed at 11 pixels in colour, but for the changes."""
    rows = [{"file": file, "label": file.split("/")[1]} for file in IMAGES]
    how = form(**{"image_size": 11, "channels": 3, **changes})
    folder.mkdir(exist_ok=True)
    pack(rows, lambda file: encoded(IMAGES[file]), folder, classes=["a", "b"], form=how, processes=processes)
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
def test_processes_and_threads_change_no_byte(tmp_path: Path, encoding: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(parallel, "ALONE", 0.0)
    for count in (1, 4):
        split = packed(tmp_path / str(count), encoding=encoding, processes=count)
        (tmp_path / str(count) / "statistics").write_text(str(mean_and_std(split, threads=count)))
    for name in ("images.npy", "index.csv", "statistics"):
        assert (tmp_path / "1" / name).read_bytes() == (tmp_path / "4" / name).read_bytes()


def test_a_prepared_image_that_broke_is_named(tmp_path: Path) -> None:
    row = {"file": "train/a/x.png", "label": "a"}
    with pytest.raises(InputError, match=r"prepared image train/a/x.png: it is empty; take it out"):
        pack([row], lambda file: b"", tmp_path, classes=["a"], form=form(), processes=1)


@pytest.mark.parametrize(
    ("size", "encoding", "said"),
    [((1, 70_000), "jpeg", "11 x 770000"), ((1, 2_000_000), "raw", "11 x 22000000")],
    ids=["longer than a JPEG may be", "more pixels than are read"],
)
def test_an_image_too_long_to_be_packed_is_named(
    size: tuple[int, int], encoding: str, said: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(IMAGES, "train/a/0.png", Image.new("L", size))
    with pytest.raises(
        InputError, match=f"train/a/0.png: it is so long that it would be packed as {said} pixels; take"
    ):
        packed(tmp_path, encoding=encoding)


def test_images_of_one_size_are_known_to_be(tmp_path: Path) -> None:
    assert packed(tmp_path).common_shape is None
    alike = {"train/a/0.png": noise(0), "train/a/1.png": noise(1)}
    rows = [{"file": file, "label": "a"} for file in alike]
    how = form(image_size=10, enlarge=False, channels=3)
    pack(rows, lambda file: encoded(alike[file]), tmp_path, classes=["a"], form=how, processes=1)
    split = read_split(tmp_path, how)
    assert split.common_shape == (10, 12)
    assert np.array_equal(split.images(np.array([1, 0])), np.stack([split.image(1), split.image(0)]))


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
