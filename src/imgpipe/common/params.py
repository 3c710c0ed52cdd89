"""params.yaml: read into typed values; what does not fit is refused in one line.

A section of the file is described by a class with annotated fields and no defaults: every default is in params.yaml.
hydra-zen derives the schema from that signature and builds the object from the section. What a type cannot say stands
beside it: ``Annotated[int, Interval(low=1)]``.
"""

import difflib
import inspect
from collections.abc import Callable, Iterable, Mapping
from dataclasses import is_dataclass
from pathlib import Path
from typing import Annotated, Any, TypeVar, get_args, get_origin, get_type_hints

from hydra_zen import builds, instantiate
from omegaconf import OmegaConf
from omegaconf.errors import OmegaConfBaseException
from yaml import YAMLError

from imgpipe.common.errors import InputError
from imgpipe.common.rules import Choice, OneOf, one_of

T = TypeVar("T")
Section = dict[str, Any]

PARAMS = Path("params.yaml")


def read(name: str, kind: Callable[..., T], path: Path = PARAMS) -> T:
    """One section of the file, built. Raises InputError at the first thing in it that does not fit."""
    config = load(path)
    if name not in config:
        raise InputError(f"{path}: {name} is missing")
    built: T = _build(kind, config[name], f"{path}: {name}")
    return built


def check(sections: Mapping[str, Callable[..., Any]], path: Path = PARAMS) -> dict[str, Any]:
    """Every section of the file, built. Raises InputError at the first thing that does not fit.

    sections: for each name, what it is built into; the file must hold exactly these.
    """
    config = load(path)
    _same_keys(config, sections, str(path), "sections", ": ")
    return {name: _build(kind, config[name], f"{path}: {name}") for name, kind in sections.items()}


def load(path: Path) -> Section:
    """The file as it is, a mapping. Raises InputError for one that is missing or no YAML."""
    try:
        config = OmegaConf.to_container(OmegaConf.load(path))
    except FileNotFoundError:
        raise InputError(f"{path} is not in {Path.cwd()}; run this from the project's top folder") from None
    except (YAMLError, OmegaConfBaseException, UnicodeDecodeError, OSError) as error:
        raise InputError(f"{path} is not valid YAML: {' '.join(str(error).split())}") from None
    if not isinstance(config, dict):
        raise InputError(f"{path} holds no sections; it must be keys and values like 'train: {{epochs: 20, ...}}'")
    return {str(key): value for key, value in config.items()}


def _build(kind: Callable[..., Any], section: Any, where: str) -> Any:
    """What ``kind`` makes of a section: a class, its object; a function, the function with its keywords bound."""
    if not isinstance(section, dict):
        raise InputError(f"{where} is {_shown(section)}; it must be a section of keys and values")
    hints, given_by_code = _arguments(kind)
    _same_keys(section, hints, where, "keys", ".")

    chosen, plain = {}, {}
    for key, value in section.items():
        if isinstance(value, str) and ("${" in value or value == "???"):
            raise InputError(f"{where}.{key} is {value!r}, which DVC does not follow; write the value itself")
        choice = next((rule for rule in _rules(hints[key]) if isinstance(rule, Choice)), None)
        if choice:
            chosen[key] = _choose(choice, value, f"{where}.{key}")
        elif is_dataclass(hints[key]):
            chosen[key] = _build(hints[key], value, f"{where}.{key}")
        else:
            plain[key] = value

    schema = builds(kind, populate_full_signature=True, zen_exclude=[*chosen, *given_by_code])
    try:
        typed = OmegaConf.merge(OmegaConf.structured(schema), plain)
    except OmegaConfBaseException as error:
        key = str(error.full_key).partition(".")[0].partition("[")[0]
        raise InputError(_refusal(f"{where}.{key}", plain[key], hints[key])) from None
    for key in plain:
        if not all(rule.allows(typed[key]) for rule in _rules(hints[key])):
            raise InputError(_refusal(f"{where}.{key}", plain[key], hints[key]))

    bound = instantiate(typed, _partial_=True, _convert_="all")
    if not inspect.isclass(kind):
        return bound if plain or chosen else kind
    try:
        return bound(**chosen)
    except InputError as error:
        raise InputError(f"{where}.{error}") from None


def _choose(choice: Choice, section: Any, where: str) -> Any:
    """The function of the table that the section names, with the section's other values bound."""
    if not isinstance(section, dict) or "name" not in section:
        raise InputError(f"{where}.name is missing; it must be {one_of(choice.table)}")
    arguments = dict(section)
    name = arguments.pop("name")
    if not isinstance(name, str) or name not in choice.table:
        raise InputError(
            f"{where}.name is {_shown(name)}; it must be {one_of(choice.table)}{_nearest(name, choice.table)}"
        )
    return _build(choice.table[name], arguments, where)


def _same_keys(section: Section, allowed: Iterable[str], where: str, what: str, dot: str) -> None:
    allowed = list(allowed)
    there_are = f"its {what} are {', '.join(allowed)}"
    for key in section:
        if key not in allowed:
            raise InputError(f"{where}{dot}{key} is unknown; {there_are}{_nearest(key, allowed)}")
    for key in allowed:
        if key not in section:
            raise InputError(f"{where}{dot}{key} is missing; {there_are}, and none has a default")


def _arguments(kind: Callable[..., Any]) -> tuple[dict[str, Any], list[str]]:
    """The types of the arguments that the file gives, and the names of those that code gives.

    A class takes all of its fields from the file, a function its keyword-only arguments.
    """
    parameters = inspect.signature(kind).parameters.values()
    by_code = [] if inspect.isclass(kind) else [p.name for p in parameters if p.kind is not p.KEYWORD_ONLY]
    hints = get_type_hints(kind, include_extras=True)
    return {p.name: hints[p.name] for p in parameters if p.name not in by_code}, by_code


def _rules(hint: Any) -> list[Any]:
    return list(get_args(hint)[1:]) if get_origin(hint) is Annotated else []


def _refusal(where: str, value: Any, hint: Any) -> str:
    rules = _rules(hint)
    nearest = "".join(_nearest(value, rule.list()) for rule in rules if isinstance(rule, OneOf))
    return f"{where} is {_shown(value)}; it must be {_expected(hint, rules)}{nearest}"


def _expected(hint: Any, rules: list[Any]) -> str:
    kind = get_args(hint)[0] if rules else hint
    optional = type(None) in get_args(kind)
    kind = get_args(kind)[0] if optional else kind
    name = {int: "a whole number", float: "a number", bool: "true or false", str: "text"}.get(kind, str(kind))
    phrase = " and ".join(str(rule) for rule in rules).replace("a number", name) or name
    return f"{phrase} or null" if optional else phrase


def _shown(value: Any) -> str:
    names = {None: "null", True: "true", False: "false"}
    return names[value] if value is None or isinstance(value, bool) else repr(value)


def _nearest(value: Any, names: Iterable[Any]) -> str:
    near = difflib.get_close_matches(str(value), [str(name) for name in names if name is not None], n=1)
    return f"; did you mean {near[0]}?" if near else ""
