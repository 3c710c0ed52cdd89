"""``imgpipe recipe``: list the recipes, or put the values of one into params.yaml."""

import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any

import typer

from imgpipe.commands.params_file import shown, values_of, with_values
from imgpipe.common.errors import InputError, did_you_mean
from imgpipe.common.files import write_text

PARAMS = Path("params.yaml")
RECIPES = Path("recipes")


def recipe(
    name: Annotated[str | None, typer.Argument(help="Of the recipe; without it they are listed.")] = None,
    force: Annotated[bool, typer.Option(help="Also where params.yaml has changes that are not committed.")] = False,
) -> None:
    """List the recipes, or put the values of one into params.yaml and say what that changes.

    Sections that the recipe lacks stay as they are: those of finetune are pack, model and train, so that it goes with
    any images. To be run in the project's top folder.
    """
    recipes = {path.stem: path for path in sorted(RECIPES.glob("*.yaml"))}
    if not recipes:
        raise InputError(f"there are no {RECIPES} in {Path.cwd()}; run this in the project's top folder")
    if name is None:
        width = max(map(len, recipes))
        for stem, path in recipes.items():
            typer.echo(f"{stem:{width}}  {_first_line(path)}")
        return
    if name not in recipes:
        raise InputError(f"'{name}' is no recipe; there are {', '.join(recipes)}{did_you_mean(name, recipes)}")
    if not force and _uncommitted(PARAMS):
        raise InputError(f"{PARAMS} has changes that are not committed and would be lost; commit them or give --force")

    from imgpipe.common.params import load  # slow to import, and not needed to list the recipes

    old, values = load(PARAMS), dict(values_of(load(recipes[name])))
    write_text(PARAMS, with_values(PARAMS.read_text(encoding="utf-8"), values, {}))
    new = load(PARAMS)
    for key, before, after in changes(old, new):
        typer.echo(f"{key}: {before} -> {after}")
    location = Path(new["download"]["location"])
    if not location.exists():
        typer.echo(f"{location} is not there: docs/recipes.md says which images belong there", err=True)


def changes(old: dict[str, Any], new: dict[str, Any]) -> Iterator[tuple[str, str, str]]:
    """Yield the keys whose values differ, each with its old and its new value as they are shown.

    old, new: of the same keys.

    >>> list(changes({"train": {"epochs": 20}}, {"train": {"epochs": 3}}))
    [('train.epochs', '20', '3')]
    """
    before = dict(values_of(old))
    for key, value in values_of(new):
        if value != before[key]:
            yield key, shown(before[key]), shown(value)


def _first_line(path: Path) -> str:
    return path.read_text(encoding="utf-8").partition("\n")[0].removeprefix("# ")


def _uncommitted(path: Path) -> bool:
    """Tell whether Git's last commit lacks the file as it is, which without Git it does."""
    try:
        status = subprocess.run(["git", "status", "--porcelain", "--", path], capture_output=True, check=False)
    except OSError:  # there is no such program
        return True
    return status.returncode != 0 or bool(status.stdout)
