"""For all tests: property tests that find the same cases on every machine, and never fail because a machine is busy; the inner loop in
the test's own process from source, that of the processes it starts compiled where it is, unless STREAMCORE_NATIVE says which.
"""

from __future__ import annotations

import os
import signal
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings

from streamcore import native

# In a test's own process a failure has to show every frame, and changes of the moment must not wait for a compiler.
if not os.environ.get(native.VARIABLE):
    native.finder.place = ""

# A shell without job control starts what runs in its background with SIGINT ignored, and all that the tests start would be deaf to Ctrl-C.
if signal.getsignal(signal.SIGINT) == signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)

settings.register_profile("repeatable", deadline=None, derandomize=True, database=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("repeatable")


@pytest.fixture(autouse=True, scope="session")
def _a_cache_of_its_own(tmp_path_factory):
    """What the tests read of plugins is kept in no user's home."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_CACHE_HOME", str(tmp_path_factory.mktemp("cache")))
        yield


@pytest.fixture
def importable(monkeypatch):
    """Puts folders in front of where Python looks for modules, in this process and in those that it starts."""

    def add(folder: Path) -> None:
        monkeypatch.syspath_prepend(str(folder))
        monkeypatch.setenv("PYTHONPATH", os.pathsep.join(filter(None, [str(folder), os.environ.get("PYTHONPATH")])))

    return add


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    if native.finder.decide():
        for item in items:
            if item.get_closest_marker("source"):
                item.add_marker(pytest.mark.skip(reason="looks inside the inner loop, which is compiled here"))
