import json
import logging
import re
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Annotated, Any, Literal

from imgpipe.common import params
from imgpipe.common import stage as command
from imgpipe.common.errors import InputError
from imgpipe.common.files import columns, replacing_folder, write_table, write_text
from imgpipe.common.rules import Interval, Rule, one_of_table
from imgpipe.data.parallel import cores
from imgpipe.prepare.layouts import GROUPS, REST
from imgpipe.prepare.prepare import FORMATS, Duplicate, ListedImage, contents, summary
from imgpipe.prepare.prepare import prepare as prepare_images
from imgpipe.prepare.reading import Rejected, check_rejected, read_archive
from imgpipe.prepare.splits import WAYS

Fraction = Annotated[float, Interval(0, 1, open_low=True, open_high=True)]


Label = str | int | float
"""A label or a class, as YAML reads what looks like a number."""


def _names_a_label(pattern: str) -> bool:
    if pattern == "auto":
        return True
    try:
        named = set(re.compile(pattern).groupindex)
    except (re.error, OverflowError, RecursionError):
        return False
    return GROUPS[0] in named and named <= set(GROUPS)


PATTERN = Rule(
    "auto or a regular expression with a group (?P<label>...) and, at will, (?P<split>...) and (?P<group>...)",
    _names_a_label,
)
NAMES = Rule("names by label such as {0: cat, 1: dog}", bool)
LISTS = Rule(
    f"lists of labels by class such as {{pet: [cat, dog], other: {REST}}}",
    lambda lists: all(lists.values()) and bool(lists) and [*lists.values()].count(REST) <= 1,
)


@dataclass(frozen=True)
class Prepare:
    """params.yaml: prepare."""

    pattern: Annotated[str, PATTERN]
    class_names: Annotated[dict[Label, str], NAMES] | None
    class_map: Annotated[dict[Label, list[Label] | Literal["rest"]], LISTS] | None
    split: Annotated[str, one_of_table(WAYS)]
    val_fraction: Fraction
    test_fraction: Fraction
    seed: Annotated[int, Interval(0, 2**32 - 1)]
    duplicates: Literal["drop", "fail", "keep"]
    near_duplicates: Literal["report", "drop"]
    near_distance: Annotated[int, Interval(0, 8)]
    max_rejected: Annotated[float, Interval(0, 1)]
    format: Annotated[str, one_of_table(FORMATS)]

    def __post_init__(self) -> None:
        if self.val_fraction + self.test_fraction >= 1:
            raise InputError(
                f"val_fraction is {self.val_fraction} and test_fraction {self.test_fraction}, which leave nothing to "
                "train on; together they must be below 1"
            )
        if self.split == "grouped" and "group" not in re.compile(self.pattern).groupindex:
            raise InputError(
                f"split is grouped, and pattern is '{self.pattern}', which names no group; write it with (?P<group>...)"
            )


def prepare() -> None:
    """Sort the images into ImageFolder splits: train, val and test.

    Reads the archive in data/raw. Writes data/prepared (folders <split>/<class>, or the same as <split>.tar), the
    tables data/images.csv, data/rejected.csv and data/duplicates.csv, and the summary metrics/prepare.json.
    """
    section = params.read("prepare", Prepare)
    (archive,) = (path for path in Path("data/raw").iterdir() if not path.name.startswith("."))
    with replacing_folder(Path("data/prepared")) as folder:
        spool = folder / "spool"
        found, rejected = read_archive(archive, spool, pattern=section.pattern, processes=cores())
        _write("data/rejected.csv", Rejected, rejected)
        check_rejected(len(found), rejected, most=section.max_rejected, listed="data/rejected.csv")
        sorted_in, duplicates = prepare_images(
            found,
            class_names=section.class_names,
            class_map=section.class_map,
            way=WAYS[section.split],
            val_fraction=section.val_fraction,
            test_fraction=section.test_fraction,
            seed=section.seed,
            duplicates=section.duplicates,
            near_duplicates=section.near_duplicates,
            near_distance=section.near_distance,
        )
        FORMATS[section.format](folder, contents(spool, sorted_in))
        spool.unlink()
    images = [image for image, _ in sorted_in]
    _write("data/images.csv", ListedImage, images)
    _write("data/duplicates.csv", Duplicate, duplicates)
    numbers = summary(images, rejected, duplicates)
    write_text(Path("metrics/prepare.json"), json.dumps(numbers, indent=2) + "\n")
    _report(numbers, duplicates)


def _write(path: str, record: type, rows: Iterable[Any]) -> None:
    write_table(Path(path), columns(record), map(asdict, rows))


def _report(numbers: dict[str, Any], duplicates: list[Duplicate]) -> None:
    images, rejected, copies = numbers["images"], numbers["rejected"]["pictures"], numbers["duplicates"]
    logging.info(
        "%d classes; %s",
        len(numbers["classes"]),
        ", ".join(f"{n} {name}" for name, n in images.items() if name != "all"),
    )
    for split in ("val", "test"):
        if without := [name for name, counts in numbers["classes"].items() if not counts[split]]:
            logging.warning("%d classes have no image in %s, such as '%s'", len(without), split, without[0])
    if rejected:
        logging.warning("%d images rejected: data/rejected.csv says why", rejected)
    if duplicates:
        logging.warning(
            "%d copies of other images, %d nearly so in another split, %d dropped: see data/duplicates.csv",
            copies["equal"],
            copies["near_across_splits"],
            sum(copies["dropped"].values()),
        )
    for pair in duplicates:
        if pair.kind == "equal" and pair.label != pair.twin_label:
            logging.warning(
                "equal images, different labels: '%s' is %s, '%s' is %s",
                pair.source,
                pair.label,
                pair.twin,
                pair.twin_label,
            )


if __name__ == "__main__":
    command.run(prepare)
