"""for_each, include, ports of sub-graphs: what a spec becomes, and where its problems are said to be."""

from __future__ import annotations

import textwrap

import pytest

from streamcore import limits
from streamcore.spec import expand
from streamcore.spec.expand import INCLUDE_DEPTH_MAX
from streamcore.spec.loading import read

CAMERA = """\
version: 2
params: {url: {required: true}, fps: 10}
ports:
  inputs: {control: crop.region}
  outputs: {frames: {port: crop.out, kind: frame}}
nodes:
  - {id: camera, plugin: video.file, config: {path: "${url}", rate: "${fps}"}}
  - {id: crop, plugin: vision.crop}
edges:
  - {from: camera, to: crop}
"""


@pytest.fixture
def spec(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)

    def write(text: str, **files: str):
        for name, content in {"camera": CAMERA, **files}.items():
            (tmp_path / f"{name}.yaml").write_text(textwrap.dedent(content))
        (tmp_path / "main.yaml").write_text("version: 2\n" + textwrap.dedent(text))
        return read("main.yaml")

    return write


def good(found):
    spec, problems = found
    assert problems == [], "\n".join(map(str, problems))
    return spec


def places(found):
    return [(problem.file, problem.line, problem.path) for problem in found[1]]


def ids(spec):
    return [node.id for node in spec.nodes]


def ends(spec):
    return [(edge.from_, edge.to) for edge in spec.edges]


def test_a_list_a_mapping_and_a_number_make_instances_with_their_names_and_items(spec):
    made = good(
        spec(
            """
            nodes:
              - {id: a, for_each: [x, 7], plugin: p.q, config: {v: "${each}", n: "${each.name}", i: "${each.index}"}}
              - {id: b, for_each: {front: {url: u1}, rear: {url: u2}}, plugin: p.q, config: {v: "${each.url}"}}
              - {id: c, for_each: 2, plugin: p.q, config: {v: "${each}"}}
              - {id: d, for_each: [{name: m, size: 3}], plugin: p.q, config: {v: "${each.size}", all: "${each}"}}
            """
        )
    )
    assert ids(made) == ["a.x", "a.7", "b.front", "b.rear", "c.0", "c.1", "d.m"]
    assert [dict(node.config) for node in made.nodes] == [
        {"v": "x", "n": "x", "i": 0},
        {"v": 7, "n": "7", "i": 1},
        {"v": "u1"},
        {"v": "u2"},
        {"v": 0},
        {"v": 1},
        {"v": 3, "all": {"name": "m", "size": 3}},
    ]


def test_a_star_joins_one_to_all_all_to_one_and_namesakes(spec):
    made = good(
        spec(
            """
            params: {names: [u, v]}
            nodes:
              - {id: s, plugin: p.q}
              - {id: a, for_each: "${names}", plugin: p.q}
              - {id: b, for_each: "${names}", plugin: p.q}
              - {id: k, plugin: p.q}
            edges:
              - {from: s, to: a.*.in, depth: 3}
              - {from: a.*.out, to: b.*}
              - {from: b.*, to: k}
              - {from: a.u.extra, to: k.more}
            """
        )
    )
    assert ends(made) == [
        ("s", "a.u.in"),
        ("s", "a.v.in"),
        ("a.u.out", "b.u"),
        ("a.v.out", "b.v"),
        ("b.u", "k"),
        ("b.v", "k"),
        ("a.u.extra", "k.more"),
    ]
    assert [edge.depth for edge in made.edges[:3]] == [3, 3, None]


def test_no_item_makes_no_node_and_no_edge(spec):
    made = good(spec("nodes: [{id: k, plugin: p.q}, {id: a, for_each: [], plugin: p.q}]\nedges: [{from: a.*, to: k}]\n"))
    assert (ids(made), ends(made)) == (["k"], [])


def test_an_included_graph_stands_for_a_node_and_shows_its_ports(spec):
    made = good(
        spec(
            """
            nodes:
              - {id: gate, for_each: {front: a.mp4, rear: b.mp4}, include: camera.yaml, with: {url: "${each}"}}
              - {id: door, include: camera.yaml, with: {url: c.mp4, fps: 5}}
              - {id: k, plugin: p.q}
            edges:
              - {from: gate.*.frames, to: k}
              - {from: door, to: k.more}
              - {from: k.steer, to: door.control}
            """
        )
    )
    assert ids(made) == ["gate.front.camera", "gate.front.crop", "gate.rear.camera", "gate.rear.crop", "door.camera", "door.crop", "k"]
    assert [node.config.get("path") for node in made.nodes][::2] == ["a.mp4", "b.mp4", "c.mp4", None]
    assert [node.config["rate"] for node in made.nodes if "rate" in node.config] == [10, 10, 5]
    assert ends(made)[3:] == [
        ("gate.front.crop.out", "k"),
        ("gate.rear.crop.out", "k"),
        ("door.crop.out", "k.more"),
        ("k.steer", "door.crop.region"),
    ]
    assert made.mark(made.nodes[1].where)[:2] == ("camera.yaml", 8)
    assert made.mark(made.edges[-1].where)[:2] == ("main.yaml", 10)
    assert {(port.name, port.side, port.end, port.kind) for port in made.ports if port.name.startswith("door")} == {
        ("door.control", "inputs", "door.crop.region", ""),
        ("door.frames", "outputs", "door.crop.out", "frame"),
    }


