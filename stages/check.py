"""Check the whole of params.yaml: ``python -m stages.check`` says what does not fit, in one line.

With ``--for-repro`` it prints what ``dvc repro`` is to be called with.
"""

import os
import sys
from itertools import chain

from imgpipe.common import params
from imgpipe.common.errors import InputError, exit_on_input_error
from imgpipe.common.files import takes_what_comes
from imgpipe.common.safe_text import printable
from imgpipe.data.folders import NO_FILE
from imgpipe.data.packed import Form
from imgpipe.download.params import Download
from imgpipe.evaluate.params import Evaluate
from imgpipe.model.runtime import Runtime
from imgpipe.plot.params import Plot
from imgpipe.prepare.params import Prepare
from imgpipe.train.params import Model, Train
from imgpipe.train.processes import PROCESSES, check_process_count, machine_count

SECTIONS = {
    "runtime": Runtime,
    "download": Download,
    "prepare": Prepare,
    "pack": Form,
    "model": Model,
    "train": Train,
    "evaluate": Evaluate,
    "plot": Plot,
}


def check() -> None:
    """Check every section, and what must hold between sections. Raises InputError at what does not fit first."""
    sections = params.check(SECTIONS)
    runtime, train = sections["runtime"], sections["train"]
    _check_location(sections["download"].location)
    batch = {"micro_batches": train.micro_batches, "batch_size": train.batch_size}
    machines = machine_count(**batch)
    if runtime.processes != "auto":
        check_process_count(runtime.processes, **batch, machines=machines, said_by=PROCESSES)


def _check_location(location: str) -> None:
    """Refuse a location that is or holds a pipe, a socket or a device: DVC opens it, and may wait for ever."""
    below = (os.path.join(folder, name) for folder, _, names in os.walk(location) for name in names)  # noqa: PTH118
    for path in chain([location], below):
        if takes_what_comes(path):
            raise InputError(f"params.yaml: download.location is '{location}', and '{path}': {NO_FILE}; remove it")


def options_of_repro() -> str:
    """Return the options of ``dvc repro`` here, and say why: without the images it would stop, so it is to pull."""
    location = params.read("download", Download).location
    if os.path.exists(location):  # noqa: PTH110 (a Path raises for long names)
        return ""
    sys.stderr.write(
        f"params.yaml: download.location is '{printable(location)}', which is not here; what was made from it is "
        "pulled from the DVC remote\n"
    )
    return "--pull"


if __name__ == "__main__":
    with exit_on_input_error():
        check()
        if sys.argv[1:] == ["--for-repro"]:
            sys.stdout.write(options_of_repro())
