"""The arithmetic of windows, slots, rings and memory. Every number is the sum of its terms, and the terms are these."""

from __future__ import annotations

from itertools import pairwise

import msgspec
import pytest

from streamcore import limits
from streamcore.errors import SpecError
from streamcore.graph import plan as planning
from streamcore.graph.model import Plan, RestartPlan
from streamcore.graph.plan import describe, make_plan
from streamcore.shm.ring import geometry, ring_bytes
from streamcore.spec.model import CareSpec, EdgeSpec, LimitsSpec, NodeSpec, RestartSpec, RingSpec, Spec

D, S, LOANS = limits.DEPTH_FRAMES, limits.DEPTH_SMALL, limits.LOANS


@pytest.fixture
def plan(manifests):
    def make(nodes: str, *edges: EdgeSpec | str, run_dir=None, run=None, shm=None, **changes) -> Plan:
        parts = [node.partition(":") for node in nodes.split()]
        made = tuple(NodeSpec(name, plugin, **changes.get(name, {}), where=("nodes", i)) for i, (name, _, plugin) in enumerate(parts))
        wired = tuple(edge if isinstance(edge, EdgeSpec) else EdgeSpec(*edge.split("->")) for edge in edges)
        return make_plan(Spec("a.yaml", "door", made, wired, limits=LimitsSpec(shm)), manifests, run, run_dir)

    return make


def edge_of(plan: Plan, name: str):
    return next(edge for edge in plan.edges if edge.name == name)


def ring_of(plan: Plan, port: str):
    return next(ring for ring in plan.rings if ring.port == port)


def test_one_block_edge_needs_depth_work_and_loans(plan):
    made = plan("cam:Camera out:Out", "cam->out")
    assert (edge_of(made, "cam.out->out.in").depth, edge_of(made, "cam.out->out.in").window) == (D, D + 1)
    ring = ring_of(made, "cam.out")
    assert (ring.slot_count, ring.entry_count) == (D + 1 + LOANS, D + 1 + LOANS)


def test_an_unconnected_port_has_a_ring_for_loans_only(plan):
    made = plan("s:Stereo out:Out", "s.left->out")
    assert ring_of(made, "s.right").slot_count == LOANS
    assert ring_of(made, "s.right").entry_count == 2
    assert {ring.port for ring in made.rings} == {"s.left", "s.right"}


def test_depth_is_large_where_no_array_can_travel(plan):
    made = plan("n:Numbers out:JsonOut", "n->out")
    assert made.edges[0].depth == S
    assert plan("n:Numbers out:JsonOut", EdgeSpec("n", "out", depth=3)).edges[0].depth == 3


def test_what_a_consumer_forwards_is_held_by_its_input_edge(plan):
    made = plan("cam:Camera f:Forward g:Forward out:Out", "cam->f", "f->g", "g->out")
    assert edge_of(made, "g.out->out.in").window == D + 1
    assert edge_of(made, "f.out->g.in").window == 2 * (D + 1)
    assert edge_of(made, "cam.out->f.in").window == 3 * (D + 1)
    assert [(term.name, term.value) for term in made.edges[0].window_terms] == [
        ("depth", D),
        ("work", 1),
        ("forwarded by f.out", 2 * (D + 1)),
    ]


def test_a_node_that_copies_ends_the_sum(plan):
    made = plan("cam:Camera c:Copy out:Out", "cam->c", "c->out")
    assert edge_of(made, "cam.out->c.in").window == D + 1


def test_of_several_ports_that_forward_the_largest_counts(plan):
    made = plan("cam:Camera det:Detect a:Out j:JsonOut", "cam->det", "det.frames->a", EdgeSpec("det.detections", "j", depth=500))
    assert edge_of(made, "cam.out->det.in").window == D + 1 + D + 1  # the JSON port forwards nothing


def test_delivered_edges_wait_for_everything_derived(plan):
    edges = ("det.frames->a", EdgeSpec("det.detections", "j", depth=500))
    made = plan("cam:Camera det:Detect a:Out j:JsonOut", EdgeSpec("cam", "det", completion="delivered"), *edges)
    assert edge_of(made, "cam.out->det.in").window == D + 1 + 501
    assert made.edges[0].window_terms[-1].name == "derived by det.detections"


def test_only_the_inputs_that_a_port_forwards_count(plan):
    made = plan("s:Stereo p:Pair out:Out", "s.left->p.left", "s.right->p.right", "p->out")
    assert edge_of(made, "s.left->p.left").window == 2 * (D + 1)
    assert edge_of(made, "s.right->p.right").window == D + 1


