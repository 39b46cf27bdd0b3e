"""Importing a class, as the process of a node and the child that reads plugins do it."""

from __future__ import annotations

import sys
import traceback

import pytest

from streamcore import Node, Port, Sink, Source, array, plugins
from streamcore.errors import PluginError

GOOD = """
from streamcore import Node, Port, Sink, Source

class Camera(Source):
    outputs = {"out": Port("frame")}
    def run(self):
        yield from ()
"""


def refusal(target: str) -> plugins.PluginRefused:
    with pytest.raises(PluginError) as caught:
        plugins.load_target(target)
    assert isinstance(caught.value, plugins.PluginRefused)
    assert "\n" not in str(caught.value)
    return caught.value


def test_only_node_classes_come_out_of_a_module(package):
    package("sp_mine", GOOD + "\nfrom subprocess import Popen\nclass Plain: pass\nNumber = 5\n")
    for name in ("Popen", "Plain", "Number"):
        assert "not a node class" in refusal(f"sp_mine:{name}").found
    missing = refusal("sp_mine:Camrea")
    assert (missing.found, missing.hint) == ("no class 'Camrea' in 'sp_mine'", "did you mean 'Camera'?")
    for name in ("Node", "Source", "Sink"):
        assert "itself" in refusal(f"sp_mine:{name}").found


@pytest.mark.parametrize(
    ("text", "cause"),
    [
        ("import sp_not_there", "ModuleNotFoundError: No module named 'sp_not_there'"),
        ("raise ValueError('two\\nlines')", "ValueError: two lines"),
        ("1 / 0", "ZeroDivisionError: division by zero"),
        ("raise ValueError('\\udcff' + 'x' * 10_000_000)", "ValueError: \\udcffxxx"),
        ("def f(:", "SyntaxError"),
        ("import sys; sys.exit(3)", "SystemExit: 3"),
    ],
)
def test_an_import_that_fails_is_one_line_and_keeps_its_cause(package, text, cause):
    package("sp_broken", text)
    error = refusal("sp_broken:Camera")
    assert cause in error.found
    assert error.__cause__ is not None
    assert "sp_broken.py" in "".join(traceback.format_exception(error.__cause__))


def test_a_node_process_loads_a_class_by_its_target(package):
    package("sp_mine")
    assert plugins.load_target("sp_mine:Camera", "test.camera").__name__ == "Camera"
    with pytest.raises(PluginError, match=r"^plugin 'test\.camera': "):
        plugins.load_target("sp_mine:Nothing", "test.camera")


def test_the_working_directory_is_searched_last(tmp_path, monkeypatch, package):
    package("sp_here")
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    (elsewhere / "sp_here.py").write_text("raise RuntimeError('the wrong one')")
    (elsewhere / "sp_local.py").write_text(GOOD)
    monkeypatch.chdir(elsewhere)
    monkeypatch.setattr(sys, "path", [entry for entry in sys.path if entry])
    assert plugins.load_target("sp_here:Camera")
    assert plugins.load_target("sp_local:Camera")
    assert sys.path[-1] == str(elsewhere)


def run(self):
    yield from ()


def process(self, packet):
    return None


FRAME, JSON = Port("frame", array("uint8")), Port("frame", "json")


@pytest.mark.parametrize(
    ("base", "body", "found"),
    [
        (Source, {"outputs": {"out": FRAME}}, "without run"),
        (Source, {"run": run, "inputs": {"in": FRAME}}, "source with inputs"),
        (Sink, {"process": process, "inputs": {"in": FRAME}, "outputs": {"out": FRAME}}, "sink with outputs"),
        (Sink, {"process": process}, "without inputs"),
        (Node, {"process": process, "outputs": {"out": FRAME}}, "without inputs"),
        (Node, {"inputs": {"in": FRAME}}, "without process"),
        (Source, {"run": run, "outputs": [FRAME]}, "outputs of type list"),
        (Source, {"run": run, "outputs": {"out": "frame"}}, "of type str"),
        (Source, {"run": run, "outputs": {"a.b": FRAME}}, "port name 'a.b'"),
        (Source, {"run": run, "outputs": {1: FRAME}}, "port name 1"),
        (Source, {"run": run, "outputs": {"out": Port("")}}, "kind ''"),
        (Source, {"run": run, "outputs": {"out": Port("k" * 65)}}, "kind 'kkk"),
        (Source, {"run": run, "config": ["rate"]}, "config of type list"),
        (Source, {"run": run, "config": None}, "config of type NoneType"),
        (Source, {"run": run, "retention": -1}, "retention = -1"),
        (Source, {"run": run, "retention": 1.5}, "retention = 1.5"),
        (Source, {"run": run, "batch_max": 0}, "batch_max = 0"),
        (Source, {"run": run, "batch_max": True}, "batch_max = True"),
        (Source, {"run": run, "batch_max": "size"}, "batch_max = 'size'"),
        (Node, {"process": process, "inputs": {"in": FRAME}, "outputs": {"out": Port("x", forwards=("inn",))}}, "forwards 'inn'"),
        (Node, {"process": process, "inputs": {"in": JSON}, "outputs": {"out": Port("x", forwards=("in",))}}, "forwards 'in'"),
        (Node, {"process": process, "inputs": {"in": FRAME}, "outputs": {"out": Port("x", "json", forwards=("in",))}}, "forwards 'in'"),
    ],
)
def test_a_class_that_breaks_the_contract_is_refused(monkeypatch, base, body, found):
    cls = type("Broken", (base,), {**body, "__module__": __name__})
    monkeypatch.setitem(sys.modules, __name__, type(sys)(__name__))
    monkeypatch.setattr(sys.modules[__name__], "Broken", cls, raising=False)
    with pytest.raises(PluginError) as caught:
        plugins.check_shape(cls, "test.broken")
    assert found in str(caught.value)


def test_a_class_that_cannot_be_found_again_is_refused():
    class Inner(Source):
        run = run

    with pytest.raises(PluginError, match="top of a module"):
        plugins.check_shape(Inner)


def test_process_batch_alone_makes_a_node(monkeypatch):
    cls = type("Batching", (Node,), {"process_batch": process, "inputs": {"in": FRAME}, "batch_max": 4, "__module__": __name__})
    monkeypatch.setitem(sys.modules, __name__, type(sys)(__name__))
    monkeypatch.setattr(sys.modules[__name__], "Batching", cls, raising=False)
    plugins.check_shape(cls)
