import os
import re
import subprocess
import sys

import pytest
from closure import HOMES, ROOT, code_dependencies, dependency_block, files_run_by, imported_modules
from omegaconf import OmegaConf

STAGES = ("download", "prepare", "pack", "train", "evaluate", "plot")
PIPELINE = OmegaConf.to_container(OmegaConf.load(ROOT / "dvc.yaml"), resolve=False)


@pytest.mark.parametrize("stage", STAGES)
def test_code_dependencies_of_a_stage_are_the_files_it_runs(stage: str) -> None:
    declared = [dep for dep in PIPELINE["stages"][stage]["deps"] if dep.startswith(("src/", "stages/"))]  # type: ignore[index, call-overload]
    assert declared == code_dependencies(stage), f"paste into dvc.yaml, {stage}, deps:\n{dependency_block(stage)}"


@pytest.mark.parametrize("stage", STAGES)
def test_a_stage_loads_no_file_of_ours_outside_its_closure(stage: str) -> None:
    """Python's own account of what an import loads, against what the source was read to import."""
    program = f"""
import sys, stages.{stage}
for name in list(sys.modules):
    if name.partition(".")[0] in ("stages", "imgpipe"):
        print(sys.modules[name].__file__)
"""
    loaded = subprocess.run(
        [sys.executable, "-c", program],
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": "src"},
        capture_output=True,
        text=True,
        check=True,
    )
    files = {path.removeprefix(f"{ROOT}/") for path in loaded.stdout.splitlines()}
    assert f"stages/{stage}.py" in files
    assert files <= set(files_run_by(stage))


def test_commands_are_constant() -> None:
    assert {name: stage["cmd"] for name, stage in PIPELINE["stages"].items()} == {  # type: ignore[index, call-overload, union-attr]
        stage: f"{'exec ' if stage == 'train' else ''}env PYTHONPATH=src python -m stages.{stage}" for stage in STAGES
    }


def test_no_stage_depends_on_runtime_and_every_other_section_is_one_stage_s_parameter_and_plot_s_for_the_report() -> (
    None
):
    used = {name: stage["params"] for name, stage in PIPELINE["stages"].items()}  # type: ignore[index, call-overload, union-attr]
    sections = sorted(str(section) for section in OmegaConf.load(ROOT / "params.yaml") if section != "runtime")
    assert used.pop("plot") == sections
    assert sorted(section for names in used.values() for section in names) == [s for s in sections if s != "plot"]


def test_outputs_are_neither_kept_between_runs_nor_always_made_anew() -> None:
    text = (ROOT / "dvc.yaml").read_text(encoding="utf-8")
    assert not any(trap in text for trap in ("persist", "always_changed", "frozen"))
    assert re.findall(r"\$\{.*", text) == ["${download.location} # noticed when what it names changes"]


