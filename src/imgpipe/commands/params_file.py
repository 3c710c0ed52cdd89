"""Change values of params.yaml in place: its order, its style and its other comments stay."""

import io
from collections.abc import Iterator, Mapping
from typing import Any

from imgpipe.common.errors import InputError

MAPPINGS = ("class_names", "class_map", "weights")
"""Keys whose value is a mapping as a whole, not a section of keys."""
CHOSEN = "start chose"
"""How the comment begins that stands beside a value that ``imgpipe start`` wrote."""


def values_of(section: Mapping[str, Any], place: str = "") -> Iterator[tuple[str, Any]]:
    """Yield the values within a section by their keys in full, such as ``train.optimizer.name``.

    place: what stands before the keys.

    >>> dict(values_of({"train": {"epochs": 3, "optimizer": {"name": "sgd"}}, "prepare": {"class_map": {"a": [1]}}}))
    {'train.epochs': 3, 'train.optimizer.name': 'sgd', 'prepare.class_map': {'a': [1]}}
    """
    for key, value in section.items():
        if isinstance(value, Mapping) and key not in MAPPINGS:
            yield from values_of(value, f"{place}{key}.")
        else:
            yield f"{place}{key}", value


def with_values(text: str, values: Mapping[str, Any], reasons: Mapping[str, str]) -> str:
    """Return the text of params.yaml with other values.

    values: by their keys in full.
    reasons: by the same keys, what stands beside a value in place of the comment that was there.

    Raises InputError for a key that the file lacks.
    """
    import ruamel.yaml  # takes a tenth of a second, and few commands need it

    yaml = ruamel.yaml.YAML()
    yaml.width = 4096  # so that no line is broken
    null = "tag:yaml.org,2002:null"
    yaml.representer.add_representer(type(None), lambda representer, _: representer.represent_scalar(null, "null"))
    params: Any = yaml.load(text)
    for key, value in values.items():
        *sections, last = key.split(".")
        above: Any = None
        place: Any = params
        for section in sections:
            above, place = place, place.get(section) if hasattr(place, "get") else None
        if not hasattr(place, "get") or last not in place:
            raise InputError(f"params.yaml: {key} is missing; recipes/digits.yaml has every key but those of runtime")
        place[last] = value
        if key in reasons:
            if place.fa.flow_style():  # the whole of it is in one line
                others = _reasons_beside(above, sections[-1])
                _comment(above, sections[-1], f"{others}{CHOSEN} {last} {reasons[key]}")
            else:
                _comment(place, last, f"{CHOSEN} {reasons[key]}")
    written = io.StringIO()
    yaml.dump(params, written)
    return written.getvalue()


def _comment(place: Any, key: str, text: str) -> None:
    """Put a comment beside a key of a mapping, in place of the one there."""
    place.ca.items.pop(key, None)
    place.yaml_add_eol_comment(text, key, column=24)


def _reasons_beside(place: Any, key: str) -> str:
    """Return what ``with_values`` has already written beside a mapping within a line, to stand before more of it."""
    comment = place.ca.items.get(key, [None, None, None])[2]
    text = comment.value.strip().removeprefix("# ") if comment else ""
    return f"{text}; " if text.startswith(CHOSEN) else ""
