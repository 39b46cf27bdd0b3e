"""Which node holds a graph back, and why: on graphs that run on paper, so that the answer is known beforehand."""

import copy
from typing import get_args

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from simulated_graph import Paper, graph

from streamcore.telemetry.blame import Kind
from streamcore.telemetry.bottleneck import bottleneck, of_run
from streamcore.telemetry.history import between
from streamcore.telemetry.snapshot import NodeRow, Snapshot

CORES = 4
SLEEPS, COMPUTES = {"cpu": 0.02}, {"cpu": 0.98}


def judged(made, cores=CORES):
    return bottleneck(*made.live(), cores)


def case(name, edges, expected, **nodes):
    return pytest.param(edges, expected, nodes, id=name)


P = Paper
CASES = [
    case("a slow node in a chain", "cam>det det>file", ("det", "slow_code"), cam=P(1, 10), det=P(30)),
    case("it sleeps", "cam>det det>file", ("det", "slow_code"), cam=P(1, 10), det=P(30, **SLEEPS)),
    case("it computes", "cam>det det>file", ("det", "cpu_bound"), cam=P(1, 10), det=P(30, **COMPUTES)),
    case(
        "it would compute, but others have the cores", "cam>det det>file", ("det", "cores"), cam=P(1, 10), det=P(30, cpu=0.2, core_wait=0.7)
    ),
    case("the last of a long chain", "a>b b>c c>d d>e e>f", ("f", "sink"), f=P(12)),
    case("the middle of a long chain", "a>b b>c c>d d>e e>f", ("d", "slow_code"), d=P(12)),
    case("blocked by its sink", "cam>det det>file", ("file", "sink"), cam=P(1, 10), det=P(8), file=P(25)),
    case("a sink that computes", "cam>det det>file", ("file", "cpu_bound"), cam=P(1, 10), file=P(25, **COMPUTES)),
    case("a paced source", "cam>det det>file", ("", "source"), cam=P(1, 40), det=P(10)),
    case("a source that never rests", "cam>det det>file", ("cam", "source"), cam=P(20), det=P(10)),
    case("a source that computes without rest", "cam>det det>file", ("cam", "cpu_bound"), cam=P(20, **COMPUTES), det=P(10)),
    case("nearly busy, and nobody waits", "cam>det det>file", ("det", "slow_code"), cam=P(1, 20), det=P(17)),
    case("latest into a slow node", "cam>det:latest/1 det>file", ("det", "drops"), cam=P(1, 10), det=P(35)),
    case("drop_oldest into a slow node", "cam>det:drop_oldest det>file", ("det", "drops"), cam=P(1, 10), det=P(35)),
    case(
        "drop_new into a node behind which one is slow", "cam>det:drop_new det>file", ("file", "sink"), cam=P(1, 10), det=P(2), file=P(35)
    ),
    case("drops before a node that computes", "cam>det:latest/1 det>file", ("det", "cpu_bound"), cam=P(1, 10), det=P(35, **COMPUTES)),
    case("a busy source before a lossy edge", "cam>det:latest/1 det>file", ("det", "drops"), cam=P(10), det=P(35)),
    case("fan-out, one branch slow", "cam>a cam>b a>x b>y", ("b", "slow_code"), cam=P(1, 10), b=P(30)),
    case("fan-out, the slow branch is lossy", "cam>a cam>b:latest/1 a>x b>y", ("b", "drops"), cam=P(1, 10), b=P(30)),
    case("fan-out, a slow lossy branch and a slower one that blocks", "cam>a cam>b:latest/1 a>x b>y", ("a", "slow_code"), a=P(60), b=P(30)),
    case("fan-in into a slow node", "c1>det c2>det det>file", ("det", "slow_code"), c1=P(1, 20), c2=P(1, 20), det=P(20)),
    case("a join waits for its slow input", "c1>j c2>j j>file", ("c2", "fan_in"), c1=P(1, 10), c2=P(1, 100), j=P(2, joins=True)),
    case("the slow node before a join", "c1>a a>j c2>j j>file", ("a", "slow_code"), c1=P(1, 10), a=P(40), c2=P(1, 10), j=P(2, joins=True)),
    case("a diamond, one side slow", "cam>a cam>b a>j b>j j>file", ("a", "slow_code"), cam=P(1, 10), a=P(30), j=P(1, joins=True)),
    case("a diamond, its end slow", "cam>a cam>b a>j b>j j>file", ("j", "slow_code"), cam=P(1, 10), j=P(30, joins=True)),
    case("equal nodes", "cam>a a>b b>file", ("a", "balanced"), cam=P(1, 10), a=P(20), b=P(20)),
    case(
        "several that compute on few cores",
        "cam>a a>b b>c c>d d>file",
        ("a", "cores"),
        a=P(20, cpu=1.0),
        b=P(19, cpu=1.0),
        c=P(19.5, cpu=1.0),
        d=P(19.5, cpu=1.0),
    ),
    case(
        "noise",
        "cam>a a>b b>c c>file",
        ("b", "slow_code"),
        cam=P(1, 12, noise=0.9),
        a=P(9, noise=0.9),
        b=P(16, noise=0.9),
        c=P(8, noise=0.9),
    ),
    case("a paused node", "cam>det det>file", ("det", "paused"), cam=P(1, 10), det=P(1, paused=True)),
    case("a paused source", "cam>det det>file", ("cam", "paused"), cam=P(1, 10, paused=True)),
    case("a paused node before a fast one, lossy", "cam>det:latest/1 det>file", ("det", "paused"), cam=P(1, 10), det=P(1, paused=True)),
    case("a node that crashes", "cam>det det>file", ("det", "backoff"), cam=P(1, 10), det=P(1, state="BACKOFF")),
    case("a node that starts", "cam>det det>file", ("det", "starting"), cam=P(1, 10), det=P(1, state="STARTING")),
    case("a node that is gone for good", "cam>a:latest/1 cam>b:drop_new", ("b", "failed"), cam=P(1, 50), b=P(1, state="FAILED")),
    case("a node that takes nothing any more", "cam>det det>file", ("det", "stalled"), cam=P(1, 10), det=P(1, stops_ms=1450)),
    case("a call that does not end", "cam>det det>file", ("det", "stalled"), cam=P(1, 100), det=P(60_000)),
    case("a node that keeps packets", "cam>a/4 a>file", ("a", "holds_packets"), cam=P(1, 1), a=P(1, keeps=5)),
    case("feedback", "cam>a a>b b>a:latest/1 b>file", ("b", "slow_code"), cam=P(1, 10), b=P(30)),
    case("a queue before a slow sink", "cam>box box>file", ("file", "sink"), cam=P(1, 10), box=P(is_queue=True), file=P(40)),
    case(
        "a queue before a destination that is away",
        "cam>box box>file",
        ("file", "stalled"),
        cam=P(1, 10),
        box=P(is_queue=True),
        file=P(1, stops_ms=1500),
    ),
    case("nothing flows", "cam>det det>file", ("", "nothing"), cam=P(1, 10, stops_ms=0)),
]


