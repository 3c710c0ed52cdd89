"""Change values of params.yaml in place: its order, its style and its other comments stay."""

import io
import json
from collections.abc import Iterator, Mapping
from typing import Any

from imgpipe.common.errors import InputError

MAPPINGS = ("class_names", "class_map", "weights")
"""Keys whose value is a mapping as a whole, not a section of keys."""
CHOSEN = "start chose"
"""How the reason begins that stands beside a value that ``imgpipe start`` wrote."""
BETWEEN = " | "
"""What stands between the comment of a key and reasons."""


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
    reasons: by the same keys, why ``imgpipe start`` chose a value; it stands behind the comment beside the value. Where
        there is none, one of an earlier time goes.

    Raises InputError for a key that the file lacks.
    """
    import ruamel.yaml  # takes a tenth of a second, and few commands need it

    yaml = ruamel.yaml.YAML()
    yaml.width = 4096  # so that no line is broken
    null = "tag:yaml.org,2002:null"
    yaml.representer.add_representer(type(None), lambda representer, _: representer.represent_scalar(null, "null"))
    params = yaml.load(text)
    for key, value in values.items():
        *sections, last = key.split(".")
        above: Any = None
        place: Any = params
        for section in sections:
            above, place = place, place.get(section) if hasattr(place, "get") else None
        if not hasattr(place, "get") or last not in place:
            raise InputError(f"params.yaml: {key} is missing; imgpipe upgrade adds it")
        place[last] = value
        if place.fa.flow_style():  # the whole of it is in one line, and so are its reasons
            _explain(above, sections[-1], last, value, reasons.get(key))
        else:
            _explain(place, last, "", value, reasons.get(key))
    written = io.StringIO()
    yaml.dump(params, written)
    return written.getvalue()


def chosen_before(text: str) -> dict[str, str]:
    """Return what ``imgpipe start`` chose earlier, as the comments in the text of params.yaml say: values by keys."""
    import ruamel.yaml

    found: dict[str, str] = {}

    def visit(section: Any, place: str) -> None:
        for key, value in section.items():
            within_a_line = hasattr(value, "fa") and value.fa.flow_style()
            for reason in _parts_of_comment(section, key)[1]:
                words = reason.removeprefix(f"{CHOSEN} ").partition(": ")[0]
                within, _, chosen = words.partition(" ") if within_a_line else ("", "", words)
                found[f"{place}{key}.{within}" if within else f"{place}{key}"] = chosen
            if hasattr(value, "ca") and isinstance(value, Mapping):
                visit(value, f"{place}{key}.")

    visit(ruamel.yaml.YAML().load(text), "")
    return found


def _explain(section: Any, key: str, within: str, value: Any, reason: str | None) -> None:
    """Put a reason into the comment beside a key, in place of an earlier one.

    within: a key of the mapping that the value is, where it is of that.
    """
    comment, reasons = _parts_of_comment(section, key)
    start = f"{CHOSEN} {within} " if within else f"{CHOSEN} "
    kept = [other for other in reasons if not other.startswith(start)]
    if reason:
        kept.append(f"{start}{shown(value)}: {reason}")
    if kept != reasons:
        token = section.ca.items.get(key, [None, None, None])[2]
        further = token.value.partition("\n")[2] if token else ""  # lines between this key and the next
        section.ca.items.pop(key, None)
        if text := BETWEEN.join([*([comment] if comment else []), *kept]):
            section.yaml_add_eol_comment(text, key, column=24)
            section.ca.items[key][2].value += f"\n{further}" if further else ""
        elif further:
            section.yaml_add_eol_comment("", key)
            section.ca.items[key][2].value = f"\n{further}"


def _parts_of_comment(section: Any, key: str) -> tuple[str, list[str]]:
    """Return what stands beside a key: the comment as it came, and the reasons of ``imgpipe start``."""
    token = section.ca.items.get(key, [None, None, None])[2]
    line = token.value.partition("\n")[0].strip().removeprefix("#").strip() if token else ""
    parts = line.split(BETWEEN)
    reasons = [part for part in parts if part.startswith(CHOSEN)]
    return BETWEEN.join(part for part in parts if part not in reasons), reasons


def shown(value: Any) -> str:
    """Return a value as it is shown to people."""
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
