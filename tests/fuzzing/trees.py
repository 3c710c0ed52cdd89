"""Odd trees of JSON or YAML made of good ones: every value takes every odd one, keys are missing, added or renamed."""

import copy
import json
from collections.abc import Callable, Iterator
from functools import partial
from random import Random
from typing import Any

from fuzzing.fields import Table

Path = tuple[str | int, ...]

DIGITS = "@10^5000@"
"""Stands for a number that Python writes no more."""

ODD: dict[str, Any] = {
    "null": None, "true": True, "false": False,
    "0": 0, "1": 1, "-1": -1, "-0.0": -0.0, "0.5": 0.5, "1e308": 1e308, "5e-324": 5e-324,
    "2^31": 2**31, "2^63": 2**63, "2^64": 2**64, "10^30": 10**30, "10^400": 10**400, "10^5000": DIGITS,
    "nan": float("nan"), "inf": float("inf"), "-inf": -float("inf"),
    "empty text": "", "text": "abc", "its number as text": "12", "a line end": "a\nb", "an escape": "\x1b[31m\x07",
    "NUL": "a\0b", "a half of a surrogate": "\ud800", "right to left": "\u202eabc", "long text": "x" * 70_000,
    "a path": "../../etc/passwd", "interpolation": "${oc.env:HOME}", "missing": "???",
    "empty list": [], "list": [1], "deep list": [[[[[[]]]]]], "long list": list(range(5000)),
    "list of null": [None], "list of texts": ["a", "a"], "list of NaN": [float("nan")],
    "empty mapping": {}, "mapping": {"a": 1}, "a target": {"_target_": "builtins.print", "_args_": ["called"]},
    "a target within": {"a": [{"_target_": "os.getcwd", "_partial_": True}]}, "a number as key": {"0": "a", "1": None},
}  # fmt: skip
"""Values that a place may get, by name."""


def places(tree: Any, path: Path = ()) -> Iterator[Path]:
    """The place of every value in the tree, those of mappings and lists among them, the whole first."""
    yield path
    if isinstance(tree, dict | list):
        for key, value in tree.items() if isinstance(tree, dict) else enumerate(tree):
            yield from places(value, (*path, key))


def with_value(tree: Any, path: Path, value: Any) -> Any:
    if not path:
        return value
    changed = copy.deepcopy(tree)
    inner = changed
    for key in path[:-1]:
        inner = inner[key]
    inner[path[-1]] = value
    return changed


def without(tree: Any, path: Path) -> Any:
    changed = copy.deepcopy(tree)
    inner = changed
    for key in path[:-1]:
        inner = inner[key]
    del inner[path[-1]]
    return changed


def shown(path: Path) -> str:
    return ".".join(map(str, path)) or "all"


def odd_trees(tree: Any, write: Callable[[Any], bytes]) -> Table:
    """Every place of the tree with every odd value, without its value, and under another key.

    write: makes a file of a tree.
    """
    table: Table = {}
    for path in places(tree):
        for name, value in ODD.items():
            table[f"{shown(path)} = {name}"] = partial(_written, write, with_value, tree, path, value)
        if path:
            table[f"{shown(path)} left out"] = partial(_written, write, without, tree, path)
        if path and isinstance(path[-1], str):
            table[f"{shown(path)} under another key"] = partial(_written, write, under_another_key, tree, path)
    return table


def _written(write: Callable[[Any], bytes], change: Callable[..., Any], *arguments: Any) -> bytes:
    return write(change(*arguments))


def under_another_key(tree: Any, path: Path) -> Any:
    """The tree with a key that would command a terminal in a known one's place."""
    return with_value(without(tree, path), (*path[:-1], f"{path[-1]}\n\x1b"), value_at(tree, path))


def randomly_changed(tree: Any, random: Random) -> Any:
    """A few values odd or left out, or exchanged for those of other places."""
    for _ in range(random.randrange(1, 5)):
        known = list(places(tree))
        path = random.choice(known[1:] or known)
        match random.randrange(4):
            case 0 | 1:
                tree = with_value(tree, path, random.choice(list(ODD.values())))
            case 2 if path:
                tree = without(tree, path)
            case _:
                tree = with_value(tree, path, copy.deepcopy(value_at(tree, random.choice(known))))
    return tree


def value_at(tree: Any, path: Path) -> Any:
    for key in path:
        tree = tree[key]
    return tree


def as_json(tree: Any) -> bytes:
    return json.dumps(tree).replace(f'"{DIGITS}"', "1" + "0" * 5000).encode()
