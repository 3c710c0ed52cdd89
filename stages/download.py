"""Bring the images here: ``python -m stages.download``, from the project's top folder."""

from pathlib import Path

from imgpipe.common import params, stage
from imgpipe.common.files import replacing_folder
from imgpipe.download.params import Download
from imgpipe.download.sources import SOURCES, verify


def download() -> None:
    """Bring the images here, as one archive.

    Reads what params.yaml: download names; writes data/raw. What an address has sent so far is kept in data/partial.
    """
    section = params.read("download", Download)
    with replacing_folder(Path("data/raw")) as folder:
        SOURCES[section.source](folder, section, Path("data/partial"))
        verify(folder, section.sha256)


if __name__ == "__main__":
    stage.run(download)
