from pathlib import Path

import pytest

from imgpipe.common.files import read_table, table_text, write_table


@pytest.mark.parametrize("cell", ["Icon\r", "a\nb", "a\r\nb", 'a "b", c', "", "\u00e9"])
def test_what_is_written_is_read(cell: str, tmp_path: Path) -> None:
    write_table(tmp_path / "x.csv", ["file", "label"], [{"file": cell, "label": "a"}, {"file": "b", "label": cell}])
    assert read_table(tmp_path / "x.csv") == [{"file": cell, "label": "a"}, {"file": "b", "label": cell}]


def test_lines_end_as_unix_s() -> None:
    assert table_text(["a", "b"], [{"a": 1, "b": 0.1}, {"a": "x y", "b": None}]) == "a,b\n1,0.1\nx y,\n"