def test_block_edges_of_a_port_count_once_and_lossy_ones_add_up(plan):
    made = plan(
        "cam:Camera a:Out b:Out c:Out d:Out e:Out",
        EdgeSpec("cam", "a", depth=3),
        EdgeSpec("cam", "b", depth=5),
        EdgeSpec("cam", "c", "drop_oldest", depth=4),
        EdgeSpec("cam", "d", "latest"),
        EdgeSpec("cam", "e", "drop_new", depth=2),
    )
    ring = ring_of(made, "cam.out")
    assert ring.slot_count == (5 + 1) + (4 + 1 + 4) + (1 + 1 + 1) + (2 + 1) + LOANS
    assert sum(term.value for term in ring.slot_terms) == ring.slot_count
    assert [edge.kept for edge in made.edges] == [0, 0, 4, 1, 0]
    assert [edge.bit for edge in made.edges] == [0, 1, 2, 3, 4]
    assert len({edge.ring for edge in made.edges}) == 1


def test_batches_and_retention_count_with_the_values_of_the_config(plan):
    made = plan("cam:Camera b:Batch", "cam->b", b={"config": {"size": 16, "keep": 5}})
    assert edge_of(made, "cam.out->b.in").window == D + 16 + 5
    assert (made.node("b").batch_max, made.node("b").retention) == (16, 5)
    assert made.node("b").config == {"size": 16, "keep": 5}
    assert ring_of(made, "b.out").slot_count == LOANS + 15  # a batch may be answered by as many loans


def test_what_several_nodes_retain_adds_up(plan):
    # One keeps the oldest 100 until more come, the other the newest 50: with slots for the larger window only, both wait for ever.
    keeps = {name: {"config": {"size": 1, "keep": keep}} for name, keep in (("a", 100), ("b", 50), ("c", 7))}
    made = plan("cam:Camera f:Forward a:Batch b:Batch c:Batch", "cam->a", "cam->f", "f->b", EdgeSpec("cam", "c", "latest"), **keeps)
    assert edge_of(made, "cam.out->f.in").window == D + 1 + (D + 1 + 50)
    ring = ring_of(made, "cam.out")
    assert ("retained behind f.in", 50) in [(term.name, term.value) for term in ring.slot_terms]
    assert ring.slot_count == (D + 1 + 100) + 50 + (1 + 1 + 7 + 1) + LOANS


def test_what_is_retained_behind_several_ports_of_a_node_adds_up(plan):
    keeps = {name: {"config": {"size": 1, "keep": keep}} for name, keep in (("a", 100), ("b", 50))}
    made = plan("cam:Camera s:Split a:Batch b:Batch", "cam->s", "s.one->a", "s.two->b", **keeps)
    assert edge_of(made, "cam.out->s.in").window == D + 1 + (D + 1 + 100) + 50
    assert ring_of(made, "s.one").slot_count == D + 1 + 100 + LOANS


def test_ring_settings_of_a_node_are_for_all_its_ports(plan):
    made = plan("s:Stereo", s={"ring": RingSpec(slots=20, slot_bytes=5000, meta_bytes=1001)})
    for ring in made.rings:
        assert (ring.slot_count, ring.slot_bytes, ring.meta_bytes) == (20, 8192, 1024)
        assert ring.slot_terms[-1].name == "ring.slots"
    assert plan("s:Stereo", s={"ring": RingSpec(slots=2)}).rings[0].slot_count == LOANS  # never fewer than needed


def test_slots_are_small_where_no_array_can_travel(plan):
    made = plan("cam:Camera det:Detect", "cam->det")
    assert ring_of(made, "det.frames").slot_bytes == limits.SLOT_BYTES
    assert ring_of(made, "det.detections").slot_bytes == planning.SLOT_BYTES_SMALL


def test_a_node_reads_the_rings_that_forwarded_payloads_come_from(plan):
    made = plan("cam:Camera f:Forward c:Copy a:Out b:Out", "cam->f", "f->c", "f->a", "c->b")
    ports = {node.id: {made.rings[ring].port for ring in node.reads} for node in made.nodes}
    assert ports == {"cam": set(), "f": {"cam.out"}, "c": {"cam.out", "f.out"}, "a": {"cam.out", "f.out"}, "b": {"c.out"}}


