"""Pack image files: each is decoded and resized once, for good."""

import io
import mmap
import tarfile
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import partial
from itertools import tee
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
from PIL import Image

from imgpipe.common.errors import InputError
from imgpipe.common.files import write_table
from imgpipe.common.progress import counting
from imgpipe.data.images import decode, packed_size, pixels
from imgpipe.data.packed import INDEX, INDEX_FILE, Form, Pixels, Split, checksum, pixels_of
from imgpipe.data.parallel import by_threads
from imgpipe.data.processes import by_processes

RUN = 256
"""Images that one thread counts, one part after the other."""
AT_ONCE = 1 << 18
"""Pixels of raw images of which a thread counts the levels at once."""
PreparedFile = tuple[str, int, int, bytes]
"""Name of a prepared file, width and height of its image, and its bytes."""


def image_reader(folder: Path) -> Callable[[str], bytes]:
    """Return a function that reads an image of the prepared splits, be they trees or tars; threads may share it.

    It takes ``<split>/<class>/<name>`` and returns the bytes of the file.
    """
    tars = {path.stem: _tar_reader(path) for path in folder.glob("*.tar")}

    def read(file: str) -> bytes:
        split, _, name = file.partition("/")
        return tars[split](name) if split in tars else (folder / file).read_bytes()

    return read


def _tar_reader(path: Path) -> Callable[[str], bytes]:
    places: dict[str, slice] = {}
    with tarfile.open(path, "r:") as tar:
        while member := tar.next():
            tar.members.clear()  # type: ignore[attr-defined]  # else it keeps all
            places[member.name] = slice(member.offset_data, member.offset_data + member.size)
    with path.open("rb") as file:
        content = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
    return lambda name: content[places[name]]


def pack(
    rows: Iterable[Mapping[str, str]],
    read: Callable[[str], bytes],
    folder: Path,
    *,
    images: int,
    classes: Sequence[str],
    form: Form,
    processes: int,
) -> None:
    """Write ``images.npy`` and ``index.csv`` to a folder, an image for each row of the table.

    rows: of data/images.csv, with the file, the label, the width and the height of each image; they are taken one after
        the other, since all may be more than fit in memory.
    read: returns the bytes of a file.
    images: how many rows there are.
    classes: all names, in the order of their numbers.
    processes: how many share the work, which changes nothing in the result.

    Raises InputError where an image can't be read.
    """
    label_of = {name: number for number, name in enumerate(classes)}
    rows, rows_to_read = tee(rows)  # the one is ahead of the other by what the processes have
    files = ((row["file"], int(row["width"]), int(row["height"]), read(row["file"])) for row in rows_to_read)

    def weight(file: PreparedFile) -> int:
        _, width, height, content = file
        size = packed_size((width, height), form.image_size, enlarge=form.enlarge)
        return len(content) + pixels_of(*size, form.levels) * form.channels

    def index(write: Callable[[bytes], None]) -> Iterator[Mapping[str, str | int]]:
        offset = 0
        packing = by_processes(partial(_packed, form=form), files, weigh=weight, processes=processes)
        results = counting("packing", packing, images)
        for row, (height, width, content) in zip(rows, results, strict=True):
            cells = (row["file"], label_of[row["label"]], offset, len(content), height, width)
            write(content)
            yield dict(zip(INDEX, (*cells, checksum(content, *cells)), strict=True))
            offset += len(content)

    with bytes_written(folder / "images.npy") as write:
        write_table(folder / INDEX_FILE, INDEX, index(write))


def _packed(file: PreparedFile, form: Form) -> tuple[int, int, bytes]:
    """Pack a prepared file."""
    name, _, _, content = file
    try:
        return pack_image(content, form)
    except InputError as error:
        raise InputError(
            f"prepared image {name}: {error}; take it out of the source, or, if it was damaged here, "
            "dvc repro --force prepare makes it anew"
        ) from None


