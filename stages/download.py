from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

from imgpipe.common import params
from imgpipe.common import stage as command
from imgpipe.common.errors import InputError
from imgpipe.common.files import replacing_folder
from imgpipe.common.rules import SHA256, Rule, one_of_table
from imgpipe.download import sources
from imgpipe.download.datasets import DATASETS

NOT_EMPTY = Rule("text that is not empty", bool)


@dataclass(frozen=True)
class Download:
    """params.yaml: download."""

    source: Literal["digits", "folder", "archive", "url", "torchvision"]
    location: Annotated[str, NOT_EMPTY]
    url: Annotated[str, NOT_EMPTY] | None
    name: Annotated[str, one_of_table(DATASETS)] | None
    sha256: Annotated[str, SHA256] | None

    def __post_init__(self) -> None:
        needed = {"url": "the address of an archive", "torchvision": "the name of a dataset"}
        key = {"url": "url", "torchvision": "name"}.get(self.source)
        if key and getattr(self, key) is None:
            raise InputError(f"{key} is null; source {self.source} needs {needed[self.source]}")
        if self.location.startswith("~"):
            raise InputError(f"location is '{self.location}'; write the path in full, since DVC does not know ~")


def download() -> None:
    """Bring the images here, as one archive.

    Reads what params.yaml: download names; writes data/raw. What an address has sent so far is kept in data/partial.
    """
    section = params.read("download", Download)
    location, partial = Path(section.location), Path("data/partial")
    with replacing_folder(Path("data/raw")) as folder:
        match section.source:
            case "digits":
                sources.digits(folder)
            case "folder":
                sources.tree(folder, location)
            case "archive":
                sources.archive(folder, location)
            case "url":
                sources.url(folder, str(section.url), partial, section.sha256)
            case "torchvision":
                sources.torchvision(folder, str(section.name), partial)
        sources.verify(folder, section.sha256)


if __name__ == "__main__":
    command.run(download)
