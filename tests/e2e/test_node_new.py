"""`streamctl node new`, as its reader uses it: from an empty folder to a pipeline that runs, without a network."""

from __future__ import annotations

import os
import subprocess
import sysconfig
import venv
from pathlib import Path

import pytest
from boxes import DEADLINE_S, Box

from streamcore.authoring.scaffold import NameRefused, Package

STREAMCTL = ("-m", "streamcore")
INSTALL = ("-m", "pip", "install", "--quiet", "--no-build-isolation", "--no-index", "--disable-pip-version-check")


@pytest.fixture
def python(box: Box) -> Path:
    """The interpreter of a fresh environment that sees what is installed in this one, and into which a package can be installed."""
    folder = box.folder / "env"
    venv.create(folder, symlinks=True)
    packages = Path(sysconfig.get_path("purelib", vars={"base": str(folder)}))
    # Not by PYTHONPATH: an editable install is found by its .pth file, which is read only in a folder of packages.
    here = sysconfig.get_path("purelib")
    (packages / "outer.pth").write_text(f"import site; site.addsitedir({here!r})\n")
    return folder / "bin" / "python"


def call(box: Box, python: Path, *words: str) -> str:
    """What a command prints; it has to end with 0."""
    done = subprocess.run([python, *words], capture_output=True, text=True, env=box.env, cwd=box.folder, timeout=4 * DEADLINE_S)
    assert done.returncode == 0, f"{words}\n{done.stdout}\n{done.stderr}"
    return done.stdout


@pytest.mark.parametrize("kind", ["source", "node", "sink"])
def test_a_new_package_is_installed_tested_and_run_from_an_empty_folder(box, python, kind):
    told = call(box, python, *STREAMCTL, "node", "new", f"acme.my-{kind}", "--kind", kind)
    package = box.folder / f"acme-my-{kind}"
    written = sorted(str(path.relative_to(package)) for path in package.rglob("*") if path.is_file())
    module = f"acme_my_{kind}"
    assert written == [
        "README.md",
        f"{module}/__init__.py",
        f"{module}/node.py",
        "pipeline.yaml",
        "pyproject.toml",
        f"tests/test_{module}.py",
    ]
    assert all(path in told for path in written)
    assert f"pip install -e acme-my-{kind}" in told

    call(box, python, *INSTALL, "-e", str(package))
    assert "passed" in call(box, python, "-m", "pytest", "-q", "-p", "no:cacheprovider", str(package))
    assert f"acme.my-{kind}  ({kind}, {module}.node:My{kind.capitalize()})" in call(
        box, python, *STREAMCTL, "node", "describe", f"acme.my-{kind}"
    )
    spec = str(package / "pipeline.yaml")
    assert "no problem" in call(box, python, *STREAMCTL, "validate", spec)
    ended = call(box, python, *STREAMCTL, "up", spec, "--for", "3s")
    assert "status ok" in ended
    assert "0 failed" in ended
    box.assert_nothing_left()


def test_nothing_is_written_over_and_nothing_is_written_beside_what_is_in_the_way(box):
    folder = box.folder / "mine"
    (folder / "tests").mkdir(parents=True)
    (folder / "README.md").write_text("precious")
    done = box.run("node", "new", "acme.blur", "--dir", folder)
    assert done.returncode == 2
    assert "mine/README.md exists already; nothing was written" in done.stderr
    assert sorted(os.listdir(folder)) == ["README.md", "tests"]
    assert (folder / "README.md").read_text() == "precious"


@pytest.mark.parametrize("in_the_way", ["acme_blur", "pipeline.yaml", "tests"])
def test_a_file_or_a_dangling_link_in_place_of_a_folder_is_in_the_way(box, in_the_way):
    folder = box.folder / "mine"
    folder.mkdir()
    (folder / in_the_way).symlink_to(box.folder / "nowhere")
    done = box.run("node", "new", "acme.blur", "--dir", folder)
    assert done.returncode == 2
    assert f"mine/{in_the_way} exists already; nothing was written" in done.stderr
    assert os.listdir(folder) == [in_the_way]
    assert not (box.folder / "nowhere").exists()


@pytest.mark.parametrize(
    ("name", "told"),
    [
        ("Blur", "did you mean 'blur'"),
        ("../x", "expected at most 64 of"),
        ("a" * 65, "expected at most 64 of"),
        ("acme..blur", "in parts with dots between"),
        ("flow.tee", "installed already (streamcore_nodes.flow:Tee)"),
        ("queue", "a name of Python's own; put a name of your own in front, such as acme.queue"),
        ("class", "a name of Python's own"),
        ("numpy", "there is a module of that name"),
    ],
)
def test_a_name_that_cannot_be_used_is_refused_with_its_reason(name, told):
    with pytest.raises(NameRefused) as caught:
        Package.of(name, "node")
    assert told in str(caught.value)


@pytest.mark.parametrize(
    ("name", "cls"),
    [("acme.blur", "Blur"), ("acme.8n", "Acme8n"), ("acme.node", "AcmeNode"), ("gate_cam-2", "GateCam2"), ("node", "NodePlugin")],
)
def test_the_class_is_named_after_the_plugin(name, cls):
    assert Package.of(name, "node").cls == cls


@pytest.mark.parametrize("kind", ["source", "node", "sink"])
@pytest.mark.parametrize("name", ["acme.blur", "a" * 64, "x-" * 31 + "y", "acme.8n"])
def test_every_python_file_compiles_whatever_the_name(name, kind):
    for path, text in Package.of(name, kind).files().items():
        assert "$" not in text
        if path.endswith(".py"):
            compile(text, path, "exec")
