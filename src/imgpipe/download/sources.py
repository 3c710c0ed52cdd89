"""Where images come from. Each source leaves one archive in a folder: DVC handles one file fast, thousands slowly.

To add a source: a function here, its name in the download section, and its case in the download stage.
"""

import io
import logging
import shutil
from pathlib import Path, PurePosixPath
from typing import Any
from urllib.parse import unquote, urlsplit

from imgpipe.common.errors import InputError
from imgpipe.common.files import sha256_of
from imgpipe.common.progress import counting
from imgpipe.data.archives import IMAGES, files_below, is_image, is_image_file, members, write_tar
from imgpipe.download.datasets import torchvision_images

LOCATION = "params.yaml: download.location is"
NO_IMAGES = f"which holds no images; their names end in {', '.join(IMAGES)}"


def digits(folder: Path) -> None:
    """scikit-learn's 1,797 scans of hand-written digits, 8 x 8 pixels, as ``digits/<digit>/<number>.png`` in a tar.

    Source: sklearn.datasets.load_digits, the test set of the UCI handwritten digits. Grey levels 0-16 become 0-255.
    """
    import numpy as np
    from sklearn.datasets import load_digits

    scans = load_digits()
    levels = np.rint(scans.images * (255 / 16)).astype(np.uint8)
    labelled = enumerate(zip(scans.target, levels, strict=True))
    write_tar(folder / "digits.tar", ((f"digits/{digit}/{i:04}.png", _png(scan)) for i, (digit, scan) in labelled))


def tree(folder: Path, source: Path) -> None:
    """The images below a local folder, in one tar. Other files are counted, hidden ones passed over."""
    if not source.is_dir():
        raise InputError(f"{LOCATION} '{source}', which is no folder; name the folder that holds the images")
    images: list[Path] = []
    others: list[Path] = []
    try:
        for file in sorted(files_below(source)):
            (images if is_image_file(file) else others).append(file)
        if not images:
            raise InputError(f"{LOCATION} '{source}', {NO_IMAGES}")
        if others:
            logging.warning(
                "%d files are images neither by name nor by content and left out, such as %s", len(others), others[0]
            )
        write_tar(
            folder / _not_hidden(f"{source.resolve().name}.tar"),
            ((file.relative_to(source).as_posix(), file.read_bytes()) for file in images),
        )
    except PermissionError as error:
        raise InputError(f"{LOCATION} '{source}', of which an image may not be read: {error}; change that") from None


def archive(folder: Path, source: Path) -> None:
    """A local zip or tar, as it is."""
    if not source.exists():
        raise InputError(f"{LOCATION} '{source}', which does not exist; name the archive that holds the images")
    if not any(is_image(member.name, member.content or b"") for member in members(source)):
        raise InputError(f"{LOCATION} '{source}', {NO_IMAGES}")
    shutil.copyfile(source, folder / _not_hidden(source.name))


def url(folder: Path, address: str, partial: Path, sha256: str | None) -> None:
    """A zip or tar from an address, as it is. ``partial``: where what has come is kept until it is whole."""
    from imgpipe.data import fetching  # not above: every stage's check of params.yaml would wait for it

    name = PurePosixPath(unquote(urlsplit(address).path)).name
    fetching.fetch(
        address,
        folder / _not_hidden(name),
        partial=partial,
        sha256=sha256,
        url_is="params.yaml: download.url is",
        sha256_is="params.yaml: download.sha256 is",
        tries=fetching.TRIES,
        timeout=fetching.TIMEOUT,
        pause=fetching.PAUSE,
    )


def torchvision(folder: Path, name: str, partial: Path) -> None:
    """One of torchvision's datasets, in one tar. ``partial``: where torchvision's own files lie until that is whole."""
    write_tar(folder / f"{name}.tar", counting(name, torchvision_images(name, partial / name)))
    shutil.rmtree(partial / name)


def _not_hidden(name: str) -> str:
    """A hidden file in data/raw would be none of the pipeline's."""
    return name.lstrip(".") or "archive"


def _png(levels: Any) -> bytes:
    """An 8-bit grey image, array of uint8 (height, width), as PNG."""
    from PIL import Image

    buffer = io.BytesIO()
    Image.fromarray(levels).save(buffer, format="PNG")
    return buffer.getvalue()


def verify(folder: Path, sha256: str | None) -> None:
    """Compares the archive in the folder with the expected SHA-256, if there is one. Raises InputError."""
    if sha256 is None:
        return
    (path,) = folder.iterdir()
    got = sha256_of(path)
    if got != sha256.lower():
        raise InputError(f"params.yaml: download.sha256 is '{sha256}', but {path.name} has {got}")
