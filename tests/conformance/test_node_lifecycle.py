"""A node process from ready to its end, in every way to end; and what its authors are told on the way."""

from __future__ import annotations

import itertools
import os
import signal
import time
from collections import Counter

import pytest
from rig import KEY, E, N, Rig
from rig_nodes import Frames, Split, digest, frame

from streamcore.node import channel
from streamcore.testing import run_node
from streamcore.wire.messages import HEADER, WAKE_MESSAGE, data_one, end, receipt, sealed

TERMINATED = 128 + signal.SIGTERM


def test_a_run_tells_its_coordinator_ready_draining_done_in_this_order(tmp_path):
    with Rig(tmp_path, [N("a", "Numbers", {"count": 10}), N("c", "Counting")], [E("a", "c")]) as rig:
        for ended in rig.start().wait().values():
            assert [type(report) for report in ended.reports] == [channel.Ready, channel.Draining, channel.Done]
            assert ended.exit == 0
        assert [rig.status(name).state for name in ("a", "c")] == ["done", "done"]
        assert rig.status("a").pid == rig.members["a"].process.pid
        assert "INFO closed in an orderly way" in rig.log("a")
        assert not os.path.exists(rig.inbox("a"))


def test_a_batch_holds_what_waits_and_belongs_to_the_node(tmp_path):
    nodes = [N("a", "Frames", {"count": 40}), N("b", "Batches"), N("c", "Witness")]
    with Rig(tmp_path, nodes, [E("a", "b", depth=8), E("b", "c")]) as rig:
        rig.run()
        batches = rig.lines("b")
        assert sum(batch["size"] for batch in batches) == 40
        assert all(1 <= batch["size"] <= 4 for batch in batches)
        for batch, later in itertools.pairwise(batches):
            assert len(later["last"]) == batch["size"]  # a list that the host emptied behind its author's back would be shorter
            assert later["last"] == [digest(frame(number)) for number in later["last_n"]]
        assert [line["digest"] for line in rig.lines("c")] == [digest(frame(number)) for number in range(40)]


def test_an_exception_fails_every_packet_of_its_batch(tmp_path):
    nodes = [N("a", "Frames", {"count": 20}), N("b", "Batches", {"fail_at": 7}), N("c", "Witness")]
    with Rig(tmp_path, nodes, [E("a", "b", depth=8), E("b", "c")]) as rig:
        rig.run()
        books, arrived = rig.books("a", "b"), len(rig.lines("c"))
        assert (books.failed, books.completed) == (20 - arrived, arrived)
        assert rig.status("b").failed == 20 - arrived
        assert 1 <= books.failed <= 4


def test_flush_emits_what_was_held_back_and_everything_arrives(tmp_path):
    nodes = [N("a", "Frames", {"count": 9}), N("b", "Hoard", {"keep": 9}), N("c", "Witness")]
    with Rig(tmp_path, nodes, [E("a", "b", depth=2), E("b", "c", depth=2)]) as rig:
        rig.run()
        assert [line["digest"] for line in rig.lines("c")] == [digest(frame(number)) for number in range(8, -1, -1)]
        assert rig.books("a", "b").completed == rig.books("b", "c").completed == 9


def test_what_a_node_lets_go_of_is_not_completed_before_what_it_made_of_it_is_committed(tmp_path):
    # Else a kill between the two loses the packet: its producer has forgotten it, and nobody has seen what was made of it.
    nodes = [N("a", "Numbers", {"count": 40}), N("b", "Pairs"), N("c", "Counting")]
    with Rig(tmp_path, nodes, [E("a", "b", depth=4), E("b", "c", depth=2)]) as rig:
        rig.start()
        rig.send("c", channel.Pause())
        rig.until(lambda: rig.status("b").waits_for_credit, "b to wait for a credit")
        for _ in range(2):  # it looks around while it waits
            turns = rig.status("b").loop_count
            rig.send("b", channel.Resume())
            rig.until(lambda turns=turns: rig.status("b").loop_count > turns, "b to look around")
        edge = next(edge.id for edge in rig.edges if edge.to_node == "b")
        processed = sum(mark > 0 for mark in rig.members["b"].status.marks(edge))
        made = rig.books("b", "c").sent  # not `produced`, which comes to the page some milliseconds later, or after the wait
        assert rig.status("b").waits_for_credit and made > 0
        assert rig.books("a", "b").completed <= 2 * made and processed <= 2 * made
        rig.send("c", channel.Resume())
        for ended in rig.wait().values():
            assert ended.exit == 0
        assert rig.books("b", "c").completed == 20


