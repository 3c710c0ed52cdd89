"""Which code libraries run: the variables that they read, and the bits that come of it on another processor."""

import contextlib
import json
import os
import re
import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import emulated
import pytest
from closure import ROOT
from conftest import Project

from imgpipe.commands.kernel_probes import known
from imgpipe.common import kernels
from imgpipe.model.classifier import load_classifier, save_classifier

VARIABLES = {**kernels.IMAGES, **kernels.OPENCV_NEWER, **kernels.NETWORK}


@pytest.fixture
def unset(monkeypatch: pytest.MonkeyPatch) -> None:
    """None of the variables is set, and whatever is set is undone."""
    for name in (*VARIABLES, "NPY_DISABLE_CPU_FEATURES"):
        monkeypatch.setenv(name, "as a user has it")
        monkeypatch.delenv(name)


def processor(monkeypatch: pytest.MonkeyPatch, folder: Path, flags: str) -> None:
    """Linux says that the processor has these features."""
    (folder / "cpuinfo").write_text(f"processor\t: 0\nflags\t\t: fpu {flags}\n\nprocessor\t: 1\n")
    monkeypatch.setattr(kernels, "CPUINFO", folder / "cpuinfo")


def chosen() -> set[str]:
    return VARIABLES.keys() & os.environ.keys()


@pytest.mark.usefixtures("unset")
def test_libraries_for_images_are_always_fixed_and_a_user_s_own_settings_do_not_count(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("OPENCV_IPP", "sse42")
    monkeypatch.setenv("NPY_DISABLE_CPU_FEATURES", "AVX2")
    processor(monkeypatch, tmp_path, "avx avx2 fma")
    kernels.fix_for_images()
    assert chosen() == set(kernels.IMAGES)
    assert os.environ["OPENCV_IPP"] == "avx2"
    assert "NPY_DISABLE_CPU_FEATURES" not in os.environ
    processor(monkeypatch, tmp_path, "avx avx2 fma avx512f")
    kernels.fix_for_images()
    assert chosen() == {*kernels.IMAGES, *kernels.OPENCV_NEWER}


def test_threads_of_a_stage_that_wait_sleep() -> None:
    """libgomp says with which settings it is loaded."""
    environment = {name: value for name, value in os.environ.items() if name not in kernels.WAITING}
    done = subprocess.run(
        [sys.executable, "-c", "import stages, torch"],
        env=environment | {"OMP_DISPLAY_ENV": "true"}, cwd=ROOT, capture_output=True, text=True, check=True,
    )  # fmt: skip
    assert set(re.findall("OMP_WAIT_POLICY = '(.*)'", done.stderr)) == {"PASSIVE"}


@pytest.mark.usefixtures("unset")
def test_native_leaves_the_network_s_code_to_the_libraries() -> None:
    kernels.fix_for_network("native")
    assert chosen() == set()


@pytest.mark.usefixtures("unset")
@pytest.mark.parametrize("kind", ["portable", "native"])
def test_what_a_gpu_computes_is_not_the_environment_s_choice_and_that_is_said(
    kind: str, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setenv("CUBLAS_WORKSPACE_CONFIG", ":16:8")
    monkeypatch.setenv("NVIDIA_TF32_OVERRIDE", "1")
    os.environ.update(kernels.NETWORK)  # as for this process, which has imported torch
    kernels.fix_for_network(kind)
    assert os.environ["CUBLAS_WORKSPACE_CONFIG"] == ":4096:8"
    assert "NVIDIA_TF32_OVERRIDE" not in os.environ
    assert caplog.messages == ["NVIDIA_TF32_OVERRIDE=1 would change bits on a GPU; it is not heeded"]


@pytest.mark.usefixtures("unset")
@pytest.mark.parametrize(("machine", "flags"), [("aarch64", "avx2 fma"), ("x86_64", "sse4_2 avx")])
def test_nothing_is_fixed_on_a_processor_that_can_not_be_like_the_others_and_portable_says_so(
    machine: str, flags: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    processor(monkeypatch, tmp_path, flags)
    monkeypatch.setattr("platform.machine", lambda: machine)
    kernels.fix_for_images()
    kernels.fix_for_network("portable")
    assert chosen() == set()
    (said,) = caplog.messages
    assert said.startswith("train.kernels is portable, and its processor ")


def test_a_process_that_has_imported_torch_already_can_not_be_fixed() -> None:
    program = "import torch; from imgpipe.common.kernels import fix_for_network; fix_for_network('portable')"
    environment = {name: value for name, value in os.environ.items() if name not in VARIABLES}
    done = subprocess.run([sys.executable, "-c", program], env=environment, capture_output=True, text=True, check=False)
    assert "AssertionError: torch has chosen its code already" in done.stderr


@pytest.mark.parametrize("kind", ["portable", "native"])
def test_a_model_s_kernels_are_those_with_which_predict_computes(pipeline: Project, kind: str) -> None:
    model = Path("models/classifier.safetensors")
    with contextlib.chdir(pipeline.folder):
        classifier = load_classifier(model)
        classifier.description = replace(classifier.description, kernels=kind)
        save_classifier(model, classifier)
    program = (
        "import atexit, os, runpy, sys; from imgpipe.common import kernels; "
        "atexit.register(lambda: print(kernels.IMAGES.items() <= os.environ.items(), "
        "kernels.NETWORK.items() <= os.environ.items())); "
        "sys.argv = ['imgpipe', 'predict', 'images/0/0000.png']; "
        "runpy.run_module('imgpipe.commands', run_name='__main__')"
    )
    printed = pipeline.succeed("python", "-c", program).out
    assert printed.splitlines()[-1] == f"True {kind == 'portable'}"


@pytest.mark.skipif(not shutil.which(emulated.QEMU), reason="qemu-x86_64 is not installed (Debian: qemu-user)")
def test_portable_kernels_have_the_same_bits_on_another_processor(tmp_path: Path) -> None:
    """On an emulated Haswell; that this processor has them, too, is a test of doctor."""
    python = emulated.make_python(tmp_path / "haswell", "Haswell")
    environment = {name: value for name, value in os.environ.items() if name not in VARIABLES}
    done = subprocess.run(
        [python, "-m", "imgpipe.commands.probes", "same_bits"],
        cwd=ROOT,
        env={**environment, "PYTHONPATH": "src"},
        stdout=subprocess.PIPE,
        text=True,
        check=True,
    )
    assert json.loads(done.stdout) == known()
