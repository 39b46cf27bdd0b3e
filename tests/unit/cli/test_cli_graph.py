"""streamctl graph: formats, files, a structure without plugins, and a machine without graphviz."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from streamcore.cli import graph as module
from streamcore.cli.root import run

DOCUMENT = Path(__file__).resolve().parents[3] / "docs/spec.md"
JOB = "version: 1\nname: night\njob: {command: [sh, -c, exit]}\n"
UNKNOWN = "version: 2\nname: far\nnodes:\n  - {id: a, plugin: not.here}\n  - {id: b, plugin: nor.here}\nedges:\n  - {from: a, to: b}\n"


@pytest.fixture
def job(tmp_path):
    (tmp_path / "night.yaml").write_text(JOB)
    return str(tmp_path / "night.yaml")


@pytest.fixture
def dot_says(tmp_path, monkeypatch):
    """Puts a `dot` in PATH that is this shell script."""

    def put(script: str):
        folder = tmp_path / "bin"
        folder.mkdir()
        (folder / "dot").write_text(f"#!/bin/sh\n{script}\n")
        (folder / "dot").chmod(0o755)
        monkeypatch.setenv("PATH", f"{folder}{os.pathsep}{os.environ['PATH']}")

    return put


def test_mermaid_is_what_one_gets_unasked(job, capsys):
    assert run(["graph", job]) == 0
    assert capsys.readouterr().out == 'flowchart LR\n  n0{{"job<br/>job.command"}}\n'


def test_the_picture_in_the_documents_is_that_of_their_first_example(tmp_path, capsys):
    text = DOCUMENT.read_text("utf-8")
    (tmp_path / "door.yaml").write_text(text.split("```yaml\n")[1].split("```")[0])
    assert run(["graph", str(tmp_path / "door.yaml")]) == 0
    assert capsys.readouterr().out == text.split("```mermaid\n")[1].split("```")[0]


def test_it_can_be_written_to_a_file(job, tmp_path, capsys):
    assert run(["graph", job, "--format", "dot", "-o", str(tmp_path / "g.dot")]) == 0
    assert capsys.readouterr().out == f"{tmp_path}/g.dot: written\n"
    assert '"job" [label="job\\njob.command", shape=hexagon]' in (tmp_path / "g.dot").read_text()
    assert run(["graph", job, "-o", str(tmp_path / "none" / "g.dot")]) == 2
    assert "g.dot: cannot be written: No such file or directory" in capsys.readouterr().err


def test_a_picture_never_takes_the_place_of_its_spec(job, tmp_path, capsys):
    (tmp_path / "link.mmd").symlink_to(job)
    for output in (job, str(tmp_path / "link.mmd")):
        assert run(["graph", job, "-o", output]) == 2
        assert "name another one" in capsys.readouterr().err
    assert Path(job).read_text() == JOB


def test_a_spec_whose_plugins_are_not_here_can_be_drawn_without_them(tmp_path, capsys):
    (tmp_path / "far.yaml").write_text(UNKNOWN)
    assert run(["graph", str(tmp_path / "far.yaml")]) == 2
    assert "nodes[0].plugin" in capsys.readouterr().err
    assert run(["graph", str(tmp_path / "far.yaml"), "--no-plugins"]) == 0
    assert '  n0 -->|"block"| n1\n' in capsys.readouterr().out


def test_without_graphviz_svg_says_what_to_do_and_is_status_2(job, tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("PATH", str(tmp_path))
    assert run(["graph", job, "--format", "svg", "--no-plugins"]) == 2
    assert "install graphviz, or use --format mermaid" in capsys.readouterr().err


def test_svg_is_what_dot_makes_of_the_text(job, dot_says, capsys):
    dot_says('[ "$1" = -Tsvg ] && echo "<svg>" && cat && echo "</svg>"')
    assert run(["graph", job, "--format", "svg"]) == 0
    out = capsys.readouterr().out
    assert out.startswith('<svg>\ndigraph "night" {\n')
    assert out.endswith("}\n</svg>\n")


def test_what_dot_says_when_it_fails_is_shown(job, dot_says, tmp_path, capsys):
    dot_says("echo no room >&2; exit 3")
    assert run(["graph", job, "--format", "svg", "-o", str(tmp_path / "g.svg")]) == 2
    assert "dot ended with status 3: no room" in capsys.readouterr().err
    assert not (tmp_path / "g.svg").exists()


def test_a_dot_that_does_not_end_is_given_up(job, dot_says, monkeypatch, capsys):
    dot_says("exec sleep 60")
    monkeypatch.setattr(module, "DOT_S", 0.2)
    assert run(["graph", job, "--format", "svg"]) == 2
    assert "within 0.2 s" in capsys.readouterr().err


@pytest.mark.parametrize(("more", "status"), [([], 0), (["--format", "png"], 2), (["--set", "nobody=1"], 2)], ids=repr)
def test_the_exit_status_of_the_command_itself(job, more, status):
    command = [sys.executable, "-m", "streamcore", "graph", job, *more]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False, cwd=Path(job).parent)
    assert done.returncode == status, done.stderr
    assert "Traceback" not in done.stderr
