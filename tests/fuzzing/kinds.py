"""The kinds of inputs, and the inputs by their seeds."""

import json
from enum import StrEnum
from importlib import import_module
from pathlib import Path
from random import Random

from fuzzing.fields import Table
from fuzzing.watched import Kind


class Name(StrEnum):
    ARCHIVES = "archives"
    PICTURES = "pictures"
    MODELS = "models"
    SERVERS = "servers"
    PARAMS = "params"


KEPT = Path(__file__).with_name("seeds.json")
"""What was found, by kind and seed."""


def kind_named(name: str) -> Kind:
    """A kind, whose module is imported only now: some take seconds."""
    kind: Kind = import_module(f"fuzzing.{name}").KIND
    return kind


def input_of(kind: Kind, table: Table, seed: str) -> bytes:
    """The input of a seed: a name of the table, or a number for a random one."""
    return kind.random(Random(int(seed))) if seed.isdecimal() else table[seed]()


def kept_seeds() -> dict[str, dict[str, str]]:
    """What was found, by kind and seed."""
    kept: dict[str, dict[str, str]] = json.loads(KEPT.read_text(encoding="utf-8"))
    return kept


def keep(name: str, found: dict[str, str]) -> None:
    """Adds what was found, by seed, to the kind's."""
    kept = kept_seeds()
    kept[name] = dict(sorted((kept.get(name, {}) | found).items()))
    KEPT.write_text(json.dumps(kept, indent=2, ensure_ascii=True) + "\n", encoding="utf-8")
