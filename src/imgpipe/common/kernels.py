"""Fix which code the numerical libraries run, so that results have the same bits on every x86-64 processor with AVX2.

Left alone, a library runs the code that it has for the newest instructions of the processor it finds, and each code
rounds in its own way. Each library reads an environment variable once, when it is loaded, so this is called before
they are imported. What works on images is always fixed, since that costs nothing. What computes the network is fixed
where ``train.kernels`` is portable. docs/reproducing.md says what this holds for, and what it costs.
"""

import logging
import os
import platform
import sys
from pathlib import Path

IMAGES = {
    "NPY_ENABLE_CPU_FEATURES": "X86_V3",  # of numpy, which takes no others then
    "OPENBLAS_CORETYPE": "Haswell",  # of numpy and scipy
    "OPENBLAS_NUM_THREADS": "1",  # among which sums are split
    "OPENCV_IPP": "avx2",
}
OPENCV_NEWER = {"OPENCV_CPU_DISABLE": "AVX512-SKX"}
"""OpenCV warns where the processor has no such instructions."""

NETWORK = {
    "ATEN_CPU_CAPABILITY": "avx2",  # of torch's own kernels
    "MKL_CBWR": "COMPATIBLE",  # AVX2 rounds otherwise on AMD's processors than on Intel's
    "ONEDNN_MAX_CPU_ISA": "AVX2",
    "ONEDNN_DEFAULT_FPMATH_MODE": "STRICT",
}

CPUINFO = Path("/proc/cpuinfo")


def problem_here() -> str | None:
    """Return why results of this machine differ from those of x86-64 processors with AVX2; None where they do not."""
    machine = platform.machine()
    if machine not in ("x86_64", "AMD64"):
        return f"its processor is {machine}, not x86-64"
    features = _features()
    return "its processor has no AVX2 and FMA" if features and not {"avx2", "fma"} <= features else None


def fix_for_images() -> None:
    """Fix the code of numpy, scipy and OpenCV; to be called before they are imported."""
    if problem_here():
        return
    os.environ.pop("NPY_DISABLE_CPU_FEATURES", None)  # numpy takes either or
    os.environ.update(IMAGES)
    if "avx512f" in _features():
        os.environ.update(OPENCV_NEWER)


def fix_for_network(kernels: str) -> None:
    """Fix the code that computes a network; to be called before torch is imported.

    kernels: ``portable``; or ``native``, which leaves the choice to the libraries.
    """
    if kernels == "native":
        return
    if problem := problem_here():
        logging.warning("train.kernels is portable, and %s: results will have bits of their own", problem)
        return
    assert "torch" not in sys.modules or NETWORK.items() <= os.environ.items(), "torch has chosen its code already"
    os.environ.update(NETWORK)


def _features() -> set[str]:
    """Return the processor's features as Linux names them; none where the system does not say."""
    try:
        lines = CPUINFO.read_text(encoding="ascii").splitlines()
    except OSError:
        return set()
    return next((set(line.partition(":")[2].split()) for line in lines if line.startswith("flags")), set())
