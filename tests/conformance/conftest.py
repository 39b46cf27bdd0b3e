"""Shared by the contract tests: the programs and rigs in this folder can be imported by name."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from leaves import Forms

sys.path.insert(0, str(Path(__file__).parent))


@pytest.fixture(scope="session")
def forms() -> Forms:
    """Both forms of what leaves.c stands for."""
    from leaves import Forms

    try:
        return Forms()
    except ImportError as error:
        pytest.skip(f"no compiled leaves here: {error}")
