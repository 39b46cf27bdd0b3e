"""The fixtures of every fault case."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from boxes import Box, new_box


@pytest.fixture
def box() -> Iterator[Box]:
    with new_box() as made:
        yield made
