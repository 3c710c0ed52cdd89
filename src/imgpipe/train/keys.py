"""The key of a training: a digest of what its result depends on. Importing this takes no torch."""

import json
import platform
from collections.abc import Mapping
from importlib import metadata
from pathlib import Path

from imgpipe.common import packages, params
from imgpipe.common.files import digest_of, digest_of_text
from imgpipe.data.packed import INDEX_FILE
from imgpipe.model.names import TIMM


def digests_of_inputs(stage: str, *, device: str) -> dict[str, str]:
    """Digest all that the result of a stage depends on, by name.

    That is: its parameters, each file and folder that dvc.yaml lists as its dependency (data and code), the versions of
    Python and of the packages that dvc.yaml lists (of timm where the network is timm's), and the device.

    device: ``cpu``, or a GPU as ``devices.described`` has it.
    """
    described = params.load(Path("dvc.yaml"))["stages"][stage]
    sections = params.load(params.PARAMS)
    parameters = json.dumps({name: sections[name] for name in packages.sections_of_stage(described)})
    parameters = json.dumps(json.loads(parameters), sort_keys=True)  # keys are texts there, which can be sorted
    timm = str(sections.get("model", {}).get("name")).startswith(TIMM)
    used = [name for name in packages.of_stage(described) if name != "timm" or timm]
    versions = {name: metadata.version(name) for name in used} | {"python": platform.python_version()}
    return {
        "parameters": digest_of_text(parameters),
        "packages": digest_of_text(json.dumps(versions)),
        **{path: _digest_of_dependency(Path(path)) for path in described["deps"]},
        "device": device,
    }


def _digest_of_dependency(path: Path) -> str:
    """Return a digest of a file or folder; of a packed split that of its index, which has a checksum of each image.

    These are compared with the images before a training (``check_splits``), which need not be read once more.
    """
    index = path / INDEX_FILE
    return digest_of(index if index.is_file() else path)


def key_of(digests: Mapping[str, str]) -> str:
    """Return the key of a training with these inputs: the name of its folder of checkpoints."""
    return digest_of_text(json.dumps(dict(digests)))[:32]
