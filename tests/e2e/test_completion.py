"""Completion in a shell: click's own side of it, one real bash, and that it is quick and never complains."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from boxes import ENDLESS, Box
from click.shell_completion import ShellComplete

from streamcore.cli.root import VERBS, streamctl
from streamcore.control import rundir
from streamcore.plugins.naming import GROUP, names


@pytest.fixture
def runtime(tmp_path, monkeypatch) -> Path:
    """An empty place for runs."""
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(tmp_path))
    folder = tmp_path / "streamcore"
    folder.mkdir(mode=0o700)
    monkeypatch.setattr(rundir, "roots", lambda: (folder,))  # what else runs on this box, in /tmp, is not the test's
    return folder


def complete(*words: str) -> list[str]:
    """What is offered for the last word."""
    *before, incomplete = words
    found = ShellComplete(streamctl, {}, "streamctl", "_STREAMCTL_COMPLETE").get_completions(before, incomplete)
    return [item.value for item in found]


def make_run(runtime: Path, name: str, *nodes: str) -> Path:
    """The directory that an ended run has left."""
    folder = runtime / name
    for path in (folder, folder / "logs", folder / "incidents", folder / "dead-letters"):
        path.mkdir(mode=0o700)
    for node in (*nodes, "_coordinator"):
        (folder / "logs" / f"{node}.log").touch()
    return folder


def test_commands_and_options_are_offered(runtime):
    assert complete("re") == ["resume", "restart", "recording"]
    assert set(complete("node", "")) == {"new", "check", "list", "describe"}
    assert "--detach" in complete("up", "--")
    assert set(complete("")) == set(VERBS)
    assert complete("completion", "") == ["bash", "zsh", "fish"]


@pytest.mark.parametrize("verb", ["up", "validate", "plan"])
def test_a_spec_is_completed_by_the_shell_itself(runtime, verb):
    (item,) = ShellComplete(streamctl, {}, "streamctl", "_STREAMCTL_COMPLETE").get_completions([verb], "specs/d")
    assert (item.type, item.value) == ("file", "specs/d")


@pytest.mark.parametrize("verb", ["describe", "check"])
def test_plugins_are_offered_by_the_names_that_are_registered(runtime, verb):
    assert complete("node", verb, "") == sorted(names())
    assert complete("node", verb, "vision.m") == ["vision.motion"]
    assert GROUP == "streamcore.nodes"  # SYNC: completing._PLUGINS


def test_ended_runs_are_offered_only_where_the_command_takes_them(runtime):
    folder = make_run(runtime, "gate", "camera", "motion")
    (folder / "incidents" / "motion.2.json").touch()
    (folder / "dead-letters" / f"{'ab' * 16}.json").touch()
    (folder / "dead-letters" / f".{'cd' * 16}.json.tmp").touch()
    assert complete("logs", "") == ["camera", "motion"]
    assert complete("logs", "--run", "") == complete("incidents", "list", "") == complete("dlq", "list", "g") == ["gate"]
    assert complete("incidents", "show", "") == ["motion", "motion.2"]
    assert complete("dlq", "show", "a") == complete("dlq", "drop", "") == ["ab" * 16]
    for words in (
        ("restart", ""),
        ("stack", ""),
        ("pause", ""),
        ("resume", ""),
        ("down", ""),
        ("ps", ""),
        ("top", ""),
        ("stats", ""),
        ("account", ""),
    ):
        assert complete(*words) == []
    assert complete("stack", "camera", "--run", "") == []


def test_the_run_on_the_command_line_says_whose_nodes_are_meant(runtime):
    make_run(runtime, "gate", "camera")
    make_run(runtime, "yard", "radar")
    assert complete("logs", "") == ["camera", "radar"]
    assert complete("logs", "--run", "yard", "") == ["radar"]


def test_a_run_directory_that_is_not_as_it_should_be_gives_nothing(runtime):
    make_run(runtime, "gate", "camera")
    runtime.chmod(0o777)
    assert complete("logs", "") == complete("incidents", "list", "") == []
    runtime.chmod(0o700)
    (runtime / "gate" / "coordinator.pid").mkdir()
    assert complete("ps", "") == []
    shutil.rmtree(runtime / "gate" / "logs")
    (runtime / "gate" / "logs").write_text("no directory")
    assert complete("logs", "") == []


def test_nothing_heavy_is_imported_between_two_key_strokes(runtime):
    make_run(runtime, "gate", "camera")
    program = """
import sys
from click.shell_completion import ShellComplete
from streamcore.cli.root import streamctl
for words, last in ((["logs"], ""), (["restart"], ""), (["node", "check"], ""), (["down"], ""), ([], ""), (["node"], ""), (["up"], "")):
    ShellComplete(streamctl, {}, "streamctl", "_STREAMCTL_COMPLETE").get_completions(words, last)
print(sorted({"numpy", "zmq", "yaml", "cerberus", "psutil", "rich", "cv2"} & set(sys.modules)))
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=60)
    assert (done.stdout, done.stderr) == ("[]\n", "")


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_the_script_says_how_to_install_it(box, shell):
    done = box.run("completion", shell)
    assert (done.returncode, done.stderr) == (0, "")
    assert f"streamctl completion {shell}" in done.stdout
    assert f"_STREAMCTL_COMPLETE={shell}_complete" in done.stdout
    assert done.stdout.startswith("#compdef streamctl\n" if shell == "zsh" else "# Completion of streamctl")
    assert box.run("completion", "tcsh").returncode == 2


@pytest.mark.skipif(shutil.which("bash") is None, reason="there is no bash")
def test_a_real_bash_completes_a_live_run(box: Box):
    folder = box.folder / "bin"
    folder.mkdir()
    program = folder / "streamctl"
    program.write_text(f'#!/bin/sh\nexec {sys.executable} -m streamcore "$@"\n')
    program.chmod(0o700)
    box.env["PATH"] = f"{folder}{os.pathsep}{os.environ['PATH']}"
    box.start("up", box.write_spec(ENDLESS))
    box.wait_running()

    def offered(*words: str) -> list[str]:
        script = """
source <(streamctl completion bash) || exit 9
COMP_WORDS=(streamctl "$@") COMP_CWORD=$#
_streamctl_completion streamctl
printf '%s\\n' "${COMPREPLY[@]}"
"""
        # complete -o and compopt work only while bash itself completes.
        done = subprocess.run(
            ["bash", "-c", f"compopt() {{ :; }}\n{script}", "bash", *words], capture_output=True, text=True, env=box.env, timeout=60
        )
        assert (done.returncode, done.stderr) == (0, "")
        return done.stdout.split()

    assert offered("res") == ["resume", "restart"]
    # Other runs may live on this box, so names are asked for by their beginning or by their run.
    assert offered("down", "endl") == ["endless"]
    assert offered("restart", "--run", "endless", "") == offered("logs", "--run", "endless", "") == ["camera", "pass", "sink"]
    assert offered("stack", "--run", "endless", "c") == ["camera"]
    assert offered("node", "describe", "flow.t") == ["flow.tee"]
    assert box.run("down").returncode == 0
    assert offered("down", "endl") == []
    assert offered("logs", "--run", "endless", "") == ["camera", "pass", "sink"]
