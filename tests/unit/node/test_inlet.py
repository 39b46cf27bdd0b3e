"""The consumer's side of one edge: what is let in, what is refused, and what is reported when."""

from __future__ import annotations

import random

import msgspec
import numpy as np
import pytest

from streamcore import StreamPacket, limits
from streamcore.errors import MessageError
from streamcore.node.lease import Record
from streamcore.packet import Meta, SlotRef, decode_meta, encode_json, encode_meta
from streamcore.wire import messages
from streamcore.wire.messages import data_many, data_one, read_header, read_receipt

WARM = limits.WARM_BYTES
FRAME = np.arange(60, dtype=np.uint8).reshape(4, 5, 3)


def deliver(consumer, raw: bytes) -> list[messages.Record]:
    return consumer.inlet.admit(raw, read_header(raw))


def take_raw(consumer, meta: bytes, sequence: int = 0, flags: int = 0) -> StreamPacket | None:
    consumer.forge_row(1, sequence)
    return consumer.inlet.take(deliver(consumer, data_one(0, 1, 0, sequence, 0, 1, flags, meta))[0])


def with_ref(**changes) -> bytes:
    fields = {"ring": 0, "slot": 0, "offset": 0, "nbytes": 60, "dtype": "uint8", "shape": (4, 5, 3), "strides": ()} | changes
    return encode_meta(Meta(b"i" * 16, "frame", "camera", 1, 2, ref=SlotRef(**fields)))


def receipts_of(consumer) -> list[tuple[int, list[messages.Completion]]]:
    found = [read_receipt(raw, read_header(raw).records) for raw in consumer.to_producer]
    consumer.to_producer.clear()
    return found


@pytest.fixture
def consumer(wire):
    """The far end of a block edge of depth 4; slot 0 of the ring holds FRAME."""
    wire.writer.slot_view(0, 60)[:] = FRAME.tobytes()
    return wire.consumers[0]


def test_a_packet_says_everything_that_its_producer_said(consumer):
    meta = Meta(b"i" * 16, "boxes", "camera", 11, 22, None, {"n": 1}, {"m": 2}, 33, [("camera", 44)])
    packet = take_raw(consumer, encode_meta(meta), sequence=55, flags=1)
    assert (packet.id16, packet.kind, packet.source_id, packet.wall_ns, packet.capture_ns) == (b"i" * 16, "boxes", "camera", 11, 22)
    assert (packet.payload, packet.meta, packet.position, packet.trace) == ({"n": 1}, {"m": 2}, 33, [("camera", 44)])
    assert (packet.sequence, packet.redelivered, packet.in_port, packet.port) == (55, True, "in", "")
    assert consumer.page.edge(0).redelivered == 1


BAD_REFERENCES = {
    "a ring that is not for this node": {"ring": 1},
    "a slot that does not exist": {"slot": 8 + limits.TAPS_PER_PORT_MAX},
    "outside its slot": {"offset": 65536 - 59},
    "a dtype that does not exist": {"dtype": "O"},
    "a wrong byte count": {"nbytes": 61},
    "a byte count that no counter holds": {"nbytes": 2**64 - 1},
    "a negative byte count": {"nbytes": -1},
    "a shape that numpy refuses": {"shape": (2**40, 2**40), "strides": (0, 0), "nbytes": 60},
    "more elements than numpy counts": {"shape": (2**62, 2), "strides": (0, 0), "nbytes": 2**63},
    "no msgpack": {"dtype": "msgpack", "shape": (60,)},
    "msgpack with gaps": {"dtype": "msgpack", "shape": (30,), "strides": (2,), "nbytes": 30},
}


@pytest.mark.parametrize("changes", BAD_REFERENCES.values(), ids=BAD_REFERENCES.keys())
def test_a_reference_that_leads_astray_fails_its_packet_and_nothing_else(consumer, changes):
    assert take_raw(consumer, with_ref(**changes)) is None
    assert consumer.inlet.refusal
    consumer.settle()
    consumer.inlet.flush(0)
    assert receipts_of(consumer) == [(1, [(0, 1, messages.FAILED)])]
    assert consumer.inlet.under_way == 0
    assert np.array_equal(take_raw(consumer, with_ref(), sequence=1).payload, FRAME)