def test_a_source_is_told_the_outcome_of_every_packet(tmp_path):
    nodes = [N("a", "Frames", {"count": 30, "tell": True}), N("b", "Clumsy", {"bad": [2, 5]}), N("c", "Witness")]
    with Rig(tmp_path, nodes, [E("a", "b", depth=2), E("b", "c")]) as rig:
        rig.run()
        told = rig.lines("a")
        assert Counter(line["outcome"] for line in told) == {"ok": 28, "failed": 2}
        assert sorted(line["n"] for line in told) == list(range(30))
        assert {line["n"] for line in told if line["outcome"] == "failed"} == {2, 5}
        assert all(line["payload"] for line in told)  # the packet comes without it


def test_a_source_without_an_edge_is_told_of_every_packet_too(tmp_path):
    with Rig(tmp_path, [N("a", "Frames", {"count": 5, "tell": True})], []) as rig:
        rig.run()
        assert [(line["n"], line["outcome"]) for line in rig.lines("a")] == [(number, "ok") for number in range(5)]


def test_a_source_that_raises_has_failed_but_what_it_emitted_arrives(tmp_path):
    nodes = [N("a", "Frames", {"count": 9, "fail_at": 6}), N("b", "Pass"), N("c", "Witness")]
    with Rig(tmp_path, nodes, [E("a", "b"), E("b", "c")]) as rig:
        ended = rig.start().wait()
        assert [line["n"] for line in rig.lines("c")] == list(range(6))
        failure = ended["a"].failure
        assert (failure.where, failure.cause, failure.fault) == ("run", "RuntimeError: the camera fell off the wall", "plugin")
        assert "rig_nodes.py" in failure.traceback
        assert [ended[name].exit for name in "abc"] == [1, 0, 0]
        assert rig.books("a", "b").completed == 6


@pytest.mark.parametrize(
    ("how", "where", "cause", "fault"),
    [("config", "config", "no such file: model.onnx", "spec"), ("other", "setup", "KeyError: 'weights'", "plugin")],
)
def test_a_setup_that_fails_says_where_and_whose_fault_and_never_ready(tmp_path, how, where, cause, fault):
    with Rig(tmp_path, [N("c", "BadSetup", {"how": how})], []) as rig:
        ended = rig.wait()["c"]
        assert (ended.exit, [type(report) for report in ended.reports]) == (1, [channel.Failed])
        assert (ended.failure.where, ended.failure.cause, ended.failure.fault) == (where, cause, fault)


def test_a_long_setup_says_each_time_that_it_gets_on(tmp_path):
    with Rig(tmp_path, [N("c", "Slow")], []) as rig:
        assert [type(rig.report("c")) for _ in range(3)] == [channel.Starting, channel.Starting, channel.Ready]


def test_an_exception_in_on_completed_is_counted_and_the_node_goes_on(tmp_path):
    # The packet has arrived. Ending the node for it would lose those that come after.
    nodes = [N("a", "Frames", {"count": 30, "tell": True, "stumbles_at": [3, 29]}), N("c", "Witness")]
    with Rig(tmp_path, nodes, [E("a", "c")]) as rig:
        rig.run()
        assert [line["n"] for line in rig.lines("c")] == list(range(30))
        assert [line["n"] for line in rig.lines("a")] == [n for n in range(30) if n not in (3, 29)]
        assert (rig.status("a").failed, rig.books("a", "c").completed) == (2, 30)
        lost = rig.lines("c")[3]["id"]
        assert f"packet {lost} failed in on_completed (1 so far): RuntimeError: the last straw" in rig.log("a")


def test_a_paced_source_is_told_while_it_goes_on(tmp_path):
    # It looks around while it waits, and is told when it has given its next packet.
    nodes = [N("a", "Frames", {"tell": True, "pause_ms": 5}), N("c", "Witness")]
    with Rig(tmp_path, nodes, [E("a", "c")]) as rig:
        rig.start().until(lambda: len(rig.lines("a")) >= 20, "twenty completions")
        assert rig.members["a"].process.poll() is None
        rig.send("a", channel.Stop())
        rig.wait()
        assert [line["n"] for line in rig.lines("a")] == [line["n"] for line in rig.lines("c")]


