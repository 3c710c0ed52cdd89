"""Bring images from their source to one archive in a folder: DVC handles one file fast, thousands slowly.

To add a source: a function here, a line in SOURCES, and its name in ``params.Download``.
"""

import io
import logging
import os
import shutil
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path, PurePosixPath
from typing import Any
from urllib.parse import unquote, urlsplit

import numpy as np
from PIL import Image

from imgpipe.common.errors import InputError, without_secrets
from imgpipe.common.files import sha256_of
from imgpipe.common.progress import counting
from imgpipe.common.wording import counted
from imgpipe.data.archives import IMAGE_SUFFIXES, is_image, is_image_file, members, write_tar
from imgpipe.data.cells import TABLE_SUFFIX, path_in, rows_of
from imgpipe.data.fetching import AddressError, HashError, fetch
from imgpipe.data.folders import check_within, content_of, files_below
from imgpipe.download.datasets import torchvision_images
from imgpipe.download.params import Download

LOCATION = "params.yaml: download.location is"
NO_IMAGES = f"which holds no images; their names end in {', '.join(IMAGE_SUFFIXES)}"


def from_digits(folder: Path, section: Download, partial: Path) -> None:
    """Write scikit-learn's 1,797 scans of hand-written digits, 8 x 8 pixels, to one tar.

    Their names are ``digits/<digit>/<number>.png``. Grey levels 0-16 become 0-255.
    Source: sklearn.datasets.load_digits, the test set of the UCI handwritten digits.
    """
    from sklearn.datasets import load_digits  # takes a second, and no other source needs it

    scans = load_digits()
    levels = np.rint(scans.images * (255 / 16)).astype(np.uint8)
    labelled = enumerate(zip(scans.target, levels, strict=True))
    write_tar(folder / "digits.tar", ((f"digits/{digit}/{i:04}.png", _png(scan)) for i, (digit, scan) in labelled))


def from_folder(folder: Path, section: Download, partial: Path) -> None:
    """Write the images and the tables below ``location`` to one tar. Others are counted, hidden ones passed over."""
    source = Path(section.location)
    if not source.is_dir():
        raise InputError(f"{LOCATION} '{source}', which is no folder; name the folder that holds the images")
    taken: list[Path] = []
    others: list[Path] = []
    odd: list[str] = []
    with _readable(source):
        for file, problem in sorted(files_below(source, outside=False)):
            if problem:
                odd.append(f"{file}: {problem}")
            else:
                (taken if _is_table(file) or is_image_file(file) else others).append(file)
    if all(_is_table(file) for file in taken):
        raise InputError(f"{LOCATION} '{source}', {NO_IMAGES}")
    if others:
        logging.warning(
            "%s left out, no images by name or content, such as %s",
            counted(len(others), "file"),
            others[0],
        )
    if odd:
        logging.warning("%s left out, such as %s", counted(len(odd), "path"), odd[0])
    _write_files(folder, source, source, taken)


def _is_table(file: Path) -> bool:
    return file.suffix.lower() == TABLE_SUFFIX


def from_table(folder: Path, section: Download, partial: Path) -> None:
    """Write the CSV table at ``location``, and the files in its folder whose paths from there are cells, to one tar."""
    table = Path(section.location)
    if not table.is_file():
        raise InputError(f"{LOCATION} '{table}', which is no file; name the table of the images")
    with _readable(table, table):
        content = content_of(table)
    named = {path_in(cell) for _, cells in rows_of(content, str(table)) for cell in cells}
    files = [file for name in named if (file := _shown_file(table.parent, name)) and file != table]
    if not files:
        raise InputError(
            f"{LOCATION} '{table}', where no cell names a file; it must have their paths, from the table's folder"
        )
    with _readable(table):
        for file in files:
            check_within(file, table.parent)
    _write_files(folder, table, table.parent, [table, *sorted(files)])


def _shown_file(folder: Path, name: str) -> Path | None:
    """Return the file of a path below the folder; nothing where there is none, or a hidden one."""
    path = folder / name
    hidden = any(part.startswith(".") for part in PurePosixPath(name).parts)
    inside = not hidden and path.is_relative_to(folder)
    return path if inside and os.path.isfile(path) else None  # noqa: PTH113 (a Path raises for long names)


