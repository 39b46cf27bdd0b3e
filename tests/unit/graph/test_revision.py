"""What of a changed spec can take effect in a run: pure comparisons of what two readings of it gave."""

from __future__ import annotations

from dataclasses import replace

import pytest

from streamcore.graph.basis import lay
from streamcore.graph.revision import compare

SPEC = """\
version: 2
name: door
params: {video: a.mp4}
allow: [graph_plugins]
nodes:
  - {id: cam, plugin: "graph_plugins:Camera", config: {path: "${video}"}}
  - id: pass
    plugin: graph_plugins:Forward
    restart: {max_restarts: 3}
  - {id: out, plugin: "graph_plugins:Out"}
edges:
  - {from: cam, to: pass, depth: 4}
  - {from: pass, to: out}
"""


@pytest.fixture
def basis(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)

    def read(*edits, **more):
        text = SPEC
        for old, new in edits:
            assert old in text
            text = text.replace(old, new)
        (tmp_path / "a.yaml").write_text(text)
        return lay("a.yaml", **more)

    return read


@pytest.mark.parametrize(
    ("old", "new", "nodes"),
    [
        ("path: ", "path: ", {}),
        ("version: 2\n", "version: 2\n# a comment\n", {}),
        ('config: {path: "${video}"}', "config: {path: a.mp4, buffer: 1MiB}", {}),  # what took effect before, written out
        ("video: a.mp4", "video: b.mp4", {"cam": ("config changed (a.yaml:6)",)}),
        ('{path: "${video}"}', "{}", {}),  # the default says the same
        ('{path: "${video}"}', "{buffer: 2MiB}", {"cam": ("config changed (a.yaml:6)",)}),
        ("max_restarts: 3", "max_restarts: 4", {"pass": ("restart changed (a.yaml:9)",)}),
        (
            "    restart: {max_restarts: 3}",
            "    env: {A: b}\n    nice: 2",
            {"pass": ("env changed (a.yaml:9)", "nice changed (a.yaml:10)", "restart changed (a.yaml:7)")},
        ),
        (
            "    restart: {max_restarts: 3}",
            "    restart: {max_restarts: 3}\n    limits: {rss: 1GiB, on_exceed: warn}",
            {"pass": ("limits changed (a.yaml:10)",)},
        ),
    ],
)
def test_a_node_needs_a_new_process_if_it_is_told_something_else(basis, old, new, nodes):
    revision = compare(basis(), basis((old, new)))
    assert (revision.obstacles, revision.nodes) == ((), nodes)


def test_the_revised_plan_is_the_new_one_with_the_numbers_of_the_run(basis):
    first = basis()
    moved = ('  - {id: cam, plugin: "graph_plugins:Camera", config: {path: "${video}"}}\n', "")
    second = basis(moved, ("edges:\n", moved[0] + "edges:\n"), ("a.mp4", "b.mp4"))
    assert [node.id for node in second.plan.nodes] == ["pass", "out", "cam"]
    revision = compare(first, second)
    assert (list(revision.nodes), revision.obstacles) == (["cam"], ())
    assert [node.id for node in revision.plan.nodes] == ["cam", "pass", "out"]
    assert (revision.plan.edges, revision.plan.rings) == (first.plan.edges, first.plan.rings)
    assert revision.plan.node("cam").outputs == first.plan.node("cam").outputs
    assert revision.plan.node("cam").config["path"] == "b.mp4"
    assert revision.plan.graph_version == second.plan.graph_version != first.plan.graph_version


