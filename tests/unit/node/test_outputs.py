"""What becomes of an output: its id, its kind, and what its author is told of it."""

from __future__ import annotations

import numpy as np
import pytest

from streamcore import Port, StreamPacket
from streamcore.node.lease import Record
from streamcore.packet import source_id16
from streamcore.shm.ring import RingWriter
from streamcore.wire import messages

FRAME = np.arange(4 * 6 * 3, dtype=np.uint8).reshape(4, 6, 3)


class Delivered:
    """An input edge as a record sees it."""

    delivered = False

    class plan:
        id, to_port = 9, "in"


def an_input(payload: object = None) -> StreamPacket:
    packet = StreamPacket.new(kind="frame", source_id="test", payload=payload)
    packet.parent = Record(Delivered, 3, 1, lambda record: None, lambda record: None)
    return packet


def ids_of(wire, packets: list[StreamPacket]) -> list[str]:
    found = []
    for packet in packets:
        wire.outlet.emit(packet, False)
        found.append(wire.consumers[0].take().packet_id)
        wire.finish()
    return found


def again(packet: StreamPacket) -> StreamPacket:
    """The same input, delivered again to a successor."""
    repeat = an_input()
    repeat.id16 = packet.id16
    return repeat


def test_the_entry_of_an_output_names_the_input_whose_memory_it_forwards(make_wire):
    # Its successor must not give that frame back while somebody views it, whatever else the output was derived from.
    upstream, downstream = make_wire(), make_wire(forwards=frozenset({"in"}))
    consumer = upstream.consumers[0]
    consumer.inlet.delivered = True
    upstream.emit(FRAME)
    upstream.emit(FRAME)
    older, newer = consumer.take(), consumer.take()
    downstream.outlet.emit(newer.derive(payload=older.payload), False)
    (row,) = RingWriter(downstream.memory, downstream.shape).adopted
    assert row.parent == (consumer.inlet.plan.id, older.parent.entry, older.parent.sequence)
    assert (older.parent.outputs, newer.parent.outputs) == (1, 1)


def test_outputs_get_the_same_ids_when_their_inputs_are_repeated_in_other_batches(wire, make_wire):
    # After a crash the inputs come again, but not necessarily cut into the same batches: the ids must not depend on that.
    first, second = an_input(), an_input()
    once = ids_of(wire, [first.derive(payload=1), second.derive(payload=2), first.derive(payload=3)])
    first, second = again(first), again(second)
    twice = ids_of(make_wire(), [first.derive(payload=1), first.derive(payload=3), second.derive(payload=2)])
    assert twice == [once[0], once[2], once[1]]
    assert len(set(once)) == 3


def test_an_output_that_was_dropped_takes_its_id_with_it(make_wire):
    # Else the next output would get the id of the dropped one, and a repeat would be taken for another packet.
    lossy, given = make_wire("drop_new", depth=1), an_input()
    lossy.outlet.emit(given.derive(payload=1), False)
    lossy.outlet.emit(given.derive(payload=2), False)
    assert lossy.edges[0].credit.dropped == 1
    lossy.finish()
    lossy.outlet.emit(given.derive(payload=3), False)
    third = lossy.consumers[0].take().packet_id
    given = again(given)
    assert ids_of(make_wire(), [given.derive(payload=n) for n in (1, 2, 3)])[2] == third


def test_a_packet_with_a_position_has_the_id_of_that_position(wire):
    wire.emit(1, position=77)
    packet = wire.consumers[0].take()
    assert (packet.id16, packet.position) == (source_id16("camera", "out", 77), 77)


def test_the_kind_is_the_ports_unless_the_port_takes_any(make_wire):
    for port_kind, expected in (("boxes", "boxes"), ("any", "mine")):
        wire = make_wire(port=Port(port_kind, "any"))
        wire.emit(1, kind="mine")
        assert wire.consumers[0].take().kind == expected


@pytest.mark.parametrize(("outcome", "name"), [(messages.OK, "ok"), (messages.FAILED, "failed")])
def test_an_author_is_told_what_became_of_each_packet(wire, outcome, name):
    told = []
    wire.outlet.on_completed = lambda packet, code: told.append((packet.packet_id, packet.meta, packet.payload, messages.OUTCOMES[code]))
    wire.emit(FRAME, meta={"n": 1})
    packet = wire.consumers[0].take()
    packet.parent.outcome = outcome
    packet.parent.settle()
    packet_id = packet.packet_id
    del packet
    wire.report()
    assert told == [(packet_id, {"n": 1}, None, name)]


def test_an_author_who_is_told_does_not_thereby_keep_the_memory(wire):
    # What waits to be told must not hold the slot that the author waits for.
    wire.outlet.on_completed = lambda packet, code: kept.append(packet)
    kept: list[StreamPacket] = []
    for _ in range(3 * wire.shape.slot_count):
        wire.emit(wire.outlet.loan((4, 6, 3), np.uint8, 0))
        wire.finish()
    assert len(kept) == 3 * wire.shape.slot_count


def test_an_author_is_told_of_dropped_packets_too(make_wire):
    told = []
    wire = make_wire("latest", slots=6)
    wire.outlet.on_completed = lambda packet, code: told.append((packet.meta["n"], messages.OUTCOMES[code]))
    for number in range(4):
        wire.emit(FRAME, meta={"n": number})
    assert told == [(1, "dropped"), (2, "dropped")]


def test_the_outcome_of_a_packet_is_the_worst_of_its_edges(make_wire):
    told = []
    wire = make_wire("block", "block")
    wire.outlet.on_completed = lambda packet, code: told.append(messages.OUTCOMES[code])
    wire.emit(FRAME)
    for number, outcome in ((0, messages.FAILED), (1, messages.OK)):
        packet = wire.consumers[number].take()
        packet.parent.outcome = outcome
        packet.parent.settle()
        del packet
    wire.report()
    assert told == ["failed"]


def test_a_successor_knows_the_outcome_of_the_edges_that_its_predecessor_heard_of(make_wire):
    wire = make_wire("block", "block")
    wire.emit({"n": 1})
    packet = wire.consumers[0].take()
    packet.parent.outcome = messages.FAILED
    packet.parent.settle()
    del packet
    wire.report()
    (row,) = RingWriter(wire.writer.memory, wire.shape).adopted
    assert (row.pending, row.outcome) == (wire.edges[1].bit, messages.FAILED)
    writer = RingWriter(wire.writer.memory, wire.shape)
    writer.mark_redelivered(row.entry)
    assert RingWriter(wire.writer.memory, wire.shape).adopted == [row]


def test_what_an_ended_consumer_could_not_report_is_told_by_the_coordinator(make_wire):
    told = []
    wire = make_wire("block")
    wire.outlet.on_completed = lambda packet, code: told.append((packet.meta["n"], messages.OUTCOMES[code]))
    for number in range(3):
        wire.emit({"n": 1}, meta={"n": number})
    wire.edges[0].last_outcomes[1] = messages.AWAY
    wire.outlet.on_done(wire.edges[0])
    assert told == [(0, "ok"), (1, "away"), (2, "ok")]
    books = wire.page.edge(0)
    assert (books.sent, books.completed, books.failed, books.in_flight) == (3, 2, 1, 0)
