"""The style of the figures, for tests that draw some."""

from collections.abc import Iterator

import pytest

from imgpipe.plot import drawing


@pytest.fixture
def house_style() -> Iterator[None]:
    with drawing.house_style():
        yield
