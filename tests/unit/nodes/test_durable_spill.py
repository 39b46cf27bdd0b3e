"""durable.spill without processes: a consumer whose room the test decides, a disk that fills up, and lives that end anywhere."""

from __future__ import annotations

import logging
import os
from typing import Any

import numpy as np
import pytest

from streamcore import StreamPacket
from streamcore.node.api import attach
from streamcore.testing import Bench, check_config, run_node
from streamcore_nodes import durable_spill
from streamcore_nodes.durable_spill import DurableSpill

PICTURE = np.random.default_rng(1).integers(0, 256, (48, 64, 3), "uint8")


def packets(numbers, **more) -> list[StreamPacket]:
    made = [StreamPacket.new(kind="event", source_id="cam", payload={"n": n}, meta={"own": n}, **more) for n in numbers]
    for n, packet in zip(numbers, made, strict=True):
        packet.id16 = n.to_bytes(16, "big")
    return made


class Life(Bench):
    """One process of the node: `room` packets fit its output; what it emits is completed when the test says so."""

    def __init__(self, path, room: int = 0, run_id: str = "r1", **config: Any):
        node = DurableSpill()
        super().__init__(node, "b.spill", None)
        self.room, self.run_id, self.has_consumer, self.emitted = room, run_id, True, []
        attach(node, "b.spill", check_config(DurableSpill, {"path": str(path), "max_bytes": "16MiB", "wait_s": 0, **config}), self)
        node.setup()

    def outlet(self, port: str) -> Any:
        return self

    has_room = property(lambda self: self.room > 0 or not self.has_consumer)

    def glance(self) -> None:
        pass

    def emit(self, packet: StreamPacket) -> None:
        self.room -= 1
        self.emitted.append(packet)

    def give(self, *numbers: int) -> None:
        assert self.node.taking
        self.emit_each(self.node.process_batch(packets(numbers)))

    def turn(self) -> None:
        """What the host does between inputs."""
        while self.has_room and (packet := self.node.pull()) is not None:
            self.emit(packet)
        if not self.has_room:
            self.node.blocked()

    def complete(self, count: int | None = None, outcome: str = "ok") -> None:
        for packet in self.emitted[:count]:
            self.node.on_completed(packet, outcome)
        del self.emitted[:count]

    @property
    def numbers(self) -> list[int]:
        return [packet.payload["n"] for packet in self.emitted]

    @property
    def told(self) -> tuple[float, float]:
        return self.outputs.metrics["spilled"], self.outputs.metrics["waiting"]


def test_with_room_it_forwards_the_packet_itself(tmp_path):
    given = StreamPacket.new(kind="frame", source_id="cam", payload=PICTURE, meta={"frame": 3}, position=7)
    (out,) = run_node(DurableSpill, [given], {"path": str(tmp_path / "s")})
    assert out.payload.base is PICTURE
    assert (out.id16, out.kind, out.source_id, out.meta, out.wall_ns, out.capture_ns) == (
        *(given.id16, "frame", "cam", {"frame": 3}, given.wall_ns, given.capture_ns),
    )


def test_what_finds_no_room_is_stored_and_comes_before_anything_newer(tmp_path):
    life = Life(tmp_path, room=2)
    life.give(1, 2, 3, 4)
    assert (life.numbers, life.told) == ([1, 2], (2, 2))
    life.room = 2
    life.give(5)  # there is room again, but not for this one first
    life.turn()
    life.give(6)
    life.room = 9
    life.turn()
    life.give(7)  # nothing waits any more
    assert (life.numbers, life.told[0]) == ([1, 2, 3, 4, 5, 6, 7], 4)
    assert [packet.id16 for packet in life.emitted] == [packet.id16 for packet in packets(range(1, 8))]
    assert life.emitted[3].meta == {"own": 4}
    life.complete()
    life.node.close()
    assert life.told == (4, 0)


@pytest.mark.parametrize("payload", [{"a": [1, None, "ä"]}, "text", None, b"bytes", PICTURE, PICTURE[::2, ::3], PICTURE.astype("float64")])
def test_payloads_come_back_from_the_disk_as_they_were(tmp_path, payload):
    life = Life(tmp_path)
    life.emit_each(life.node.process_batch([StreamPacket.new(kind="k", source_id="s", payload=payload)]))
    life.room = 1
    life.turn()
    (out,) = life.emitted
    same = np.array_equal(out.payload, payload) and out.payload.dtype == payload.dtype if isinstance(payload, np.ndarray) else None
    assert out.payload == payload if same is None else same


def test_a_short_wait_for_room_is_no_reason_to_write(tmp_path):
    life = Life(tmp_path, room=1, wait_s=60)
    life.give(1, 2, 3)
    assert not life.node.taking
    life.turn()
    assert (life.told[0], life.node.pull_at_ns is not None) == (0, True)
    life.room = 5
    life.turn()
    assert (life.numbers, life.node.taking, life.told[0]) == ([1, 2, 3], True, 0)


def test_a_full_disk_keeps_inputs_waiting_and_the_order(tmp_path):
    big = {"pad": "x" * 200_000}
    life = Life(tmp_path, max_bytes="4MiB")
    given = packets(range(60))
    for packet in given:
        packet.payload = {**packet.payload, **big}
    queue = list(given)
    while life.node.taking and queue:
        life.emit_each(life.node.process_batch([queue.pop(0) for _ in range(min(4, len(queue)))]))
    assert not life.node.taking
    assert 0 < life.told[0] < 20
    while queue or life.node.pending:
        life.room = 3
        life.turn()
        for packet in life.emitted[-3:]:
            life.node.on_completed(packet, "ok")
        if life.node.taking and queue:
            life.emit_each(life.node.process_batch([queue.pop(0)]))
    assert life.numbers == [*range(60)]


