"""params.yaml: read into typed values; what does not fit is refused in one line.

A section of the file is described by a dataclass with annotated fields and no defaults: every default is in
params.yaml. ``typed`` compares each value with its annotation. What a type cannot say stands beside it, as in
``Annotated[int, Interval(low=1)]``. A section within with a ``name`` chooses a function of a table: hydra-zen binds the
values that stand below that name to the function's keyword arguments, so that a new choice is a function and a line,
and another choice one word.
"""

import inspect
import io
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import is_dataclass
from itertools import chain
from pathlib import Path
from typing import Any, TypeVar, get_args, get_type_hints

import yaml
from hydra_zen import builds, instantiate
from omegaconf import OmegaConf

from imgpipe.common.errors import InputError, did_you_mean, one_line
from imgpipe.common.rules import Choice, fits, known, one_of, says, takes_floats

T = TypeVar("T")
Section = dict[str, Any]

PARAMS = Path("params.yaml")
DEEPEST = 20
"""Levels of mappings and lists within one another."""
LARGEST = 1_000_000
"""Bytes of a file, which are read in about a second."""
MOST_VALUES = 20_000
"""Keys and values of a file, likewise."""
OF_EARLIER_VERSIONS = "keys of earlier versions go by imgpipe upgrade"
MOST_SHOWN = 200
"""Letters of a value or key that an error shows."""


class UnknownKeyError(InputError):
    """Says that a section has a key that it does not take.

    key: the last part of its name.
    """

    def __init__(self, reason: str, key: str) -> None:
        super().__init__(reason)
        self.key = key


def read(name: str, kind: type[T], path: Path = PARAMS) -> T:
    """Read one section of the file.

    name: the section's key in the file.
    kind: the dataclass that describes it.

    Raises InputError at the first thing in it that does not fit.
    """
    config = load(path)
    if name not in config:
        raise InputError(f"{path}: {name} is missing")
    section: T = typed(config[name], kind, f"{path}: {name}")
    return section


def check(kinds: Mapping[str, type], path: Path = PARAMS) -> dict[str, Any]:
    """Read every section of the file, by name.

    kinds: the dataclass of each section; the file must hold exactly these.

    Raises InputError at the first thing that does not fit.
    """
    config = load(path)
    try:
        _check_keys(config, kinds, str(path), "sections", ": ")
        return {name: typed(config[name], kind, f"{path}: {name}") for name, kind in kinds.items()}
    except UnknownKeyError as error:
        sections = chain.from_iterable(_sections(kind, name) for name, kind in kinds.items())
        takers = [place for place, keys in sections if error.key in keys]
        if not takers and str(error).endswith("?"):  # it says already what may be meant
            raise
        hint = f"{error.key} is a key of {', '.join(takers)}" if takers else OF_EARLIER_VERSIONS
        raise InputError(f"{error}; {hint}") from None


def load(path: Path) -> Section:
    """Read a YAML file as it is, a mapping.

    Raises InputError for one that is missing, no YAML, too large or too deep.
    """
    try:
        with path.open("rb") as file:
            content = file.read(LARGEST + 1)
    except FileNotFoundError:
        raise InputError(f"{path} is not in {Path.cwd()}; run this from the project's top folder") from None
    except OSError as error:
        raise InputError(f"{path} can't be read: {error.strerror or error}") from None
    return parsed(content, str(path))


def parsed(content: bytes, path: str) -> Section:
    """Read the bytes of a YAML file as they are, a mapping.

    path: what an error calls it.

    Raises InputError for what is no YAML, too large or too deep.
    """
    try:
        _check_size(content, path)
        config = OmegaConf.to_container(OmegaConf.load(io.StringIO(content.decode())))
        repr(config)  # ValueError at a number of more digits than Python writes
    except InputError:
        raise
    except Exception as error:  # what YAML's and OmegaConf's own readers raise depends on what is in the file
        raise InputError(f"{path} is not valid YAML: {one_line(error)}") from None
    if not isinstance(config, dict):
        raise InputError(f"{path} holds no sections; it must be keys and values like 'train: {{epochs: 20, ...}}'")
    return {str(key): value for key, value in config.items()}


