"""Sort the images into splits: ``python -m stages.prepare``, from the project's top folder."""

import json
from pathlib import Path

from imgpipe.common import params, stage
from imgpipe.common.files import replacing_folder, write_records, write_table, write_text
from imgpipe.data.parallel import cores
from imgpipe.prepare.formats import FORMATS
from imgpipe.prepare.params import Prepare
from imgpipe.prepare.prepare import Duplicate, PreparedImage, contents, prepare_images
from imgpipe.prepare.reading import Rejected, check_rejected, read_archive
from imgpipe.prepare.summary import log_summary, summary
from imgpipe.prepare.tables import read_tables, slices


def prepare() -> None:
    """Sort the images into ImageFolder splits: train, val and test.

    Reads the archive in data/raw. Writes data/prepared (folders <split>/<class>, or the same as <split>.tar), the
    tables data/images.csv, data/slices.csv, data/rejected.csv and data/duplicates.csv, and the summary
    metrics/prepare.json.
    """
    section = params.read("prepare", Prepare)
    (archive,) = (path for path in Path("data/raw").iterdir() if not path.name.startswith("."))
    tables = read_tables(archive, section.table, section.columns) if section.table else None
    with replacing_folder(Path("data/prepared")) as folder:
        spool = folder / "spool"
        found, rejected = read_archive(archive, spool, pattern=section.pattern, tables=tables, processes=cores())
        write_records(Path("data/rejected.csv"), Rejected, rejected)
        check_rejected(len(found), rejected, most=section.max_rejected, listed="data/rejected.csv")
        images, duplicates = prepare_images(found, section)
        FORMATS[section.format](folder, contents(spool, found, images))
        spool.unlink()
    write_records(Path("data/images.csv"), PreparedImage, images)
    write_table(Path("data/slices.csv"), *slices({image.file: image.source for image in images}, tables))
    write_records(Path("data/duplicates.csv"), Duplicate, duplicates)
    numbers = summary(images, rejected, duplicates)
    write_text(Path("metrics/prepare.json"), json.dumps(numbers, indent=2) + "\n")
    log_summary(numbers, duplicates)


if __name__ == "__main__":
    stage.run(prepare)