@pytest.mark.parametrize(
    ("edits", "obstacles"),
    [
        ([("depth: 4", "depth: 5")], ["a.yaml:12  edge cam.out->pass.in: depth 5, was 4"]),
        (
            [("to: out}", "to: out, policy: latest}")],
            ["a.yaml:13  edge pass.out->out.in: policy latest, was block", "a.yaml:13  edge pass.out->out.in: depth 1, was 8"],
        ),
        ([("name: door", "name: gate\ndrain_s: 3")], ["a.yaml:2  name: gate, was door", "a.yaml:3  drain_s: 3, was 10"]),
        (
            [("id: out, plugin", "id: sink, plugin"), ("to: out}", "to: sink}")],
            [
                "a.yaml:10  node 'sink' is new",
                "a.yaml:10, as it was  node 'out' is gone",
                "a.yaml:13  edge pass.out->sink.in is new",
                "a.yaml:13, as it was  edge pass.out->out.in is gone",
            ],
        ),
        ([("restart: {max_restarts: 3}", "ring: {slots: 64}")], ["a.yaml:9  node 'pass': its rings have other sizes"]),
        ([("edges:\n", "limits: {shm: 1GiB}\nedges:\n")], ["a.yaml:11  limits.shm: 1073741824, was the default"]),
        ([("Forward", "Copy")], ["a.yaml:8  node 'pass': its plugin or config asks for other ports, rings or windows"]),
    ],
)
def test_what_processes_have_mapped_cannot_change_and_nothing_else_is_changed_then(basis, edits, obstacles):
    first = basis()
    revision = compare(first, basis(*edits, ("a.mp4", "b.mp4")))
    assert (revision.plan, revision.nodes) == (first.plan, {})
    assert list(revision.obstacles) == obstacles


def test_a_file_of_a_plugin_concerns_the_nodes_that_run_it(basis):
    first = basis()
    code = {"/x/one.py": "a", "/x/two.py": "a"}
    runs = {node: frozenset() for node in first.runs} | {"pass": frozenset(code)}
    known = replace(first, code=code, runs=runs, folder="/x/")
    assert compare(known, known).nodes == {}
    edited = replace(known, code=code | {"/x/two.py": "b"})
    assert compare(known, edited).nodes == {"pass": ("plugin changed (two.py)",)}
    assert compare(known, replace(known, code={"/x/one.py": "a"})).nodes == {}  # not imported this time: another reader had to
    both = basis(("max_restarts: 3", "max_restarts: 4"))
    assert compare(known, replace(both, code=edited.code, runs=runs, folder="/x/")).nodes == {
        "pass": ("restart changed (a.yaml:9)", "plugin changed (two.py)")
    }


def test_a_basis_knows_the_files_it_was_made_of(basis, tmp_path):
    found = basis()
    assert list(found.spec_files) == ["a.yaml"]
    (code,) = found.code  # that of the plugins; what streamcore itself imports is none of it
    assert code.endswith("graph_plugins.py")
    assert all(files == {code} for files in found.runs.values())
    assert found.unknown == ()


def test_a_file_that_changes_while_it_is_read_has_no_hash_and_the_files_of_a_plugin_may_be_those_of_before(basis, tmp_path):
    import os
    import time

    first = basis()
    now = time.time()
    (tmp_path / "a.yaml").write_text(SPEC)
    assert lay("a.yaml").spec_files == {"a.yaml": ""}
    for mtime in (now - 100, now + 100):
        os.utime(tmp_path / "a.yaml", (mtime, mtime))
        assert lay("a.yaml").spec_files["a.yaml"]
    blind = replace(
        first, code={}, runs={node: frozenset() for node in first.runs}, unknown=tuple(node.plugin for node in first.spec.nodes)
    )
    seeing = blind.with_code_of(first, blind.unknown)
    assert (seeing.code, seeing.runs) == (first.code, first.runs)
    assert blind.with_code_of(blind, blind.unknown).code == {}


def test_a_job_runs_what_its_config_names(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for name, text in {"nightly": "import nightly_parts\ndef main(config): ...", "nightly_parts": ""}.items():
        (tmp_path / f"{name}.py").write_text(text)
    (tmp_path / "job.yaml").write_text('version: 1\nallow: [nightly]\njob: {entry: "nightly:main"}\n')
    found = lay("job.yaml")
    (files,) = found.runs.values()
    assert str(tmp_path / "nightly.py") in files & found.code.keys()
    assert str(tmp_path / "nightly_parts.py") not in files  # another package
