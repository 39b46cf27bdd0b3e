"""What the processes that check and supervise have in memory: no plugin, and nothing that only plugins need."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest
from boxes import SPECS, Box

HEAVY = ("numpy", "cv2", "streamcore_nodes")
REPORT = """
import json, os, sys
from streamcore.cli.root import run
started = []
sys.addaudithook(lambda event, args: started.append(event) if event in ("subprocess.Popen", "os.fork", "os.posix_spawn") else None)
status = run(sys.argv[1:])
sys.stderr.write(json.dumps([status, sorted(sys.modules), started]))
"""


def look(box: Box, *words: object) -> tuple[int, set[str], list[str]]:
    """Exit status of a command line, the modules in its process at its end, and what it has started."""
    command = [sys.executable, "-c", REPORT, *map(str, words)]
    done = subprocess.run(command, capture_output=True, text=True, env=box.env, cwd=box.folder, timeout=60, check=False)
    status, modules, started = json.loads(done.stderr.splitlines()[-1])
    return status, set(modules), started


@pytest.mark.parametrize(
    "words", [("validate", SPECS / "demo.yaml"), ("plan", SPECS / "demo.yaml"), ("node", "list"), ("node", "describe", "video.file")]
)
def test_who_looks_at_plugins_holds_none_and_the_second_time_starts_nothing(words, box: Box) -> None:
    box.env["XDG_CACHE_HOME"] = str(box.folder / "cache")
    status, modules, started = look(box, *words)
    assert (status, len(started)) == (0, 1)
    assert not modules & set(HEAVY)
    status, modules, started = look(box, *words)
    assert (status, started) == (0, [])
    assert not modules & set(HEAVY)


def test_without_a_home_everything_works_and_nothing_is_kept(box: Box) -> None:
    for name in ("XDG_CACHE_HOME", "HOME"):
        box.env.pop(name, None)
    for _ in range(2):
        status, _, started = look(box, "validate", SPECS / "demo.yaml")
        assert (status, len(started)) == (0, 1)


def test_structure_alone_needs_no_plugin_and_says_so(box: Box) -> None:
    spec = box.write_spec(
        "version: 2\nnodes:\n  - {id: a, plugin: 'gone:Gone'}\n  - {id: b, plugin: nobody.knows}\nedges: [{from: a, to: b}]\n"
    )
    done = box.run("validate", spec, "--no-plugins")
    assert (done.returncode, done.stdout) == (0, f"{spec}: no problem; 2 nodes, 1 edge (structure only: plugins not checked)\n")
    assert json.loads(box.run("validate", spec, "--no-plugins", "--json").stdout)["plugins_checked"] is False
    spec.write_text(spec.read_text().replace("to: b", "to: c"))
    done = box.run("validate", spec, "--no-plugins")
    assert done.returncode == 2
    assert "no node of the id 'c'" in done.stderr
    assert "structure only: plugins not checked" in done.stderr


def test_a_coordinator_holds_no_plugin_and_nothing_that_only_plugins_need(box: Box) -> None:
    spec = box.write_spec(
        "version: 2\nname: light\nnodes:\n  - {id: a, plugin: synthetic.frames, config: {count: 20}}\n"
        "  - {id: b, plugin: debug.null}\nedges: [{from: a, to: b}]\n"
    )
    status, modules, _ = look(box, "up", spec)
    assert status == 0
    assert not modules & set(HEAVY)


def test_several_that_look_at_the_same_time_do_each_other_no_harm(box: Box) -> None:
    box.env["XDG_CACHE_HOME"] = str(box.folder / "cache")
    for process in [box.start("validate", SPECS / "demo.yaml") for _ in range(4)]:
        assert process.wait(60) == 0
    kept = list((box.folder / "cache" / "streamcore" / "manifests").iterdir())
    assert [path.suffix for path in kept] == [".json"] * len(kept)
    _, _, started = look(box, "validate", SPECS / "demo.yaml")
    assert started == []


def test_a_run_that_exports_no_traces_holds_nothing_that_would(box: Box) -> None:
    for name in [name for name in box.env if name.startswith("OTEL_")]:
        del box.env[name]
    nodes = "  - {id: a, plugin: synthetic.frames, config: {payload: json, count: 3}}\n  - {id: b, plugin: debug.null}"
    status, modules, _ = look(box, "up", box.write_spec(f"version: 2\nname: plain\nnodes:\n{nodes}\nedges: [{{from: a, to: b}}]\n"))
    assert status == 0
    assert not [name for name in modules if name.split(".")[0] in ("opentelemetry", "requests", "google") or name.endswith("otel_sink")]
