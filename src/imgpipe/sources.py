"""Where pictures come from. Each source leaves one archive in a folder: DVC handles one file fast, thousands slowly.

To add a source: a function ``(folder, location)`` and a line in SOURCES.
"""

import hashlib
import io
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from imgpipe.archives import PICTURES, is_picture, pictures, write_tar
from imgpipe.errors import InputError

LOCATION = "params.yaml: download.location is"


def digits(folder: Path, location: Path | None) -> None:
    """scikit-learn's 1,797 scans of hand-written digits, 8 x 8 pixels, as ``digits/<digit>/<number>.png`` in a tar.

    Source: sklearn.datasets.load_digits, the test set of the UCI handwritten digits. Grey levels 0-16 become 0-255.
    """
    import numpy as np
    from sklearn.datasets import load_digits

    scans = load_digits()
    levels = np.rint(scans.images * (255 / 16)).astype(np.uint8)
    labelled = enumerate(zip(scans.target, levels, strict=True))
    write_tar(folder / "digits.tar", ((f"digits/{digit}/{i:04}.png", _png(scan)) for i, (digit, scan) in labelled))


def tree(folder: Path, location: Path | None) -> None:
    """The pictures below a local folder, in one tar. Hidden files and folders are left out."""
    source = _existing(location, "a folder")
    if not source.is_dir():
        raise InputError(f"{LOCATION} '{source}', which is no folder; name the folder that holds the pictures")
    names = sorted(file.relative_to(source) for file in _files_below(source, set()) if is_picture(file.name))
    if not names:
        raise InputError(f"{LOCATION} '{source}', which holds no pictures; their names end in {', '.join(PICTURES)}")
    write_tar(folder / f"{source.resolve().name}.tar", ((n.as_posix(), (source / n).read_bytes()) for n in names))


def archive(folder: Path, location: Path | None) -> None:
    """A local zip or tar, as it is."""
    source = _existing(location, "an archive")
    if next(pictures(source), None) is None:
        raise InputError(f"{LOCATION} '{source}', which holds no pictures; their names end in {', '.join(PICTURES)}")
    shutil.copyfile(source, folder / source.name)


SOURCES = {"digits": digits, "folder": tree, "archive": archive}


def _files_below(folder: Path, above: set[Path]) -> Iterator[Path]:
    """Files, also behind links, except hidden ones; a link back to a folder above it is not followed."""
    above = above | {folder.resolve()}
    for path in folder.iterdir():
        if path.name.startswith(".") or path.resolve() in above:
            continue
        if path.is_dir():
            yield from _files_below(path, above)
        elif path.is_file():
            yield path


def _existing(location: Path | None, kind: str) -> Path:
    if location is None:
        raise InputError(f"{LOCATION} null; this source needs the path of {kind}")
    if not location.exists():
        raise InputError(f"{LOCATION} '{location}', which does not exist; give the path of {kind}")
    return location


def _png(levels: Any) -> bytes:
    """An 8-bit grey picture, array of uint8 (height, width), as PNG."""
    from PIL import Image

    buffer = io.BytesIO()
    Image.fromarray(levels).save(buffer, format="PNG")
    return buffer.getvalue()


def verify(folder: Path, sha256: str | None) -> None:
    """Compares the archive in the folder with the expected SHA-256, if there is one. Raises InputError."""
    if sha256 is None:
        return
    (path,) = folder.iterdir()
    with path.open("rb") as file:
        got = hashlib.file_digest(file, "sha256").hexdigest()
    if got != sha256.lower():
        raise InputError(f"params.yaml: download.sha256 is '{sha256}', but {path.name} has {got}")
