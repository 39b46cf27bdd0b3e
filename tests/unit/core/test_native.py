"""When the compiled inner loop is taken and when its sources; the compiler itself is tried where one is (tools/native, .ci/run)."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from streamcore import native
from streamcore.errors import NativeError

PACKAGE_DIR = Path(native.PACKAGE)
COMPILED = not native.obstacle(native.folder())
Manifest = Callable[..., str]


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Manifest:
    """Writes a manifest that fits the sources, with what is given put in its place, where the finder looks for one."""
    monkeypatch.setattr(native, "folder", lambda: str(tmp_path))
    monkeypatch.delenv(native.VARIABLE, raising=False)

    def write(**changes: Any) -> str:
        facts = {"version": native.__version__, "tag": native.tag(), "sources": native.hashes(), **changes}
        (tmp_path / native.MANIFEST).write_text(json.dumps(facts))
        return str(tmp_path)

    return write


def other_source(module: str) -> dict[str, str]:
    return native.hashes() | {module: "0" * 64}


WRONG = {
    "an edited module": ({"sources": other_source("streamcore.node.inlet")}, "changed since they were compiled: streamcore.node.inlet"),
    "another version": ({"version": "0.0.9"}, "made for streamcore 0.0.9"),
    "another interpreter": ({"tag": "cpython-27"}, "on cpython-27"),
    "a module too few": ({"sources": dict([*native.hashes().items()][1:])}, f"compiled from other modules: {native.MODULES[0]}"),
    "a module too many": ({"sources": other_source("streamcore.limits")}, "compiled from other modules: streamcore.limits"),
    "sources of a wrong kind": ({"sources": 7}, "AttributeError"),
}


@pytest.mark.parametrize(("changes", "why"), WRONG.values(), ids=WRONG)
def test_one_thing_that_does_not_fit_and_everything_runs_from_source(place, monkeypatch, changes, why):
    # A library of yesterday that hides today's source costs its victim a day.
    place(**changes)
    assert native.Finder().decide() == ""
    monkeypatch.setenv(native.VARIABLE, "1")
    with pytest.raises(NativeError, match="STREAMCORE_NATIVE=1, but there is no compiled inner loop that fits: ") as caught:
        native.Finder().decide()
    assert why in str(caught.value)
    assert str(caught.value).endswith("; tools/native makes it")


@pytest.mark.parametrize("text", ["", "{", "[]", "7", '{"sources": {}}', "\xff"])
def test_a_broken_manifest_is_as_good_as_none(place, text):
    Path(place(), native.MANIFEST).write_bytes(text.encode("latin-1"))
    assert native.Finder().decide() == ""


def test_no_manifest_is_fine_unless_it_is_insisted_on(place, tmp_path, monkeypatch):
    assert native.Finder().decide() == ""
    monkeypatch.setenv(native.VARIABLE, "1")
    with pytest.raises(NativeError, match=f"{tmp_path}/manifest.json is not there; tools/native makes it"):
        native.Finder().decide()


@pytest.mark.parametrize(("value", "taken"), [("", True), ("1", True), ("0", False)])
def test_the_variable_decides(place, monkeypatch, value, taken):
    where = place()
    monkeypatch.setenv(native.VARIABLE, value)
    assert native.Finder().decide() == (where if taken else "")


def test_a_value_that_is_neither_is_an_error_not_a_default(place, monkeypatch):
    monkeypatch.setenv(native.VARIABLE, "yes")
    with pytest.raises(NativeError, match="STREAMCORE_NATIVE: found 'yes', expected 0"):
        native.Finder().decide()


def test_the_finder_answers_for_the_modules_of_the_inner_loop_alone(place):
    where = place()
    finder = native.Finder()
    for module in (*native.MODULES, native.LEAVES, native.LIBRARY):
        spec = finder.find_spec(module)
        assert spec is not None
        assert spec.origin == native.library_of(where, module)
    for module in ("streamcore", "streamcore.node", "streamcore.limits", "streamcore.node.start", "json"):
        assert finder.find_spec(module) is None
    assert native.Finder("").find_spec(native.MODULES[0]) is None


def test_every_module_has_a_source_in_a_room_that_the_package_looks_out_for():
    # streamcore/__init__.py loads the finder when one of these rooms is entered, and not before.
    assert all(Path(native.source_of(module)).is_file() for module in native.MODULES)
    assert all(module.startswith(("streamcore.node.", "streamcore.shm.", "streamcore.wire.")) for module in native.MODULES)
    assert list(native.MODULES) == sorted(native.MODULES)


def test_no_compiled_module_puts_leaves_in_the_place_of_its_functions():
    # mypyc calls the functions of a module past its namespace: those leaves would never be asked.
    assert not [module for module in native.MODULES if "take_over(" in Path(native.source_of(module)).read_text()]


def python(code: str, **environ: str) -> subprocess.CompletedProcess[str]:
    env = {**os.environ, "PYTHONPATH": os.pathsep.join(p for p in sys.path if p), **environ}
    return subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=env, timeout=60, check=False)


def test_importing_the_package_loads_nothing_of_it():
    done = python("import sys, streamcore; print([m for m in sys.modules if m.startswith('streamcore.')])")
    assert (done.returncode, done.stdout) == (0, "[]\n")


def test_switched_off_every_module_comes_from_its_source():
    code = "import importlib, streamcore.native as n; print({importlib.import_module(m).__file__[-3:] for m in n.MODULES})"
    assert python(code, STREAMCORE_NATIVE="0").stdout == "{'.py'}\n"


@pytest.mark.skipif(not COMPILED, reason="the inner loop is not compiled for this interpreter; tools/native")
def test_insisted_on_every_module_comes_from_its_library():
    code = "import importlib, streamcore.native as n; print({importlib.import_module(m).__file__[-3:] for m in n.MODULES})"
    assert python(code, STREAMCORE_NATIVE="1").stdout == "{'.so'}\n"


def test_the_command_says_in_one_line_that_what_is_insisted_on_is_not_there():
    code = (
        "import sys, streamcore.native as n; n.folder = lambda: '/nowhere'; import streamcore.cli.root as r; sys.exit(r.run(['--version']))"
    )
    done = python(code, STREAMCORE_NATIVE="1")
    assert done.returncode == 2
    expected = "streamctl: STREAMCORE_NATIVE=1, but there is no compiled inner loop that fits: /nowhere/manifest.json is not there; "
    assert done.stderr == expected + "tools/native makes it\n"


@pytest.mark.parametrize("value", ["0", pytest.param("1", marks=pytest.mark.skipif(not COMPILED, reason="not compiled; tools/native"))])
def test_finalizers_of_leases_and_loans_run_in_any_thread_and_at_the_end(value):
    # Memory that is not given back is memory that the ring has lost.
    code = """