def _check_size(content: bytes, path: str) -> None:
    """Raise InputError where the YAML would become more than memory and a second suffice for."""
    if len(content) > LARGEST:
        raise InputError(f"{path} has more than {LARGEST:,} bytes; no file of parameters needs as many")
    depth = count = 0
    for event in yaml.parse(content, Loader=yaml.SafeLoader):
        line = event.start_mark.line + 1
        if isinstance(event, yaml.AliasEvent):
            raise InputError(f"{path}: line {line} has the alias *{_cut(event.anchor)}; write the value itself")
        depth += isinstance(event, yaml.CollectionStartEvent) - isinstance(event, yaml.CollectionEndEvent)
        if depth > DEEPEST:
            raise InputError(f"{path}: line {line} is nested more than {DEEPEST} levels deep; no parameter is")
        count += isinstance(event, yaml.ScalarEvent)
        if count > MOST_VALUES:
            raise InputError(f"{path}: line {line} has one of more than {MOST_VALUES:,} keys and values; shorten it")


def typed(value: Any, hint: Any, where: str) -> Any:
    """Return a value of a YAML file as its annotation describes it: see ``fitted``.

    Raises InputError where the value does not fit, and where OmegaConf or DVC would put another in its place.
    """
    _check_literal(value, where)
    return fitted(value, hint, where)


def _check_literal(value: Any, where: str) -> None:
    """Raise InputError at a text, a key among them, that stands for another value or can't be written as UTF-8."""
    if isinstance(value, dict):
        for key, within in value.items():
            _check_literal(key, where)
            _check_literal(within, f"{where}.{_cut(str(key))}")
    elif isinstance(value, list):
        for within in value:
            _check_literal(within, where)
    elif isinstance(value, str) and ("${" in value or value == "???"):
        raise InputError(f"{where} is {_shown(value)}, which DVC does not follow; write the value itself")
    elif isinstance(value, str) and value.encode(errors="ignore").decode() != value:
        raise InputError(f"{where} is {_shown(value)}, which has half of a character; write the whole of it")


def fitted(value: Any, hint: Any, where: str) -> Any:
    """Return the value as its annotation describes it: a dataclass for a section, a bound function for a choice.

    where: names the value in an error: the file and the keys that lead to it.

    Raises InputError where the value does not fit.
    """
    choice = _choice_of(hint)
    if choice:
        return _chosen(choice.table, value, where)
    if is_dataclass(hint):
        values = _values(value, get_type_hints(hint, include_extras=True), where)
        try:
            return hint(**values)  # type: ignore[operator]
        except InputError as error:  # of the section as a whole, which does not know its place in the file
            raise InputError(f"{where}.{error}") from None
    if not fits(value, hint):
        meant = "".join(did_you_mean(value, names) for names in known(hint))
        raise InputError(f"{where} is {_shown(value)}; it must be {says(hint)}{meant}")
    return float(value) if type(value) is int and takes_floats(hint) else value


def _values(section: Any, hints: Mapping[str, Any], where: str) -> Section:
    """Return the section's values as the annotations of its keys describe them."""
    if not isinstance(section, dict):
        raise InputError(f"{where} is {_shown(section)}; it must be a section of keys and values")
    _check_keys(section, hints, where, "keys", ".")
    return {key: fitted(value, hints[key], f"{where}.{key}") for key, value in section.items()}


