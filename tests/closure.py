"""The files that a stage runs: what its module imports, directly or not, of ``stages`` and ``imgpipe``.

A file beside a module that has its name and another ending is read by it: report.html.jinja by report.py. A folder of
which a stage runs every file is one dependency: DVC looks at one folder faster than at each of its files. An
``__init__.py`` that holds its docstring alone runs nothing and is none. Nor is that of imgpipe itself, which holds what
users of a model import, and no stage does: test_closure.py sees to it.
"""

import ast
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
HOMES = {"stages": ROOT, "imgpipe": ROOT / "src"}
FOR_USERS = "src/imgpipe/__init__.py"


def files_run_by(stage: str) -> list[str]:
    """Paths from the project's top folder, sorted, the packages' ``__init__.py`` among them."""
    found: set[Path] = set()
    waiting = [f"stages.{stage}"]
    while waiting:
        for file in _files(waiting.pop()):
            if file not in found:
                found.update(file.parent.glob(f"{file.stem}.*"))
                waiting += imported_modules(file)
    return sorted(file.relative_to(ROOT).as_posix() for file in found)


RECORDED = ("download", "prepare", "pack", "train", "evaluate")
"""Stages whose code, parameters and packages are dependencies of evaluate, which writes them into the model file."""


def stages_of(stage: str) -> tuple[str, ...]:
    """The stages whose code is a stage's dependency: it alone, but of evaluate all that made the model."""
    return RECORDED if stage == "evaluate" else (stage,)


def code_dependencies(stage: str) -> list[str]:
    """What dvc.yaml must list: the files that the stage runs, or the folder where it runs all that is in one."""
    run = {file for one in stages_of(stage) for file in files_run_by(one)}
    listed = {file for file in run if file != FOR_USERS and not _is_docstring_alone(ROOT / file)}
    for folder in sorted({str(Path(file).parent) for file in listed} - {"src/imgpipe", "stages"}):
        inside = {file.relative_to(ROOT).as_posix() for file in (ROOT / folder).glob("*.*")}
        if inside <= run:
            listed = listed - inside | {folder}
    return sorted(listed)


def _is_docstring_alone(file: Path) -> bool:
    if file.name != "__init__.py":
        return False
    module = ast.parse(file.read_text(encoding="utf-8"))
    return len(module.body) == 1 and ast.get_docstring(module) is not None


def imported_modules(file: Path) -> list[str]:
    """What the file imports anywhere in it: ``a.b`` for ``import a.b``; ``a`` and ``a.b`` for ``from a import b``.

    What stands under ``if TYPE_CHECKING:`` never runs and is left out.
    """
    names = []
    for node in _running_nodes(ast.parse(file.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            names += [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{file}: imports are absolute here"
            names += [str(node.module), *(f"{node.module}.{alias.name}" for alias in node.names)]
    return names


def _running_nodes(node: ast.AST) -> Iterator[ast.AST]:
    yield node
    for child in ast.iter_child_nodes(node):
        if not (isinstance(child, ast.If) and ast.unparse(child.test) == "TYPE_CHECKING"):
            yield from _running_nodes(child)


def _files(module: str) -> list[Path]:
    """The file of one of our modules and those of the packages around it; none for anybody else's."""
    parts = module.split(".")
    home = HOMES.get(parts[0])
    if home is None:
        return []
    places = [home.joinpath(*parts[:depth]) for depth in range(1, len(parts) + 1)]
    candidates = [place / "__init__.py" for place in places] + [places[-1].with_suffix(".py")]
    return [file for file in candidates if file.is_file()]


def dependency_block(stage: str) -> str:
    """The stage's code dependencies as they stand in dvc.yaml."""
    return "\n".join(f"      - {path}" for path in code_dependencies(stage))