def test_enormous_arrays_of_a_single_byte_do_not_overflow_the_counters(consumer):
    for sequence in range(5):
        packet = take_raw(consumer, with_ref(shape=(2**62,), strides=(0,), nbytes=2**62), sequence)
        assert packet.payload.nbytes == 2**62
    consumer.inlet.publish()
    assert consumer.page.edge(0).bytes < 2**64


def test_a_payload_nested_too_deep_fails_its_packet_and_nothing_else(wire, consumer):
    deep = b"\x91" * 50_000 + b"\xc0"
    wire.writer.slot_view(1, len(deep))[:] = deep
    assert take_raw(consumer, with_ref(slot=1, dtype="msgpack", shape=(len(deep),), nbytes=len(deep))) is None
    assert "msgpack" in consumer.inlet.refusal
    consumer.settle()
    assert consumer.inlet.under_way == 0


def test_mutated_metadata_fails_its_packet_or_gives_one_whose_payload_can_be_read(wire, consumer):
    chance, refused = random.Random(11), 0
    small = encode_json({"a": [1, 2.5, None, "x"]})
    wire.writer.slot_view(1, len(small))[:] = small
    seeds = [
        with_ref(offset=3, shape=(3, 4), strides=(15, -1), nbytes=12),
        with_ref(slot=1, dtype="msgpack", shape=(len(small),), nbytes=len(small)),
        with_ref(dtype="", shape=(60,), strides=()),
        with_ref(dtype="float64", shape=(2,), nbytes=16),
    ]
    for sequence in range(20_000):
        raw = bytearray(seeds[sequence % len(seeds)])
        for _ in range(1 + sequence % 3):
            raw[23 + int(chance.random() * (len(raw) - 23))] = int(chance.random() * 256)  # behind the id and the kind
        packet = take_raw(consumer, bytes(raw), sequence)
        if packet is None:
            refused += 1
        else:
            if isinstance(packet.payload, np.ndarray) and packet.payload.nbytes <= 1 << 20:
                packet.payload.tobytes()  # reads every byte: a view that left the ring could crash here
            packet.parent.settle()
        del packet
    consumer.settle()
    consumer.inlet.flush(0)
    assert consumer.inlet.under_way == 0
    assert 4_000 < refused < 20_000


@pytest.mark.parametrize(
    ("raw", "why"),
    [
        (data_one(0, 1, 0, 0, 0, 8, 0, b""), "entry 8, the ring has 8"),
        (data_many(0, 1, 0, [(0, 0, 1, 0, b""), (1, 0, 2**32 - 1, 0, b"")]), "entry 4294967295"),
        (data_one(0, 1, 0, 0, 0, 1, 0, b"abc")[:-1], "metadata announced"),
        (data_one(0, 1, 0, 500, 0, 1, 0, b""), "sequence 500 in entry 1, the table has"),
    ],
)
def test_a_message_that_names_what_does_not_exist_is_refused_whole(consumer, raw, why):
    with pytest.raises(MessageError, match=why):
        deliver(consumer, raw)
    assert consumer.inlet.waiting == 0


def test_a_refused_packet_of_hostile_metadata_says_why(consumer):
    assert take_raw(consumer, b"\xc1nonsense") is None
    assert "metadata refused" in consumer.inlet.refusal
    consumer.settle()
    assert consumer.inlet.under_way == 0


# --- when is what reported


def arrive(wire, count: int) -> None:
    for number in range(count):
        wire.emit({"n": number})
    wire.consumers[0].arrive()


def finish(packet: StreamPacket) -> None:
    packet.parent.settle()


def test_nothing_is_due_before_half_the_depth_was_taken(wire, consumer):
    arrive(wire, 4)
    kept = [consumer.take()]
    assert not consumer.inlet.due
    assert consumer.inlet.unreported
    kept.append(consumer.take())
    assert consumer.inlet.due


def test_half_a_depth_of_completions_is_due_as_well(wire, consumer):
    arrive(wire, 4)
    kept = [consumer.take() for _ in range(4)]
    consumer.inlet.flush(0)
    assert not consumer.inlet.due
    for due in (False, True):
        finish(kept.pop())
        consumer.settle()
        assert consumer.inlet.due is due


