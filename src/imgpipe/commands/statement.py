"""What a model was made from as an in-toto Statement with SLSA's provenance, which public tools sign and check.

Source: in-toto Attestation Framework, Statement v1 and ResourceDescriptor; SLSA 1.x, Build: Provenance.
"""

import re
from collections.abc import Iterator
from typing import Any

from imgpipe.commands.provenance import ModelFile, commit_of

STATEMENT = "https://in-toto.io/Statement/v1"
PREDICATE = "https://slsa.dev/provenance/v1"
BUILD = "urn:imgpipe:dvc-repro:v1"
"""The way in which it is built: docs/reproducing.md describes it."""
BUILDER = "urn:imgpipe:unnamed-machine"
"""The file does not know who made it; who signs the statement vouches for that."""
EXACTNESS = ("kernels", "precision", "cpu_threads", "channels_last", "device")
"""What a description has that decides about the bits."""


def statement_of(model: ModelFile) -> dict[str, Any]:
    """Return the statement, as JSON has it."""
    return {
        "_type": STATEMENT,
        "subject": [
            {
                "name": model.name,
                "digest": {"sha256": model.sha256},
                "annotations": {"metrics": model.made_from["metrics"]},
            }
        ],
        "predicateType": PREDICATE,
        "predicate": {
            "buildDefinition": {
                "buildType": BUILD,
                "externalParameters": model.made_from["parameters"],
                "internalParameters": {name: getattr(model.description, name) for name in EXACTNESS},
                "resolvedDependencies": list(_dependencies(model)),
            },
            "runDetails": {"builder": {"id": BUILDER}},
        },
    }


def _dependencies(model: ModelFile) -> Iterator[dict[str, Any]]:
    """Yield descriptors of the archive, the files of code, the packages, the first weights and the commit."""
    for files in (model.made_from["sources"], model.made_from["code"]):
        for name, sha256 in files.items():
            yield {"name": name, "digest": {"sha256": sha256}}
    for name, version in model.made_from["packages"].items():
        yield {"name": name, "uri": f"pkg:pypi/{name}@{version}"}
    if weights := re.fullmatch(r"(.+) sha256:([0-9a-f]{64})", model.description.initial_weights):
        yield {"name": weights[1], "digest": {"sha256": weights[2]}}
    if commit := commit_of(model.md5):
        yield {"name": "commit", "digest": {"gitCommit": commit.hash}}