def test_ids_are_those_that_run_node_gives_to_the_same_inputs(tmp_path):
    # A sink that writes each id once would otherwise behave differently in its author's test.
    nodes = [N("a", "Frames", {"count": 5}), N("b", "Split"), N("c", "Witness"), N("d", "Witness")]
    with Rig(tmp_path, nodes, [E("a", "b"), E("b.left", "c"), E("b.right", "d")]) as rig:
        rig.run()
        found = {port: [line["id"] for line in rig.lines(sink)] for port, sink in (("left", "c"), ("right", "d"))}
    inputs = run_node(type("Counted", (Frames,), {"config": {"count": {"type": "integer"}}}), (), {"count": 5}, node_id="a")
    out = run_node(Split, inputs, node_id="b")
    assert found == {port: [packet.packet_id for packet in out.on(port)] for port in ("left", "right")}
    assert len({packet.packet_id for packet in out}) == len(out) == 3 * 5 + 4


@pytest.mark.parametrize("where", ["flush", "close"])
def test_a_node_that_fails_at_its_end_says_so(tmp_path, where):
    with Rig(tmp_path, [N("a", "Frames", {"count": 3}), N("c", "BadEnd", {"where": where})], [E("a", "c")]) as rig:
        ended = rig.start().wait()
        assert (ended["c"].exit, ended["a"].exit) == (1, 0)
        assert ended["c"].failure.cause.startswith("OSError: disk")
        assert [line["n"] for line in rig.lines("c")] == [0, 1, 2]
        assert rig.books("a", "c").completed == 3  # what was processed before is not lost with the node


@pytest.mark.parametrize("status", [0, 3])
def test_a_node_that_exits_by_itself_has_failed(tmp_path, status):
    # Whatever it exits with: the stream has not come to its end.
    with Rig(tmp_path, [N("a", "Frames", {"count": 3}), N("c", "Quitter", {"status": status})], [E("a", "c")]) as rig:
        ended = rig.start().wait("c")["c"]
        assert (ended.exit, ended.failure.cause, ended.failure.fault) == (1, f"SystemExit: {status}", "plugin")


def test_a_slow_consumer_that_may_miss_packets_does_not_hold_up_one_that_must_not(tmp_path):
    # Were the source held to the pace of the slow one, nothing would ever be dropped.
    nodes = [N("a", "Frames", {"count": 100}), N("c", "Witness"), N("d", "Witness", {"slow_ms": 20})]
    with Rig(tmp_path, nodes, [E("a", "c"), E("a", "d", policy="latest")]) as rig:
        rig.run()
        assert [line["n"] for line in rig.lines("c")] == list(range(100))
        seen = [line["n"] for line in rig.lines("d")]
        assert seen == sorted(seen)
        assert seen[-1] == 99
        assert len(seen) < 90
        books = rig.books("a", "d")
        assert (books.sent, books.dropped) == (100, 100 - len(seen))


def test_stop_ends_a_source_and_the_graph_drains(tmp_path):
    with Rig(tmp_path, [N("a", "Frames", {"pause_ms": 1}), N("b", "Pass"), N("c", "Witness")], [E("a", "b"), E("b", "c")]) as rig:
        rig.start()
        rig.until(lambda: rig.status("c").consumed > 5, "some frames at the sink")
        for name in reversed(rig.members):  # the source last: the others may end as soon as it has
            rig.send(name, channel.Stop())
        assert {ended.exit for ended in rig.wait().values()} == {0}
        books = rig.books("a", "b")
        assert books.sent == books.completed == len(rig.lines("c"))


def test_sigterm_ends_a_process_at_the_next_packet(tmp_path):
    nodes = [N("a", "Frames"), N("c", "Witness", {"slow_ms": 1}), N("idle", "Parent"), N("d", "Witness")]
    with Rig(tmp_path, nodes, [E("a", "c"), E("idle", "d")]) as rig:
        rig.start()
        rig.until(lambda: rig.status("c").consumed > 5, "some frames at the sink")
        rig.until(lambda: rig.lines("idle"), "the idle source to wait")
        for name in rig.members:
            rig.kill(name, signal.SIGTERM)
        ended = rig.wait()
        assert [ended[name].failure for name in ended] == [None] * 4
        assert [ended[name].exit for name in ("a", "c", "d")] == [TERMINATED] * 3
        assert ended["idle"].exit in (TERMINATED, 0)  # 0: it was told before it had begun to wait, so its stream just ended
        assert not any(os.path.exists(rig.inbox(name)) for name in rig.members)


