"""``imgpipe recipe``: list the recipes, or put the values of one into params.yaml."""

import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any

import typer

from imgpipe.commands.params_file import shown, values_of, with_values
from imgpipe.common.errors import InputError, did_you_mean
from imgpipe.common.files import write_text
from imgpipe.common.safe_text import printable

PARAMS = Path("params.yaml")
RECIPES = Path("recipes")
SHIPPED = RECIPES / "digits.yaml"
"""params.yaml as it comes, which it is below its head."""
LONGEST = 200
"""Letters of a recipe's first line that are listed."""


def recipe(
    name: Annotated[str | None, typer.Argument(help="Of the recipe; without it they are listed.")] = None,
    force: Annotated[bool, typer.Option(help="Also where params.yaml has changes that are not committed.")] = False,
) -> None:
    """List the recipes, or put the values of one into params.yaml and say what that changes.

    Sections that the recipe lacks stay as they are: those of finetune are pack, model and train, so that it goes with
    any images. To be run in the project's top folder.
    """
    recipes = {path.stem: path for path in sorted(RECIPES.glob("*.yaml")) if path.is_file()}
    if not recipes:
        raise InputError(f"there are no {RECIPES} in {Path.cwd()}; run this in the project's top folder")
    if name is None:
        width = max(map(len, recipes))
        for stem, path in recipes.items():
            typer.echo(printable(f"{stem:{width}}  {_first_line(path)}"))
        return
    if name not in recipes:
        raise InputError(f"'{name}' is no recipe; there are {', '.join(recipes)}{did_you_mean(name, recipes)}")
    if not force and _uncommitted(PARAMS):
        raise InputError(f"{PARAMS} has changes that are not committed and would be lost; commit them or give --force")

    from imgpipe.common.params import load  # slow to import, and not needed to list the recipes

    old = load(PARAMS)
    values = {key: value for key, value in values_of(load(recipes[name])) if not key.startswith("runtime.")}
    before = dict(values_of(old))
    text = with_values(PARAMS.read_text(encoding="utf-8"), values, {})
    if unfit := [key for key in values if key not in before]:
        raise InputError(f"{recipes[name]}: {unfit[0]} is no section, and in {PARAMS} it is one")
    location = {**before, **values}.get("download.location")
    write_text(PARAMS, text)
    new = load(PARAMS)
    for key, was, now in changes(old, new):
        typer.echo(printable(f"{key}: {was} -> {now}"))
    if isinstance(location, str) and not Path(location).exists():
        typer.echo(f"{printable(location)} is not there: docs/recipes.md says which images belong there", err=True)


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
    with path.open(encoding="utf-8", errors="replace") as file:
        return file.readline(LONGEST).rstrip("\n").removeprefix("# ")


def _uncommitted(path: Path) -> bool:
    """Tell whether Git's last commit lacks the file as it is, which without Git it does."""
    try:
        status = subprocess.run(["git", "status", "--porcelain", "--", path], capture_output=True, check=False)
    except OSError:  # there is no such program
        return True
    return status.returncode != 0 or bool(status.stdout)
