"""What a bar says of how far work is."""

import pytest

from imgpipe.common.progress import counting


@pytest.mark.parametrize(("total", "count"), [(None, "3"), (3, "3/3")])
def test_a_count_stands_alone_where_nobody_knows_the_total(
    capsys: pytest.CaptureFixture[str], total: int | None, count: str
) -> None:
    assert list(counting("reading", iter("abc"), total)) == ["a", "b", "c"]
    *_, shown, _ = capsys.readouterr().out.split()
    assert shown == count