def test_dropping_is_counted_if_it_is_asked_for(tmp_path):
    life = Life(tmp_path, max_bytes="4MiB", full="drop_new")
    for n in range(30):
        (packet,) = packets([n])
        packet.payload = {"n": n, "pad": "x" * 200_000}
        life.emit_each(life.node.process_batch([packet]))
    spilled, _ = life.told
    assert (life.node.taking, spilled + life.outputs.metrics["dropped"]) == (True, 30)


def test_what_cannot_be_stored_waits_for_the_consumer_in_its_place(tmp_path):
    life = Life(tmp_path, codec="png")
    odd = StreamPacket.new(kind="k", source_id="s", payload=np.zeros((3, 3), "float32"))
    life.give(1)
    life.emit_each(life.node.process_batch([odd, *packets([2])]))
    assert (life.told[0], life.node.taking) == (1, False)
    life.room = 3
    life.turn()
    assert [packet.id16 for packet in life.emitted] == [packets([1])[0].id16, odd.id16, packets([2])[0].id16]


def test_a_successor_delivers_what_was_not_completed_once_each_and_in_order(tmp_path):
    first = Life(tmp_path, room=1)
    first.give(1, 2, 3, 4, 5)
    first.room = 2
    first.turn()
    first.complete(2)  # 1 and 2; the answer for 2 is not on the disk when it dies
    second = _after_a_kill(first, tmp_path)
    second.node.on_completed(packets([3])[0], "ok")  # adopted by the host, and completed before its record was read
    second.room = 9
    second.turn()
    second.give(6)
    assert (second.numbers, [packet.redelivered for packet in second.emitted][:3]) == ([2, 4, 5, 6], [True, True, True])
    second.complete()
    second.node.close()
    assert second.told[1] == 0


def test_inputs_that_come_again_are_stored_once_per_run(tmp_path):
    first = Life(tmp_path)
    first.give(1, 2)
    second = _after_a_kill(first, tmp_path)
    second.give(1, 2, 3)
    assert second.told == (1, 3)
    third = _after_a_kill(second, tmp_path, run_id="r2")  # another run gives the same ids to packets of its own
    third.give(1)
    assert third.told == (1, 4)


def test_answers_are_written_before_a_consumer_can_forget_the_ids(tmp_path):
    # A kill takes the answers that are not written; what is delivered again then has to be among the last packets that the consumer knows.
    life = Life(tmp_path)
    for n in range(100):
        life.give(n)
    unwritten = []
    for _ in range(99):
        life.room = 1
        life.node.answered_ns += 10**12  # no time passes
        life.turn()
        life.complete(1)
        unwritten.append(life.node.emitted - life.node.emitted_then if life.node.answers else 0)
    assert max(unwritten) <= durable_spill.ANSWERS_PACKETS < 64


def test_a_stop_leaves_what_is_stored_and_a_consumer_that_is_gone_takes_nothing_of_it(tmp_path):
    life = Life(tmp_path, room=1)
    life.give(1, 2, 3)
    life.room = 1
    life.turn()
    assert life.node.pending
    life.has_consumer = False
    life.complete(outcome="failed")
    life.give(4)
    life.turn()
    assert (life.numbers, life.node.pending) == ([4], False)  # it fails at once, as on any edge without a consumer
    life.node.flush()
    life.node.close()
    life = Life(tmp_path, room=5, run_id="r2")
    assert life.node.pending
    life.stopping = True
    assert not life.node.pending
    life.turn()
    assert life.numbers == [2, 3]


def test_what_the_consumer_did_before_it_ended_is_not_kept_for_the_next_run(tmp_path):
    # Its last receipts and the word that it has ended are answered in one look, and this node is told after both.
    life = Life(tmp_path)
    life.give(1, 2, 3)
    life.room = 3
    life.turn()
    assert life.numbers == [1, 2, 3]
    life.has_consumer = False
    life.complete()
    life.node.flush()
    assert life.node.store.waiting == 0
    life.node.close()


def _after_a_kill(life: Life, path, run_id: str = "r1") -> Life:
    """The files as they are; what the process had in memory is gone."""
    store = life.node.store
    store._environment.close()
    os.close(store._owner)
    return Life(path, run_id=run_id)


def test_the_log_says_when_an_edge_begins_to_spill_and_not_each_time(tmp_path, caplog):
    with caplog.at_level(logging.INFO):
        life = Life(tmp_path)
        for n in range(5):
            life.give(n)
            life.room = 1
            life.turn()
            life.complete()
            life.room = 0
    assert [record.args[1] for record in caplog.records if "no room" in record.message] == [1, 2, 4]


def test_what_is_still_under_way_is_not_taken_a_second_time(tmp_path):
    # A source that was restarted begins at the oldest packet that is not completed, and what was passed on is in no store.
    life = Life(tmp_path, room=2)
    life.give(1, 2, 3)
    life.give(1, 2, 3, 4)
    life.room = 9
    life.turn()
    assert (life.numbers, life.told[0]) == ([1, 2, 3, 4], 2)
    life.complete()
    assert not life.node.passing
    again = packets([2, 3, 4, 5])
    for packet in again:
        packet.redelivered = True
    life.emit_each(life.node.process_batch(again))
    assert life.numbers == [2, 5]  # that it passed 2 on the consumer knows better
