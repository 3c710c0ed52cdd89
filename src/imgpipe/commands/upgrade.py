"""``imgpipe upgrade``: bring an older params.yaml to this version."""

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import typer

from imgpipe.commands.params_file import shown, values_of
from imgpipe.commands.params_text import with_keys_of, with_value, without_key
from imgpipe.commands.recipe import PARAMS, SHIPPED
from imgpipe.common.errors import InputError
from imgpipe.common.files import write_text
from imgpipe.common.safe_text import printable

RENAMED = {"train.augment.padding": "train.augment.crop.padded.padding"}
"""Keys by what they were called, but for those that moved below a name, which ``_new_key`` knows."""
REMOVED = {
    "runtime.log_every": "a step's loss is read as soon as that costs no waiting",
    "prepare.near_distance": "prepare.near_correlation takes its place, and measures something else",
    "train.augment.name": "train.augment.crop.name takes its place: padded is what crop was, centre what none was",
}
"""Keys that are no more, whose values can't be taken over."""

REFUSED = {"download.location": None}
"""Values that an earlier version took, by key; the one that comes takes their place."""


def upgrade() -> None:
    """Bring a params.yaml of an earlier version to this one: new keys are added, renamed ones renamed.

    Each is said in a line. What you wrote stays, and so do the comments and the order. To be run in the project's top
    folder, after the new version is merged: docs/upgrading.md.
    """
    if not PARAMS.is_file() or not SHIPPED.is_file():
        raise InputError(f"there are no {PARAMS} and {SHIPPED} in {Path.cwd()}; run this in the project's top folder")
    text, shipped_text = (path.read_text(encoding="utf-8") for path in (PARAMS, SHIPPED))
    if conflict := re.search(r"^(<<<<<<<|>>>>>>>) ", text, flags=re.MULTILINE):
        line = text.count("\n", 0, conflict.start()) + 1
        raise InputError(
            f"{PARAMS} has a conflict of Git's merge in line {line}; 'git checkout HEAD -- {PARAMS}' takes yours back, "
            "and imgpipe upgrade then adds what is new"
        )

    from imgpipe.common.params import load  # slow to import

    mine, shipped = dict(values_of(load(PARAMS))), dict(values_of(load(SHIPPED)))
    unknown = [key for key in mine if key not in shipped]
    renamed = {key: new for key in unknown if (new := _new_key(key, mine, shipped))}
    instead = _instead(mine)
    upgraded = with_keys_of(text, shipped_text)
    for key, new in renamed.items():
        upgraded = with_value(upgraded, new, mine[key])
    for key, (value, _) in instead.items():
        upgraded = with_value(upgraded, key, value)
    refused = [key for key, value in REFUSED.items() if mine.get(key, ...) == value]
    for key in refused:
        upgraded = with_value(upgraded, key, shipped[key])
    for key in unknown:
        if key in renamed or key in REMOVED:
            upgraded = without_key(upgraded, key)

    for key in shipped:
        if key not in mine and key not in renamed.values():
            value, why = instead.get(key, (shipped[key], ""))
            _say("new", f"{key}: {shown(value)}{why}")
    for key in unknown:
        if key in renamed:
            _say("renamed", f"{key} is {renamed[key]} now, and stays {shown(mine[key])}")
        elif key in REMOVED:
            _say("removed", f"{key}: {shown(mine[key])}; {REMOVED[key]}")
        else:
            _say("unknown", f"{key}: {shown(mine[key])}; it stays, and is refused until you remove it")
    for key in refused:
        _say("changed", f"{key}: {shown(shipped[key])}; {shown(mine[key])} is refused now")
    if upgraded == text:
        typer.echo(f"{PARAMS} stays as it was." if unknown else f"{PARAMS} has every key of this version.")
        return
    write_text(PARAMS, upgraded)
    typer.echo(
        f"\n{PARAMS} is written; git diff {PARAMS} shows what changed. make repro checks it and runs what it must."
    )


def _new_key(key: str, mine: Mapping[str, Any], shipped: Mapping[str, Any]) -> str | None:
    """Return what an unknown key is called now, or None where that is not known, or has a value already.

    The values of a choice moved below its name: ``train.optimizer.lr`` of sgd is ``train.optimizer.sgd.lr``.
    """
    section, _, last = key.rpartition(".")
    new = RENAMED.get(key, f"{section}.{mine.get(f'{section}.name')}.{last}")
    return new if key not in REMOVED and new in shipped and new not in mine else None


def _instead(mine: Mapping[str, Any]) -> dict[str, tuple[Any, str]]:
    """Return values that new keys get in place of those that come, which the file's others exclude; each with why."""
    if "train.kernels" not in mine:
        for key, fits in {"train.precision": "fp32", "train.compile": False}.items():
            if (value := mine.get(key, fits)) != fits:
                return {"train.kernels": ("native", f"; portable, as it comes, is refused with {key} {shown(value)}")}
    return {}


def _say(what: str, line: str) -> None:
    typer.echo(printable(f"{what:7}  {line}"))
