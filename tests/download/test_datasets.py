"""torchvision's datasets, from small files in their real formats; nothing comes from the network."""

import bz2
import gzip
import hashlib
import inspect
import io
import json
import struct
import subprocess
import sys
import threading
from collections.abc import Iterator
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
from conftest import ROOT
from numpy.typing import NDArray
from PIL import Image
from torchvision import datasets

from imgpipe.common.errors import InputError
from imgpipe.download.datasets import DATASETS, torchvision_images

LEVELS = np.random.default_rng(0).integers(0, 256, (12, 28, 28), dtype=np.uint8)


def jpeg(level: int) -> bytes:
    """An image that no decoding and encoding would leave as it is: a comment stands in it."""
    buffer = io.BytesIO()
    Image.new("RGB", (5, 4), (level, 0, 0)).save(buffer, "JPEG", comment=f"level {level}")
    return buffer.getvalue()


def write(path: Path, content: bytes | str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content if isinstance(content, bytes) else content.encode())


def idx(values: NDArray[np.uint8]) -> bytes:
    """The format of MNIST: a magic number that ends in the number of axes, their lengths, the bytes."""
    return struct.pack(f">{values.ndim + 1}I", 0x0800 | values.ndim, *values.shape) + values.tobytes()


def mnist_files() -> dict[str, bytes]:
    """Twelve images to train on, whose class is their number modulo 10, and one of a nine to test."""
    return {
        "train-images-idx3-ubyte": idx(LEVELS),
        "train-labels-idx1-ubyte": idx(np.arange(12, dtype=np.uint8) % 10),
        "t10k-images-idx3-ubyte": idx(LEVELS[:1]),
        "t10k-labels-idx1-ubyte": idx(np.array([9], dtype=np.uint8)),
    }


MNIST_NAMES = [
    "train/0 - zero/00.png", "train/1 - one/01.png", "train/2 - two/02.png", "train/3 - three/03.png",
    "train/4 - four/04.png", "train/5 - five/05.png", "train/6 - six/06.png", "train/7 - seven/07.png",
    "train/8 - eight/08.png", "train/9 - nine/09.png", "train/0 - zero/10.png", "train/1 - one/11.png",
    "test/9 - nine/0.png",
]  # fmt: skip


def test_mnist_s_pixels_are_kept_and_its_names_are_unique_and_sort_by_number(tmp_path: Path) -> None:
    for name, content in mnist_files().items():
        write(tmp_path / "MNIST/raw" / name, content)
    found = list(torchvision_images("MNIST", tmp_path))
    assert [name for name, _ in found] == MNIST_NAMES
    for (_, content), levels in zip(found, [*LEVELS, LEVELS[0]], strict=True):
        image = Image.open(io.BytesIO(content))
        assert (image.format, image.mode) == ("PNG", "L")
        assert np.array_equal(np.asarray(image), levels)


def test_a_slash_in_the_name_of_a_class_makes_no_folder(tmp_path: Path) -> None:
    for name, content in mnist_files().items():
        write(tmp_path / "FashionMNIST/raw" / name, content)
    assert next(torchvision_images("FashionMNIST", tmp_path))[0] == "train/T-shirt_top/00.png"


def test_image_files_keep_their_names_and_bytes(tmp_path: Path) -> None:
    files = {"train": ["pie/7.jpg", "egg/3.jpg"], "test": ["pie/8.jpg"]}
    expected: dict[str, bytes] = {}
    for split, names in files.items():
        lists = {"pie": [n[:-4] for n in names if n[0] == "p"], "egg": [n[:-4] for n in names if n[0] == "e"]}
        write(tmp_path / f"food-101/meta/{split}.json", json.dumps(lists))
        for name in names:
            expected[f"{split}/{name}"] = jpeg(len(expected))
            write(tmp_path / "food-101/images" / name, expected[f"{split}/{name}"])
    assert dict(torchvision_images("Food101", tmp_path)) == expected


def test_a_class_that_is_called_as_a_split_is_no_split(tmp_path: Path) -> None:
    for i, split in enumerate(("train", "val", "test")):
        write(tmp_path / f"dtd/dtd/labels/{split}1.txt", f"train/{i}.jpg\nVal/{i}.jpg\n")
        write(tmp_path / f"dtd/dtd/images/train/{i}.jpg", jpeg(i))
        write(tmp_path / f"dtd/dtd/images/Val/{i}.jpg", jpeg(i + 10))
    found = dict(torchvision_images("DTD", tmp_path))
    assert found == {
        "train/train_/0.jpg": jpeg(0), "train/Val_/0.jpg": jpeg(10),
        "val/train_/1.jpg": jpeg(1), "val/Val_/1.jpg": jpeg(11),
        "test/train_/2.jpg": jpeg(2), "test/Val_/2.jpg": jpeg(12),
    }  # fmt: skip