def test_a_receipt_reports_everything_once(wire, consumer):
    arrive(wire, 3)
    kept = [consumer.take() for _ in range(3)]
    entries = [packet.parent.entry for packet in kept]
    finish(kept.pop(1))
    consumer.settle()
    consumer.inlet.flush(0)
    assert receipts_of(consumer) == [(3, [(1, entries[1], messages.OK)])]
    assert not consumer.inlet.unreported
    for packet in kept:
        packet.parent.outcome = messages.FAILED
        finish(packet)
    kept.clear()
    del packet
    consumer.settle()
    consumer.inlet.flush(0)
    ((taken_upto, completions),) = receipts_of(consumer)
    assert taken_upto == 3
    assert sorted(completions) == [(0, entries[0], messages.FAILED), (2, entries[2], messages.FAILED)]


def test_more_completions_than_a_message_holds_go_into_several(consumer):
    meta = encode_meta(Meta(b"i" * 16, "n", "x", 1, 2, value=1))
    for sequence in range(messages.RECEIPTS_MAX + 10):
        finish(take_raw(consumer, meta, sequence))
    consumer.settle()
    consumer.inlet.flush(0)
    found = receipts_of(consumer)
    assert [len(completions) for _, completions in found] == [messages.RECEIPTS_MAX, 10]
    assert [sequence for _, completions in found for sequence, _, _ in completions] == list(range(messages.RECEIPTS_MAX + 10))


def test_a_producer_that_asks_is_remembered_until_it_is_answered(wire, consumer):
    wire.emit({"n": 1}, pressed=True)
    consumer.arrive()
    assert consumer.inlet.want
    consumer.inlet.flush(123)
    assert (consumer.inlet.want, consumer.inlet.flushed_ns) == (False, 123)


def test_what_node_code_never_let_go_of_is_given_back_at_the_end(wire, consumer):
    arrive(wire, 2)
    kept = [consumer.take(), consumer.take()]
    finish(kept[0])
    consumer.inlet.give_up()
    consumer.inlet.flush(0)
    wire.receipts()
    assert wire.is_empty()
    kept.clear()
    consumer.settle()  # the finalizers come too late and change nothing
    assert consumer.inlet.under_way == 0


def test_a_packet_is_marked_when_it_is_used_up_and_completed_when_its_outputs_are():
    marked: list[Record] = []
    completed: list[Record] = []
    record = Record(None, 1, 2, marked.append, completed.append)
    record.outputs += 1  # that depends on it
    record.settle()
    assert (marked, completed) == ([], [])
    record.settle()
    assert (marked, completed) == ([record], [])
    record.settle_output()
    assert (marked, completed) == ([record], [record])


def test_counters_say_what_waits_and_what_is_held(wire, consumer):
    arrive(wire, 3)
    kept = [consumer.take()]
    consumer.inlet.publish()
    counts = consumer.page.edge(0)
    assert (counts.taken, counts.waiting, counts.in_flight) == (1, 2, 1)
    wire.emit(FRAME)
    kept += [consumer.take() for _ in range(3)]
    consumer.inlet.publish()
    assert consumer.page.edge(0).bytes == FRAME.nbytes


def test_metadata_in_the_ring_is_the_metadata_that_was_sent(wire):
    # The table is what a successor of the producer goes by.
    wire.emit({"n": 1}, meta={"m": 2})
    entry, _ = wire.writer.pending_on(1)[0]
    g = wire.writer.geometry
    start = g.meta_offset + entry * g.meta_bytes
    stored = bytes(wire.writer.memory[start : start + g.meta_bytes])
    sent = messages.read_data(wire.consumers[0].to_it[0], 1)[0][4]
    assert stored[: len(sent)] == sent
    assert decode_meta(sent).value == {"n": 1}
    assert msgspec.msgpack.decode(sent)[0] == decode_meta(sent).id16


def test_a_latest_edge_reports_when_work_is_over_not_when_it_begins(make_wire):
    # What its producer sends on that word is the freshest there is; sent at the beginning of 40 ms of work it would be 40 ms old.
    wire = make_wire("latest", depth=1)
    consumer = wire.consumers[0]
    arrive(wire, 1)
    packet = consumer.take()
    assert not consumer.inlet.due
    packet.parent.settle()
    del packet
    consumer.settle()
    assert consumer.inlet.due


def let_go(wire, nbytes, count=1):
    """The consumer takes and completes so many frames; after each of them: is a receipt due."""
    consumer, found = wire.consumers[0], []
    for _ in range(count):
        wire.emit(np.zeros(nbytes, np.uint8))
        packet = consumer.take()
        packet.parent.settle()
        del packet
        consumer.settle()
        found.append(consumer.inlet.due)
    return found