def fresh(nodes):
    return copy.deepcopy(nodes)  # a node on paper counts


@pytest.mark.parametrize(("edges", "expected", "nodes"), CASES)
def test_the_right_node_is_named_for_the_right_reason(edges, expected, nodes):
    found = judged(graph(edges, **fresh(nodes)))
    assert (found.node, found.kind) == expected, found
    begin = f"'{found.node}' holds the graph back" if found.node else "No "
    assert found.sentence.startswith(begin)
    assert found.sentence.endswith(".")


OF_A_RUN = [one for one in CASES if one.values[1][1] in get_args(Kind)[7:16] and one.id != "the middle of a long chain"]


@pytest.mark.parametrize(("edges", "expected", "nodes"), OF_A_RUN)
def test_the_report_of_the_run_says_the_same(edges, expected, nodes):
    made = graph(edges, **fresh(nodes))
    made.run(5000)
    final = made.snapshot()
    for row in final.nodes:
        row.state, row.busy_since_ns = "DONE", 0
    found = of_run(final, 5 * 10**9, CORES)
    assert (found.node, found.kind) == expected, found


def test_every_kind_has_a_case():
    handmade = {"single", "shallow_edge", "queue"}
    assert {one.values[1][1] for one in CASES} | handmade == set(get_args(Kind))