def test_graphs_include_graphs_relative_to_their_own_file(spec, tmp_path):
    (tmp_path / "parts").mkdir()
    (tmp_path / "parts" / "inner.yaml").write_text("version: 2\nports: {outputs: {o: n.out}}\nnodes: [{id: n, plugin: p.q}]\n")
    (tmp_path / "parts" / "outer.yaml").write_text(
        "version: 2\nports: {outputs: {o: i2}}\nnodes: [{id: i, for_each: [p, q], include: inner.yaml}, {id: i2, include: inner.yaml}]\n"
    )
    made = good(spec("nodes: [{id: a, include: parts/outer.yaml}, {id: k, plugin: p.q}]\nedges: [{from: a, to: k}]\n"))
    assert ids(made) == ["a.i.p.n", "a.i.q.n", "a.i2.n", "k"]
    assert ends(made) == [("a.i2.n.out", "k")]
    assert [path.rpartition("/")[2] for path in made.includes] == ["outer.yaml", "inner.yaml"]


def test_a_problem_in_an_included_file_is_said_there_and_once(spec):
    found = spec(
        """
        nodes:
          - {id: gate, for_each: [front, rear], include: broken.yaml}
          - {id: other, include: broken.yaml}
        """,
        broken="version: 2\nnodes:\n  - {id: a, plugin: p.q, dept: 3}\n  - {id: b, plugin: p.q, startup_s: soon}\n",
    )
    assert places(found) == [("broken.yaml", 3, "nodes[0].dept"), ("broken.yaml", 4, "nodes[1].startup_s")]


@pytest.mark.parametrize(
    ("text", "path", "found"),
    [
        ("nodes: [{id: a, for_each: x, plugin: p.q}]", "nodes[0].for_each", "'x'"),
        ("nodes: [{id: a, for_each: true, plugin: p.q}]", "nodes[0].for_each", "true"),
        ("nodes: [{id: a, for_each: [[1]], plugin: p.q}]", "nodes[0].for_each[0]", "a list of 1"),
        ("nodes: [{id: a, for_each: [{url: 1}], plugin: p.q}]", "nodes[0].for_each[0]", "a mapping"),
        ("nodes: [{id: a, for_each: [A], plugin: p.q}]", "nodes[0].for_each[0]", "'A'"),
        ("nodes: [{id: a, for_each: [x, x], plugin: p.q}]", "nodes[0].for_each[1]", "'x' again"),
        ("nodes: [{id: a, for_each: 9999999, plugin: p.q}]", "nodes[0].for_each", f"more than {limits.NODES_MAX} items"),
        ("nodes: [{id: a, for_each: {'a b': 1}, plugin: p.q}]", "nodes[0].for_each['a b']", "'a b'"),
        ("nodes: [{id: a, plugin: p.q, config: {x: '${each}'}}]", "nodes[0].config.x", "'${each}'"),
        ("nodes: [{id: a, for_each: [x], plugin: p.q, config: {x: '${each.url}'}}]", "nodes[0].config.x", "'${each.url}'"),
        ("params: {each: 1}\nnodes: [{id: a, plugin: p.q}]", "params.each", "'each'"),
        ("nodes: [{id: a, for_each: [x], plugin: p.q}]\nedges: [{from: a, to: a.x}]", "edges[0].from", "'a', which for_each makes 1 of"),
        ("nodes: [{id: a, plugin: p.q}]\nedges: [{from: a.*, to: a}]", "edges[0].from", "'a.*'"),
        (
            "nodes: [{id: a, for_each: [x], plugin: p.q}, {id: b, for_each: [y], plugin: p.q}]\nedges: [{from: a.*, to: b.*}]",
            "edges[0]",
            "instances without a namesake at the other end: x, y",
        ),
        ("nodes: [{id: a, include: camera.yaml}]", "nodes[0]", "no value for the param 'url' of camera.yaml"),
        ("nodes: [{id: a, include: camera.yaml, with: {url: 5}}]", "nodes[0].with.url", "5"),
        ("nodes: [{id: a, include: camera.yaml, with: {url: u, fsp: 5}}]", "nodes[0].with.fsp", "unknown param 'fsp'"),
        ("nodes: [{id: a, include: camera.yaml, with: [u]}]", "nodes[0].with", "a list of 1"),
        ("nodes: [{id: a, include: camera.yaml, plugin: p.q, with: {url: u}}]", "nodes[0].plugin", "unknown key 'plugin'"),
        ("nodes: [{id: a, include: no.yaml}]", "nodes[0].include", "'no.yaml': no such file"),
        ("nodes: [{id: a, include: .}]", "nodes[0].include", "'.': a directory"),
        ("nodes: [{id: a, include: ../x.yaml}]", "nodes[0].include", "'../x.yaml', outside of the folder of the spec"),
        ("nodes: [{id: a, include: /etc/hostname}]", "nodes[0].include", "'/etc/hostname', outside of the folder of the spec"),
        (
            "nodes: [{id: a, include: camera.yaml, with: {url: u}}]\nedges: [{from: a.camera.out, to: a.control}]",
            "edges[0].from",
            "no port 'camera.out' of camera.yaml",
        ),
        ("nodes: [{id: a, plugin: p.q}]\nports: {outputs: {'B c': a}}", "ports.outputs['B c']", "'B c'"),
        ("nodes: [{id: a, plugin: p.q}]\nports: {outputs: {b: 3}}", "ports.outputs.b", "3"),
        ("nodes: [{id: a, plugin: p.q}]\nports: {sides: {b: a}}", "ports.sides", "unknown key 'sides'"),
        ("nodes: [{id: a, for_each: [x], plugin: p.q}]\nports: {outputs: {b: a.*}}", "ports.outputs.b", "'a.*'"),
    ],
)
def test_what_cannot_be_expanded_is_one_problem_at_its_place(spec, text, path, found):
    _, problems = spec(text + "\n")
    assert [(problem.path, problem.found) for problem in problems] == [(path, found)], "\n".join(map(str, problems))


