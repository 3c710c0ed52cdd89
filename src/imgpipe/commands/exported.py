"""Write a classifier to a file that computes by itself, from uint8 images to probabilities, without imgpipe."""

import contextlib
import importlib
import io
import json
import logging
import warnings
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.export import Dim, ExportedProgram

from imgpipe.commands.inference import probabilities_of
from imgpipe.common.errors import InputError, one_line
from imgpipe.data.packed import Pixels
from imgpipe.model.classifier import Classifier
from imgpipe.model.description import Description

INPUT, OUTPUT = "images", "probabilities"
"""Names of what the files take and give."""
EXAMPLE = 2
"""Images that the network is run with to see what it computes; of one, torch would take the number to be fixed."""


class Exported(nn.Module):
    """Computes probabilities, float32 (n, classes), of images, uint8 (n, size, size, channels), in fp32.

    The numbers are those of ``Classifier.forward`` and ``predict_batch``: subtracted and divided by the same and in the
    same order. The softmax is in float32.
    """

    mean: Tensor
    std: Tensor

    def __init__(self, classifier: Classifier) -> None:
        """Take the network, the normalisation, the mirror images and the temperature of a classifier."""
        super().__init__()
        self.network = classifier.network
        self.register_buffer("mean", classifier.mean * 255)
        self.register_buffer("std", classifier.std * 255)
        self.flips = classifier.description.flips
        self.temperature = classifier.description.temperature

    def forward(self, images: Tensor) -> Tensor:
        normalised = ((images.to(torch.float32) - self.mean) / self.std).permute(0, 3, 1, 2)
        logits: Tensor = self.network(normalised)
        if self.flips:
            logits = (logits + self.network(normalised.flip(3))) / 2
        return torch.softmax(logits / self.temperature, 1)


def traced(classifier: Classifier) -> ExportedProgram:
    """Return what the classifier computes as a graph, for any number of images.

    classifier: on the CPU.

    Raises InputError where torch can't follow what the network does.
    """
    description = classifier.description
    module = Exported(classifier).eval().requires_grad_(False)
    example = torch.zeros(EXAMPLE, description.size, description.size, description.form.channels, dtype=torch.uint8)
    with _refusals(description, "torch.export"):
        program = torch.export.export(module, (example,), dynamic_shapes={INPUT: {0: Dim("batch", min=1)}})
    for node in program.graph.nodes:
        node.meta.pop("stack_trace", None)  # paths of this machine
    return program


def properties(description: Description) -> dict[str, str]:
    """Return what stands in a file beside the numbers, each as JSON: the classes in order, and the description."""
    return {
        "classes": json.dumps(description.classes, ensure_ascii=False),
        "description": json.dumps(description.as_json(), ensure_ascii=False),
    }


def write_onnx(program: ExportedProgram, path: Path, description: Description) -> None:
    """Write one self-contained ONNX file, checked by ONNX's own checker. Raises InputError where that fails."""
    onnx = importlib.import_module("onnx")  # an extra, of which the type checker need not know
    with _refusals(description, "onnx"):
        made = torch.onnx.export(
            program,
            dynamo=True,
            verbose=False,
            output_names=[OUTPUT],
            dynamic_shapes={INPUT: {0: "batch"}},  # the name of that number in the file
        )
        assert made is not None
        model = made.model_proto
        _forget_origins(model.graph)
        onnx.helper.set_model_props(model, properties(description))
        onnx.checker.check_model(model, full_check=True)
        path.write_bytes(model.SerializeToString(deterministic=True))


def _forget_origins(graph: object) -> None:
    """Take out of an onnx.GraphProto where each node came from: lines of code, and paths of this machine."""
    for names in ("node", "input", "output", "value_info", "initializer"):
        for part in getattr(graph, names):
            part.ClearField("metadata_props")
            part.ClearField("doc_string")


def write_pt2(program: ExportedProgram, path: Path, description: Description) -> None:
    """Write the file that ``torch.export.load`` reads. Raises InputError where torch can't."""
    with _refusals(description, "pt2"):
        torch.export.save(program, path, extra_files=properties(description))


def probabilities_in_fp32(classifier: Classifier, images: Pixels) -> NDArray[np.float64]:
    """Compute the probabilities of images by the classifier itself, in fp32, whatever the test computed in.

    images: uint8 (n, size, size, channels).

    Returns float64 (n, classes).
    """
    described = classifier.description
    classifier.description = replace(described, precision="fp32")
    try:
        return probabilities_of(list(images), classifier)
    finally:
        classifier.description = described


@contextlib.contextmanager
def _refusals(description: Description, target: str) -> Iterator[None]:
    """Raise InputError where the block fails, and keep torch from saying anything else."""
    with (
        warnings.catch_warnings(),
        contextlib.redirect_stdout(io.StringIO()),
        contextlib.redirect_stderr(io.StringIO()),
    ):
        warnings.simplefilter("ignore")
        disabled = logging.root.manager.disable
        logging.disable(logging.CRITICAL)
        try:
            yield
        except OSError:  # of writing the file
            raise
        except Exception as error:  # a network may do anything
            raise InputError(
                f"the network '{description.model}' can't be exported to {target} ({one_line(error, named=True)[:300]})"
            ) from None
        finally:
            logging.disable(disabled)
