"""Bring the images here: ``python -m stages.download``, from the project's top folder."""

import json
from pathlib import Path

from imgpipe.common import params, stage
from imgpipe.common.files import replacing_folder, write_text
from imgpipe.download.params import Download
from imgpipe.download.sources import SOURCES, identified


def download() -> None:
    """Bring the images here, as one archive.

    Reads what params.yaml: download names; writes data/raw, and the archive's name and SHA-256 to
    data/source.json. What an address has sent so far is kept in data/partial.
    """
    section = params.read("download", Download)
    with replacing_folder(Path("data/raw")) as folder:
        SOURCES[section.source](folder, section, Path("data/partial"))
        source = identified(folder, section)
    write_text(Path("data/source.json"), json.dumps(source, indent=2) + "\n")


if __name__ == "__main__":
    stage.run(download)
