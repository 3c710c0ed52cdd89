"""The section ``download`` of params.yaml."""

from dataclasses import dataclass
from typing import Annotated, Literal

from imgpipe.common.errors import InputError
from imgpipe.common.rules import SHA256, Rule, one_of_table
from imgpipe.download.datasets import DATASETS

NOT_EMPTY = Rule("text that is not empty", bool)


@dataclass(frozen=True)
class Download:
    """The section ``download``: where the images come from."""

    source: Literal["digits", "folder", "table", "archive", "url", "torchvision"]
    """Which function of ``sources.SOURCES`` brings them."""
    location: Annotated[str, NOT_EMPTY]
    """Path of the folder, table or archive. It must exist for the other sources too, as DVC looks for changes there."""
    url: Annotated[str, NOT_EMPTY] | None
    """Address of a zip or tar. Source url needs it."""
    name: Annotated[str, one_of_table(DATASETS)] | None
    """One of torchvision's datasets. Source torchvision needs it."""
    sha256: Annotated[str, SHA256] | None
    """SHA-256 of the archive. Source url needs it, and says what it would be where it is null."""

    def __post_init__(self) -> None:
        needed = {"url": "the address of an archive", "torchvision": "the name of a dataset"}
        key = {"url": "url", "torchvision": "name"}.get(self.source)
        if key and getattr(self, key) is None:
            raise InputError(f"{key} is null; source {self.source} needs {needed[self.source]}")
        if self.source == "table" and not self.location.lower().endswith(".csv"):
            raise InputError(f"location is '{self.location}'; source table needs the path of a file that ends in .csv")
        if "\0" in self.location:
            raise InputError(f"location is {self.location!r}; no path has a NUL in it")
        if self.location.startswith("~"):
            raise InputError(f"location is '{self.location}'; write the path in full, since DVC does not know ~")
