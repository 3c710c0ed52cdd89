"""How much a reader has to hold in mind at once: arguments, lines of a function, lines of a module."""

import ast
from collections.abc import Iterator

from closure import ROOT

MOST_PARAMETERS = 8
MOST_LINES_OF_A_FUNCTION = 60
MOST_LINES_OF_A_MODULE = 320

FILES = sorted([*(ROOT / "stages").rglob("*.py"), *(ROOT / "src").rglob("*.py")])
Function = ast.FunctionDef | ast.AsyncFunctionDef


def functions() -> Iterator[tuple[str, Function]]:
    """Every function and method of the library and the stages, functions within functions too, by file and name."""
    for file in FILES:
        for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
            if isinstance(node, Function):
                yield f"{file.relative_to(ROOT)}: {node.name}", node


def parameters(function: Function) -> list[str]:
    """The names of all parameters but ``self`` and ``cls``."""
    given = function.args
    several = [arg for arg in (given.vararg, given.kwarg) if arg]
    names = [arg.arg for arg in [*given.posonlyargs, *given.args, *given.kwonlyargs, *several]]
    return [name for name in names if name not in ("self", "cls")]


def is_command(function: Function) -> bool:
    """Whether Typer makes a command line of it: then its parameters are the options that a user gives."""
    return "typer.Option" in ast.unparse(function.args)


def test_no_function_takes_more_than_eight_parameters() -> None:
    many = {name: len(parameters(f)) for name, f in functions() if not is_command(f)}
    assert {name: count for name, count in many.items() if count > MOST_PARAMETERS} == {}


def test_no_function_is_longer_than_sixty_lines() -> None:
    long = {name: (f.end_lineno or 0) - f.lineno + 1 for name, f in functions()}
    assert {name: lines for name, lines in long.items() if lines > MOST_LINES_OF_A_FUNCTION} == {}


def test_no_module_is_longer_than_320_lines() -> None:
    lines = {str(file.relative_to(ROOT)): len(file.read_text(encoding="utf-8").splitlines()) for file in FILES}
    assert {file: count for file, count in lines.items() if count > MOST_LINES_OF_A_MODULE} == {}


def test_annotations_are_names_and_not_texts() -> None:
    """Imports stand on top, so none needs quotes, nor a block of imports for the type checker alone."""
    quoted = []
    for name, function in functions():
        given = function.args
        hints = [arg.annotation for arg in [*given.posonlyargs, *given.args, *given.kwonlyargs]] + [function.returns]
        quoted += [name for hint in hints if isinstance(hint, ast.Constant) and isinstance(hint.value, str)]
    assert quoted == []
    assert [file for file in FILES if "TYPE_CHECKING" in file.read_text(encoding="utf-8")] == []


def test_the_limits_see_what_they_are_about() -> None:
    """The reading itself: positional, keyword-only and starred parameters count, self and annotations do not."""
    (function,) = ast.parse("def f(self, a, /, b, *c, d: int = 1, **e): pass").body
    assert isinstance(function, ast.FunctionDef)
    assert parameters(function) == ["a", "b", "d", "c", "e"]
