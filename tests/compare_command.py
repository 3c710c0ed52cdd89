"""Run ``imgpipe compare`` in this process."""

import json
from typing import Any

from typer.testing import CliRunner, Result

from imgpipe.commands.__main__ import app


def compare(*arguments: str) -> Result:
    return CliRunner().invoke(app, ["compare", *arguments])


def as_json(*arguments: str) -> dict[str, Any]:
    result = compare(*arguments, "--json")
    assert result.exit_code == 0, result.output
    report = json.loads(result.stdout)
    assert isinstance(report, dict)
    return report


def one_line_error(*arguments: str) -> str:
    result = compare(*arguments)
    assert (result.exit_code, result.stdout) == (1, "")
    assert result.stderr.count("\n") == 1
    return result.stderr.removeprefix("error: ").rstrip()
