"""Decode and resize the images: ``python -m stages.pack``, from the project's top folder."""

import logging
from contextlib import ExitStack
from pathlib import Path

from imgpipe.common import params, stage
from imgpipe.common.files import read_table, replacing_folder
from imgpipe.data import remarks
from imgpipe.data.packed import Form, Statistics, read_split, write_statistics
from imgpipe.data.parallel import cores
from imgpipe.pack.pack import image_reader, mean_and_std
from imgpipe.pack.pack import pack as pack_split


def pack() -> None:
    """Decode and resize every image once, into one array for each split.

    Reads data/prepared and data/images.csv; writes data/packed/<split> and data/packed/statistics.json.
    """
    form = params.read("pack", Form)
    table = read_table(Path("data/images.csv"))
    classes = sorted({row["label"] for row in table})
    if remark := remarks.enlarged(remarks.short_sides(table), form.image_size, enlarge=form.enlarge):
        logging.warning("%s", remark)
    read = image_reader(Path("data/prepared"))
    packed = Path("data/packed")
    with ExitStack() as finished:  # no split is replaced before all are packed
        for split in sorted({row["split"] for row in table}):
            rows = [row for row in table if row["split"] == split]
            folder = finished.enter_context(replacing_folder(packed / split))
            pack_split(rows, read, folder, classes=classes, form=form, processes=cores())
    mean, std = mean_and_std(read_split(packed / "train", form), threads=cores())
    write_statistics(packed / "statistics.json", Statistics(classes, form, mean, std))


if __name__ == "__main__":
    stage.run(pack)
