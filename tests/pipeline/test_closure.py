import re
import subprocess
import sys

import pytest
from closure import FOR_USERS, HOMES, ROOT, code_dependencies, dependency_block, files_run_by, imported_modules
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
