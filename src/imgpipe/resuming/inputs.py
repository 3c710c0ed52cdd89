"""What the result of a stage depends on, as dvc.yaml lists it, in digests."""

import hashlib
import json
import platform
from importlib import metadata
from pathlib import Path

from imgpipe.common import params

PACKAGES = ("numpy", "opencv-python-headless", "pillow", "torch", "torchvision")
"""Those whose versions show in the bits of a training."""


def digests_of_inputs(stage: str) -> dict[str, str]:
    """A digest of the stage's parameters, of each file and folder that it depends on, and of the packages' versions."""
    described = params.load(Path("dvc.yaml"))["stages"][stage]
    parameters = params.load(params.PARAMS)
    versions = {"python": platform.python_version(), **{name: metadata.version(name) for name in PACKAGES}}
    return {
        "parameters": _digest_of_text(json.dumps({name: parameters[name] for name in described["params"]})),
        "packages": _digest_of_text(json.dumps(versions)),
        **{path: _digest_of_path(Path(path)) for path in described["deps"]},
    }


def key_of(digests: dict[str, str]) -> str:
    """One short name for all of them."""
    return _digest_of_text(json.dumps(digests))[:32]


def _digest_of_text(text: str) -> str:
    return hashlib.blake2b(text.encode()).hexdigest()


def _digest_of_path(path: Path) -> str:
    if path.is_dir():
        files = sorted(file for file in path.rglob("*") if file.is_file())
        return _digest_of_text(
            json.dumps([(file.relative_to(path).as_posix(), _digest_of_path(file)) for file in files])
        )
    with path.open("rb") as file:
        return hashlib.file_digest(file, "blake2b").hexdigest()