ARROWS = {
    "archives": "common.errors",
    "augmentation.colours": "common.rules packed randomness",
    "augmentation.policies": "augmentation.colours common.rules packed randomness",
    "augmentation.transforms": "augmentation.colours augmentation.policies loading.crops packed randomness",
    "commands.__main__": "",
    "commands.compare": "common.errors comparing.comparison comparing.pairing comparing.revisions",
    "commands.doctor": "doctor.diagnosis",
    "commands.predict": (
        "common.errors common.files common.progress hardware.devices parallel "
        "plotting.drawing predicting.classifying predicting.gathering predicting.listing "
        "predicting.sheets"
    ),
    "commands.recipe": "common.errors common.files common.params",
    "common.command": "common.errors common.files",
    "common.errors": "",
    "common.files": "",
    "common.params": "common.errors common.rules",
    "common.progress": "",
    "common.rules": "",
    "comparing.comparison": "evaluation.intervals randomness",
    "comparing.pairing": "common.errors tables",
    "comparing.revisions": "common.errors",
    "doctor.diagnosis": "doctor.findings doctor.locked doctor.machine doctor.probes doctor.probing",
    "doctor.findings": "",
    "doctor.locked": "doctor.findings",
    "doctor.machine": "doctor.findings",
    "doctor.probes": "hardware.devices",
    "doctor.probing": "doctor.probes",
    "downloading.datasets": "common.errors common.files preparing.layouts",
    "downloading.fetching": "common.errors common.files",
    "downloading.sources": (
        "archives common.errors common.files common.progress downloading.datasets downloading.fetching folders"
    ),
    "evaluation.calibration": "",
    "evaluation.intervals": "randomness",
    "evaluation.metrics": "evaluation.intervals evaluation.scoring evaluation.thresholds",
    "evaluation.scoring": "",
    "evaluation.thresholds": "",
    "folders": "",
    "hardware.devices": "common.errors hardware.processes",
    "hardware.processes": "common.errors common.rules",
    "hardware.runtime": "common.rules parallel",
    "loading.batches": "packed parallel",
    "loading.crops": "common.rules packed randomness",
    "networks.classifier": "common.files networks.models",
    "networks.layers": "",
    "networks.models": "common.errors common.rules networks.layers networks.pooling",
    "networks.pooling": "",
    "networks.prediction": "common.progress hardware.devices loading.batches loading.crops networks.classifier packed",
    "packed": "tables",
    "packing.pack": "common.errors common.progress packed parallel pictures tables",
    "packing.prepared": "",
    "parallel": "common.errors",
    "pictures": "common.errors",
    "plotting.class_figures": "plotting.drawing",
    "plotting.drawing": "common.files",
    "plotting.figures": "plotting.drawing",
    "plotting.galleries": "packed plotting.drawing",
    "plotting.report": "plotting.drawing plotting.galleries",
    "predicting.classifying": (
        "archives common.errors evaluation.scoring loading.crops networks.classifier "
        "networks.prediction packed packing.pack parallel predicting.gathering"
    ),
    "predicting.gathering": "archives common.errors folders",
    "predicting.listing": "tables",
    "predicting.sheets": "packed",
    "preparing.duplicates": "pictures",
    "preparing.layouts": "common.errors",
    "preparing.prepare": (
        "archives common.errors preparing.duplicates preparing.layouts preparing.reading preparing.splits"
    ),
    "preparing.reading": (
        "archives common.errors common.progress parallel pictures preparing.duplicates preparing.layouts"
    ),
    "preparing.splits": "common.errors",
    "randomness": "",
    "resuming.agreement": "common.errors hardware.devices",
    "resuming.checkpoints": "common.errors common.files resuming.interruption",
    "resuming.inputs": "common.files common.params",
    "resuming.interruption": "",
    "resuming.parents": "hardware.processes",
    "resuming.resume": "common.errors hardware.devices resuming.checkpoints resuming.interruption training.state",
    "tables": "common.files",
    "training.averaging": "",
    "training.class_weights": "common.errors common.rules packed",
    "training.freezing": "common.errors networks.models",
    "training.groups": "",
    "training.loop": (
        "augmentation.transforms common.errors common.progress hardware.devices "
        "loading.batches networks.prediction packed randomness resuming.interruption "
        "training.mixing training.parts training.reduction training.state "
        "training.stopping training.watching"
    ),
    "training.mixing": "",
    "training.normalisation": "common.errors",
    "training.optim": "common.rules",
    "training.orders": "packed randomness",
    "training.parts": "",
    "training.recomputing": "common.errors networks.layers",
    "training.reduction": "hardware.devices",
    "training.schedules": "common.rules",
    "training.state": "networks.classifier training.averaging",
    "training.stopping": "",
    "training.watching": "common.errors common.files parallel",
    "training.weights": "common.errors common.files common.rules downloading.fetching networks.models",
}


def test_modules_of_the_library_import_along_these_arrows_only() -> None:
    library = HOMES["imgpipe"] / "imgpipe"
    modules = {
        ".".join(file.relative_to(library).with_suffix("").parts): file
        for file in library.rglob("*.py")
        if file.stem != "__init__"
    }
    arrows = {
        name: {target.removeprefix("imgpipe.") for target in imported_modules(file)} & set(modules)
        for name, file in modules.items()
    }
    assert arrows == {name: set(targets.split()) for name, targets in ARROWS.items()}


def test_the_library_never_imports_the_stages() -> None:
    for file in (HOMES["imgpipe"] / "imgpipe").rglob("*.py"):
        assert not [name for name in imported_modules(file) if name.split(".")[0] == "stages"], file