@pytest.mark.parametrize("count", [1, 4])  # in one receipt: 4K at 300/s has 13 ms between two of four frames each
@pytest.mark.parametrize(("nbytes", "late_ns", "due"), [(2 * WARM, 0, True), (2 * WARM, 1, False), (WARM, 0, True), (WARM - 1, 0, False)])
def test_a_large_payload_is_given_back_at_once_where_frames_come_fast(make_wire, nbytes, late_ns, due, count):
    # Its slot is the one that the cache still has; a while later it is not.
    wire = make_wire(depth=8, slot_bytes=2 * WARM)
    consumer, now_ns = wire.consumers[0], 10**9
    consumer.inlet.flush(now_ns)
    assert let_go(wire, nbytes, count) == [False] * (count - 1) + [count == 4]
    consumer.inlet.flush(now_ns + count * nbytes * limits.WARM_NS // WARM + late_ns)
    wire.receipts()
    assert let_go(wire, nbytes) == [due]


@pytest.mark.parametrize(("depth", "large"), [(15, WARM), (16, limits.WARM_BYTES_DEEP)])
def test_of_smaller_payloads_as_many_are_given_back_together_as_make_a_large_one(make_wire, depth, large):
    # More of them where packets share messages as well.
    wire = make_wire(depth=depth, slot_bytes=large)
    consumer = wire.consumers[0]
    consumer.inlet.flush(10**9)
    assert let_go(wire, large // 3) == [False]
    consumer.inlet.flush(10**9 + 1)
    assert let_go(wire, large // 3, 3) == [False, False, True]
    consumer.inlet.flush(10**9 + 2)
    assert let_go(wire, large // 3) == [False]


@pytest.mark.parametrize(
    ("completion", "outcome", "again"),
    [("delivered", messages.AWAY, True), ("delivered", messages.OK, False), ("hop", messages.AWAY, False)],
)
def test_what_was_not_delivered_is_no_repeat_when_it_comes_again(make_wire, completion, outcome, again):
    # Who waits for the delivery sends it again under its old id, after a death of its own as well.
    wire = make_wire("block", completion=completion)
    consumer = wire.consumers[0]
    consumer.inlet.producer_restarted(2)
    wire.emit({"n": 1}, position=7)
    packet = consumer.take()
    packet.parent.outcome = outcome
    packet.parent.settle()
    del packet
    wire.report()
    wire.emit({"n": 1}, position=7)
    packet = consumer.take()
    assert (packet is not None) is again


@pytest.mark.parametrize("outcome", [messages.OK, messages.DROPPED, messages.AWAY, messages.FAILED])
def test_a_repeat_is_answered_with_the_outcome_of_the_first_time(wire, consumer, outcome):
    # Else a producer that has died before it heard of a failure takes for delivered what was not.
    wire.emit({"n": 1})
    consumer.arrive()
    packet = consumer.take()
    packet.parent.outcome = outcome
    packet.parent.settle()
    del packet
    consumer.settle()
    consumer.inlet.flush(0)
    assert receipts_of(consumer) == [(1, [(0, 0, outcome)])]
    consumer.inlet.producer_restarted(2)
    assert deliver(consumer, data_one(0, 2, 0, 0, 0, 0, 1, wire.writer.meta_of(0))) == []
    consumer.inlet.flush(0)
    assert receipts_of(consumer) == [(1, [(0, 0, outcome)])]


def test_an_output_that_was_not_delivered_is_told_by_the_mark_of_its_input(wire, consumer):
    # Its row forgets it when it is free: who dies then leaves nothing but the mark.
    wire.emit({"n": 1})
    consumer.arrive()
    packet = consumer.take()
    record = packet.parent
    record.outputs = 1
    record.worsen(messages.DROPPED)
    assert consumer.inlet._marked(record.entry, 0) == -1  # it is not processed yet
    record.settle()
    del packet
    consumer.settle()
    assert consumer.inlet._marked(record.entry, 0) == messages.DROPPED
    record.worsen(messages.AWAY)
    record.worsen(messages.DROPPED)
    assert consumer.inlet._marked(record.entry, 0) == messages.AWAY
    record.settle_output()
    consumer.inlet.flush(0)
    assert receipts_of(consumer) == [(1, [(0, 0, messages.AWAY)])]
