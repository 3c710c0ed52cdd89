"""Stand-ins for GPUs: a library that answers as NVIDIA's driver does, as far as it is asked which GPUs there are."""

import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from uuid import UUID, uuid4

from imgpipe.model.gpus import LOCKS

COMPILER = shutil.which("cc")

DRIVER = r"""
#include <stdlib.h>
#include <string.h>

static int shown[4], count;

int cuInit(unsigned flags) {
    const char *visible = getenv("CUDA_VISIBLE_DEVICES");
    char *names = strdup(visible ? visible : "0,1,2,3");
    for (char *name = strtok(names, ","); name; name = strtok(NULL, ","))
        shown[count++] = name[strlen(name) - 1] - '0'; /* the last digit of a UUID is the number, too */
    free(names);
    return flags;
}

int cuDeviceGetCount(int *number) { *number = count; return 0; }
int cuDeviceGet(int *device, int number) { *device = shown[number]; return 0; }
int cuDeviceGetUuid_v2(char *uuid, int device) {
    memcpy(uuid, getenv("STAND_IN_MACHINE"), 15);
    uuid[15] = device;
    return 0;
}
"""


@contextmanager
def machine_of_four(folder: Path) -> Iterator[dict[str, str]]:
    """Environment of a process on a machine with four GPUs, unlike those of any other such machine."""
    (folder / "driver.c").write_text(DRIVER)
    assert COMPILER
    library = folder / "libcuda.so.1"
    subprocess.run([COMPILER, "-shared", "-fPIC", "-o", library, folder / "driver.c"], check=True)
    machine = {"LD_LIBRARY_PATH": str(folder), "STAND_IN_MACHINE": uuid4().hex[:15]}
    yield machine
    for number in range(4):
        (LOCKS / f"imgpipe-GPU-{uuid_of(machine, number)}.lock").unlink(missing_ok=True)


def uuid_of(machine: dict[str, str], number: int) -> str:
    """Of a GPU of the machine."""
    return str(UUID(bytes=machine["STAND_IN_MACHINE"].encode() + bytes([number])))
