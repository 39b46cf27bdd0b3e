"""One output port: what is committed, what is refused, and that neither leaves a row or a slot behind."""

from __future__ import annotations

from contextlib import suppress

import numpy as np
import pytest

from streamcore import Port, array, limits
from streamcore.errors import PayloadError, PayloadTooLarge

FRAME = np.arange(4 * 6 * 3, dtype=np.uint8).reshape(4, 6, 3)

PAYLOADS = {
    "none": None,
    "text": "héllo",
    "number": 3.5,
    "mapping": {"boxes": [[1, 2, 3, 4]], "n": None},
    "list": [1, [2, "x"]],
    "big mapping": {"text": "x" * 5000},
    "bytes": b"\0\1\2" * 100,
    "no bytes": b"",
    "frame": FRAME,
    "floats": np.linspace(0, 1, 30).reshape(5, 6),
    "empty array": np.zeros((0, 7, 3), np.uint8),
    "a single number": np.array(7, np.int64),
    "turned array": FRAME[::-1, ::2].T,
    "spread out": np.broadcast_to(np.arange(3, dtype=np.uint8), (5, 3)),
}


def same(found, expected) -> bool:
    if isinstance(expected, np.ndarray):
        return found.dtype == expected.dtype and np.array_equal(found, expected) and found.shape == expected.shape
    return bytes(found) == bytes(expected) if isinstance(expected, (bytes, bytearray, memoryview)) else found == expected


@pytest.mark.parametrize("payload", PAYLOADS.values(), ids=PAYLOADS.keys())
def test_every_payload_arrives_as_it_was_and_leaves_nothing_behind(wire, payload):
    wire.emit(payload, meta={"n": 1})
    packet = wire.consumers[0].take()
    assert same(packet.payload, payload)
    assert packet.meta == {"n": 1}
    packet.parent.settle()
    del packet
    wire.report()
    assert wire.is_empty()


@pytest.mark.parametrize("kind", [bytes, bytearray, memoryview])
@pytest.mark.parametrize("size", [0, 5, limits.INLINE_BYTES_MAX, limits.INLINE_BYTES_MAX + 1])
def test_bytes_of_every_kind_and_size_arrive_as_a_memoryview(wire, kind, size):
    wire.emit(kind(b"h" * size))
    payload = wire.consumers[0].take().payload
    assert type(payload) is memoryview and payload.readonly and payload == b"h" * size


def test_bytes_under_way_at_once_do_not_touch_each_other(wire):
    payloads = [bytes(range(first, 256)) * 9 for first in range(3)]
    for payload in payloads:
        wire.emit(payload)
    assert [bytes(wire.consumers[0].take().payload) for _ in payloads] == payloads


def test_few_bytes_need_no_slot_but_a_view_of_a_loan_stays_where_it_is(make_wire):
    wire = make_wire(meta_bytes=8192)
    wire.emit(b"x" * limits.INLINE_BYTES_MAX)
    assert (wire.writer.free_slots, wire.outlet.copied) == (wire.shape.slot_count, 0)
    wire.emit(memoryview(wire.outlet.loan((16,), np.uint8, 0)))
    assert (wire.writer.free_slots, wire.outlet.copied) == (wire.shape.slot_count - 1, 0)
    wire.emit(b"x" * (limits.INLINE_BYTES_MAX + 1))
    assert wire.outlet.copied == 1


def reshaped_in_place(loan: np.ndarray) -> np.ndarray:
    loan.shape = (24, 3)
    return loan


CUTS = {
    "the whole": lambda whole: whole,
    "reshaped in place": reshaped_in_place,
    "all of it once more": lambda whole: whole[:],
    "of another shape": lambda whole: whole.reshape(12, 6),
    "without the first row": lambda whole: whole[1:],
    "a corner": lambda whole: whole[1:3, 2:5],
    "upside down": lambda whole: whole[::-1],
    "turned": lambda whole: whole.T,
    "of another type": lambda whole: whole.reshape(-1)[8:16].view(np.uint32),
    "a view of a view": lambda whole: whole[1:][1:, :, 2],
    "as bytes": lambda whole: memoryview(whole)[1:],
}


@pytest.mark.parametrize("cut", CUTS.values(), ids=CUTS.keys())
def test_what_is_cut_from_a_loan_arrives_without_a_copy(wire, cut):
    spare = wire.outlet.loan((4, 6, 3), np.uint8, 0)  # so that the slot is not the first
    loan = wire.outlet.loan((4, 6, 3), np.uint8, 0)
    loan[:] = FRAME
    wire.emit(cut(loan))
    assert same(wire.consumers[0].take().payload, cut(FRAME.copy()))
    assert wire.outlet.copied == 0
    del spare