def test_consumers_start_before_their_producers(plan):
    made = plan("a:Camera out:Out f:Forward", "a->f", "f->out")
    assert made.start_order == ("out", "f", "a")
    assert [node.id for node in made.nodes] == ["a", "out", "f"]


def test_a_node_knows_its_edges_and_rings_by_their_places(plan):
    made = plan("cam:Camera det:Detect a:Out b:JsonOut", "cam->det", "det.frames->a", "det.detections->b")
    det = made.node("det")
    assert (det.role, det.in_edges, det.out_edges) == ("node", (0,), (1, 2))
    assert det.target == "graph_plugins:Detect"
    for index, ring in enumerate(made.rings):
        assert ring.id == index
    for index, edge in enumerate(made.edges):
        assert edge.id == index
        assert made.rings[edge.ring].port == f"{edge.from_node}.{edge.from_port}"
    assert {name: made.rings[ring].port for name, ring in det.outputs.items()} == {"frames": "det.frames", "detections": "det.detections"}
    assert [made.node(node).role for node in ("cam", "a")] == ["source", "sink"]


def test_config_has_its_defaults_and_sizes_in_bytes(plan):
    assert plan("cam:Camera").node("cam").config == {"path": "a.mp4", "buffer": 2**20}


def test_a_plan_survives_json(plan):
    made = plan("cam:Camera det:Detect a:Out", EdgeSpec("cam", "det", "sample", rate=2.5), "det.frames->a", run="night")
    assert msgspec.json.decode(msgspec.json.encode(made), type=Plan) == made
    assert (made.run, made.graph) == ("night", "door")
    assert len(made.graph_version) == 12


def test_a_ring_is_built_as_it_is_planned(plan):
    made = plan(
        "s:Stereo n:Numbers o:Out",
        "s.left->o",
        "n->o",
        s={"ring": RingSpec(slot_bytes=5000, meta_bytes=1001)},
        n={"ring": RingSpec(meta_bytes=777)},
    )
    for ring in made.rings:
        built = geometry(ring)
        assert (built.slot_bytes, built.meta_bytes) == (ring.slot_bytes, ring.meta_bytes)
    taps = sum(limits.TAPS_PER_PORT_MAX * ring.slot_bytes for ring in made.rings)  # room that only a tap ever touches
    assert made.shm_bytes_max == sum(map(ring_bytes, made.rings)) - taps


def test_memory_is_the_sum_of_all_rings_if_every_slot_were_full(plan):
    made = plan("cam:Camera out:Out", "cam->out")
    slots = made.rings[0].slot_count * limits.SLOT_BYTES
    assert slots < made.shm_bytes_max < slots * 1.01


def test_the_shm_limit_is_held_against_what_the_user_stated(plan):
    stated = {"ring": RingSpec(slot_bytes=8 * 2**20)}
    assert plan("cam:Camera out:Out", "cam->out", shm=2**20).rings  # slot_bytes is planned: an upper bound, not a need
    assert plan("cam:Camera out:Out", "cam->out", shm=2**30, cam=stated).rings
    with pytest.raises(SpecError) as caught:
        plan("cam:Camera out:Out", "cam->out", shm=2**26, cam=stated)
    (problem,) = caught.value.problems
    assert problem.path == "limits.shm"
    assert "cam.out: 11 x 8MiB" in problem.found


def test_more_entries_than_a_ring_may_have_are_a_problem_that_shows_the_sum(plan):
    edges = [EdgeSpec("cam", "f0", depth=1000), *(EdgeSpec(f"f{i}", f"f{i + 1}", depth=1000) for i in range(4))]
    with pytest.raises(SpecError) as caught:
        plan("cam:Camera " + " ".join(f"f{i}:Forward" for i in range(5)), *edges)
    (problem,) = caught.value.problems
    assert problem.path == "nodes[0]"
    assert "5007 slots for cam.out (window of f0.in 5005 + loans 2)" in problem.found


