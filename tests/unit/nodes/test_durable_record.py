"""durable.record and durable.replay without processes: what is recorded comes out again, as it was and when it was."""

from __future__ import annotations

import numpy as np
import pytest

from streamcore import ConfigError, PayloadError, Recording, StreamPacket
from streamcore.testing import run_node
from streamcore_nodes.durable_record import Record
from streamcore_nodes.durable_replay import SEQUENCE_BITS, Pacer, Replay

RANDOM = np.random.default_rng(1)
PICTURE = RANDOM.integers(0, 256, (48, 64, 3), "uint8")
LARGE = RANDOM.integers(0, 256, (300, 400, 3), "uint8")
TENSOR = RANDOM.random((7, 5, 3, 2)).astype("float32")
T0_NS = 1_700_000_000_123_456_789
SECOND_NS = 1_000_000_000


def packet(payload, number: int = 0, **more) -> StreamPacket:
    return StreamPacket.new(kind="event", source_id="cam", payload=payload, wall_ns=T0_NS + number * SECOND_NS, **more)


def record(tmp_path, packets, **config):
    return run_node(Record, packets, {"path": str(tmp_path / "r"), **config})


def replay(tmp_path, limit=None, resume_position=None, **config):
    return run_node(Replay, (), {"path": str(tmp_path / "r"), **config}, limit=limit, resume_position=resume_position)


@pytest.mark.parametrize(
    "payload",
    [{"a": [1, None, "ä"]}, [], "text", None, 3.5, b"bytes", b"", bytes(100_000), PICTURE, LARGE, LARGE[::2, 5:], TENSOR, TENSOR[:0]],
    ids=lambda payload: f"{type(payload).__name__}-{getattr(payload, 'shape', '')}",
)
def test_payloads_come_back_as_they_were(tmp_path, payload):
    given = packet(payload, meta={"own": 1}, position=5)
    record(tmp_path, [given])
    (out,) = replay(tmp_path)
    if isinstance(payload, np.ndarray):
        assert np.array_equal(out.payload, payload) and out.payload.dtype == payload.dtype and out.payload.shape == payload.shape
    else:
        assert out.payload == payload and type(out.payload) is type(payload)
    told = out.meta.pop("replay")
    assert told == {"sequence": 1, "id": given.packet_id, "port": "", "position": 5, "turn": 0}
    assert (out.kind, out.source_id, out.meta, out.wall_ns) == ("event", "cam", {"own": 1}, given.wall_ns)


@pytest.mark.parametrize("array", [PICTURE, LARGE, LARGE[..., 0].astype("uint16") * 200], ids=lambda array: f"{array.dtype}{array.shape}")
def test_png_is_exact_and_jpeg_keeps_the_shape(tmp_path, array):
    record(tmp_path, [packet(array)], codec="png")
    if array.dtype == "uint8":
        record(tmp_path, [packet(array)], codec="jpeg", quality=95)
    else:
        ((_, error),) = record(tmp_path, [packet(array)], codec="jpeg").failed
        assert isinstance(error, PayloadError) and "codec jpeg: found uint16" in str(error)
    exact, *near = replay(tmp_path)
    assert np.array_equal(exact.payload, array) and all(item.payload.shape == array.shape for item in near)
    assert len(near) == (array.dtype == "uint8")


def test_a_large_raw_array_is_read_into_its_slot(tmp_path, monkeypatch):
    record(tmp_path, [packet(LARGE), packet(PICTURE)])
    loans = []
    real = Replay.loan
    monkeypatch.setattr(Replay, "loan", lambda self, *args: loans.append(real(self, *args)) or loans[-1])
    large, small = replay(tmp_path)
    assert [loan.shape for loan in loans] == [LARGE.shape] and large.payload is loans[0]
    assert small.payload.shape == PICTURE.shape


def test_a_packet_that_is_delivered_again_is_recorded_once_and_its_id_may_come_again_in_another_run(tmp_path, monkeypatch):
    packets = [packet({"n": n}, n) for n in range(5)]
    record(tmp_path, packets[:3])
    for repeat in packets:
        repeat.redelivered = True
    found = record(tmp_path, packets)
    assert (found.metrics["repeats"], found.metrics["recorded"]) == (3, 2)
    monkeypatch.setattr("streamcore.testing.RUN_ID", "another")
    assert record(tmp_path, packets).metrics["recorded"] == 5
    assert [out.payload["n"] for out in replay(tmp_path)] == [0, 1, 2, 3, 4, 0, 1, 2, 3, 4]


