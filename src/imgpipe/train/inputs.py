"""What the result of a stage depends on, as dvc.yaml lists it, in digests."""

import json
import platform
from importlib import metadata
from pathlib import Path

from imgpipe.common import params
from imgpipe.common.files import digest_of, digest_of_text

PACKAGES = ("numpy", "opencv-python-headless", "pillow", "torch", "torchvision")
"""Those whose versions show in the bits of a training."""


def digests_of_inputs(stage: str) -> dict[str, str]:
    """A digest of the stage's parameters, of each file and folder that it depends on, and of the packages' versions."""
    described = params.load(Path("dvc.yaml"))["stages"][stage]
    sections = params.load(params.PARAMS)
    parameters = json.dumps({name: sections[name] for name in described["params"]})
    parameters = json.dumps(json.loads(parameters), sort_keys=True)  # keys are texts there, which can be sorted
    versions = {"python": platform.python_version(), **{name: metadata.version(name) for name in PACKAGES}}
    return {
        "parameters": digest_of_text(parameters),
        "packages": digest_of_text(json.dumps(versions)),
        **{path: digest_of(Path(path)) for path in described["deps"]},
    }


def key_of(digests: dict[str, str]) -> str:
    """One short name for all of them."""
    return digest_of_text(json.dumps(digests))[:32]
