"""Turn torchvision's classification datasets into image files.

To add a dataset: a line in DATASETS.
"""

import inspect
import io
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path, PurePosixPath
from typing import Any

from imgpipe.common.errors import InputError, one_line
from imgpipe.common.files import replacing_folder
from imgpipe.data.archives import SPLIT_OF_FOLDER

Arguments = dict[str, Any]

UNSPLIT: dict[str, Arguments] = {"": {}}
BY_FLAG: dict[str, Arguments] = {"train": {"train": True}, "test": {"train": False}}
TRAIN_TEST: dict[str, Arguments] = {"train": {"split": "train"}, "test": {"split": "test"}}
TRAIN_VAL: dict[str, Arguments] = {"train": {"split": "train"}, "val": {"split": "val"}}
TRAIN_VAL_TEST = TRAIN_TEST | TRAIN_VAL  # in this order, which is that of the archive

DATASETS: dict[str, dict[str, Arguments]] = {
    "Caltech101": UNSPLIT,
    "Caltech256": UNSPLIT,
    "CIFAR10": BY_FLAG,
    "CIFAR100": BY_FLAG,
    "CLEVRClassification": TRAIN_VAL,  # its test images have no labels
    "Country211": {"train": {"split": "train"}, "val": {"split": "valid"}, "test": {"split": "test"}},
    "DTD": TRAIN_VAL_TEST,
    "EMNIST": {split: {"split": "balanced", **flag} for split, flag in BY_FLAG.items()},
    "EuroSAT": UNSPLIT,
    "FashionMNIST": BY_FLAG,
    "FGVCAircraft": TRAIN_VAL_TEST,
    "Flowers102": TRAIN_VAL_TEST,
    "Food101": TRAIN_TEST,
    "GTSRB": TRAIN_TEST,
    "Imagenette": TRAIN_VAL,
    "KMNIST": BY_FLAG,
    "MNIST": BY_FLAG,
    "OxfordIIITPet": {"train": {"split": "trainval"}, "test": {"split": "test"}},
    "PCAM": TRAIN_VAL_TEST,
    "QMNIST": {"train": {"what": "train"}, "test": {"what": "test"}},
    "RenderedSST2": TRAIN_VAL_TEST,
    "SEMEION": UNSPLIT,
    "StanfordCars": {split: {"download": False, **ask} for split, ask in TRAIN_TEST.items()},  # its address is no more
    "STL10": TRAIN_TEST,
    "SUN397": UNSPLIT,
    "SVHN": TRAIN_TEST,
    "USPS": BY_FLAG,
}
"""Our splits of each dataset, and the keyword arguments that ask torchvision for them."""


def torchvision_images(name: str, root: Path) -> Iterator[tuple[str, bytes]]:
    """Yield the name and the bytes of each image of a dataset; torchvision downloads what is not in ``root`` yet.

    Names are ``<split>/<class>/<file>``, or ``<class>/<file>`` where the dataset has no splits. A file keeps its name
    and its bytes where torchvision tells where it is; else the image is a PNG, which loses nothing, and its number
    in the split is its name.

    Classes have the dataset's names, or else their numbers, ``007``. A "/" in them becomes "_"; and a class that has
    the name of a split, such as the trains of CIFAR100, gets a "_" behind it.

    name: one of DATASETS.
    root: folder of this dataset alone. It appears once all of the dataset is there.

    Raises InputError where the download fails, a file is damaged, or a package is missing.
    """
    splits = DATASETS[name]
    if not root.exists():  # whole or not at all: torchvision takes half of an unpacked archive for all of it
        with replacing_folder(root) as draft:
            for keywords in splits.values():
                with _explained(name, root):
                    _dataset(name, draft, keywords)
    for split, keywords in splits.items():
        with _explained(name, root):
            dataset = _dataset(name, root, keywords)
            order = _order(dataset)
        for number in order:
            with _explained(name, root):
                label, file, content = _image(dataset, number)
            yield PurePosixPath(split, label, file).as_posix(), content


def _dataset(name: str, root: Path, keywords: Arguments) -> Any:
    """Return torchvision's dataset; one that takes a loader gives the path of each image file in place of the image."""
    from torchvision import datasets  # imports torch, which takes seconds: who asks for names needs none

    kind = getattr(datasets, name)
    loader = {"loader": Path} if "loader" in inspect.signature(kind).parameters else {}
    return kind(root=str(root), **{"download": True, **loader, **keywords})


def _order(dataset: Any) -> list[int]:
    """Return the numbers of the images, those of files by name: SUN397 has them in the order of the disk."""
    numbers = list(range(len(dataset)))
    return sorted(numbers, key=lambda number: dataset[number][0]) if hasattr(dataset, "loader") else numbers


def _image(dataset: Any, number: int) -> tuple[str, str, bytes]:
    """Return the class, file name and bytes of an image."""
    image, label = dataset[number]
    file = image if isinstance(image, Path) else getattr(image, "filename", None)
    if file:
        return _class(dataset, label), Path(file).name, Path(file).read_bytes()
    buffer = io.BytesIO()
    image.save(buffer, format="PNG")
    digits = len(str(len(dataset) - 1))
    return _class(dataset, label), f"{number:0{digits}}.png", buffer.getvalue()


def _class(dataset: Any, label: int) -> str:
    names = getattr(dataset, "classes", None) or getattr(dataset, "categories", None)
    if names is None:
        return f"{label:03}"
    name: str = names[label] if isinstance(names[label], str) else names[label][0]  # Imagenette's have several names
    return f"{name}_" if name.lower() in SPLIT_OF_FOLDER else name.replace("/", "_")


@contextmanager
def _explained(name: str, root: Path) -> Iterator[None]:
    """Make an InputError of what goes wrong in torchvision, which on a damaged file may be anything."""
    try:
        yield
    except ImportError as error:
        raise InputError(f"torchvision's {name} needs a package that is missing: {error}; install it") from None
    except Exception as error:
        raise InputError(
            f"torchvision can't give {name} in {root}: {one_line(error, named=True)}; "
            "try again, or delete that folder if a file is damaged"
        ) from None