def test_a_socket_path_that_is_too_long_is_found_before_anything_starts(plan):
    room = limits.IPC_PATH_BYTES_MAX - len("/camera.999999")
    assert plan("camera:Camera", run_dir="/" + "r" * (room - 1)).run == "door"
    with pytest.raises(SpecError) as caught:
        plan("camera:Camera a:Out", "camera->a", run_dir="/" + "r" * room)
    (problem,) = caught.value.problems
    assert problem.path == "nodes[0].id"
    assert f"{limits.IPC_PATH_BYTES_MAX + 1} bytes" in problem.found
    with pytest.raises(SpecError):  # bytes count, not characters
        plan("camera:Camera", run_dir="/" + "\u00fc" * (room // 2 + 1))


def test_a_spec_with_problems_has_no_plan(plan):
    with pytest.raises(SpecError):
        plan("cam:Camera out:Out", "cam->outt")


def test_a_thousand_nodes_are_planned_like_ten(plan, monkeypatch):
    # Each window holds all those behind it, so quadratic sums are a danger; a thousand nodes take a tenth of a second.
    monkeypatch.setattr(limits, "NODES_MAX", 2000)
    monkeypatch.setattr(limits, "ENTRIES_MAX", 10**6)
    names = [f"f{i}" for i in range(999)]
    edges = ["cam->f0", *(f"{a}->{b}" for a, b in pairwise(names))]
    made = plan("cam:Camera " + " ".join(f"{name}:Forward" for name in names), *edges)
    assert made.edges[0].window == 999 * (D + 1)
    assert len(made.node("f998").reads) == 999


def test_every_number_is_the_sum_of_its_terms(plan):
    made = plan(
        "cam:Camera det:Detect b:Batch p:Pair a:Out j:JsonOut",
        EdgeSpec("cam", "det", completion="delivered"),
        EdgeSpec("det.frames", "b", "drop_oldest"),
        "det.frames->p.left",
        EdgeSpec("cam", "p.right", "latest"),
        "p->a",
        "det.detections->j",
    )
    for edge in made.edges:
        assert edge.window == sum(term.value for term in edge.window_terms)
        assert edge.window > edge.depth >= 1
    for ring in made.rings:
        assert ring.slot_count == sum(term.value for term in ring.slot_terms)


def test_the_description_shows_every_process_edge_ring_and_term(plan):
    made = plan("cam:Camera det:Detect a:Out", EdgeSpec("cam", "det", "sample", rate=2.5), EdgeSpec("det.frames", "a", "latest"))
    text = "\n".join(describe(made))
    for part in (
        "graph door",
        "cam  source  Camera (graph_plugins:Camera)",
        "inbox RUN_DIR/det.1; reads rings: cam.out",
        "cam.out -> det.in  sample, depth 8, 2.5 packets/s",
        "window 12 = depth 8 + work 1 + forwarded by det.frames 3",
        "det.frames -> a.in  latest, depth 1, keeps 1",
        "slots 5 = window of a.in 2 + kept for a.in 1 + loans 2",
        "slots of up to 32MiB, metadata of up to 8KiB",
    ):
        assert part in text


def test_what_a_spec_says_of_care_reaches_the_plan_and_the_rest_keeps_its_defaults(plan):
    restart = RestartSpec(policy="always", max_restarts=2)
    care = CareSpec(restart, progress_s=2.0, poison_limit=0, on_error="retry", retries=3, rss=1 << 30, on_exceed="warn")
    made = plan("cam:Camera out:Out", "cam->out", out={"care": care})
    node, untouched = made.node("out"), made.node("cam")
    assert (node.restart.policy, node.restart.max_restarts, node.restart.window_s) == ("always", 2, RestartPlan().window_s)
    assert (node.progress_s, node.poison_limit, node.on_error, node.retries) == (2.0, 0, "retry", 3)
    assert (node.rss_bytes_max, node.on_exceed, node.heartbeat_s) == (1 << 30, "warn", untouched.heartbeat_s)
    assert untouched.restart == RestartPlan()


def test_a_plan_says_what_becomes_of_a_node_that_ends(plan):
    care = CareSpec(RestartSpec(policy="never"), on_error="stop", poison_limit=0, rss=1 << 30)
    text = "\n".join(describe(plan("cam:Camera out:Out", "cam->out", out={"care": care})))
    assert "never restarted; hung after 30 s; an exception stops it; one that kills it is tried again; restarted above 1GiB" in text
    assert "restarted on failure, at most 5 times in 60 s, then the run stops; hung after 30 s\n" in text


def test_the_checks_of_a_node_go_before_those_of_the_spec(manifests):
    nodes = (NodeSpec("cam", "Camera"), NodeSpec("out", "Out", care=CareSpec(checks="off")))
    given = Spec("a.yaml", "door", nodes, (EdgeSpec("cam", "out"),), checks="all")
    made = make_plan(given, manifests)
    assert [node.checks for node in made.nodes] == ["all", "off"]
    assert [node.checks for node in make_plan(Spec("a.yaml", "door", nodes[:1], ()), manifests).nodes] == ["first"]