def test_a_dataset_without_splits_has_folders_of_classes_only(tmp_path: Path) -> None:
    for i, name in enumerate(("Forest/Forest_1.jpg", "River/River_1.jpg")):
        write(tmp_path / "eurosat/2750" / name, jpeg(i))
    found = list(torchvision_images("EuroSAT", tmp_path))
    assert found == [("Forest/Forest_1.jpg", jpeg(0)), ("River/River_1.jpg", jpeg(1))]


def test_the_order_of_the_files_on_the_disk_does_not_matter(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write(tmp_path / "SUN397/ClassName.txt", "/a/abbey\n/a/apartment_building/outdoor\n")
    write(tmp_path / "SUN397/a/abbey/sun_a.jpg", jpeg(0))
    write(tmp_path / "SUN397/a/abbey/sun_b.jpg", jpeg(1))
    write(tmp_path / "SUN397/a/apartment_building/outdoor/sun_a.jpg", jpeg(2))
    expected = [
        ("abbey/sun_a.jpg", jpeg(0)),
        ("abbey/sun_b.jpg", jpeg(1)),
        ("apartment_building_outdoor/sun_a.jpg", jpeg(2)),
    ]
    rglob = Path.rglob
    for backwards in (False, True):
        monkeypatch.setattr(Path, "rglob", lambda *args, b=backwards: iter(sorted(rglob(*args), reverse=b)))
        assert list(torchvision_images("SUN397", tmp_path)) == expected


def test_the_first_of_several_names_of_a_class_is_taken(tmp_path: Path) -> None:
    for split in ("train", "val"):
        write(tmp_path / f"imagenette2/{split}/n01440764/a.JPEG", jpeg(0))
    assert [name for name, _ in torchvision_images("Imagenette", tmp_path)] == [
        "train/tench/a.JPEG",
        "val/tench/a.JPEG",
    ]


def test_a_file_that_torchvision_opens_itself_keeps_its_bytes_too(tmp_path: Path) -> None:
    write(tmp_path / "caltech256/256_ObjectCategories/001.ak47/001_0001.jpg", jpeg(3))
    assert list(torchvision_images("Caltech256", tmp_path)) == [("001.ak47/001_0001.jpg", jpeg(3))]


def test_classes_without_names_are_numbers(tmp_path: Path) -> None:
    """Labels 1 to 10 of the files are 0 to 9; values from -1 to 1 are levels from 0 to 255."""
    for file, label in (("usps.bz2", 10), ("usps.t.bz2", 1)):
        values = " ".join(f"{i + 1}:{-1 if i else 1}" for i in range(256))
        write(tmp_path / file, bz2.compress(f"{label} {values}\n".encode()))
    found = dict(torchvision_images("USPS", tmp_path))
    assert list(found) == ["train/009/0.png", "test/000/0.png"]
    levels = np.asarray(Image.open(io.BytesIO(found["train/009/0.png"])))
    assert levels.shape == (16, 16)
    assert (levels[0, 0], levels.sum()) == (255, 255)


@pytest.fixture
def mirror(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A folder that a server on this machine gives away, with MNIST in it, as torchvision looks for it."""
    folder = tmp_path / "mirror"
    resources = []
    for name, content in mnist_files().items():
        packed = gzip.compress(content)
        write(folder / f"{name}.gz", packed)
        resources.append((f"{name}.gz", hashlib.md5(packed).hexdigest()))
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    with ThreadingHTTPServer(("127.0.0.1", 0), partial(SimpleHTTPRequestHandler, directory=folder)) as server:
        monkeypatch.setattr(datasets.MNIST, "mirrors", [f"http://127.0.0.1:{server.server_port}/"])
        monkeypatch.setattr(datasets.MNIST, "resources", resources)
        threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}).start()
        yield folder
        server.shutdown()


def test_what_is_not_there_is_downloaded_once(tmp_path: Path, mirror: Path) -> None:
    assert [name for name, _ in torchvision_images("MNIST", tmp_path / "mnist")] == MNIST_NAMES
    for file in mirror.iterdir():
        file.unlink()
    assert [name for name, _ in torchvision_images("MNIST", tmp_path / "mnist")] == MNIST_NAMES


def test_a_failed_download_is_told_in_one_line_and_leaves_nothing(tmp_path: Path, mirror: Path) -> None:
    (mirror / "t10k-labels-idx1-ubyte.gz").unlink()
    with pytest.raises(InputError) as refusal:
        next(torchvision_images("MNIST", tmp_path / "mnist"))
    assert str(refusal.value) == (
        f"torchvision can't give MNIST in {tmp_path}/mnist: RuntimeError: Error downloading t10k-labels-idx1-ubyte.gz: "
        f"Tried {datasets.MNIST.mirrors[0]}, got: HTTP Error 404: File not found; "
        "try again, or delete that folder if a file is damaged"
    )
    assert list(tmp_path.iterdir()) == [mirror]


def test_a_dataset_is_there_with_all_its_splits_or_not_at_all(
    tmp_path: Path, mirror: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    files = {split: [f"{datasets.MNIST.mirrors[0]}{split}.bz2", f"{split}.bz2", None] for split in ("train", "test")}
    monkeypatch.setattr(datasets.USPS, "split_list", files)
    pixels = " ".join(f"{i}:0" for i in range(256))
    write(mirror / "train.bz2", bz2.compress(f"1 {pixels}\n".encode()))
    with pytest.raises(InputError, match="HTTP Error 404"):
        next(torchvision_images("USPS", tmp_path / "usps"))
    assert list(tmp_path.iterdir()) == [mirror]


@pytest.mark.parametrize("file", sorted(mnist_files()))
def test_a_damaged_file_is_told_in_one_line(tmp_path: Path, file: str) -> None:
    for name, content in mnist_files().items():
        write(tmp_path / "MNIST/raw" / name, content[: 5 if name == file else None])
    with pytest.raises(InputError, match=rf"^torchvision can't give MNIST in {tmp_path}: \w+: .*a file is damaged$"):
        list(torchvision_images("MNIST", tmp_path))


def test_an_image_that_is_missing_is_told_in_one_line(tmp_path: Path) -> None:
    write(tmp_path / "dtd/dtd/labels/train1.txt", "cracked/1.jpg\n")
    (tmp_path / "dtd/dtd/images").mkdir()
    with pytest.raises(InputError, match=r"FileNotFoundError: .*/cracked/1.jpg'; try again, or delete that folder"):
        list(torchvision_images("DTD", tmp_path))


def test_a_dataset_that_is_no_longer_to_be_had_is_told_in_one_line(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"^torchvision can't give StanfordCars in .*/cars: RuntimeError: Dataset not"):
        list(torchvision_images("StanfordCars", tmp_path / "cars"))


def test_a_missing_package_is_told_in_one_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write(tmp_path / "caltech101/101_ObjectCategories/BACKGROUND_Google/image_0001.jpg", jpeg(0))
    write(tmp_path / "caltech101/101_ObjectCategories/ant/image_0001.jpg", jpeg(1))
    assert list(torchvision_images("Caltech101", tmp_path)) == [("ant/image_0001.jpg", jpeg(1))]
    monkeypatch.setitem(sys.modules, "scipy.io", None)
    with pytest.raises(InputError, match=r"^torchvision's Caltech101 needs a package .*: .*scipy.io.*; install it$"):
        list(torchvision_images("Caltech101", tmp_path))


@pytest.mark.parametrize("name", DATASETS)
def test_torchvision_accepts_what_the_table_asks_for(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In an empty folder a dataset finds no files, but for a wrong argument it raises TypeError or ValueError."""
    monkeypatch.setitem(sys.modules, "h5py", ModuleType("h5py"))  # PCAM looks for it first
    kind = getattr(datasets, name)
    for split, keywords in DATASETS[name].items():
        assert split in ("", "train", "val", "test")
        inspect.signature(kind).bind(root=tmp_path, **{"download": True, **keywords})
        offline = {"root": tmp_path, "download": False}
        with pytest.raises((RuntimeError, FileNotFoundError)):
            kind(**keywords | offline)
        for key in keywords.keys() & {"split", "what"}:
            with pytest.raises(ValueError, match=f"Unknown value 'nonsense' for argument {key}"):
                kind(**keywords | offline | {key: "nonsense"})


def test_params_yaml_is_checked_without_what_takes_long_to_import() -> None:
    program = (
        "import sys, imgpipe.download.params; print({'torch', 'torchvision', 'numpy', 'requests'} & set(sys.modules))"
    )
    done = subprocess.run([sys.executable, "-c", program], cwd=ROOT / "src", capture_output=True, text=True, check=True)
    assert done.stdout == "set()\n"
