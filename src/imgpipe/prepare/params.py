"""The section ``prepare`` of params.yaml. Importing this takes no scikit-learn."""

import re
from dataclasses import dataclass
from typing import Annotated, Literal

from imgpipe.common.errors import InputError
from imgpipe.common.rules import Interval, Rule, one_of_table
from imgpipe.prepare.formats import FORMATS
from imgpipe.prepare.layouts import GROUPS, REST
from imgpipe.prepare.splits import STRATEGIES

Fraction = Annotated[float, Interval(0, 1, open_low=True, open_high=True)]
Label = str | int | float
"""A label or a class, as YAML reads what looks like a number."""


def _names_a_label(pattern: str) -> bool:
    """Return whether a pattern is auto, or a regular expression with the group label and no unknown ones."""
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


TABLE = Rule(
    "the name of a table in the archive that ends in .csv, such as labels.csv",
    lambda name: re.search(r"[^/]\.csv$", name, flags=re.IGNORECASE) is not None,
)
COLUMN = Rule("the name of a column", lambda name: name == name.strip() != "")


@dataclass(frozen=True)
class Columns:
    """The section ``prepare.columns``: the columns of the table that say what an image is."""

    file: Annotated[str, COLUMN]
    """Of the image's path."""
    label: Annotated[str, COLUMN]
    split: Annotated[str, COLUMN] | None
    """Of its split; null where its folders name it."""
    group: Annotated[str, COLUMN] | None


@dataclass(frozen=True)
class Prepare:
    """The section ``prepare``: how images become training, validation and test splits."""

    pattern: Annotated[str, PATTERN]
    """How a path names its class, split and group: see ``layouts.read_path``."""
    table: Annotated[str, TABLE] | None
    """Name of the tables that say it in the path's place: see ``tables.read_tables``."""
    columns: Columns
    """What the tables' columns are called."""
    class_names: Annotated[dict[Label, str], NAMES] | None
    """Names in place of labels."""
    class_map: Annotated[dict[Label, list[Label] | Literal["rest"]], LISTS] | None
    """Labels, by name where they have one, that are merged into classes; rest stands for all others."""
    split: Annotated[str, one_of_table(STRATEGIES)]
    """How a validation or test split that the source does not give is cut from the training images."""
    val_fraction: Fraction
    """Share of these images that chooses the best epoch."""
    test_fraction: Fraction
    """Share of these images that is kept for the test."""
    folds: Annotated[int, Interval(low=2)] | None
    """Parts of these images, each of which can be the test split in place of a share of them: cross-validation."""
    fold: Annotated[int, Interval(low=0)]
    """Number of the part that is the test split, from 0."""
    seed: Annotated[int, Interval(0, 2**32 - 1)]
    """Of the cut."""
    duplicates: Literal["drop", "fail", "keep"]
    """What becomes of images that are equal pixel for pixel: of a set of them one stays, or it is an error."""
    near_duplicates: Literal["report", "group", "drop"]
    """What becomes of images that are alike to the eye: group cuts no split between them."""
    near_correlation: Annotated[float, Interval(0.9, 0.999)]
    """The least correlation of their thumbnails."""
    max_rejected: Annotated[float, Interval(0, 1)]
    """Share of the images that may be unreadable or out of place."""
    format: Annotated[str, one_of_table(FORMATS)]
    """How data/prepared holds the images."""

    def __post_init__(self) -> None:
        test_fraction, test = self.test_fraction, f"test_fraction {self.test_fraction}"
        if self.folds is not None:
            test_fraction, test = 1 / self.folds, f"folds {self.folds}, each 1 / {self.folds} of the images"
        if self.val_fraction + test_fraction >= 1:
            raise InputError(
                f"val_fraction is {self.val_fraction} and {test}, which leave nothing to train on; together they must "
                "be below 1"
            )
        if self.fold and self.fold >= (self.folds or 1):
            most = "folds is null, so it must be 0" if self.folds is None else f"it must be below folds, {self.folds}"
            raise InputError(f"fold is {self.fold}; {most}")
        if not STRATEGIES[self.split].by_group:
            return
        if self.table is not None:
            if self.columns.group is None:
                raise InputError(
                    f"split is {self.split}, and columns.group is null; name the column of {self.table} that has the "
                    "group"
                )
        elif "group" not in re.compile(self.pattern).groupindex:
            raise InputError(
                f"split is {self.split}, and pattern is '{self.pattern}', which names no group; write it with "
                "(?P<group>...)"
            )
