"""``imgpipe export``: write the model to files that need no imgpipe, once they are proven."""

import importlib.util
import shutil
from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from imgpipe.commands.writing import place_of, writing
from imgpipe.common.errors import InputError
from imgpipe.common.files import replacing_folder
from imgpipe.common.kernels import fix_for_network

CARD = Path("metrics/model_card.md")
EXTRA = ("onnx", "onnxscript", "onnxruntime")


class Format(StrEnum):
    ONNX = "onnx"
    PT2 = "pt2"
    BOTH = "both"


FILES = {
    Format.ONNX: ["classifier.onnx"],
    Format.PT2: ["classifier.pt2"],
    Format.BOTH: ["classifier.onnx", "classifier.pt2"],
}
BESIDE = ("preprocessing.json", "reference.png", "reference.npy", "example.py", "README.md", CARD.name)


def export(
    form: Annotated[Format, typer.Option("--format", help="ONNX, PyTorch's exported program, or both.")] = Format.BOTH,
    model: Annotated[Path, typer.Option(help="The model file.")] = Path("models/classifier.safetensors"),
    output: Annotated[Path, typer.Option(help="The folder for the files.")] = Path("models/export"),
    max_flips: Annotated[int, typer.Option(min=0, help="Test images that may get another class than in the test.")] = 0,
) -> None:
    """Write the model to files that need no imgpipe.

    Every test image goes through them first: they must give it the class that the test gave it, or nothing is written.
    Run it in the project's top folder, after dvc repro.
    """
    files = FILES[form]
    _check_extra(form)
    _check_output(output)

    # not on top: numpy and torch take seconds to import, and wrong arguments are refused before
    from imgpipe.model.description import read_description

    fix_for_network(read_description(model).kernels)

    import numpy as np

    from imgpipe.commands import example, exported, proof
    from imgpipe.common.progress import counting_where_long
    from imgpipe.model.classifier import load_classifier

    classifier = load_classifier(model)
    description = classifier.description
    tested = proof.read_tested(description)
    writers = {".onnx": exported.write_onnx, ".pt2": exported.write_pt2}
    said = []
    with writing(output), replacing_folder(output) as draft:
        reference = example.write_reference(draft, description)
        sample = np.concatenate([reference, proof.sample(tested, description)])
        own = exported.probabilities_in_fp32(classifier, sample)
        program = exported.traced(classifier)
        for name in counting_where_long("exporting", files, len(files)):
            writers[Path(name).suffix](program, draft / name, description)
        for name in files:
            with proof.RUNNERS[Path(name).suffix](draft / name, description) as run:
                proven = proof.prove(name, run, tested, description, (sample, own))
            proof.refuse_unproven(name, proven, description, max_flips=max_flips)
            size = (draft / name).stat().st_size / 1e6
            said.append(f"{Path(name).suffix[1:]}: {proven}; {size:.1f} MB; {output / name}")
        example.write_specification(draft, description, own[0])
        example.write_example(draft, description, files[0])
        example.write_readme(draft, description, files)
        if CARD.is_file():
            shutil.copyfile(CARD, draft / CARD.name)
    for line in said:
        typer.echo(line)


def _check_extra(form: Format) -> None:
    """Raise InputError where the packages that ONNX needs are not installed."""
    if form != Format.PT2 and not all(map(importlib.util.find_spec, EXTRA)):
        raise InputError(
            f"--format onnx needs the packages {', '.join(EXTRA[:-1])} and {EXTRA[-1]}: pip install 'imgpipe[export]'; "
            "--format pt2 needs no other"
        )


def _check_output(output: Path) -> None:
    """Raise InputError where the folder could not be written, or would take the place of anything but an export."""
    if output.name in ("", ".."):
        raise InputError(f"--output is '{output}'; name a new folder, which an older export may be in")
    place_of(output)
    with writing(output):
        if output.is_symlink() or output.is_file():
            raise InputError(f"'{output}' is no folder; name another for the files")
        known = {*FILES[Format.BOTH], *BESIDE}
        others = sorted(path.name for path in output.iterdir() if path.name not in known) if output.is_dir() else []
        if others:
            raise InputError(f"'{output}' holds {others[0]}, which is of no export; name another folder")