import threading
from streamcore.node.lease import Record
from streamcore.node.views import Lease, Loan
told = []
record = Record(None, 2**63, 2**64 - 1, told.append, told.append)
lease = Lease(record, lambda mine: told.append((mine.sequence, mine.entry, threading.current_thread().name)), None)
held = [Loan(None, 2**64 - 1, told.append, {}), lease]
del lease
thread = threading.Thread(target=held.clear, name="another")
thread.start()
thread.join()
print(told)
loop = [Loan(None, 7, told.append, {})]  # a cycle of an author's: found by the collector
loop.append(loop)
del loop
import gc
gc.collect()
print(told[-1])
last = Loan(None, 8, print, {})
"""
    done = python(code, STREAMCORE_NATIVE=value)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.splitlines() == [f"[({2**63}, {2**64 - 1}, 'another'), {2**64 - 1}]", "7", "8"]


@pytest.mark.parametrize("value", ["0", pytest.param("1", marks=pytest.mark.skipif(not COMPILED, reason="not compiled; tools/native"))])
def test_a_half_made_lease_or_loan_does_no_harm(value):
    # copy.copy() of what a packet holds makes one without calling __init__.
    code = """
import copy
from streamcore.node.views import Lease, Loan
for kind in (Lease, Loan):
    try:
        kind()
    except TypeError:
        print("refused")
"""
    done = python(code, STREAMCORE_NATIVE=value)
    assert (done.returncode, done.stdout) == (0, "refused\nrefused\n")
