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

ON_GPUS = {"CUBLAS_WORKSPACE_CONFIG": ":4096:8"}
"""What torch's deterministic mode asks of cuBLAS, which otherwise may split a sum in another way each time."""

UNHEEDED = (
    "NVIDIA_TF32_OVERRIDE",  # cuBLAS and cuDNN: takes TF32 whatever is asked for, or never
    "TORCH_ALLOW_TF32_CUBLAS_OVERRIDE",
    "TORCH_CUDNN_USE_HEURISTIC_MODE_B",  # torch: chooses cuDNN's algorithms in another way
    "TORCH_CUDNN_V8_API_DISABLED",
    "TORCH_CUDNN_SDPA_DEPRIORITIZED",  # torch: another code for attention
    "TORCH_BLAS_PREFER_CUBLASLT",  # torch: another library for products of matrices
    "DISABLE_ADDMM_CUDA_LT",
    "CUBLASLT_WORKSPACE_SIZE",  # torch: memory by which cuBLASLt chooses its algorithms
    "TORCH_CUBLASLT_UNIFIED_WORKSPACE",
    "PYTORCH_TUNABLEOP_ENABLED",  # torch: takes the algorithm that was measured to be the fastest
    "CUBLAS_EMULATE_SINGLE_PRECISION",  # cuBLAS: computes by shorter numbers
    "CUBLAS_EMULATE_DOUBLE_PRECISION",
    "CUBLAS_EMULATION_STRATEGY",
    "CUBLASLT_HEURISTICS_LUT_FILE",  # cuBLASLt: a table of algorithms to choose
    "CUDNN_ERRATA_JSON_FILE",  # cuDNN: algorithms not to choose
    "CUDNN_UNFUSE_FMA",  # cuDNN: how it compiles its kernels
    "CUDNN_USE_EX2_EMULATION",
    "CUDNN_ENABLE_BMM_SCALE_FUSION",
    "CUDNN_RESCALE_THRESHOLD",
    "CUDA_FORCE_PTX_JIT",  # the driver: compiles kernels anew
)
"""Variables by which a user, or a script once copied, changes what torch's libraries for NVIDIA's GPUs compute. All
that are in the libraries and choose an algorithm or a rounding; those that set caches, logs and limits are not here."""

WAITING = {"OMP_WAIT_POLICY": "passive"}
"""An operator on a CPU is split among threads of libgomp, which wait for one another at its end. Left alone they spin
for a while; where another process or the loader's threads need their core, each holds up the others. So they sleep."""

CPUINFO = Path("/proc/cpuinfo")


def problem_here() -> str | None:
    """Return why results of this machine differ from those of x86-64 processors with AVX2; None where they do not."""
    machine = platform.machine()
    if machine not in ("x86_64", "AMD64"):
        return f"its processor is {machine}, not x86-64"
    features = _features()
    return "its processor has no AVX2 and FMA" if features and not {"avx2", "fma"} <= features else None


def fix_for_images() -> None:
    """Fix the code of numpy, scipy and OpenCV, and how threads wait: before these and torch are imported."""
    for name, value in WAITING.items():
        os.environ.setdefault(name, value)  # no result depends on it
    if problem_here():
        return
    os.environ.pop("NPY_DISABLE_CPU_FEATURES", None)  # numpy takes either or
    os.environ.update(IMAGES)
    if "avx512f" in _features():
        os.environ.update(OPENCV_NEWER)


def fix_for_network(kernels: str) -> None:
    """Fix the code that computes a network; to be called before torch is imported.

    kernels: ``portable``; or ``native``, which leaves the choice to the libraries. On a GPU that choice depends on the
        GPU and on what is computed, and not on the environment.
    """
    fix_for_gpus()
    if kernels == "native":
        return
    if problem := problem_here():
        logging.warning("train.kernels is portable, and %s: results will have bits of their own", problem)
        return
    assert "torch" not in sys.modules or NETWORK.items() <= os.environ.items(), "torch has chosen its code already"
    os.environ.update(NETWORK)


def fix_for_gpus() -> None:
    """Fix what the environment may choose of a GPU's code; to be called before torch is imported, or else before CUDA.

    Some of it is read when torch is imported, most of it when it is first needed.
    """
    for name in UNHEEDED:
        if name in os.environ:
            logging.warning("%s=%s would change bits on a GPU; it is not heeded", name, os.environ.pop(name))
    os.environ.update(ON_GPUS)


def _features() -> set[str]:
    """Return the processor's features as Linux names them; none where the system does not say."""
    try:
        lines = CPUINFO.read_text(encoding="ascii").splitlines()
    except OSError:
        return set()
    return next((set(line.partition(":")[2].split()) for line in lines if line.startswith("flags")), set())