def test_a_node_alone_holds_nobody_back():
    found = of_run(Snapshot((NodeRow("job", "job.command", "source"),), ()), 10**9, CORES)
    assert (found.node, found.kind) == ("", "single")


def test_an_edge_with_too_little_room_is_named_and_not_the_speed_of_its_consumer():
    made = graph("cam>det/1 det>file", cam=Paper(1, 10))
    window, now, now_ns = made.live()
    cam, det = window.nodes["cam"], window.nodes["det"]
    nodes = {**window.nodes, "cam": msgspec.structs.replace(cam, blocked=0.4), "det": msgspec.structs.replace(det, busy=0.3)}
    found = bottleneck(msgspec.structs.replace(window, nodes=nodes), now, now_ns, CORES)
    assert (found.node, found.kind) == ("det", "shallow_edge")
    assert "it works only 30% of the time" in found.sentence
    assert "`depth: 4` on cam.out->det.in" in found.advice


def test_a_queue_that_grows_names_what_is_behind_it():
    # Its sink is idle: a server that is away is asked seldom.
    made = graph("cam>box box>post post>file", cam=Paper(1, 10), box=Paper(is_queue=True), post=Paper(40))
    window, now, now_ns = made.live()
    idle = msgspec.structs.replace(window.nodes["post"], busy=0.1)
    found = bottleneck(msgspec.structs.replace(window, nodes={**window.nodes, "post": idle}), now, now_ns, CORES)
    assert (found.node, found.kind) == ("post", "queue")
    assert "box takes 100 packets/s and gets rid of 2" in found.sentence


def test_the_share_of_the_end_to_end_time_is_its_work_and_the_wait_for_it():
    # One packet at a time: 10 ms of 1 + 10 + 4 ms, and no queue anywhere.
    alone = judged(graph("cam>det det>file", cam=Paper(1, 20), det=Paper(10), file=Paper(4)))
    assert alone.share_of_end_to_end is None
    named = judged(graph("cam>det det>file", cam=Paper(1, 12), det=Paper(10), file=Paper(4)))
    assert named.node == "det"
    assert named.share_of_end_to_end == pytest.approx(10 / 15, abs=0.07)
    queued = judged(graph("cam>det det>file", cam=Paper(1, 8), det=Paper(10), file=Paper(4)))
    assert queued.share_of_end_to_end == pytest.approx(1 - 5 / (1 + 40 + 10 + 4), abs=0.05)
    assert f"{queued.share_of_end_to_end:.0%} of the end-to-end time is its doing" in queued.sentence


def test_a_long_call_counts_before_it_is_over():
    # A page counts a call when it is over: a node of 9 s per packet would look idle in a window of 10 s.
    made = graph("cam>det det>file", cam=Paper(1, 100), det=Paper(3800))
    found = bottleneck(*made.live(warm_ms=3900, ms=4000), CORES)
    assert (found.node, found.evidence["busy"]) == ("det", pytest.approx(1.0, abs=0.05))


def test_what_is_found_travels_as_json():
    found = judged(graph("cam>det det>file", cam=Paper(1, 10), det=Paper(30, **COMPUTES)))
    assert msgspec.json.decode(msgspec.json.encode(found), type=type(found)) == found
    assert found.evidence["cpu"] == pytest.approx(0.98, abs=0.02)
    assert "cpu_affinity" in found.advice