def test_sigint_is_left_to_the_coordinator(tmp_path):
    with Rig(tmp_path, [N("a", "Frames", {"count": 20, "gate_at": 10}), N("c", "Witness")], [E("a", "c")]) as rig:
        rig.start()
        rig.until(lambda: rig.status("c").consumed == 10, "ten frames")
        for name in rig.members:
            rig.kill(name, signal.SIGINT)
        rig.open_gate()
        assert {ended.exit for ended in rig.wait().values()} == {0}
        assert len(rig.lines("c")) == 20


def test_when_the_coordinator_is_gone_a_node_and_its_children_die_at_once(tmp_path):
    with Rig(tmp_path, [N("a", "Parent"), N("c", "Counting")], [E("a", "c")]) as rig:
        rig.start()
        child = rig.until(lambda: rig.lines("a"), "the child of the node")[0]["child"]
        for member in rig.members.values():
            member.control.close()
        for member in rig.members.values():
            assert member.process.wait(20) == -signal.SIGKILL
        rig.until(lambda: not _alive(child), "the end of the grandchild")
        assert not os.path.exists(rig.inbox("a"))


def _alive(pid: int) -> bool:
    try:
        with open(f"/proc/{pid}/stat") as file:
            return file.read().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False


def test_when_a_consumer_is_gone_for_good_its_packets_have_failed_and_the_others_go_on(tmp_path):
    nodes = [N("a", "Frames", {"count": 30, "gate_at": 15}), N("c", "Witness"), N("d", "Witness")]
    with Rig(tmp_path, nodes, [E("a", "c", depth=2), E("a", "d", depth=2)]) as rig:
        rig.start()
        rig.until(lambda: rig.status("c").consumed == 15 == rig.status("d").consumed, "fifteen frames at both sinks")
        rig.kill("d")
        rig.open_gate()
        rig.send("a", channel.PeerGone("d"))
        ended = rig.wait("a", "c")
        assert {end.exit for end in ended.values()} == {0}
        assert len(rig.lines("c")) == 30
        books = rig.books("a", "d")
        assert books.sent == 30
        assert books.failed >= 15


def test_when_a_producer_is_gone_for_good_its_consumer_finishes_what_it_has(tmp_path):
    with Rig(tmp_path, [N("a", "Frames", {"gate_at": 7}), N("b", "Pass"), N("c", "Witness")], [E("a", "b"), E("b", "c")]) as rig:
        rig.start()
        rig.until(lambda: rig.status("c").consumed == 7, "seven frames at the sink")
        rig.kill("a")
        rig.send("b", channel.PeerGone("a"))
        assert {end.exit for end in rig.wait("b", "c").values()} == {0}
        assert [line["digest"] for line in rig.lines("c")] == [digest(frame(number)) for number in range(7)]


def test_a_process_that_was_not_started_by_its_coordinator_ends_at_once(tmp_path):
    # It died between the spawn and the wish to die with it.
    with Rig(tmp_path, [N("c", "Counting")], [], coordinator_pid=1) as rig:
        ended = rig.wait()["c"]
        assert (ended.exit, ended.reports) == (1, [])


def test_messages_of_strangers_are_refused_and_counted_and_the_run_goes_on(tmp_path):
    with Rig(tmp_path, [N("a", "Frames", {"count": 20, "gate_at": 10}), N("c", "Witness")], [E("a", "c")]) as rig:
        rig.start()
        rig.until(lambda: rig.status("c").consumed == 10, "ten frames")
        noise = [b"", b"x", HEADER.pack(9, 0, 0, 0, 1, 0), data_one(7, 1, 0, 1, 1, 0, 0, b""), data_one(0, 9, 0, 99, 1, 0, 0, b"")]
        noise += [receipt(0, 1, 2**63, [(12, 0, 9)]), receipt(3, 1, 0, []), end(9, 1, 0), data_one(0, 1, 0, 99, 1, 4000, 0, b"")]
        for name in rig.members:
            stranger = rig.stranger(name)
            for raw in noise:
                stranger.send(sealed(raw, KEY))
            rig.until(lambda name=name: rig.status(name).refused == len(noise), f"{len(noise)} refusals by {name}")
            stranger.close()
        rig.open_gate()
        assert {ended.exit for ended in rig.wait().values()} == {0}
        assert [line["n"] for line in rig.lines("c")] == list(range(20))
        assert "message refused (1 so far)" in rig.log("c")
        assert rig.log("c").count("message refused") == 4  # the 1st, 2nd, 4th and 8th: noise must not fill the disk


