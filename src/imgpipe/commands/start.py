"""``imgpipe start``: look at images, and write a params.yaml that fits them."""

import os
import subprocess
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any

import typer

from imgpipe.commands.params_file import chosen_before, shown, values_of, with_values
from imgpipe.commands.recipe import PARAMS, RECIPES, SHIPPED
from imgpipe.common.errors import InputError
from imgpipe.common.files import write_text
from imgpipe.common.safe_text import printable


def start(
    path: Annotated[Path, typer.Argument(help="A folder, a zip or tar, or a table (.csv) of images.")],
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Show the plan and write nothing.")] = False,
    overwrite: Annotated[bool, typer.Option(help="Choose anew also what you wrote into params.yaml.")] = False,
) -> None:
    """Look at images and write a params.yaml that fits them, with the reason beside every value.

    What you changed in params.yaml stays, but for where images come from. Then make repro trains and tests the model.
    To be run in the project's top folder. docs/start.md has the rules.
    """
    if not PARAMS.is_file() or not SHIPPED.is_file():
        raise InputError(f"there are no {PARAMS} and {SHIPPED} in {Path.cwd()}; run this in the project's top folder")

    # not on top: these import numpy and Pillow, torch and more, which take seconds
    from imgpipe.commands.fingerprint import described, fingerprint
    from imgpipe.commands.plan import planned
    from imgpipe.common.params import load
    from imgpipe.data.parallel import cores

    text = PARAMS.read_text(encoding="utf-8")
    now, shipped = dict(values_of(load(PARAMS))), dict(values_of(load(SHIPPED)))
    recipes = {file.stem: load(file) for file in RECIPES.glob("*.yaml")}
    seen = fingerprint(path, _location(path), processes=cores())
    written = {} if overwrite else _written_by_user(now, shipped, chosen_before(text))
    plan = planned(seen, _machine(), recipes, written)
    reasons = {
        key: why for key, why in plan.reasons.items() if not (key in plan.by_recipe and shipped[key] == plan[key])
    }
    stale = {key: value for key, value in written.items() if key in chosen_before(text)}
    text = with_values(text, {**plan.values, **stale}, reasons)
    _check(text, seen)

    for line in [str(path), *(f"  {line}" for line in described(seen)), "", str(PARAMS)]:
        typer.echo(printable(line))
    width = max(map(len, reasons))
    for key in reasons:
        before = "" if now[key] == plan[key] else f" (was {shown(now[key])})"
        typer.echo(printable(f"  {key:{width}}  {shown(plan[key])}{before}: {reasons[key]}"))
    for key in written:
        typer.echo(printable(f"  {key:{width}}  {shown(written[key])}: as you wrote it; --overwrite chooses it anew"))
    typer.echo(f"  all other values as {PARAMS} comes")
    if dry_run:
        typer.echo(f"\n{PARAMS} is as it was; without --dry-run this is written")
        return
    write_text(PARAMS, text)
    typer.echo(f"\n{PARAMS} is written. make repro trains and tests the model; git diff {PARAMS} shows what changed.")


def _location(path: Path) -> str:
    """Return the path as params.yaml is to have it: from the project's folder where Git or DVC tracks it, else in full.

    Experiments that are queued run in another folder, which has only what is tracked.
    """
    full = path.resolve()
    if not full.is_relative_to(Path.cwd()):
        return full.as_posix()
    within = full.relative_to(Path.cwd())
    listed = subprocess.run(["git", "ls-files", "--", within], capture_output=True, check=False).stdout
    return within.as_posix() if listed or Path(f"{within}.dvc").exists() else full.as_posix()


def _written_by_user(now: Mapping[str, Any], shipped: Mapping[str, Any], chosen: Mapping[str, str]) -> dict[str, Any]:
    """Return the values that a user wrote: neither those that the file comes with nor those that start chose.

    Where the images come from is not among them: that is said anew; nor is runtime, of which nothing is chosen.
    """
    return {
        key: value
        for key, value in now.items()
        if key in shipped
        and value != shipped[key]
        and chosen.get(key) != shown(value)
        and not key.startswith(("download.", "runtime."))
    }


def _machine() -> Any:
    """Return what the computer has."""
    import torch

    from imgpipe.commands.plan import Machine
    from imgpipe.data.parallel import cores

    return Machine(cores(), torch.cuda.device_count(), os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES"))


def _check(text: str, seen: Any) -> None:
    """Raise InputError where the text of params.yaml does not fit, or images can't be split so, before it is written.

    seen: the fingerprint of the images.
    """
    from omegaconf import OmegaConf

    from imgpipe.common.params import typed
    from imgpipe.data.packed import Form
    from imgpipe.download.params import Download
    from imgpipe.prepare.layouts import classes_of
    from imgpipe.prepare.params import Prepare
    from imgpipe.prepare.splits import STRATEGIES, Candidate, assign
    from imgpipe.train.params import Model, Train

    config: Any = OmegaConf.to_container(OmegaConf.create(text))
    kinds = {"download": Download, "prepare": Prepare, "pack": Form, "model": Model, "train": Train}
    sections = {name: typed(config[name], kind, f"{PARAMS}: {name}") for name, kind in kinds.items()}
    prepare = sections["prepare"]
    kept = {look.pixels if prepare.duplicates == "drop" else look.name: look for look in reversed(seen.looks)}
    parts = [(look.pixels, seen.layout.parts[look.name]) for look in kept.values()]
    classes = classes_of((part.label for _, part in parts), prepare.class_names, prepare.class_map)
    assign(
        [
            Candidate(classes[part.label], part.split, part.group, pixels, alike=number)
            for number, (pixels, part) in enumerate(parts)
        ],
        STRATEGIES[prepare.split],
        val_fraction=prepare.val_fraction,
        test_fraction=prepare.test_fraction,
        seed=prepare.seed,
        folds=prepare.folds,
        fold=prepare.fold,
    )
