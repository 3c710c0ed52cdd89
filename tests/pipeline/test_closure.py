import re
import subprocess
import sys
from importlib.metadata import packages_distributions
from typing import Any

import pytest
from closure import (
    FOR_USERS,
    HOMES,
    ROOT,
    code_dependencies,
    dependency_block,
    files_run_by,
    imported_modules,
    stages_of,
)
from omegaconf import OmegaConf
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from imgpipe.common.packages import of_stage, sections_of_stage

STAGES = ("download", "prepare", "pack", "train", "evaluate", "plot")
PIPELINE: Any = OmegaConf.to_container(OmegaConf.load(ROOT / "dvc.yaml"), resolve=False)


@pytest.mark.parametrize("stage", STAGES)
def test_code_dependencies_of_a_stage_are_the_files_it_runs(stage: str) -> None:
    declared = [dep for dep in PIPELINE["stages"][stage]["deps"] if dep.startswith(("src/", "stages/"))]
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
        capture_output=True,
        text=True,
        check=True,
    )
    files = {path.removeprefix(f"{ROOT}/") for path in loaded.stdout.splitlines()}
    assert f"stages/{stage}.py" in files
    assert files <= set(files_run_by(stage))


BITS_OF_ANY_VERSION = {"download": {"numpy", "pillow", "scikit-learn", "torchvision"}}
"""Packages that a stage imports and that make the same files in any version: docs/decisions/0011 says why."""


@pytest.mark.parametrize("stage", STAGES)
def test_packages_of_a_stage_are_those_of_packages_yaml_that_its_code_imports(stage: str) -> None:
    described = PIPELINE["stages"][stage]
    if stage == "plot":  # which depends on all that is locked
        assert of_stage(described) == []
        assert "requirements.lock" in described["deps"]
        return
    files = [file for one in stages_of(stage) for file in files_run_by(one) if file.endswith(".py")]
    imported = {module.partition(".")[0] for file in files for module in imported_modules(ROOT / file)}
    if "src/imgpipe/model/networks.py" in files:
        imported.add("timm")  # by importlib
    providing = packages_distributions()
    used = {canonicalize_name(name) for module in imported for name in providing.get(module, [])}
    recorded = set(OmegaConf.load(ROOT / "packages.yaml"))
    assert of_stage(described) == sorted(used & recorded - BITS_OF_ANY_VERSION.get(stage, set()))


def test_packages_yaml_has_the_locked_versions_and_they_are_one_for_the_pythons_of_today() -> None:
    lines = (ROOT / "requirements.lock").read_text(encoding="utf-8").splitlines()
    pinned = [Requirement(line.rstrip(" \\")) for line in lines if line and line[0] not in " #"]
    for python in ("3.11", "3.12", "3.13", "3.14"):
        marked = {"python_full_version": f"{python}.0", "python_version": python}
        locked = {one.name: str(one.specifier) for one in pinned if not one.marker or one.marker.evaluate(marked)}
        for name, version in OmegaConf.load(ROOT / "packages.yaml").items():
            assert locked[str(name)] == f"=={version}", f"make lock; {python}"


def test_commands_are_constant() -> None:
    assert {name: stage["cmd"] for name, stage in PIPELINE["stages"].items()} == {
        stage: f"{'exec ' if stage == 'train' else ''}env PYTHONPATH=src python -m stages.{stage}" for stage in STAGES
    }


def test_no_stage_depends_on_runtime_and_every_other_section_is_one_stage_s_parameter_and_theirs_who_report_all() -> (
    None
):
    used = {name: sections_of_stage(stage) for name, stage in PIPELINE["stages"].items()}
    sections = sorted(str(section) for section in OmegaConf.load(ROOT / "params.yaml") if section != "runtime")
    assert used.pop("plot") == sections
    assert used.pop("evaluate") == [s for s in sections if s != "plot"]
    used["evaluate"] = ["evaluate"]
    assert sorted(section for names in used.values() for section in names) == [s for s in sections if s != "plot"]


def test_outputs_are_neither_kept_between_runs_nor_always_made_anew() -> None:
    text = (ROOT / "dvc.yaml").read_text(encoding="utf-8")
    assert not any(trap in text for trap in ("persist", "always_changed", "frozen"))
    assert re.findall(r"\$\{.*", text) == ["${download.location} # noticed when what it names changes"]


STAGE_ROOMS = set(STAGES)
LAYERS: tuple[set[str], ...] = ({"common"}, {"data"}, {"model"}, STAGE_ROOMS, {"commands"})
"""The rooms of the library from the ground up: each imports from those below it and from itself."""


def _room(module: str) -> str | None:
    """The room of the library that a module is in; none for anybody else's."""
    home, _, rest = module.partition(".")
    return rest.partition(".")[0] if home == "imgpipe" and rest else None


def test_every_room_of_the_library_has_its_layer() -> None:
    rooms = {file.parent.name for file in (HOMES["imgpipe"] / "imgpipe").glob("*/__init__.py")}
    assert rooms == set().union(*LAYERS)


def test_rooms_import_from_those_below_and_no_stage_s_room_from_another_s() -> None:
    library = HOMES["imgpipe"] / "imgpipe"
    below: set[str] = set()
    for layer in LAYERS:
        for room in sorted(layer):
            for file in (library / room).rglob("*.py"):
                used = {target for module in imported_modules(file) if (target := _room(module))}
                assert used <= below | {room}, f"{file.name} imports from {sorted(used - below - {room})}"
        below |= layer


def test_modules_import_in_no_circle() -> None:
    library = HOMES["imgpipe"]
    files = {
        ".".join(file.relative_to(library).with_suffix("").parts).removesuffix(".__init__"): file
        for file in (library / "imgpipe").rglob("*.py")
    }
    waiting = {name: {other for other in imported_modules(file) if other in files} for name, file in files.items()}
    while free := {name for name, others in waiting.items() if not others & set(waiting)}:
        waiting = {name: others for name, others in waiting.items() if name not in free}
    assert not waiting, f"these import one another: {sorted(waiting)}"


def test_the_library_never_imports_the_stages() -> None:
    for file in (HOMES["imgpipe"] / "imgpipe").rglob("*.py"):
        assert not [name for name in imported_modules(file) if name.split(".")[0] == "stages"], file


@pytest.mark.parametrize("stage", STAGES)
def test_no_stage_uses_what_imgpipe_itself_offers_to_users_of_a_model(stage: str) -> None:
    """So it is no dependency of theirs; and it imports nothing of ours, which would be one."""
    offered = {"imgpipe.load", "imgpipe.Model", "imgpipe.Prediction", "imgpipe"}
    for file in filter(lambda file: file.endswith(".py"), files_run_by(stage)):
        assert not offered & set(imported_modules(ROOT / file)), file
    assert not [name for name in imported_modules(ROOT / FOR_USERS) if name.partition(".")[0] in HOMES]


def test_imgpipe_is_imported_without_torch_numpy_or_pillow() -> None:
    program = "import sys, imgpipe; print({'torch', 'numpy', 'PIL'} & set(sys.modules), imgpipe.load.__doc__[:4])"
    printed = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True).stdout
    assert printed == "set() Open\n"
