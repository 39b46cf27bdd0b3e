"""Puts the plugin module of these tests where a spec can name it, and makes specs short to write."""

from __future__ import annotations

from pathlib import Path

import pytest


@pytest.fixture(autouse=True)
def _plugins_can_be_imported(monkeypatch):
    monkeypatch.syspath_prepend(str(Path(__file__).parent))
