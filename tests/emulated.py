"""Programs on another processor: Python as qemu's user-mode emulation of it runs it.

``python tests/emulated.py Haswell EPYC`` runs the project's last commit natively and on each of these processors, and
says whether every output is the same: ``make verify-portable``.
"""

import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

import yaml

QEMU = "qemu-x86_64"
"""Of Debian's package qemu-user; from version 7.2 on it knows AVX2."""
PROCESSORS = {
    "Haswell": "Haswell-noTSX,-pcid,-x2apic,-tsc-deadline,-invpcid",
    "EPYC": "EPYC,-rdseed,-sha-ni,-fxsr-opt,-misalignsse,-3dnowprefetch,-osvw,-topoext,-nrip-save,-xsavec",
}
"""Intel's and AMD's first with AVX2 that qemu knows, less what it would say at each start that it does not emulate."""
ROOT = Path(__file__).resolve().parent.parent


def make_python(folder: Path, processor: str) -> Path:
    """Makes a virtual environment in a new folder, with the packages of the Python that runs this.

    Whatever its Python starts by sys.executable is emulated, too.
    """
    program = folder / "bin" / "python"
    program.parent.mkdir(parents=True)
    (folder / "lib").symlink_to(Path(sys.prefix) / "lib")
    shutil.copy(Path(sys.prefix) / "pyvenv.cfg", folder)
    # -0 is the name by which the interpreter is called: from it, it finds the environment and what it calls itself
    command = f'{shutil.which(QEMU)} -0 "$0" -cpu {PROCESSORS[processor]} {Path(sys.executable).resolve()} "$@"'
    program.write_text(f"#!/bin/sh\nexec {command}\n")
    program.chmod(0o755)
    return program


def outputs_of_run(folder: Path, *programs: Path) -> dict[str, str]:
    """Runs the whole pipeline in a clone of the project.

    folder: where the clone will be.
    programs: folders in which Python is looked for first.

    Returns the hash of every output, by its path.
    """
    subprocess.run(["git", "clone", "--quiet", ROOT, folder], check=True)
    path = os.pathsep.join([*map(str, programs), str(Path(sys.executable).parent), os.environ["PATH"]])
    environment = {**os.environ, "PATH": path, "OMP_WAIT_POLICY": "passive"}  # emulated threads spin slowly
    subprocess.run(["dvc", "repro", "--force"], cwd=folder, env=environment, check=True)
    stages = yaml.safe_load((folder / "dvc.lock").read_text(encoding="utf-8"))["stages"].values()
    return {out["path"]: out["md5"] for stage in stages for out in stage["outs"]}


def main() -> None:
    """Runs the pipeline natively and emulated, and ends with exit status 1 where an output differs."""
    if not shutil.which(QEMU):
        sys.exit(f"error: there is no {QEMU}; apt-get install qemu-user brings it")
    said = []
    with tempfile.TemporaryDirectory() as name:
        native = outputs_of_run(Path(name, "native"))
        for processor in sys.argv[1:]:
            program = make_python(Path(name, "python", processor), processor)
            emulated = outputs_of_run(Path(name, processor), program.parent)
            differing = [path for path in native if native[path] != emulated[path]]
            same = f"all {len(native)} outputs are the same" if not differing else f"differ: {', '.join(differing)}"
            said.append(f"{processor}: {same}")
    print("\n".join(said))  # noqa: T201
    sys.exit(any("differ:" in line for line in said))


if __name__ == "__main__":
    main()
