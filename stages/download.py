import os
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Optional

from imgpipe import params
from imgpipe.files import replacing_folder
from imgpipe.rules import OneOf
from imgpipe.sources import SOURCES, verify
from stages import command


@dataclass(frozen=True)
class Download:
    """params.yaml: download."""

    source: Annotated[str, OneOf(SOURCES)]
    location: Optional[str]
    sha256: Optional[str]


def download() -> None:
    """Bring the pictures here, as one archive.

    Reads what params.yaml: download names; writes data/raw.
    """
    section = params.read("download", Download)
    location = Path(os.path.expanduser(section.location)) if section.location else None  # noqa: PTH111
    with replacing_folder(Path("data/raw")) as folder:
        SOURCES[section.source](folder, location)
        verify(folder, section.sha256)


if __name__ == "__main__":
    command.run(download)
