import logging
from collections import Counter
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Annotated

from imgpipe import params
from imgpipe.files import replacing_folder
from imgpipe.preparing import FORMATS
from imgpipe.preparing import prepare as prepare_pictures
from imgpipe.rules import Interval, OneOf
from imgpipe.tables import write_table
from stages import command

Fraction = Annotated[float, Interval(0, 1, open_low=True, open_high=True)]


@dataclass(frozen=True)
class Prepare:
    """params.yaml: prepare."""

    val_fraction: Fraction
    test_fraction: Fraction
    seed: Annotated[int, Interval(0, 2**32 - 1)]
    format: Annotated[str, OneOf(FORMATS)]


def prepare() -> None:
    """Sort the pictures into ImageFolder splits: train, val and test.

    Reads the archive in data/raw; writes the table data/images.csv, and data/prepared: folders <split>/<class>, or the
    same as <split>.tar.
    """
    section = params.read("prepare", Prepare)
    (archive,) = (path for path in Path("data/raw").iterdir() if not path.name.startswith("."))
    with replacing_folder(Path("data/prepared")) as folder:
        table = prepare_pictures(
            archive,
            folder,
            FORMATS[section.format],
            val_fraction=section.val_fraction,
            test_fraction=section.test_fraction,
            seed=section.seed,
        )
    write_table(Path("data/images.csv"), map(asdict, table))
    counts = Counter(picture.split for picture in table)
    classes = len({picture.label for picture in table})
    logging.info("%d classes; %s", classes, ", ".join(f"{count} {split}" for split, count in counts.items()))


if __name__ == "__main__":
    command.run(prepare)
