"""What a plan needs, held against boxes that are handed in: when it fits, up to which size of frames, and what would help."""

import msgspec
import pytest

from streamcore import Port, array, limits
from streamcore.graph.describe import describe_needs
from streamcore.graph.fit import Box, Room, judge
from streamcore.graph.needs import FDS_PER_NODE, FDS_SPARE, NODE_BYTES, OWN_BYTES, needs_of
from streamcore.graph.plan import plan_graph
from streamcore.graph.wiring import wire
from streamcore.spec.model import EdgeSpec, LimitsSpec, NodeSpec, RingSpec, Spec

GIB, MIB = limits.GIB, limits.MIB


@pytest.fixture
def judged(manifests):
    """(plan, needs, fit) of a camera that feeds a sink, on a box; with this `slot_bytes`, `limits.shm` and `depth`."""

    def make(available=16 * GIB, slot_bytes=None, shm=None, depth=8, tasks=(), descriptors=(), whose="MemAvailable"):
        nodes = (NodeSpec("cam", "Camera", ring=RingSpec(slot_bytes=slot_bytes)), NodeSpec("out", "Out"))
        spec = Spec("s.yaml", "door", nodes, (EdgeSpec("cam", "out", depth=depth),), limits=LimitsSpec(shm))
        graph = wire(spec, manifests)
        plan = plan_graph(graph, None, None)
        needs = needs_of(graph, plan)
        return plan, needs, judge(plan, needs, Box((Room(whose, available),), tuple(tasks), tuple(descriptors)))

    return make


def test_private_memory_is_that_of_every_node_and_of_streamctl_itself(judged):
    plan, needs, _ = judged()
    assert [node.private for node in needs.nodes] == [NODE_BYTES] * 2
    assert needs.private == OWN_BYTES + 2 * NODE_BYTES
    assert (needs.processes, needs.descriptors) == (5, 2 * len(plan.rings) + 2 * FDS_PER_NODE + FDS_SPARE)


def test_what_is_declared_is_known_and_what_is_not_is_an_upper_bound(judged):
    _, bounded, _ = judged()
    _, declared, _ = judged(slot_bytes=8 * MIB)
    (ring,) = bounded.rings
    assert ring.declared is None
    assert ring.most == ring.bare + ring.slots * 32 * MIB
    assert bounded.known < ring.slots * MIB
    (ring,) = declared.rings
    assert ring.declared == ring.most == ring.bare + ring.slots * 8 * MIB
    assert declared.known >= ring.declared


def test_the_shape_of_a_port_declares_its_payloads(manifests):
    sized = Port("frame", array("uint8", shape=(480, 640, 3)))
    camera = msgspec.structs.replace(manifests["Camera"], outputs={"out": sized})
    graph = wire(
        Spec("s.yaml", "door", (NodeSpec("cam", "Camera"), NodeSpec("out", "Out")), (EdgeSpec("cam", "out"),)),
        {**manifests, "Camera": camera},
    )
    (ring,) = needs_of(graph, plan_graph(graph, None, None)).rings
    assert ring.payload == 480 * 640 * 3
    assert ring.declared == ring.bare + ring.slots * 225 * limits.PAGE_BYTES


def test_a_run_that_fits_with_every_slot_full_fits(judged):
    _, needs, fit = judged()
    assert fit.fits
    assert fit.lines == ("fits: 394.1MiB even if every slot were full, 16GiB available",)
    assert needs.known <= needs.most


def test_frames_of_unknown_size_make_a_condition_and_no_shortage(judged):
    plan, needs, fit = judged(depth=1000)
    slots = plan.rings[0].slot_count
    average = (8 * GIB - needs.known) // slots
    assert fit.fits
    assert fit.lines[0].startswith(f"fits: while frames take {average / MIB:.2f}MiB or less, on average of {slots} slots")
    assert "50% of the 16GiB available" in fit.lines[0]
    assert len(fit.lines) == 1, "1080p has room, so nothing has to be lowered"


