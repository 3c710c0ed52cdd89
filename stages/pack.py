"""Decode and resize the images: ``python -m stages.pack``, from the project's top folder."""

import logging
from collections import Counter
from contextlib import ExitStack
from itertools import groupby
from operator import itemgetter
from pathlib import Path

from imgpipe.common import params, stage
from imgpipe.common.files import read_rows, replacing_folder
from imgpipe.data import remarks
from imgpipe.data.packed import Form, Statistics, read_split, write_statistics
from imgpipe.data.parallel import cores
from imgpipe.pack.pack import image_reader, mean_and_std
from imgpipe.pack.pack import pack as pack_split

TABLE = Path("data/images.csv")


def pack() -> None:
    """Decode and resize every image once, into one array for each split.

    Reads data/prepared and data/images.csv; writes data/packed/<split> and data/packed/statistics.json.
    """
    form = params.read("pack", Form)
    images = Counter((row["split"], row["label"]) for row in read_rows(TABLE))
    classes = sorted({label for _, label in images})
    short_sides = remarks.short_sides(read_rows(TABLE))
    if remark := remarks.enlarged(short_sides, form.image_size, enlarge=form.enlarge):
        logging.warning("%s", remark)
    read = image_reader(Path("data/prepared"))
    packed = Path("data/packed")
    with ExitStack() as finished:  # no split is replaced before all are packed
        for name, rows in groupby(read_rows(TABLE), itemgetter("split")):  # they are sorted by it
            count = sum(number for (split, _), number in images.items() if split == name)
            folder = finished.enter_context(replacing_folder(packed / name))
            pack_split(rows, read, folder, images=count, classes=classes, form=form, processes=cores())
    mean, std = mean_and_std(read_split(packed / "train", form), threads=cores())
    write_statistics(packed / "statistics.json", Statistics(classes, form, mean, std))


if __name__ == "__main__":
    stage.run(pack)
