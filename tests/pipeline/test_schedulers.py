"""The files for SLURM and Kubernetes: they parse, and what they name is there. tests/train runs what they start."""

import re
import subprocess
from typing import Any

import pytest
import yaml
from closure import ROOT

from imgpipe.train.processes import machine_count

BATCH = (ROOT / "docs/machines/train.sbatch").read_text(encoding="utf-8")
SERVICE, JOB = yaml.safe_load_all((ROOT / "docs/machines/kubernetes.yaml").read_text(encoding="utf-8"))
POD: dict[str, Any] = JOB["spec"]["template"]["spec"]
SCRIPT = "bash docs/machines/machine.sh"


@pytest.mark.parametrize("script", ["train.sbatch", "machine.sh"])
def test_the_scripts_are_bash(script: str) -> None:
    done = subprocess.run(["bash", "-n", ROOT / "docs/machines" / script], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")


def test_both_start_one_launcher_a_machine_by_the_same_script() -> None:
    assert (ROOT / SCRIPT.partition(" ")[2]).is_file()
    assert "#SBATCH --ntasks-per-node=1\n" in BATCH
    assert re.findall(r"^srun .*$", BATCH, flags=re.MULTILINE) == [
        f'srun --cpus-per-task="$SLURM_CPUS_PER_TASK" --wait=60 {SCRIPT} &'
    ]
    (container,) = POD["containers"]
    assert container["command"] == SCRIPT.split()


def test_the_options_of_the_batch_script_stand_before_its_first_command() -> None:
    """Slurm reads none after it."""
    assert "\n#SBATCH" not in BATCH.partition("\nset ")[2]
    assert re.findall(r"^#SBATCH --([a-z-]+)", BATCH, flags=re.MULTILINE) == [
        *("job-name", "nodes", "ntasks-per-node", "cpus-per-task", "signal", "requeue", "open-mode")
    ]


def test_the_pods_find_one_another_and_are_as_many_as_the_training_takes_them_for(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    job, service = JOB["metadata"]["name"], SERVICE["metadata"]["name"]
    assert SERVICE["spec"]["selector"] == {"job-name": job}
    assert POD["subdomain"] == service
    (container,) = POD["containers"]
    values = {one["name"]: one.get("value", "0") for one in container["env"]}
    assert values["PET_RDZV_ENDPOINT"] == f"{job}-0.{service}:29500"
    for name, value in values.items():
        monkeypatch.setenv(name, value)
    pods = machine_count(micro_batches=64, batch_size=64)
    assert (JOB["spec"]["completions"], JOB["spec"]["parallelism"]) == (pods, pods)


def test_the_project_s_volume_is_where_the_script_runs_and_the_code_comes_from_and_nccl_s_is_in_memory() -> None:
    (container,) = POD["containers"]
    mounted = {one["name"]: one["mountPath"] for one in container["volumeMounts"]}
    assert mounted == {"project": container["workingDir"], "shm": "/dev/shm"}
    assert [one["name"] for one in POD["volumes"]] == list(mounted)
    assert POD["volumes"][1]["emptyDir"]["medium"] == "Memory"
    assert {"name": "PYTHONPATH", "value": f"{container['workingDir']}/src"} in container["env"]
