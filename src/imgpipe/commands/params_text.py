"""Add keys to the text of params.yaml, set and remove some: every other letter of it stays."""

from collections.abc import Iterator
from typing import Any

import yaml

from imgpipe.commands.params_file import MAPPINGS

Pair = tuple[yaml.Node, yaml.Node]
"""A key and its value."""


def with_keys_of(text: str, shipped: str) -> str:
    """Return the text with the keys that it lacks, each with its value and comment behind the one that it comes after.

    shipped: the text of the file that has all keys.
    """
    whole = _root(shipped)
    while lacking := next(_lacking(_root(text), whole), None):
        text = _with_key(text, shipped, *lacking)
    return text


def with_value(text: str, key: str, value: Any) -> str:
    """Return the text with another value of a key; the comment beside it stays in its column.

    key: in full, such as ``train.optimizer.lr``; the text has it.
    """
    section, place = _place(text, key)
    start, end = section.value[place][1].start_mark.index, _end(*section.value[place])
    written = _in_a_line(value)
    rest = text[end:]
    if (comment := rest.lstrip(" ")).startswith("#"):
        written, rest = written.ljust(len(text) - len(comment) - start - 2) + "  ", comment
    return text[:start] + written + rest


def without_key(text: str, key: str) -> str:
    """Return the text without a key, its value, and the comment beside it.

    key: in full; the text has it.
    """
    section, place = _place(text, key)
    pairs = section.value
    if not section.flow_style:
        start, end = _lines(text, pairs[place])
    elif place + 1 < len(pairs):
        start, end = pairs[place][0].start_mark.index, pairs[place + 1][0].start_mark.index
    else:
        start, end = _end(*pairs[place - 1]) if place else pairs[0][0].start_mark.index, _end(*pairs[place])
    return text[:start] + text[end:]


def _root(text: str) -> Any:
    return yaml.compose(text, Loader=yaml.SafeLoader)


def _values(section: Any) -> dict[str, Any]:
    return {key.value: value for key, value in section.value}


def _place(text: str, key: str) -> tuple[Any, int]:
    """Return the section of a key, and which of its keys it is."""
    *sections, last = key.split(".")
    section = _root(text)
    for name in sections:
        section = _values(section)[name]
    return section, [*_values(section)].index(last)


def _in_a_line(value: Any) -> str:
    return str(yaml.safe_dump([value], default_flow_style=True, sort_keys=False, width=4096)).strip()[1:-1]


def _lacking(section: Any, shipped: Any) -> Iterator[tuple[Any, Any, int]]:
    """Yield what a section lacks, at any depth: the section there, the shipped one, and the key's place in that."""
    have = _values(section)
    for i, (key, value) in enumerate(shipped.value):
        if key.value not in have:
            yield section, shipped, i
        elif key.value not in MAPPINGS and all(isinstance(one, yaml.MappingNode) for one in (have[key.value], value)):
            yield from _lacking(have[key.value], value)


def _with_key(text: str, shipped_text: str, section: Any, shipped: Any, place: int) -> str:
    """Return the text with one key more in a section.

    place: of the key in the shipped section.
    """
    before = {key.value for key, _ in shipped.value[:place]}
    last = next((pair for pair in reversed(section.value) if pair[0].value in before), None)
    key, value = shipped.value[place]
    if section.flow_style:
        added = f"{key.value}: {_in_a_line(yaml.SafeLoader('').construct_object(value, deep=True))}"
        if last:
            at, added = _end(*last), f", {added}"
        else:
            at, added = section.start_mark.index + 1, f"{added}, " if section.value else added
        return text[:at] + added + text[at:]
    start, end = _lines(shipped_text, (key, value))
    indent = section.value[0][0].start_mark.column
    blank = "" if indent else "\n"  # between sections of the file
    lines = shipped_text[start:end].splitlines()
    added = "".join(f"{' ' * indent}{line[key.start_mark.column :]}\n" for line in lines)
    if last:
        at = _lines(text, last)[1]
        return text[:at].removesuffix("\n") + f"\n{blank}{added}{text[at:]}"
    at = _line_start(text, section.value[0][0].start_mark.index)
    return f"{text[:at]}{added}{blank}{text[at:]}"


def _lines(text: str, pair: Pair) -> tuple[int, int]:
    """Return where the lines of a key begin and end: those of its value, and comments that stand farther in below."""
    key, value = pair
    end = _line_end(text, _end(key, value))
    while end < len(text):
        line = text[end : _line_end(text, end)]
        if not line.lstrip().startswith("#") or len(line) - len(line.lstrip()) <= key.start_mark.column:
            break
        end += len(line)
    return _line_start(text, key.start_mark.index), end


def _end(key: yaml.Node, value: Any) -> int:
    """Return where the last letter of a key's value ends; that of a text in lines of its own ends with its line."""
    if isinstance(value, yaml.ScalarNode):
        return int(max(value.end_mark.index - (value.style in ("|", ">")), key.end_mark.index))
    if value.flow_style:
        return int(value.end_mark.index)
    return _end(*value.value[-1]) if isinstance(value, yaml.MappingNode) else _end(key, value.value[-1])


def _line_start(text: str, place: int) -> int:
    return text.rfind("\n", 0, place) + 1


def _line_end(text: str, place: int) -> int:
    """Return where the next line starts."""
    return text.find("\n", place) + 1 or len(text)
