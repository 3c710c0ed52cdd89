"""Picture files to a packed split: decoded and resized once, for good."""

import io
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
from PIL import Image

from imgpipe.errors import InputError
from imgpipe.packed import Pixels, Split
from imgpipe.parallel import in_order
from imgpipe.pictures import decode, packed_size, pixels
from imgpipe.progress import counting
from imgpipe.tables import write_table

RUN = 256
"""Pictures that one thread counts at a time."""
INDEX = ("file", "label", "offset", "bytes", "height", "width")


def pack(
    rows: Sequence[Mapping[str, str]],
    read: Callable[[str], bytes],
    folder: Path,
    *,
    classes: Sequence[str],
    image_size: int,
    enlarge: bool,
    channels: int,
    encoding: str,
    jpeg_quality: int,
    threads: int,
) -> None:
    """Writes ``folder/images.npy`` and ``folder/index.csv``, a picture for each row of the table.

    rows: with file, label, width and height (pixels) of each picture.
    read: gives the bytes of a file; it runs in threads.
    image_size: short side of a packed picture, in pixels; the long side keeps the proportions.
    enlarge: pictures whose short side is shorter, too.
    jpeg_quality: 1-100, where the encoding is jpeg.
    threads: change nothing in the result.
    """

    def packed(row: Mapping[str, str]) -> tuple[Pixels, Pixels]:
        size = packed_size((int(row["width"]), int(row["height"])), image_size, enlarge=enlarge)
        try:
            picture = pixels(decode(read(row["file"])), size=size, channels=channels)
        except InputError as error:
            raise InputError(
                f"prepared picture {row['file']}: {error}; dvc repro --force prepare makes it anew"
            ) from None
        return picture, (picture.reshape(-1) if encoding == "raw" else _jpeg(picture, jpeg_quality))

    index: list[dict[str, str | int]] = []

    def stored() -> Iterator[Pixels]:
        results = in_order(packed, rows, threads=threads)
        offset = 0
        for row, (picture, content) in zip(rows, counting("packing", results, len(rows)), strict=True):
            place = {"offset": offset, "bytes": len(content), "height": picture.shape[0], "width": picture.shape[1]}
            index.append({"file": row["file"], "label": classes.index(row["label"]), **place})
            offset += len(content)
            yield content

    write_bytes(folder / "images.npy", stored())
    write_table(folder / "index.csv", INDEX, index)


def write_bytes(path: Path, pieces: Iterator[Pixels]) -> None:
    """The pieces, each uint8 of one dimension, one after the other in a .npy file whose length is not known before."""
    with path.open("wb") as file:
        _write_header(file, 2**62)  # as long as any: the real one takes its place, padded to the same length
        start = file.tell()
        total = 0
        for piece in pieces:
            file.write(piece.data)
            total += len(piece)
        file.seek(0)
        _write_header(file, total)
        assert file.tell() == start


def _write_header(file: BinaryIO, length: int) -> None:
    np.lib.format.write_array_header_1_0(file, {"descr": "|u1", "fortran_order": False, "shape": (length,)})


def _jpeg(picture: Pixels, quality: int) -> Pixels:
    buffer = io.BytesIO()
    Image.fromarray(picture.squeeze(2) if picture.shape[2] == 1 else picture).save(buffer, "JPEG", quality=quality)
    return np.frombuffer(buffer.getvalue(), dtype=np.uint8)


def mean_and_std(split: Split, *, threads: int) -> tuple[list[float], list[float]]:
    """Mean and standard deviation of each channel over all pixels of a split, on the scale 0-1, in float64.

    Exact but for the last rounding, as they come from counts of the 256 levels: no order of sums can change them.
    """

    def levels_of(chosen: range) -> np.ndarray[Any, np.dtype[np.int64]]:
        counted = np.zeros((split.channels, 256), dtype=np.int64)
        for i in chosen:
            picture = split.picture(i).reshape(-1, split.channels)
            counted += [np.bincount(picture[:, channel], minlength=256) for channel in range(split.channels)]
        return counted

    runs = (range(start, min(start + RUN, len(split))) for start in range(0, len(split), RUN))
    counts = sum(in_order(levels_of, runs, threads=threads), np.zeros((split.channels, 256), dtype=np.int64))
    share = counts / counts.sum(axis=1, keepdims=True)
    levels = np.arange(256) / 255
    mean = share @ levels
    std = np.sqrt((share * (levels - mean[:, None]) ** 2).sum(axis=1))
    return mean.tolist(), std.tolist()