def test_what_a_stranger_makes_without_the_key_of_the_run_is_refused_however_true_it_looks(tmp_path):
    # An END would end the stream, a RECEIPT would free a frame that is being read, a higher incarnation would turn the edge away.
    with Rig(tmp_path, [N("a", "Frames", {"count": 20, "gate_at": 10}), N("c", "Witness", {"keep": 1})], [E("a", "c")]) as rig:
        rig.start()
        rig.until(lambda: rig.status("c").consumed == 10, "ten frames")
        true = {
            "c": [end(0, 1, 10), end(0, 2, 10), data_one(0, 2, 1, 9, 1, 0, 0, b""), data_one(0, 1, 0, 9, 1, 0, 0, b""), WAKE_MESSAGE],
            "a": [receipt(0, 1, 10, [(9, entry, 0) for entry in range(rig.rings[0].entry_count)]), receipt(0, 1, 2**63, []), WAKE_MESSAGE],
        }
        for name, made in true.items():
            stranger = rig.stranger(name)
            for raw in made:
                stranger.send(raw)
                stranger.send(sealed(raw, KEY ^ 1))
            rig.until(lambda name=name, made=made: rig.status(name).refused == 2 * len(made), f"refusals by {name}")
            stranger.close()
        assert rig.books("a", "c").in_flight >= 1  # the frame that is kept was not given back
        rig.open_gate()
        assert {ended.exit for ended in rig.wait().values()} == {0}
        assert [line["n"] for line in rig.lines("c") if "n" in line] == list(range(20))
        assert rig.books("a", "c").failed == 0


def test_metadata_of_a_peer_that_leads_astray_fails_that_packet_only(tmp_path):
    with Rig(tmp_path, [N("a", "Frames", {"count": 4, "gate_at": 2}), N("c", "Witness")], [E("a", "c")]) as rig:
        rig.start()
        rig.until(lambda: rig.status("c").consumed == 2, "two frames")
        stranger = rig.stranger("c")
        for number in range(10):
            stranger.send(sealed(data_one(0, 1, 0, 500 + number, 1, 0, 0, b"\x9a" + bytes([number]) * 40), KEY))
        rig.until(lambda: rig.status("c").refused == 10, "ten refusals")
        stranger.close()
        rig.open_gate()
        rig.until(lambda: len(rig.lines("c")) == 4, "the frames after the refused packets")


def test_processes_that_wait_use_no_cpu(tmp_path):
    # After a burst, with a frame held by the sink: neither batches nor receipts may keep anything ticking.
    nodes = [N("a", "Frames", {"rest_at": 300}), N("b", "Pass"), N("c", "Witness", {"keep": 1}), N("d", "Witness")]
    with Rig(tmp_path, nodes, [E("a", "b", depth=64), E("b", "c", depth=64), E("a", "d", policy="latest")]) as rig:
        rig.start()
        rig.until(lambda: rig.status("c").consumed == 300, "the burst at the sink")
        names = list(rig.members)
        rig.until(lambda: _at_rest(rig, names), "every process to come to rest")
        before = {name: (_ticks(rig, name), _switches(rig, name)) for name in names}
        time.sleep(2)  # what is measured is that nothing happens meanwhile
        for name in names:
            assert _ticks(rig, name) - before[name][0] <= 2
            assert _switches(rig, name) - before[name][1] <= 4


def _ticks(rig: Rig, name: str) -> int:
    with open(f"/proc/{rig.members[name].process.pid}/stat") as file:
        columns = file.read().rpartition(")")[2].split()
    return int(columns[11]) + int(columns[12])


def _switches(rig: Rig, name: str) -> int:
    """Voluntary context switches of all threads: how often anything of the process woke up."""
    pid, total = rig.members[name].process.pid, 0
    for thread in os.listdir(f"/proc/{pid}/task"):
        with open(f"/proc/{pid}/task/{thread}/status") as file:
            total += next(int(line.split()[1]) for line in file if line.startswith("voluntary_ctxt"))
    return total


def _at_rest(rig: Rig, names: list[str]) -> bool:
    before = [_switches(rig, name) for name in names]
    time.sleep(0.15)  # longer than the idle delays after which a process has something left to do
    return before == [_switches(rig, name) for name in names]
