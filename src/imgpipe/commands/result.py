"""The command ``imgpipe result``: how good is what was made, and what is other than in the last commit?"""

import json
from collections.abc import Iterator, Mapping
from typing import Any

import typer

from imgpipe.commands.last_commit import LOCK, METRICS, committed, made, stages
from imgpipe.common.errors import InputError
from imgpipe.common.safe_text import printable

SUMMARY = "metrics/val/summary.json"
IMAGES = "data/images.csv"
MOST = 5  # causes of one kind that are named


def result() -> None:
    """Say how good the model is, what is other than in the last commit and why, and where the report is.

    That is by the validation split: whoever reads the test's accuracy after each run chooses by it in the end. make
    repro ends with this. To be run in the project's top folder.
    """
    typer.echo(_accuracy(json.loads(made(METRICS["val"]))))
    after = stages(made(LOCK))
    for sentence in [*_not_ended(after)] or _against_last_commit(after):
        typer.echo(printable(sentence))
    typer.echo("The report, metrics/report.html, has the test, too, by which nothing should be chosen.")


def _accuracy(metrics: Mapping[str, float]) -> str:
    """Return the accuracy in words. metrics: of metrics.json."""
    share, low, high = (100 * metrics[f"accuracy{which}"] for which in ("", "_ci_low", "_ci_high"))
    images = f"{metrics['images']:,} validation images"
    return f"{share:.1f} % of the {images} are classified right (95 % interval {low:.1f} to {high:.1f} %)."


def _not_ended(lock: Mapping[str, Any]) -> Iterator[str]:
    """Yield what params.yaml has other than what the results were made with.

    lock: what dvc.lock says of each stage.
    """
    from imgpipe.commands.params_file import shown, values_of
    from imgpipe.common.params import PARAMS, load
    from imgpipe.evaluate.provenance import canonical

    now = dict(values_of(canonical(load(PARAMS))))
    of_stages = (stage.get("params", {}).get(str(PARAMS), {}) for stage in lock.values())
    was = [pair for values in of_stages for pair in values_of(canonical(values))]
    moved = {f"{key} {shown(value)} -> {shown(now.get(key))}": None for key, value in was if now.get(key) != value}
    if moved:
        yield f"{PARAMS} is another now ({_some([*moved])}), and what that gives is not made yet: dvc repro makes it."


def _against_last_commit(after: Mapping[str, Any]) -> Iterator[str]:
    """Yield what is other than in the last commit: the metrics, and why.

    after: what dvc.lock says of each stage.
    """
    from imgpipe.commands.causes import causes, outputs  # imports OmegaConf

    try:
        before = stages(committed(LOCK))
    except InputError:
        yield "Git's last commit has no results that this can be compared with."
        return
    if outputs(before) == outputs(after):
        yield "That and all other outputs are those of the last commit."
        return
    if outputs(before).get(IMAGES) == outputs(after).get(IMAGES):
        yield from _moved()
    else:
        yield "The results of the last commit are of other images."
    reasons = ", ".join(f"{kind} ({_some(whats)})" for kind, whats in causes(before, after).items())
    yield f"Outputs differ from those of the last commit; the reason: {reasons}."


def _moved() -> Iterator[str]:
    """Yield how far the metrics moved, where an earlier imgpipe has not committed others."""
    try:
        was: dict[str, Any] = json.loads(committed(SUMMARY))
    except ValueError:  # there is none, which is an InputError, or a merge left both sides in it
        return
    now = json.loads(made(SUMMARY))
    numbers = [name for name, value in now.items() if name in was and not isinstance(value, str)]
    moved = [f"{name} {was[name]} -> {now[name]}" for name in numbers if was[name] != now[name]]
    if moved:
        yield f"Since the last commit: {', '.join(moved)}; imgpipe compare HEAD says whether that may be chance."
    else:
        yield "The metrics of validation have not moved since the last commit."


def _some(whats: list[str]) -> str:
    """Return the first of them, and how many more there are."""
    more = len(whats) - MOST
    return ", ".join(whats[:MOST]) + (f" and {more} more" if more > 0 else "")