def _write_files(target: Path, source: Path, folder: Path, files: Sequence[Path]) -> None:
    """Write files of a folder to one tar in another, named after it.

    source: ``location``, for errors.

    Raises InputError where a file can't be read.
    """

    def contents() -> Iterator[tuple[str, bytes]]:
        for file in files:
            with _readable(source, file):
                content = content_of(file)
            yield _not_hidden(file.relative_to(folder).as_posix()), content  # a hidden one is the table

    write_tar(target / _not_hidden(f"{folder.resolve().name}.tar"), contents())


@contextmanager
def _readable(source: Path, file: Path | None = None) -> Iterator[None]:
    """Raise InputError where the block can't read ``location``, or a file of it."""
    try:
        yield
    except OSError as error:
        raise InputError(f"{LOCATION} '{source}', which can't be read whole: {error}; change that") from None
    except InputError as error:
        where = f"'{file}': " if file else ""
        raise InputError(f"{LOCATION} '{source}', and {where}{error}") from None


def from_archive(folder: Path, section: Download, partial: Path) -> None:
    """Copy the zip or tar at ``location`` as it is."""
    source = Path(section.location)
    if not source.exists():
        raise InputError(f"{LOCATION} '{source}', which does not exist; name the archive that holds the images")
    if not any(is_image(member.name, member.content or b"") for member in members(source)):
        raise InputError(f"{LOCATION} '{source}', {NO_IMAGES}")
    shutil.copyfile(source, folder / _not_hidden(source.name))


def from_url(folder: Path, section: Download, partial: Path) -> None:
    """Fetch the zip or tar at ``url`` as it is. What has come is kept in ``partial`` until it is whole."""
    assert section.url, "the section is checked for that"
    try:
        name = PurePosixPath(unquote(urlsplit(section.url).path)).name
    except ValueError as error:
        raise InputError(
            f"params.yaml: download.url is '{without_secrets(section.url)}', which is no address: {error}; check it"
        ) from None
    try:
        fetch(section.url, folder / _not_hidden(name), partial=partial, sha256=section.sha256)
    except AddressError as error:
        raise InputError(f"params.yaml: download.url is {error}") from None
    except HashError as error:
        raise InputError(f"params.yaml: download.sha256 is {error}") from None


def from_torchvision(folder: Path, section: Download, partial: Path) -> None:
    """Write one of torchvision's datasets to one tar. Its own files lie in ``partial`` until that is whole."""
    assert section.name, "the section is checked for that"
    dataset = partial / section.name
    write_tar(folder / f"{section.name}.tar", counting(section.name, torchvision_images(section.name, dataset)))
    shutil.rmtree(dataset)


SOURCES = {
    "digits": from_digits,
    "folder": from_folder,
    "table": from_table,
    "archive": from_archive,
    "url": from_url,
    "torchvision": from_torchvision,
}
"""Each brings the images that the section asks for to one archive in an empty folder.

A third argument names a folder on the same disk, where what comes piece by piece may be kept from run to run.
"""


def identified(folder: Path, section: Download) -> dict[str, str]:
    """Return the name and the SHA-256 of the archive in the folder.

    Raises InputError where the section expects another.
    """
    (path,) = folder.iterdir()
    expected = section.sha256.lower() if section.sha256 else None
    if section.source == "url" and expected:  # fetch has verified it: another hour would be lost to an interrupt
        return {"file": path.name, "sha256": expected}
    got = sha256_of(path)
    if expected not in (None, got):
        raise InputError(f"params.yaml: download.sha256 is '{section.sha256}', but {path.name} has {got}")
    return {"file": path.name, "sha256": got}


def _not_hidden(name: str) -> str:
    """Return the name without a dot at its start, which would hide it in data/raw, and what no file's name may have."""
    return name.replace("\0", "").lstrip(".") or "archive"


def _png(levels: np.ndarray[Any, np.dtype[np.uint8]]) -> bytes:
    """Return the bytes of a PNG of a grey image, uint8 (height, width)."""
    buffer = io.BytesIO()
    Image.fromarray(levels).save(buffer, format="PNG")
    return buffer.getvalue()