def pack_image(content: bytes, form: Form) -> tuple[int, int, bytes]:
    """Pack an image, given the bytes of its file.

    Returns its height, its width and its packed bytes, which ``packed.unpacked`` turns into pixels.

    Raises InputError with the reason, without a name, if it can't be read.
    """
    return pack_decoded(decode(content), form)


def pack_decoded(decoded: Image.Image, form: Form) -> tuple[int, int, bytes]:
    """Pack an image that ``images.decode`` gave: what ``pack_image`` does after that, with its results and errors."""
    size = packed_size(decoded.size, form.image_size, enlarge=form.enlarge)
    image = pixels(decoded, size=size, channels=form.channels)
    content = _pyramid(image, form.levels) if form.encoding == "raw" else _jpeg(image, form.jpeg_quality)
    return *image.shape[:2], content


@contextmanager
def bytes_written(path: Path) -> Iterator[Callable[[bytes], None]]:
    """Yield a function that adds bytes to a .npy file, uint8 of one dimension, whose length is not known before."""
    with path.open("wb") as file:
        _write_header(file, 2**62)  # as long as any: the real one takes its place, padded to the same length
        start = file.tell()

        def write(piece: bytes) -> None:
            file.write(piece)

        yield write
        total = file.tell() - start
        file.seek(0)
        _write_header(file, total)
        assert file.tell() == start


def _write_header(file: BinaryIO, length: int) -> None:
    np.lib.format.write_array_header_1_0(file, {"descr": "|u1", "fortran_order": False, "shape": (length,)})


def _pyramid(image: Pixels, levels: int) -> bytes:
    """Return the bytes of an image, then those at half its size and so on: each pixel the mean of the square below."""
    smaller = (np.asarray(_for_pillow(image).reduce(2**level)) for level in range(1, levels))
    return b"".join(level.tobytes() for level in (image, *smaller))


def _jpeg(image: Pixels, quality: int) -> bytes:
    buffer = io.BytesIO()
    _for_pillow(image).save(buffer, "JPEG", quality=quality)
    return buffer.getvalue()


def _for_pillow(image: Pixels) -> Image.Image:
    return Image.fromarray(image.squeeze(2) if image.shape[2] == 1 else image)


def mean_and_std(split: Split, *, threads: int) -> tuple[list[float], list[float]]:
    """Compute mean and standard deviation of each channel over all pixels of a split, on the scale 0-1, in float64.

    threads: how many share the work, which changes nothing in the result.

    They come from counts of the 256 levels and are exact but for the last rounding: no order of sums can change them.
    """
    channels = split.form.channels

    def levels_of(chosen: range) -> np.ndarray[Any, np.dtype[np.int64]]:
        counted = np.zeros((channels, 256), dtype=np.int64)
        for levels in _pixels(split, chosen):
            counted += [np.bincount(levels[:, channel], minlength=256) for channel in range(channels)]
        return counted

    runs = (range(start, min(start + RUN, len(split))) for start in range(0, len(split), RUN))
    counts = sum(by_threads(levels_of, runs, threads=threads), np.zeros((channels, 256), dtype=np.int64))
    share = counts / counts.sum(axis=1, keepdims=True)
    levels = np.arange(256) / 255
    mean = share @ levels
    std = np.sqrt((share * (levels - mean[:, None]) ** 2).sum(axis=1))
    return mean.tolist(), std.tolist()


def _pixels(split: Split, chosen: range) -> Iterator[Pixels]:
    """Yield the pixels of a run of images, uint8 (pixels, channels): where they are raw, of many images at once."""
    if split.form.encoding != "raw" or split.form.levels > 1:
        yield from (split.image(i).reshape(-1, split.channels) for i in chosen)
        return
    last = chosen[-1]
    content = split.content[split.offsets[chosen[0]] : split.offsets[last] + split.lengths[last]]
    all_pixels = content.reshape(-1, split.channels)
    yield from (all_pixels[start : start + AT_ONCE] for start in range(0, len(all_pixels), AT_ONCE))
