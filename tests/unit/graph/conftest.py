"""Puts the plugin module of these tests where a spec can name it, and makes specs short to write."""

from __future__ import annotations

from pathlib import Path

import pytest

from streamcore import Node
from streamcore.manifest import Manifest


@pytest.fixture(autouse=True)
def _plugins_can_be_imported(importable):
    importable(Path(__file__).parent)


@pytest.fixture
def manifests() -> dict[str, Manifest]:
    """Of the classes of graph_plugins, by their names."""
    import graph_plugins

    classes = {name: value for name, value in vars(graph_plugins).items() if isinstance(value, type) and issubclass(value, Node)}
    return {name: Manifest.of(value) for name, value in classes.items()}
