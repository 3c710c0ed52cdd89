"""Picture files to a packed split: decoded and resized once, for good."""

from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from os import cpu_count
from pathlib import Path

import numpy as np
from rich.progress import track

from imgpipe.packed import Split
from imgpipe.pictures import open_picture, pixels, short_side_to
from imgpipe.tables import write_table

CHUNK = 1 << 24


def pack(
    rows: Sequence[Mapping[str, str]],
    read: Callable[[str], bytes],
    folder: Path,
    *,
    classes: Sequence[str],
    image_size: int,
    channels: int,
) -> None:
    """Writes ``folder/images.npy`` and ``folder/index.csv``, a picture for each row of the table.

    rows: with file, label, width and height (pixels) of each picture.
    read: gives the bytes of a file; it runs in threads.
    image_size: short side of a packed picture, in pixels; the long side keeps the proportions.
    """
    index = []
    total = 0
    for row in rows:
        width, height = short_side_to((int(row["width"]), int(row["height"])), image_size)
        label = classes.index(row["label"])
        index.append({"file": row["file"], "label": label, "offset": total, "height": height, "width": width})
        total += height * width * channels
    packed = np.lib.format.open_memmap(folder / "images.npy", mode="w+", dtype=np.uint8, shape=(total,))

    def store(entry: Mapping[str, int | str]) -> None:
        file = str(entry["file"])
        picture = pixels(open_picture(read(file), file), short_side=image_size, channels=channels)
        assert picture.shape[:2] == (entry["height"], entry["width"])
        packed[int(entry["offset"]) :][: picture.size] = picture.reshape(-1)

    with ThreadPoolExecutor(cpu_count()) as pool:
        for _ in track(pool.map(store, index), "packing", total=len(index)):
            pass
    packed.flush()
    write_table(folder / "index.csv", index)


def mean_and_std(split: Split) -> tuple[list[float], list[float]]:
    """Mean and standard deviation of each channel over all pixels of a split, on the scale 0-1, in float64.

    Exact but for the last rounding, as they come from counts of the 256 levels: no order of sums can change them.
    """
    levels = np.arange(256) / 255
    counts = np.zeros((split.channels, 256), dtype=np.int64)
    for start in range(0, len(split.pixels), CHUNK * split.channels):
        chunk = split.pixels[start : start + CHUNK * split.channels].reshape(-1, split.channels)
        counts += [np.bincount(chunk[:, channel], minlength=256) for channel in range(split.channels)]
    share = counts / counts.sum(axis=1, keepdims=True)
    mean = share @ levels
    std = np.sqrt((share * (levels - mean[:, None]) ** 2).sum(axis=1))
    return mean.tolist(), std.tolist()
