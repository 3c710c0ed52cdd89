"""Read an archive image by image: what can be read, with all that is to be known of it, and what can't, and why."""

import hashlib
import logging
import shutil
from collections import deque
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial
from itertools import pairwise
from pathlib import Path

from imgpipe.common.errors import InputError
from imgpipe.common.progress import counting
from imgpipe.common.wording import are, counted
from imgpipe.data.archives import Member, is_image, members
from imgpipe.data.images import decode
from imgpipe.data.processes import by_processes
from imgpipe.prepare.duplicates import pixel_hash
from imgpipe.prepare.layouts import PathParts, read_path
from imgpipe.prepare.near import Thumbnail, thumbnail
from imgpipe.prepare.tables import Tables


@dataclass(frozen=True)
class Found:
    """An image of the archive."""

    source: str
    """Its path in the archive."""
    named: PathParts
    """What that path, or a table, says."""
    width: int
    """In pixels, upright."""
    height: int
    """In pixels, upright."""
    bytes: int
    """Size of the file."""
    sha256: str
    """Of the file."""
    pixels: str
    """``duplicates.pixel_hash``, equal for equal images in whatever format."""
    thumbnail: Thumbnail
    """``near.thumbnail``, similar for similar images."""
    offset: int
    """Where the file begins in the spool, once it is there."""


@dataclass(frozen=True)
class Rejected:
    """A file of the archive that was left out; a row of data/rejected.csv."""

    source: str
    """Its path in the archive."""
    reason: str
    picture: bool
    """Whether it was to be an image, by its name or content or a table."""


Named = tuple[Member, PathParts | None]
"""A file of the archive, and what a table says of it."""
COPIES = 2
"""Times that the images are on the disk while they are prepared: in the spool and in data/prepared."""


def read_archive(
    archive: Path, spool: Path, *, pattern: str, tables: Tables | None, processes: int
) -> tuple[list[Found], list[Rejected]]:
    """Return the images of an archive and the files that were left out, both sorted by source.

    spool: file to which the images' bytes are written.
    pattern: see ``layouts.read_path``; not used where there are tables.
    tables: what says in the paths' place what the images are; images of which it says nothing are left out.
    processes: how many share the work; they change nothing in the result.

    Raises InputError where the archive can't be read to its end or has two files of one name, or the images do not fit
    on the disk.
    """
    found: list[Found] = []
    rejected: list[Rejected] = []
    waiting: deque[Member] = deque()
    room = shutil.disk_usage(spool.parent).free // COPIES

    def named() -> Iterator[Named]:
        for member in members(archive):
            if tables and tables.holds(member.shown):
                continue
            waiting.append(member)
            yield member, tables.named(member.shown) if tables else None

    examine = partial(_examine, pattern=pattern, table=tables.name if tables else None)
    with spool.open("wb") as file:
        for result in counting("reading", by_processes(examine, named(), weigh=_weight, processes=processes)):
            content = waiting.popleft().content
            if isinstance(result, Found):
                assert content is not None
                found.append(replace(result, offset=file.tell()))
                if file.tell() + len(content) > room:
                    raise InputError(
                        f"{archive} holds more images than fit on the disk, of which {COPIES} copies are made and "
                        f"{room * COPIES:,} bytes are free; make room: '{result.source}' is the first without any"
                    )
                file.write(content)
            else:
                rejected.append(result)
    found.sort(key=lambda image: image.source)
    rejected.sort(key=lambda file: file.source)
    for one, next_one in pairwise(found):
        if one.source == next_one.source:
            raise InputError(f"{archive} holds two files of the name '{one.source}'; make the archive anew")
    if tables and (unnamed := [file.source for file in rejected if file.reason == _unnamed(tables.name)]):
        count = counted(len(unnamed), "image")
        logging.warning("%s left out: %s, such as '%s'", count, _unnamed(tables.name), unnamed[0])
    return found, rejected


def _unnamed(table: str) -> str:
    return f"{table} does not name it"


def _weight(file: Named) -> int:
    """Return the bytes of a file that waits to be examined."""
    return len(file[0].content or b"")


def _examine(file: Named, *, pattern: str, table: str | None) -> Found | Rejected:
    """Return an image or, where it is none or can't be read or is not wanted, why it is left out.

    table: name of the tables where there are some; then only what they name is wanted.
    """
    member, said = file
    name = member.shown
    picture = is_image(name, member.content or b"") or said is not None
    if picture and table is not None and said is None:
        return Rejected(name, _unnamed(table), picture=False)
    if member.content is None:
        return Rejected(name, member.problem, picture=picture)
    if not picture:
        return Rejected(name, "it is no image, neither by its name nor by its content", picture=False)
    try:
        image = decode(member.content)
        return Found(
            source=name,
            named=said or read_path(name, pattern),
            width=image.width,
            height=image.height,
            bytes=len(member.content),
            sha256=hashlib.sha256(member.content).hexdigest(),
            pixels=pixel_hash(image),
            thumbnail=thumbnail(image),
            offset=0,
        )
    except InputError as error:
        return Rejected(name, str(error), picture=True)


def check_rejected(found: int, rejected: Sequence[Rejected], *, most: float, listed: str) -> None:
    """Refuse too large a share of rejected images. Files that were to be no images do not count.

    found: how many images were read.
    most: the largest share of the images that may be rejected.
    listed: file where all of them can be read.

    Raises InputError where there are more, or no images at all.
    """
    bad = [file for file in rejected if file.picture]
    if not found and not bad:
        raise InputError("the archive holds no images; point params.yaml: download at some")
    if len(bad) > most * (found + len(bad)):
        share = f"{len(bad):,} of {counted(found + len(bad), 'image')} {are(len(bad))} rejected"
        raise InputError(
            f"{share}, more than params.yaml: prepare.max_rejected of {most} allows; {listed} names "
            f"all, such as '{bad[0].source}': {bad[0].reason}"
        )
