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
        places: list[Any] = [params]
        for section in sections:
            places.append(places[-1].get(section) if isinstance(places[-1], Mapping) else None)
        if not isinstance(places[-1], Mapping) or last not in places[-1]:
            raise InputError(f"params.yaml: {key} is missing; recipes/digits.yaml has every key but those of runtime")
        places[-1][last] = value
        if key in reasons:
            within_a_line = places[-1].fa.flow_style()
            place, beside = (places[-2], sections[-1]) if within_a_line else (places[-1], last)
            others = _reasons_beside(place, beside) if within_a_line else ""
            place.ca.items.pop(beside, None)
            reason = f"{last} {reasons[key]}" if within_a_line else reasons[key]
            place.yaml_add_eol_comment(others + f"{CHOSEN} {reason}", beside, column=24)
    written = io.StringIO()
    yaml.dump(params, written)
    return written.getvalue()


def _reasons_beside(place: Any, key: str) -> str:
    """Return what ``with_values`` has already written beside a mapping within a line, to stand before more of it."""
    comment = place.ca.items.get(key, [None, None, None])[2]
    text = comment.value.strip().removeprefix("# ") if comment else ""
    return f"{text}; " if text.startswith(CHOSEN) else ""
