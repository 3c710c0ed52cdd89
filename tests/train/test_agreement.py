"""Processes that train together make sure that they have the same, in a real Gloo group."""

import subprocess
import sys
from pathlib import Path

from conftest import ROOT

PROGRAM = """
import socket, sys
import stages
import torch, torch.distributed as dist
from imgpipe.train.checkpoints import same_everywhere
from imgpipe.model.devices import World
from imgpipe.common.errors import InputError

rank, meeting = int(sys.argv[1]), sys.argv[2]
socket.gethostname = lambda: ("alpha", "beta")[rank]
dist.init_process_group("gloo", init_method=f"file://{meeting}", rank=rank, world_size=2)
world = World(rank, 2, torch.device("cpu"))
same_everywhere({"params.yaml": "0f", "src": "aa"}, world)
print("agreed")
try:
    same_everywhere({"params.yaml": "0f", "src": "ab"[rank], "data": "c"} | ({"old": "d"} if rank else {}), world)
except InputError as error:
    print(error)
dist.destroy_process_group()
"""


def test_every_process_is_told_what_differs_and_where(tmp_path: Path) -> None:
    command = [sys.executable, "-c", PROGRAM]
    running = [
        subprocess.Popen([*command, str(rank), str(tmp_path / "meeting")], cwd=ROOT, stdout=subprocess.PIPE, text=True)
        for rank in range(2)
    ]
    said = [process.communicate(timeout=120)[0] for process in running]
    assert (
        said
        == [
            "agreed\n"
            "the machines do not train the same: old, src on beta (process 1): not as on alpha (process 0); bring the "
            "project's folder to one state on all of them, for example by git pull and dvc pull\n"
        ]
        * 2
    )
