"""Sums over processes, by a real Gloo group."""

import subprocess
import sys
from pathlib import Path

PROGRAM = """
import os, sys
import torch
import torch.distributed as dist
from imgpipe.model.devices import World
from imgpipe.train.exchange import Exchange

SIZE = 8
rank = next((n for n in range(1, SIZE) if os.fork() == 0), 0)  # torch is imported once
torch.set_num_threads(1)
dist.init_process_group("gloo", init_method=f"file://{sys.argv[1]}", rank=rank, world_size=SIZE)
generator = torch.Generator().manual_seed(0)
for on_a_machine in (8, 4, 2, 1):
    os.environ["LOCAL_WORLD_SIZE"] = str(on_a_machine)
    exchange = Exchange(World(rank, SIZE, torch.device("cpu")))
    futures, expected = [], []
    for length in (1, 31, 32 * SIZE, 1000, 100_003):
        terms = torch.randn(SIZE, length, generator=generator)
        terms *= 10.0 ** torch.randint(-4, 5, (SIZE, length), generator=generator)
        futures.append(exchange.beside(lambda mine=terms[rank].clone(): exchange.sum_in_place(mine)))
        a, b, c, d, e, f, g, h = terms
        expected.append(((a + b) + (c + d)) + ((e + f) + (g + h)))
    assert not torch.equal(expected[-1], terms.sum(0))
    right = all(torch.equal(future.wait(), total) for future, total in zip(futures, expected))
    if rank == 0:
        print(on_a_machine, "on a machine:", [size for _, size in exchange._groups], right)
    failing = exchange.beside(lambda: 1 / 0)
    try:
        failing.wait()
    except ZeroDivisionError:
        pass
    else:
        raise AssertionError("the error is lost")
dist.barrier()
dist.destroy_process_group()
sys.exit(rank == 0 and any(os.wait()[1] for _ in range(1, SIZE)))
"""


def test_the_sum_is_that_of_the_tree_also_machine_by_machine(tmp_path: Path) -> None:
    """Of lengths that eight processes divide and others; an error in the work comes to who waits for it."""
    command = [sys.executable, "-c", PROGRAM, str(tmp_path / "meeting")]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert (done.returncode, done.stdout.splitlines()) == (
        0,
        [
            "8 on a machine: [8] True",
            "4 on a machine: [4, 2] True",
            "2 on a machine: [2, 4] True",
            "1 on a machine: [8] True",
        ],
    ), done.stderr