def test_where_not_even_1080p_has_room_the_largest_edges_are_named(judged):
    _, _, fit = judged(depth=1000, available=4 * GIB)
    assert fit.fits
    assert fit.lines[1] == "for larger ones: lower `depth` of cam.out->out.in or set ring.slot_bytes of node 'cam' (1003 x 32MiB)"


def test_declared_payloads_that_have_no_room_do_not_fit_and_the_edge_is_named(judged):
    _, _, fit = judged(slot_bytes=GIB, available=16 * GIB)
    assert not fit.fits
    assert fit.lines[0].startswith("does not fit: shared memory: 11GiB with metadata and declared payloads, 8GiB left for rings")
    assert "lower `depth` of cam.out->out.in or lower ring.slot_bytes of node 'cam' (11 x 1GiB)" in fit.lines[-1]


def test_limits_shm_is_held_against_what_is_declared_together_with_what_processes_take(judged):
    # What processes take alone leaves 88 MiB of the 130, less than limits.shm.
    _, _, fit = judged(slot_bytes=8 * MIB, shm=120 * MIB, available=130 * MIB)
    assert not fit.fits
    assert "88MiB left for rings (limits.shm is 120MiB, available are 130MiB; the processes take 42MiB)" in fit.lines[0]


def test_a_control_group_that_is_too_small_for_the_processes_is_named(judged):
    _, _, fit = judged(available=40 * MIB, whose="memory group /kube/pod")
    assert not fit.fits
    assert fit.lines[0] == "does not fit: memory: 42.06MiB before the first packet, 40MiB available (memory group /kube/pod)"


def test_too_few_descriptors_and_tasks_are_each_a_line_of_their_own(judged):
    _, needs, fit = judged(tasks=[Room("pids group /x", 10)], descriptors=[Room("ulimit -Hn", 64)])
    assert not fit.fits
    assert fit.lines == (
        f"does not fit: open files of the coordinator: {needs.descriptors} needed, 64 left (ulimit -Hn)",
        f"does not fit: processes and threads: {needs.tasks} needed, 10 left (pids group /x)",
    )


def test_exactly_enough_is_enough(judged):
    _, needs, _ = judged()
    _, _, fit = judged(tasks=[Room("pids", needs.tasks)], descriptors=[Room("ulimit -Hn", needs.descriptors)])
    assert fit.fits


def test_without_frames_no_size_of_frames_is_spoken_of(manifests):
    spec = Spec("s.yaml", "door", (NodeSpec("n", "Numbers"), NodeSpec("out", "JsonOut")), (EdgeSpec("n", "out"),))
    graph = wire(spec, manifests)
    plan = plan_graph(graph, None, None)
    fit = judge(plan, needs_of(graph, plan), Box((Room("MemAvailable", 128 * MIB),)))
    assert fit.fits
    assert fit.lines[0].startswith("fits: unless most JSON and bytes payloads are too large for the metadata; 64MiB for rings")


def test_the_description_has_each_number_with_its_source(judged):
    _, needs, _ = judged(slot_bytes=8 * MIB)
    text = "\n".join(
        describe_needs(needs, Box((Room("MemAvailable", GIB), Room("memory group /x", 2 * GIB)), (), (Room("ulimit -Hn", 64),)))
    )
    for part in (
        "cam  private 6MiB",
        "ring cam.out: at most 88.09MiB = 96KiB for metadata + 11 x 8MiB; with declared payloads of 8MiB: 88.09MiB",
        "in all: private 42MiB, 30MiB of it for streamctl's own processes; rings 56.69KiB at once, at most 88.1MiB.",
        "available: 1GiB (MemAvailable), 2GiB (memory group /x)",
        "processes: 5, with their threads about 14; room for any number",
        "open files of the coordinator: at most 74; allowed are 64 (ulimit -Hn)",
    ):
        assert part in text, text
