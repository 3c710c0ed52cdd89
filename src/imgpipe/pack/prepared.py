"""Reading the prepared splits, be they trees or tars."""

import mmap
import tarfile
from collections.abc import Callable
from pathlib import Path


def image_reader(folder: Path) -> Callable[[str], bytes]:
    """A function from ``<split>/<class>/<name>`` to the bytes of that image; threads may share it."""
    tars = {path.stem: _tar_reader(path) for path in folder.glob("*.tar")}

    def read(file: str) -> bytes:
        split, _, name = file.partition("/")
        return tars[split](name) if split in tars else (folder / file).read_bytes()

    return read


def _tar_reader(path: Path) -> Callable[[str], bytes]:
    with tarfile.open(path, "r:") as tar:
        places = {member.name: slice(member.offset_data, member.offset_data + member.size) for member in tar}
    with path.open("rb") as file:
        content = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
    return lambda name: content[places[name]]
