"""Get thumbnails of audited images from the workspace, in whichever split it has them."""

from collections.abc import Collection, Iterator
from pathlib import Path

from imgpipe.commands.comparing.outcomes import IMAGES
from imgpipe.common.errors import InputError
from imgpipe.common.files import read_rows
from imgpipe.data.archives import members
from imgpipe.data.images import decode, pixels
from imgpipe.data.packed import Pixels
from imgpipe.plot.galleries import THUMBNAIL

PREPARED = "data/prepared"


def thumbnails(root: Path, wanted: Collection[str]) -> dict[str, Pixels]:
    """Return images made small, RGB, uint8 (height, width, 3), by the hash of their pixels.

    An image is left out that the workspace does not have, or that can't be decoded here.

    root: the project's folder.
    wanted: hashes of the images' pixels.
    """
    if not (root / IMAGES).is_file():
        return {}
    hashes = {row["file"]: row["pixels"] for row in read_rows(root / IMAGES) if row.get("pixels") in wanted}
    found: dict[str, Pixels] = {}
    for file, content in _contents(root / PREPARED, hashes):
        try:
            image = decode(content)
        except InputError:
            continue
        image.thumbnail((THUMBNAIL, THUMBNAIL))
        found[hashes[file]] = pixels(image, size=image.size, channels=3)
    return found


def _contents(prepared: Path, files: Collection[str]) -> Iterator[tuple[str, bytes]]:
    """Yield those of the prepared files that are there, and their bytes, whether they are in tars or in folders.

    files: ``<split>/<class>/<name>``.
    """
    for split in sorted({file.partition("/")[0] for file in files}):
        tar = prepared / f"{split}.tar"
        if tar.is_file():
            for member in members(tar, wanted=lambda name, split=split: f"{split}/{name}" in files):  # type: ignore[misc]
                if member.content is not None:
                    yield f"{split}/{member.name}", member.content
    for file in sorted(files):
        if (prepared / file).is_file():
            yield file, (prepared / file).read_bytes()
