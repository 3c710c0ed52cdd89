import re
import subprocess
import sys

import pytest
from closure import HOMES, ROOT, dependency_block, files_run_by, imported_modules
from omegaconf import OmegaConf

STAGES = ("download", "prepare", "pack", "train", "evaluate", "plot")
PIPELINE = OmegaConf.to_container(OmegaConf.load(ROOT / "dvc.yaml"), resolve=False)


@pytest.mark.parametrize("stage", STAGES)
def test_code_dependencies_of_a_stage_are_the_files_it_runs(stage: str) -> None:
    declared = [dep for dep in PIPELINE["stages"][stage]["deps"] if dep.startswith(("src/", "stages/"))]  # type: ignore[index, call-overload]
    assert declared == files_run_by(stage), f"paste into dvc.yaml, {stage}, deps:\n{dependency_block(stage)}"


@pytest.mark.parametrize("stage", STAGES)
def test_a_stage_loads_no_file_of_ours_outside_its_closure(stage: str) -> None:
    """Python's own account of what an import loads, against what the source was read to import."""
    program = f"""
import sys, stages.{stage}
for name in list(sys.modules):
    if name.partition(".")[0] in ("stages", "imgpipe"):
        print(sys.modules[name].__file__)
"""
    loaded = subprocess.run([sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, check=True)
    files = {path.removeprefix(f"{ROOT}/") for path in loaded.stdout.splitlines()}
    assert f"stages/{stage}.py" in files
    assert files <= set(files_run_by(stage))


def test_commands_are_constant() -> None:
    assert {name: stage["cmd"] for name, stage in PIPELINE["stages"].items()} == {  # type: ignore[index, call-overload, union-attr]
        stage: f"{'exec ' if stage == 'train' else ''}python -m stages.{stage}" for stage in STAGES
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
    "agreement": "devices errors",
    "archives": "errors",
    "averaging": "",
    "batches": "packed parallel",
    "calibration": "",
    "checkpoints": "errors files",
    "class_figures": "drawing",
    "class_weights": "errors packed rules",
    "classifier": "files models",
    "classifying": "archives classifier crops errors gathering packed packing parallel prediction scoring",
    "colours": "packed randomness rules",
    "commands.__main__": "",
    "commands.compare": "comparison errors pairing revisions",
    "commands.doctor": "doctor.diagnosis",
    "commands.predict": "classifying devices drawing errors files gathering listing parallel progress sheets",
    "commands.recipe": "errors files params",
    "comparison": "intervals randomness",
    "crops": "packed randomness rules",
    "datasets": "errors files layouts",
    "devices": "errors processes",
    "doctor.diagnosis": "doctor.findings doctor.locked doctor.machine doctor.probes doctor.probing",
    "doctor.findings": "",
    "doctor.locked": "doctor.findings",
    "doctor.machine": "doctor.findings",
    "doctor.probes": "devices",
    "doctor.probing": "doctor.probes",
    "drawing": "files",
    "duplicates": "pictures",
    "errors": "",
    "evaluation": "intervals scoring thresholds",
    "fetching": "errors files",
    "figures": "drawing",
    "files": "",
    "folders": "",
    "freezing": "errors models",
    "galleries": "drawing packed",
    "gathering": "archives errors folders",
    "groups": "",
    "inputs": "",
    "interruption": "",
    "intervals": "randomness",
    "layers": "",
    "layouts": "errors",
    "listing": "tables",
    "mixing": "",
    "models": "errors layers pooling rules",
    "normalisation": "errors",
    "optim": "rules",
    "orders": "packed randomness",
    "packed": "tables",
    "packing": "errors packed parallel pictures progress tables",
    "pairing": "errors tables",
    "parallel": "errors",
    "params": "errors rules",
    "parents": "processes",
    "parts": "",
    "pictures": "errors",
    "policies": "colours packed randomness rules",
    "pooling": "",
    "prediction": "batches classifier crops devices packed",
    "prepared": "",
    "preparing": "archives duplicates errors layouts reading splits",
    "processes": "errors rules",
    "progress": "",
    "randomness": "",
    "reading": "archives duplicates errors layouts parallel pictures progress",
    "recomputing": "errors layers",
    "reduction": "devices",
    "report": "drawing galleries",
    "resuming": "checkpoints devices errors state",
    "revisions": "errors",
    "rules": "",
    "schedules": "rules",
    "scoring": "",
    "sheets": "packed",
    "sources": "archives datasets errors fetching folders progress",
    "splits": "errors",
    "state": "averaging classifier",
    "stopping": "",
    "tables": "files",
    "thresholds": "",
    "training": (
        "batches devices errors interruption mixing packed parts prediction progress "
        "randomness reduction state stopping transforms watching"
    ),
    "transforms": "colours crops packed policies randomness",
    "watching": "errors files parallel",
    "weights": "errors fetching models rules",
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