def _chosen(table: Mapping[str, Callable[..., Any]], section: Any, where: str) -> Callable[..., Any]:
    """Return the function that the section names, with the values below its name bound to its keyword arguments.

    The section has a ``name``, and for each function that takes keyword arguments a section of its name with a value
    for each of them. So another choice is one word. The values of all choices must fit.
    """
    if not isinstance(section, dict):
        raise InputError(f"{where} is {_shown(section)}; it must be a section, and its name {one_of(table)}")
    if "name" not in section:
        raise InputError(f"{where}.name is missing; it must be {one_of(table)}")
    name = section["name"]
    if not isinstance(name, str) or name not in table:
        meant = did_you_mean(name, table)
        raise InputError(f"{where}.name is {_shown(name)}; it must be {one_of(table)}{meant}")
    keywords = {choice: _keywords(function) for choice, function in table.items()}
    taking = {choice: hints for choice, hints in keywords.items() if hints}
    for key in section:
        if key in keywords[name] and key not in taking:
            raise InputError(
                f"{where}.{key} is unknown; write {name}.{key}, since the values of a choice stand below its name"
            )
        if key not in {"name", *taking} and any(key in hints for hints in taking.values()):
            its = ", ".join(f"{name}.{own}" for own in keywords[name])
            raise UnknownKeyError(f"{where}.{key} is unknown; {name} takes {its or 'no values'}", key)
    _check_keys(section, ["name", *taking], where, "keys", ".")
    values = {choice: _values(section[choice], hints, f"{where}.{choice}") for choice, hints in taking.items()}
    if name not in values:
        return table[name]
    # not recursive: a mapping in a value is data, also where it has hydra's key _target_, which would call something
    config = builds(table[name], **values[name], zen_partial=True, hydra_recursive=False, hydra_convert="all")
    bound: Callable[..., Any] = instantiate(config)
    return bound


def _keywords(function: Callable[..., Any]) -> dict[str, Any]:
    """Return the keyword arguments of a function with their annotations."""
    hints = get_type_hints(function, include_extras=True)
    parameters = inspect.signature(function).parameters.values()
    return {one.name: hints[one.name] for one in parameters if one.kind is one.KEYWORD_ONLY}


def _sections(hint: Any, place: str) -> Iterator[tuple[str, Mapping[str, Any]]]:
    """Yield the full name of each section at a place and below, and the annotations of its keys."""
    choice = _choice_of(hint)
    if choice:
        yield from ((f"{place}.{name}", _keywords(function)) for name, function in choice.table.items())
    elif is_dataclass(hint):
        keys = get_type_hints(hint, include_extras=True)
        yield place, keys
        for key, within in keys.items():
            yield from _sections(within, f"{place}.{key}")


def _choice_of(hint: Any) -> Choice | None:
    return next((rule for rule in get_args(hint)[1:] if isinstance(rule, Choice)), None)


def without_other_choices(section: Section) -> Section:
    """Return the section without the values of choices that it does not take, at any depth.

    >>> without_other_choices({"name": "sgd", "sgd": {"lr": 0.1}, "adam": {"lr": 0.001}})
    {'name': 'sgd', 'sgd': {'lr': 0.1}}
    """
    name = section.get("name")
    kept = {key: value for key, value in section.items() if name is None or key == name or not isinstance(value, dict)}
    return {key: without_other_choices(value) if isinstance(value, dict) else value for key, value in kept.items()}


def _check_keys(section: Section, allowed: Iterable[str], where: str, what: str, dot: str) -> None:
    allowed = list(allowed)
    there_are = f"its {what} are {', '.join(allowed)}" if allowed else f"it has no {what} here"
    for key in section:
        if key not in allowed:
            unknown = f"{where}{dot}{_cut(str(key))} is unknown; {there_are}{did_you_mean(key, allowed)}"
            raise UnknownKeyError(unknown, str(key))
    for key in allowed:
        if key not in section:
            remedy = "none has a default; imgpipe upgrade adds it"
            raise InputError(f"{where}{dot}{key} is missing; {there_are}, and {remedy}")


def _shown(value: Any) -> str:
    """Return a value to stand in an error."""
    names = {None: "null", True: "true", False: "false"}
    if value is None or isinstance(value, bool):
        return names[value]
    return _cut(repr(value))


def _cut(text: str) -> str:
    return text if len(text) <= MOST_SHOWN else f"{text[:MOST_SHOWN]}..."
