"""Which classes may become nodes."""

from __future__ import annotations

import importlib
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


@pytest.fixture
def package(tmp_path, monkeypatch):
    """Writes modules to a directory on sys.path; what was imported from there is forgotten at the end."""
    monkeypatch.syspath_prepend(str(tmp_path))

    def write(name: str, text: str = GOOD):
        path = tmp_path / (name.replace(".", "/") + ".py")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
        importlib.invalidate_caches()

    yield write
    for name in [name for name in sys.modules if name.startswith("sp_")]:
        del sys.modules[name]


@pytest.fixture
def installed(tmp_path, package):
    """Registers plugins as an installed distribution does."""

    def register(distribution: str, **entries: str):
        path = tmp_path / f"{distribution}-1.0.dist-info"
        path.mkdir()
        (path / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {distribution}\nVersion: 1.0\n")
        lines = [f"{name.replace('__', '.')} = {target}" for name, target in entries.items()]
        (path / "entry_points.txt").write_text("[streamcore.nodes]\n" + "\n".join(lines) + "\n")
        importlib.invalidate_caches()

    return register


def refusal(plugin: str, *allow: str) -> plugins.PluginRefused:
    with pytest.raises(PluginError) as caught:
        plugins.resolve(plugin, allow)
    assert isinstance(caught.value, plugins.PluginRefused)
    assert "\n" not in str(caught.value)
    assert repr(plugin)[1:-1][:40] in str(caught.value)
    return caught.value


def test_a_registered_plugin_needs_no_leave(package, installed):
    package("sp_cams")
    installed("sp_cams", test__camera="sp_cams:Camera")
    assert plugins.names()["test.camera"] == "sp_cams:Camera"
    assert "sp_cams" not in sys.modules  # listing imports nothing
    cls = plugins.resolve("test.camera")
    assert (cls.__name__, plugins.target_of(cls)) == ("Camera", "sp_cams:Camera")


def test_an_unknown_name_is_answered_with_the_nearest(installed):
    installed("sp_cams", test__camera="sp_cams:Camera")
    assert refusal("test.camrea").hint == "did you mean 'test.camera'?"


def test_a_name_that_two_packages_register_differently_is_refused(package, installed):
    package("sp_cams")
    installed("sp_one", test__camera="sp_cams:Camera")
    installed("sp_two", test__camera="sp_cams:Camera")
    assert plugins.resolve("test.camera")
    installed("sp_three", test__camera="sp_other:Camera")
    assert "several packages" in refusal("test.camera").found


def test_a_class_of_an_allowed_package_is_loaded(package):
    package("sp_mine.sub.cams")
    for allow in ("sp_mine", "sp_mine.sub", "sp_mine.sub.cams"):
        assert plugins.resolve("sp_mine.sub.cams:Camera", [allow]).__name__ == "Camera"


@pytest.mark.parametrize("allow", ["sp_min", "sp_mine.su", "sp_mine.sub.cams.x", "sp_mine.", "", "*", ".", "sp_mine.*", "other"])
def test_leave_is_given_by_whole_dotted_parts(package, allow):
    package("sp_mine.sub.cams")
    assert "--allow sp_mine" in refusal("sp_mine.sub.cams:Camera", allow).hint
    assert "sp_mine" not in sys.modules  # refused before anything runs


def test_foo_does_not_admit_foobar(package):
    package("sp_foobar")
    refusal("sp_foobar:Camera", "sp_foo")


@pytest.mark.parametrize(
    "plugin",
    [
        "os:system",
        "sp_mine:os.system",
        "sp_mine:__builtins__.exec",
        "sp_mine:__class__",
        "sp_mine:_Camera",
        "sp_mine:Camera\n",
        "sp_mine:Cam-era",
        "sp_mine:",
        ":Camera",
        "sp_mine:Camera:Camera",
        "sp_mine..x:Camera",
        "sp_mine/x:Camera",
        "../sp_mine:Camera",
        "sp_mine.__main__:Camera",
        "__main__:Camera",
        "sp_m\u0456ne:Camera",
        "sp_mine :Camera",
        "",
        " ",
        "video.file\n",
        "Video.File",
        "../../etc/passwd",
        "x" * 10_000,
    ],
)
def test_what_is_no_plugin_name_is_refused_by_its_form(plugin):
    refusal(plugin, "sp_mine", "os", "__main__")


def test_only_node_classes_come_out_of_a_module(package):
    package("sp_mine", GOOD + "\nfrom subprocess import Popen\nclass Plain: pass\nNumber = 5\n")
    for name in ("Popen", "Plain", "Number"):
        assert "not a node class" in refusal(f"sp_mine:{name}", "sp_mine").found
    missing = refusal("sp_mine:Camrea", "sp_mine")
    assert (missing.found, missing.hint) == ("no class 'Camrea' in 'sp_mine'", "did you mean 'Camera'?")
    for name in ("Node", "Source", "Sink"):
        assert "itself" in refusal(f"sp_mine:{name}", "sp_mine").found


def test_a_class_defined_elsewhere_needs_leave_for_elsewhere(package):
    package("sp_other")
    package("sp_mine", "from sp_other import Camera")
    assert "defined in 'sp_other'" in refusal("sp_mine:Camera", "sp_mine").found
    assert plugins.resolve("sp_mine:Camera", ["sp_mine", "sp_other"])


@pytest.mark.parametrize(
    ("text", "cause"),
    [
        ("import sp_not_there", "ModuleNotFoundError: No module named 'sp_not_there'"),
        ("raise ValueError('two\\nlines')", "ValueError: two lines"),
        ("1 / 0", "ZeroDivisionError: division by zero"),
        ("def f(:", "SyntaxError"),
        ("import sys; sys.exit(3)", "SystemExit: 3"),
    ],
)
def test_an_import_that_fails_is_one_line_and_keeps_its_cause(package, text, cause):
    package("sp_broken", text)
    error = refusal("sp_broken:Camera", "sp_broken")
    assert cause in error.found
    assert error.__cause__ is not None
    assert "sp_broken.py" in "".join(traceback.format_exception(error.__cause__))


def test_ctrl_c_during_an_import_is_not_taken_for_a_broken_plugin(package):
    package("sp_slow", "raise KeyboardInterrupt")
    with pytest.raises(KeyboardInterrupt):
        plugins.resolve("sp_slow:Camera", ["sp_slow"])


def test_every_plugin_gets_its_class_or_its_reason(package):
    package("sp_mine")
    found = plugins.resolve_all(["sp_mine:Camera", "sp_mine:Nothing", "sp_mine:Camera"], ["sp_mine"])
    assert isinstance(found["sp_mine:Camera"], type)
    assert isinstance(found["sp_mine:Nothing"], PluginError)


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
    assert plugins.resolve("sp_here:Camera", ["sp_here"])
    assert plugins.resolve("sp_local:Camera", ["sp_local"])
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
