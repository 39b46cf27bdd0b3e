"""Packages and distributions made on the spot, where this process and those that it starts find them."""

from __future__ import annotations

import importlib
import os
import sys
import time
from pathlib import Path

import pytest

from streamcore.plugins.cache import Cache

GOOD = """
from streamcore import Node, Port, Sink, Source

class Camera(Source):
    outputs = {"out": Port("frame")}
    def run(self):
        yield from ()
"""
LONG_AGO_S = 1000  # a file of just now might have been changed while it was read, and is not vouched for


@pytest.fixture
def package(tmp_path, importable):
    """Writes modules to a directory on the path; what was imported from there is forgotten at the end."""
    folder = tmp_path / "modules"
    folder.mkdir()
    importable(folder)

    def write(name: str, text: str = GOOD) -> Path:
        path = folder / (name.replace(".", "/") + ".py")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
        then = time.time() - LONG_AGO_S
        os.utime(path, (then, then))
        importlib.invalidate_caches()
        return path

    yield write
    for name in [name for name in sys.modules if name.startswith("sp_")]:
        del sys.modules[name]


@pytest.fixture
def installed(tmp_path, package):
    """Registers plugins as an installed distribution does."""

    def register(distribution: str, **entries: str) -> None:
        path = tmp_path / "modules" / f"{distribution}-1.0.dist-info"
        path.mkdir()
        (path / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {distribution}\nVersion: 1.0\n")
        lines = [f"{name.replace('__', '.')} = {target}" for name, target in entries.items()]
        (path / "entry_points.txt").write_text("[streamcore.nodes]\n" + "\n".join(lines) + "\n")
        importlib.invalidate_caches()

    return register


@pytest.fixture
def folder(tmp_path) -> Path:
    return tmp_path / "cache" / "manifests"


@pytest.fixture
def cache(folder) -> Cache:
    return Cache(str(folder))
