"""Frames in shared memory, seen from outside: forwarded frames are the same memory in every process, and it lives as long as its views."""

from __future__ import annotations

import numpy as np
from rig import E, N, Rig, payload_places
from rig_nodes import CUTS, SHAPE, digest, frame

from streamcore.shm import segment


def test_a_forwarded_frame_and_every_cut_of_it_are_the_same_memory_in_all_processes(tmp_path):
    # Proved by writing through a debugging map of the producer while the consumers hold their views.
    cuts = {"whole": "b", "crop": "m", "flip": "f", "step": "s"}
    nodes = [N("a", "Frames", {"count": 2, "gate_at": 1}), *(N(name, "Pass", {"cut": cut}) for cut, name in cuts.items())]
    nodes += [N("again", "Pass", {"cut": "channel"}), N("c", "Witness", {"keep": 5, "show_held": True})]
    nodes += [N("d", "Witness", {"keep": 1, "show_held": True})]
    edges = [E("a", name) for name in cuts.values()] + [E(name, "c") for name in cuts.values()] + [E("b", "again"), E("again", "c")]
    edges += [E("a", "d")]
    with Rig(tmp_path, nodes, edges) as rig:
        rig.start()
        rig.until(lambda: len(rig.lines("c")) == 5 and rig.lines("d"), "five views of the first frame at one sink, itself at the other")
        before = [line["digest"] for line in rig.lines("c")]
        memory, ring = rig.debugging_map("a")
        start = payload_places(memory, ring)[0]
        pixels = np.frombuffer(memory, np.uint8, SHAPE[0] * SHAPE[1] * SHAPE[2], start).reshape(SHAPE)
        assert np.array_equal(pixels, frame(0))
        pixels[:] = painted = 255 - frame(0)
        rig.open_gate()
        rig.wait()
        lines = rig.lines("c")
        assert sorted(before) == sorted(digest(frame(0)[CUTS[cut]]) for cut in (*cuts, "channel"))
        held = next(line["held"] for line in lines[5:] if "held" in line)
        assert sorted(held) == sorted(painted[CUTS[cut]].tobytes().hex() for cut in (*cuts, "channel"))
        assert rig.lines("d")[1]["held"] == [painted.tobytes().hex()]
        assert [rig.status(name).copied for name in (*cuts.values(), "again")] == [0] * 5


def test_a_consumer_maps_the_rings_that_it_reads_for_reading_only(tmp_path):
    with Rig(tmp_path, [N("a", "Frames"), N("b", "Pass"), N("c", "Witness")], [E("a", "b"), E("b", "c")]) as rig:
        rig.start()
        rig.until(lambda: rig.status("c").consumed, "a frame at the sink")
        rights = {}
        for name, member in rig.members.items():
            with open(f"/proc/{member.process.pid}/maps") as maps:
                found = [line.split() for line in maps if "memfd:streamcore:" in line]
            rights[name] = {columns[5].rpartition(":")[2]: columns[1] for columns in found}
        assert rights["a"]["a.out"] == "rw-s"
        assert (rights["b"]["a.out"], rights["b"]["b.out"]) == ("r--s", "rw-s")
        assert (rights["c"]["a.out"], rights["c"]["b.out"]) == ("r--s", "r--s")


def test_views_that_a_sink_keeps_show_their_own_frames_for_as_long_as_it_keeps_them(tmp_path):
    nodes = [N("a", "Frames", {"count": 60}), N("b", "Pass", {"cut": "flip"}), N("c", "Witness", {"keep": 3})]
    with Rig(tmp_path, nodes, [E("a", "b", depth=2), E("b", "c", depth=2)]) as rig:
        rig.run()
        *lines, last = rig.lines("c")
        assert [line["digest"] for line in lines] == [digest(frame(number)[CUTS["flip"]]) for number in range(60)]
        assert last["kept"] == [line["digest"] for line in lines[:3]]
        assert rig.books("a", "b").completed == 60


def test_memory_that_another_thread_lets_go_of_sets_the_producer_going_again(tmp_path):
    # The sink's main thread sleeps by then: were it not woken, its receipts would never leave.
    nodes = [N("a", "Frames", {"count": 12}), N("c", "Threaded")]
    with Rig(tmp_path, nodes, [E("a", "c", depth=1)]) as rig:
        rig.run()
        assert [line["digest"] for line in rig.lines("c")] == [digest(frame(number)) for number in range(12)]


def test_memory_is_slots_in_use_times_frame_bytes(tmp_path):
    shape = (256, 1024, 3)  # 192 pages
    nodes = [N("a", "Frames", {"count": 200, "shape": shape}), N("c", "Threaded")]
    with Rig(tmp_path, nodes, [E("a", "c", depth=2)], slot_bytes=64 << 20) as rig:
        rig.start()
        rig.until(lambda: rig.status("a").produced > 20, "twenty frames")
        ring = next(ring for ring in rig.rings if ring.port == "a.out")
        pages = segment.allocated_bytes(rig.ring_fds[ring.id]) // 4096
        besides = 2 + ring.entry_count  # header, table, and at most a page of metadata per row
        assert 192 <= pages <= ring.slot_count * 192 + besides


def test_a_child_of_a_node_inherits_none_of_its_memory(tmp_path):
    # An ffmpeg that outlives its node would keep every ring alive otherwise.
    with Rig(tmp_path, [N("a", "Parent"), N("c", "Counting")], [E("a", "c")]) as rig:
        rig.start()
        child = rig.until(lambda: rig.lines("a"), "the child's list of descriptors")[0]
        assert "pipe:" in child["fds"]
        assert "memfd" not in child["fds"]
        assert "socket" not in child["fds"]
