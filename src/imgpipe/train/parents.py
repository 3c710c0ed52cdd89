"""A process that ends when the one that started it has ended, however that ended."""

import ctypes
import os
import signal
import sys

from imgpipe.train.processes import LAUNCHER

PR_SET_PDEATHSIG = 1  # linux/prctl.h


def die_with_parent() -> None:
    """From now on Linux sends this process SIGTERM when its parent ends; at once if the parent has ended already.

    It goes on through an exec, and is not handed on to children. A parent that ended before this call is recognised if
    it left its number under LAUNCHER. Strictly the parent is the thread that started this process. Elsewhere than on
    Linux nothing happens.

    Source: prctl(2), PR_SET_PDEATHSIG.
    """
    if sys.platform != "linux":
        return
    parent = int(os.environ.get(LAUNCHER, os.getppid()))
    if ctypes.CDLL(None, use_errno=True).prctl(PR_SET_PDEATHSIG, signal.SIGTERM, 0, 0, 0) != 0:
        raise OSError(ctypes.get_errno(), "prctl")
    if os.getppid() != parent:
        os.kill(os.getpid(), signal.SIGTERM)
