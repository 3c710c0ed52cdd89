"""The names of networks: ours, torchvision's and timm's. Importing this takes no torch.

params.yaml is checked at the start of every stage, and importing the networks themselves takes seconds, so their names
are read from the source.
"""

import ast
import importlib.util
import re
from functools import cache
from pathlib import Path

from imgpipe.common.errors import did_you_mean
from imgpipe.common.rules import Rule, one_of

TIMM = "timm/"
"""What stands before the name of a model of timm's."""

BACKBONES = {"vgg_funnel": "vgg16"}
"""Our networks that are one of torchvision's but for the head, and so can start from its weights."""


@cache
def our_names() -> list[str]:
    """Return the keys of MODELS in ``networks.py``, in their order."""
    source = ast.parse(Path(__file__).with_name("networks.py").read_text(encoding="utf-8"))
    assigned = (node for node in source.body if isinstance(node, ast.AnnAssign))
    table = next(node.value for node in assigned if ast.unparse(node.target) == "MODELS")
    assert isinstance(table, ast.Dict)
    return [key.value for key in table.keys if isinstance(key, ast.Constant) and isinstance(key.value, str)]


@cache
def torchvision_names() -> list[str]:
    """Return the names that torchvision registers in its classification modules, sorted."""
    return _registered("torchvision", r"@register_model\(\)\n(?:@.*\n)*def (\w+)\(")


def timm_names() -> list[str]:
    """Return the names that timm registers, sorted; none where it is not installed."""
    return _registered("timm", r"(?m)^@register_model\ndef (\w+)\(")


def _registered(package: str, pattern: str) -> list[str]:
    """Return what a pattern finds in a package's modules of models."""
    found = importlib.util.find_spec(package)
    if not found or not found.origin:
        return []
    modules = sorted((Path(found.origin).parent / "models").glob("*.py"))
    return sorted(name for module in modules for name in re.findall(pattern, module.read_text(encoding="utf-8")))


def model_names() -> list[str]:
    """Return the names of our own networks and of every classifier of torchvision."""
    return [*our_names(), *torchvision_names()]


MODEL_NAME = Rule(
    lambda: f"{one_of(model_names())} or {TIMM}<name>",
    lambda name: name.startswith(TIMM) or name in model_names(),
    model_names,
)
"""Allows our names, torchvision's, and any after ``timm/``, which ``timm_problem`` looks up."""


def torchvision_name(name: str) -> str | None:
    """Return the name of the torchvision model that a network is, perhaps but for its head; None if it is none."""
    return BACKBONES.get(name) or (None if name in our_names() or name.startswith(TIMM) else name)


def timm_problem(name: str) -> str | None:
    """Say why timm has no model of that name, to stand after the name and a comma.

    Returns None where it has one, and for other models' names.
    """
    if not name.startswith(TIMM):
        return None
    names = timm_names()
    if not names:
        return "a model of the package timm, which is not installed here: pip install 'imgpipe[finetune]'"
    if name.removeprefix(TIMM) in names:
        return None
    return f"which is none of timm's {len(names)} models{did_you_mean(name, [f'{TIMM}{known}' for known in names])}"
