"""Check the whole of params.yaml: ``python -m stages.check`` says what does not fit, in one line."""

from imgpipe.common import params
from imgpipe.common.errors import exit_on_input_error
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
    machines = machine_count(micro_batches=train.micro_batches)
    if runtime.processes != "auto":
        check_process_count(runtime.processes, micro_batches=train.micro_batches, machines=machines, said_by=PROCESSES)


if __name__ == "__main__":
    with exit_on_input_error():
        check()