def test_before_anything_is_known_nothing_is_claimed():
    made = graph("cam>det det>file")
    assert bottleneck(None, made.snapshot(), 10**9, CORES).kind == "nothing"
    made.nodes["det"].state = "STARTING"
    assert bottleneck(None, made.snapshot(), 10**9, CORES).kind == "starting"


# --- properties

SHAPES = [
    "a>b b>c",
    "a>b b>c c>d d>e",
    "a>b a>c b>d c>d",
    "a>b c>b b>d",
    "a>b:latest/1 b>c",
    "a>b b>c c>b:latest/1 c>d",
    "a>b:drop_oldest a>c b>d",
]
papers = st.builds(
    Paper,
    work_ms=st.sampled_from([0.2, 1, 3, 8, 20, 45]),
    every_ms=st.sampled_from([0, 5, 30]),
    cpu=st.sampled_from([None, 0.05, 0.5, 1.0]),
    joins=st.booleans(),
    keeps=st.sampled_from([0, 0, 0, 2, 5]),
    stops_ms=st.sampled_from([1e12, 1e12, 1e12, 0, 1500]),
    state=st.sampled_from(["READY", "READY", "READY", "READY", "BACKOFF", "FAILED", "DONE", "PLANNED"]),
    paused=st.sampled_from([False, False, False, False, True]),
    noise=st.sampled_from([0, 0.5, 0.9]),
)


@settings(max_examples=40, deadline=None)
@given(st.sampled_from(SHAPES), st.fixed_dictionaries(dict.fromkeys("abcde", papers)), st.integers(0, 100))
def test_whatever_a_graph_does_a_node_of_it_is_named_or_none(edges, nodes, seed):
    window, now, now_ns = graph(edges, seed, **fresh(nodes)).live(warm_ms=200, ms=1000)
    for found in (bottleneck(window, now, now_ns, CORES), of_run(now, 10**9, CORES), bottleneck(None, now, now_ns, CORES)):
        assert found.kind in get_args(Kind)
        assert found.node in {row.id for row in now.nodes} | {""}
        assert found.share_of_end_to_end is None or 0 <= found.share_of_end_to_end <= 1
        if found.kind in ("slow_code", "cpu_bound", "sink", "source", "balanced", "cores", "drops") and found.node:
            assert found.evidence["packets_per_s"] > 0
        assert found.sentence.startswith(f"'{found.node}' holds the graph back" if found.node else ("No ", "One node"))


numbers = st.sampled_from([0, 1, 10**3, 10**9, 2**63])


@settings(max_examples=40, deadline=None)
@given(st.data())
def test_pages_full_of_nonsense_raise_nothing(data):
    now = graph(data.draw(st.sampled_from(SHAPES))).snapshot()
    for row in (*now.nodes, *now.edges):
        for name in type(row).__struct_fields__:
            if type(getattr(row, name)) is int:
                setattr(row, name, data.draw(numbers))
    found = of_run(now, data.draw(numbers), data.draw(st.sampled_from([1, 64])))
    assert found.share_of_end_to_end is None or 0 <= found.share_of_end_to_end <= 1
    live = bottleneck(between(Snapshot((), ()), now, 1.0), now, 2**62, 1)
    assert live.node in {row.id for row in now.nodes} | {""}


@settings(max_examples=15, deadline=None)
@given(
    st.sampled_from(["a>b b>c", "a>b b>c c>d d>e", "a>b a>c b>d c>d", "a>b:latest/1 b>c"]),
    st.fixed_dictionaries({name: st.sampled_from([1, 3, 8, 20]) for name in "abcde"}),
)
def test_a_node_that_is_named_stays_named_when_it_is_slower_still(edges, work_ms):
    def of(work_ms):
        return judged(graph(edges, **{name: Paper(ms, 10 if name == "a" else 0) for name, ms in work_ms.items()}))

    first = of(work_ms)
    if first.node:
        slower = of({**work_ms, first.node: 3 * work_ms[first.node]})
        assert slower.node == first.node, (first.sentence, slower.sentence)