def test_positions_go_on_behind_what_was_completed_also_in_a_later_turn(tmp_path):
    record(tmp_path, [packet({"n": n}, n) for n in range(4)])
    everything = replay(tmp_path, loop=3, pace="none")
    assert [out.payload["n"] for out in everything] == [0, 1, 2, 3] * 3
    assert [out.meta["replay"]["turn"] for out in everything] == [0] * 4 + [1] * 4 + [2] * 4
    positions = [out.position for out in everything]
    assert positions == sorted(set(positions))
    for done, position in enumerate(positions):
        rest = replay(tmp_path, loop=3, pace="none", resume_position=position)
        assert [out.position for out in rest] == positions[done + 1 :], done
        assert [out.packet_id for out in rest] == [out.packet_id for out in everything[done + 1 :]]
    assert positions[5] == 1 << SEQUENCE_BITS | 2


def test_without_end_it_goes_on_until_it_is_stopped_and_an_empty_choice_ends_at_once(tmp_path):
    record(tmp_path, [packet({"n": n}, n) for n in range(4)])
    assert len(replay(tmp_path, loop=0, limit=11, pace="none")) == 11
    assert replay(tmp_path, loop=0, kinds=["other"]) == []


@pytest.mark.parametrize("speed", [1, 4, 0.5])
def test_packets_are_due_as_far_apart_as_they_were_captured(tmp_path, speed):
    offsets_s = [0, 0.04, 0.08, 10, 9.99, 3600]  # out of order by a little, and with an hour's pause
    packets = [packet({}, offset_s) for offset_s in offsets_s]
    for item, offset_s in zip(packets, offsets_s, strict=True):
        item.wall_ns = T0_NS + round(offset_s * SECOND_NS)
    record(tmp_path, packets)
    out = replay(tmp_path, speed=speed)
    since_first = [due - out.deadlines_ns[0] for due in out.deadlines_ns]
    assert since_first == [round(s * SECOND_NS / speed) for s in (0, 0.04, 0.08, 10, 10, 3600)]
    assert [item.wall_ns for item in out] == [item.wall_ns for item in packets]
    assert replay(tmp_path, pace="none").deadlines_ns == []


def test_a_clock_that_was_set_back_and_another_time_base_take_a_new_anchor():
    pacer = Pacer(0, 1.0)
    stored = [1000, 1001, 500, 501, 502, 503, 510, 511]  # seconds; set back behind the second
    walls = [1000, 1001, 500, 501, 77, 78, 510, 511]  # the fifth and sixth are of a replay
    runs = "aaaaaabb"
    dues = [pacer.due_ns(wall * SECOND_NS, at * SECOND_NS, run) for wall, at, run in zip(walls, stored, runs, strict=True)]
    assert [due / SECOND_NS for due in dues] == [0, 1, 1, 2, 3, 4, 11, 12]


def test_live_times_are_those_of_now(tmp_path):
    record(tmp_path, [packet({}, n) for n in range(2)])
    assert all(out.wall_ns > T0_NS + 86400 * SECOND_NS for out in replay(tmp_path, live_times=True, pace="none"))


def test_spans_and_filters_choose(tmp_path):
    record(tmp_path, [packet({"n": n}, n) for n in range(100)])
    assert [out.payload["n"] for out in replay(tmp_path, **{"from": "10s", "to": "12s"})] == [10, 11]
    assert [out.payload["n"] for out in replay(tmp_path, **{"from": "-1s"})] == [98, 99]
    assert [out.payload["n"] for out in replay(tmp_path, to="2023-11-14T22:13:22.2Z")] == [0, 1, 2]
    assert len(replay(tmp_path, kinds=["event"], sources=["cam"])) == 100 and replay(tmp_path, sources=["other"]) == []
    with pytest.raises(ConfigError, match="from, to: 'soon' is not a time"):
        replay(tmp_path, **{"from": "soon"})
    with pytest.raises(ConfigError, match="recording .*elsewhere: no such folder"):
        replay(tmp_path, path=str(tmp_path / "elsewhere"))


@pytest.mark.parametrize("at", [0.3, 0.5])
def test_damaged_records_are_left_out_counted_and_logged(tmp_path, caplog, at):
    record(tmp_path, [packet(LARGE if n % 2 else {"n": n}, n) for n in range(6)])
    (file,) = (tmp_path / "r").glob("*.seg")
    raw = bytearray(file.read_bytes())
    raw[int(len(raw) * at)] ^= 1  # in the pixels of a picture
    file.write_bytes(raw)
    out = replay(tmp_path)
    assert len(out) == 5 and out.metrics["damaged"] == 1
    assert "left out 1 damaged" in caplog.text and "checksum" in caplog.text
    assert all(np.array_equal(item.payload, LARGE) for item in out if isinstance(item.payload, np.ndarray))


def test_one_that_cannot_be_stored_does_not_cost_its_neighbours(tmp_path):
    packets = [packet(b"x", 0), packet(PICTURE.astype("float64"), 1), packet(b"y", 2)]
    assert record(tmp_path, packets, codec="png").metrics["refused"] == 1
    assert [found.payload for found in Recording(tmp_path / "r").read()] == [b"x", b"y"]