def test_a_symbolic_link_does_not_lead_out_unless_allowed(spec, tmp_path, tmp_path_factory):
    outside = tmp_path_factory.mktemp("outside")
    (outside / "camera.yaml").write_text(CAMERA)
    (tmp_path / "link.yaml").symlink_to(outside / "camera.yaml")
    text = "nodes: [{id: a, include: link.yaml, with: {url: u}}]\n"
    assert "outside of the folder" in spec(text)[1][0].found
    assert read("main.yaml", {}, [str(outside)])[1] == []


def test_files_that_include_each_other_are_named_as_a_path(spec):
    _, problems = spec(
        "nodes: [{id: a, include: one.yaml}]\n",
        one="version: 2\nnodes: [{id: b, include: two.yaml}]\n",
        two="version: 2\nnodes: [{id: c, include: one.yaml}]\n",
    )
    assert [(problem.file, problem.found) for problem in problems] == [
        ("two.yaml", "a file that includes itself: one.yaml -> two.yaml -> one.yaml")
    ]


def test_files_may_not_lie_within_each_other_without_end(spec):
    deep = {f"f{n}": f"version: 2\nnodes: [{{id: a, include: f{n + 1}.yaml}}]\n" for n in range(INCLUDE_DEPTH_MAX + 2)}
    _, problems = spec("nodes: [{id: a, include: f0.yaml}]\n", **deep)
    assert [problem.found for problem in problems] == [f"more than {INCLUDE_DEPTH_MAX} files within each other"]


def test_few_lines_cannot_make_more_nodes_than_a_spec_may_have(spec):
    inner = f"version: 2\nnodes: [{{id: n, for_each: {limits.NODES_MAX}, plugin: p.q}}]\n"
    _, problems = spec(f"nodes: [{{id: a, for_each: {limits.NODES_MAX}, include: many.yaml}}]\n", many=inner)
    assert [problem.found for problem in problems] == [f"more than {limits.NODES_MAX} nodes in all"]


def test_few_lines_cannot_make_more_edges_than_can_be_planned(spec):
    _, problems = spec(
        "nodes: [{id: a, for_each: 4000, plugin: p.q}, {id: k, plugin: p.q}]\nedges:\n" + "  - {from: a.*, to: k}\n" * 6,
    )
    assert "edges in all" in problems[0].found


def test_a_spec_is_made_of_a_bounded_number_of_files(spec, monkeypatch):
    monkeypatch.setattr(expand, "INCLUDES_MAX", 2)
    many = {f"f{n}": "version: 2\nnodes: [{id: a, plugin: p.q}]\n" for n in range(4)}
    entries = [f"{{id: n{index}, include: f{n}.yaml}}" for index, n in enumerate((0, 1, 0, 2, 3))]  # f0 twice counts once
    _, problems = spec(f"nodes: [{', '.join(entries)}]\n", **many)
    assert [(problem.path, problem.found) for problem in problems] == [
        (f"nodes[{n}].include", "more than 2 different files") for n in (3, 4)
    ]