@pytest.mark.parametrize("dtype", ["uint8", np.uint8, np.dtype(np.uint8), "u1", ("uint8", (1,))], ids=str)
def test_the_type_of_a_loan_may_be_written_in_every_way_that_numpy_knows(wire, dtype):
    for _ in range(2):  # the second time it is known
        if isinstance(dtype, tuple):
            with pytest.raises(PayloadError, match=r"port \w+\.\w+: a loan of dtype .* cannot travel"):
                wire.outlet.loan((4, 6, 3), dtype, 0)
        else:
            assert wire.outlet.loan((4, 6, 3), dtype, 0).dtype == np.uint8
    with pytest.raises(PayloadError, match="a loan of dtype complex128 cannot travel"):
        wire.outlet.loan((4, 6, 3), complex, 0)
    with pytest.raises(PayloadError, match="a loan of dtype >u2 cannot travel"):
        wire.outlet.loan((4, 6, 3), ">u2", 0)


def test_a_large_loan_first_looks_for_slots_that_were_given_back(make_wire):
    # A frame then lands where the last one was read, while the cache still has that memory.
    wire = make_wire(slot_bytes=2 * limits.WARM_BYTES)
    wire.emit(np.zeros(limits.WARM_BYTES, np.uint8))
    packet = wire.consumers[0].take()
    first = packet.payload.__array_interface__["data"][0] - wire.reader.slots_address
    packet.parent.settle()
    del packet
    wire.outlet.glance = wire.report
    small = wire.outlet.loan((limits.WARM_BYTES // 2 - 1,), np.uint8, 0)
    large = wire.outlet.loan((limits.WARM_BYTES // 2,), np.uint8, 0)
    places = [loan.__array_interface__["data"][0] - wire.writer.slots_address for loan in (small, large)]
    assert places[0] != first and places[1] == first


def test_few_bytes_that_do_not_fit_the_metadata_go_to_a_slot_as_bytes(make_wire):
    wire = make_wire(port=Port("blob", "bytes"), meta_bytes=512)
    wire.emit(b"x" * 600)
    assert wire.consumers[0].take().payload == b"x" * 600
    assert wire.outlet.copied == 1


def test_an_array_is_copied_exactly_once(wire):
    wire.emit(FRAME)
    assert wire.outlet.copied == 1
    FRAME_before = FRAME.copy()
    packet = wire.consumers[0].take()
    assert not np.shares_memory(packet.payload, FRAME)
    assert np.array_equal(packet.payload, FRAME_before)


def test_small_json_needs_no_slot_and_big_json_one(wire):
    wire.emit({"n": 1})
    assert (wire.writer.free_slots, wire.outlet.copied) == (wire.shape.slot_count, 0)
    wire.emit({"text": "x" * 5000})
    assert (wire.writer.free_slots, wire.outlet.copied) == (wire.shape.slot_count - 1, 1)


REFUSED = {
    "an object array": (np.array([object()]), {}, "array of dtype object"),
    "a set": ({1}, {}, "found set"),
    "an object": (object(), {}, "found object"),
    "meta that is not JSON": (FRAME, {"meta": {"x": object()}}, "not JSON"),
    "meta that is too large": (FRAME, {"meta": {"x": "y" * 2000}}, r"metadata of 2\d+ bytes, meta_bytes is 1024; .*meta_bytes: 2\d+"),
    "meta too large beside JSON": ({"n": 1}, {"meta": {"x": "y" * 2000}}, "meta_bytes is 1024"),
    "a value that is not JSON": ({"x": object()}, {}, "not JSON"),
    "too long a kind": (FRAME, {"kind": "k" * 65}, "kind of at most 64"),
    "a position that is text": (FRAME, {"position": "7"}, "found position '7'"),
    "a position that is no whole number": (FRAME, {"position": 1.5}, "found position 1.5"),
    "a negative position": (FRAME, {"position": -1}, "found position -1"),
    "a position that no counter holds": (FRAME, {"position": 2**64 - 1}, "found position"),
    "a time that is text": (FRAME, {"wall_ns": "now"}, "Expected `int`, got `str`"),
    "a time that is true": (FRAME, {"capture_ns": True}, "Expected `int`, got `bool`"),
    "a time that is not a number": (FRAME, {"wall_ns": float("nan")}, "Expected `int`, got `float`"),
    "no kind": (FRAME, {"kind": None}, "Expected `str`"),
    "a source that is a number": (FRAME, {"source_id": 5}, "Expected `str`, got `int`"),
    "bytes with gaps": (memoryview(b"abcdef")[::2], {}, "camera.out"),
    "too large a frame": (np.zeros((200, 200, 3), np.uint8), {}, "payload of 120000 bytes, slot_bytes is 65536"),
    "too large JSON": ({"x": "y" * 70_000}, {}, "slot_bytes is 65536"),
}


@pytest.mark.parametrize(("payload", "fields", "why"), REFUSED.values(), ids=REFUSED.keys())
def test_a_payload_that_cannot_travel_is_refused_and_leaves_nothing_behind(make_wire, payload, fields, why):
    wire = make_wire("block", "latest", port=Port("any", "any"))
    for _ in range(2 * wire.shape.slot_count):  # one slot leaked each time would end the run after a few frames
        with pytest.raises(PayloadError, match=why):
            wire.emit(payload, **fields)
    assert wire.is_empty()
    assert [edge.credit.sent for edge in wire.edges] == [0, 0]
    wire.emit(FRAME)
    wire.finish()
    assert wire.is_empty()


def test_a_refused_loan_stays_with_its_author(wire):
    # Its slot must neither leak nor be given to somebody else while the array is still in the author's hands.
    loan = wire.outlet.loan((4, 6, 3), np.uint8, 0)
    for _ in range(3):
        with pytest.raises(PayloadError, match="not JSON"):
            wire.emit(loan, meta={"x": object()})
        with pytest.raises(PayloadError, match="meta_bytes"):
            wire.emit(loan, meta={"x": "y" * 2000})
    others = [wire.outlet.loan((4, 6, 3), np.uint8, 0) for _ in range(wire.shape.slot_count - 1)]
    assert not any(np.shares_memory(loan, other) for other in others)
    del loan, others
    kept = wire.outlet.loan((1,), np.uint8, 0)  # looks for slots given back before it takes one
    assert wire.writer.free_slots == wire.shape.slot_count - 1
    del kept


def test_a_loan_of_another_port_is_copied_and_its_copy_given_back(make_wire):
    wire, other = make_wire(), make_wire(ring=1)
    for _ in range(3 * wire.shape.slot_count):
        loan = other.outlet.loan((4, 6, 3), np.uint8, 0)
        loan[:] = FRAME
        wire.emit(loan)
        packet = wire.consumers[0].take()
        assert np.array_equal(packet.payload, FRAME)
        packet.parent.settle()
        del packet, loan
        wire.report()
    assert wire.is_empty()
    assert wire.outlet.copied == 3 * wire.shape.slot_count


@pytest.mark.parametrize(
    ("profile", "payload", "why"),
    [
        (array("uint8", ndim=3), FRAME.astype(np.uint16), r"array of dtype uint16, shape \(4, 6, 3\), expected array\(uint8, ndim=3\)"),
        (array("uint8", ndim=3), FRAME[0], r"shape \(6, 3\)"),
        (array(), {"n": 1}, "found dict, expected array"),
        ("json", FRAME, "expected json"),
        ("bytes", "text", "found str, expected bytes"),
    ],
)
def test_a_payload_that_the_port_does_not_declare_is_refused_with_found_and_expected(make_wire, profile, payload, why):
    wire = make_wire(port=Port("frame", profile))
    with pytest.raises(PayloadError, match=rf"port camera\.out: found .*{why}" if "found" not in why else why):
        wire.emit(payload)
    assert wire.is_empty()


def test_no_packet_fails_only_because_it_carries_the_trace(make_wire):
    # One in many does: of two packets alike, one would pass and the other not.
    wire, found = make_wire(depth=64, slots=80), []
    for size in range(860, 1000, 10):
        arrived = 0
        for _ in range(130):
            with suppress(PayloadError):
                wire.emit(FRAME, meta={"x": "y" * size})
                arrived += 1
            wire.finish()
        found.append(arrived)
    assert set(found) == {0, 130}


# --- edges with policies


def test_a_block_edge_waits_for_credit(make_wire):
    wire = make_wire(depth=2)
    waited = []
    wire.on_wait = lambda: (waited.append(wire.edges[0].credit.in_flight), wire.finish())
    for number in range(20):
        wire.emit({"n": number})
    assert waited
    wire.finish()
    assert wire.is_empty()
    assert wire.page.edge(0).completed == 20


@pytest.mark.parametrize(("policy", "arrive"), [("drop_new", [0, 1, 2, 3]), ("drop_oldest", [0, 1, 2, 3, 6, 7, 8, 9]), ("latest", [0, 9])])
def test_a_full_edge_does_what_its_policy_says_and_counts_every_drop(make_wire, policy, arrive):
    wire = make_wire(policy, slots=12)
    for number in range(10):
        wire.emit({"n": number})
    found, consumer = [], wire.consumers[0]
    while consumer.arrive():
        packet = consumer.take()
        found.append(packet.payload["n"])
        packet.parent.settle()
        del packet
        wire.report()
    assert found == arrive
    counts = wire.page.edge(0)
    assert (counts.sent, counts.completed, counts.dropped, counts.in_flight) == (10, len(arrive), 10 - len(arrive), 0)
    assert wire.is_empty()


def test_a_packet_that_one_edge_drops_still_reaches_the_others(make_wire):
    wire = make_wire("block", "drop_new", depth=2, slots=8)
    wire.consumers[1].arrive()
    wire.on_wait = lambda: take_and_finish(wire, 0)
    for number in range(8):
        wire.emit(np.full(10, number, np.uint8))
    assert (wire.edges[0].credit.sent, wire.edges[1].credit.dropped) == (8, 6)
    wire.finish()
    assert wire.is_empty()


def take_and_finish(wire, number: int) -> None:
    consumer = wire.consumers[number]
    while consumer.arrive():
        consumer.take().parent.settle()
    consumer.settle()
    consumer.inlet.flush(0)
    wire.receipts()


def test_the_books_of_every_edge_balance_on_the_status_page(make_wire):
    wire = make_wire("drop_new", "drop_oldest", "latest", "sample", depth=2, slots=20)
    for number in range(30):
        wire.emit({"n": number})
        if number % 7 == 0:
            take_and_finish(wire, number % 4)
        for edge in range(4):
            counts = wire.page.edge(edge)
            assert counts.sent == number + 1
            assert counts.sent == counts.completed + counts.dropped + counts.failed + counts.in_flight


def test_a_port_without_edges_keeps_nothing(make_wire):
    wire = make_wire()
    wire.outlet.edges.clear()
    for _ in range(50):
        wire.emit(FRAME)
    assert wire.is_empty()


def test_when_a_consumer_is_gone_what_it_had_has_failed_and_the_others_go_on(make_wire):
    wire = make_wire("block", "block", depth=3)
    for _ in range(2):
        wire.emit(FRAME)
    wire.outlet.on_gone(wire.edges[0])
    take_and_finish(wire, 1)
    assert wire.is_empty()
    wire.emit(FRAME)
    take_and_finish(wire, 1)
    gone, other = wire.page.edge(0), wire.page.edge(1)
    assert (gone.sent, gone.failed, gone.in_flight) == (3, 3, 0)
    assert (other.sent, other.completed, other.failed) == (3, 3, 0)
    assert wire.is_empty()


def test_a_consumer_that_goes_while_its_packet_waits_for_a_slot_holds_up_nothing(make_wire):
    # The packet was decided on, then the edge went; were it sent all the same, the run could never end.
    wire = make_wire("drop_new", "drop_new", slots=1)
    wire.emit(FRAME)

    def go() -> None:
        wire.outlet.on_gone(wire.edges[0])
        take_and_finish(wire, 1)

    wire.on_wait = go
    wire.emit(FRAME)
    take_and_finish(wire, 1)
    assert (wire.page.edge(0).failed, wire.page.edge(1).completed) == (2, 2)
    assert wire.is_empty()


@pytest.mark.parametrize("slots", [1, 3])
def test_no_row_is_used_while_all_are_taken(make_wire, slots):
    wire = make_wire(depth=8, slots=slots)
    wire.on_wait = lambda: wire.finish()
    for number in range(30):
        wire.emit({"n": number})
    wire.finish()
    assert wire.is_empty()


@pytest.mark.parametrize("payload", [np.zeros(70_000, np.uint8), bytes(70_000), bytearray(70_000)], ids=["array", "bytes", "bytearray"])
def test_a_payload_larger_than_a_slot_is_an_error_of_its_own_kind(wire, payload):
    with pytest.raises(PayloadTooLarge) as caught:
        wire.emit(payload)
    assert (caught.value.port, caught.value.found_bytes, caught.value.slot_bytes) == ("camera.out", 70_000, 65_536)


@pytest.mark.parametrize("shape", [[2, 3], np.array([2, 3]), (np.int64(2), np.uint8(3)), (2, 3)])
def test_a_shape_may_be_any_sequence_of_integers(make_wire, shape):
    wire = make_wire(slots=4)
    for _ in range(2):  # the second is like the one before
        loan = wire.outlet.loan(shape, "uint8", -1)
        assert loan.shape == (2, 3) and loan.flags.writeable
    assert wire.outlet.loan((), None, -1).dtype == np.float64  # numpy's default
    with pytest.raises(TypeError, match="integer"):
        wire.outlet.loan((5.0, 3), "uint8", -1)
