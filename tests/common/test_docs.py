"""What the pages say is there."""

import re
from collections.abc import Iterator
from typing import Any

import pytest
from closure import ROOT
from omegaconf import OmegaConf

PARAMETERS = (ROOT / "docs/parameters.md").read_text(encoding="utf-8")


def leaves(section: dict[str, Any], place: str = "") -> Iterator[str]:
    for key, value in section.items():
        if isinstance(value, dict) and value:
            yield from leaves(value, f"{place}{key}.")
        else:
            yield f"{place}{key}"


def keys_in_the_table() -> set[str]:
    found = set()
    for row in re.findall(r"^\| (`[a-z_.0-9`, ]+`) \|", PARAMETERS, flags=re.MULTILINE):
        section = ""
        for key in re.findall(r"`([^`]+)`", row):
            full = section + key if key.startswith(".") else key
            section = full.rpartition(".")[0]
            found.add(full)
    return found


def test_the_table_of_parameters_has_every_key_and_no_other() -> None:
    params = OmegaConf.to_container(OmegaConf.load(ROOT / "params.yaml"))
    assert isinstance(params, dict)
    keys = set(leaves({str(k): v for k, v in params.items()}))
    assert keys_in_the_table() == keys


@pytest.mark.parametrize(
    "page", ["README.md", "CONTRIBUTING.md", *(f"docs/{page.name}" for page in ROOT.glob("docs/*.md"))]
)
def test_links_lead_somewhere(page: str) -> None:
    for target in re.findall(r"\]\((?!http)([^)#]+)\)", (ROOT / page).read_text(encoding="utf-8")):
        assert (ROOT / page).parent.joinpath(target).exists(), target


def test_no_package_registry_is_named() -> None:
    for lock in ROOT.glob("requirements*.lock"):
        text = lock.read_text(encoding="utf-8")
        assert "://" not in text
        assert "index-url" not in text
        pinned = re.findall(r"^[a-z0-9][\w.-]*==", text, flags=re.MULTILINE)
        hashed = re.split(r"^(?=[a-z0-9][\w.-]*==)", text, flags=re.MULTILINE)[1:]
        assert pinned
        assert all("--hash=sha256:" in block for block in hashed)
