"""streamcore.testing.run_node: a node under test sees what the host would show it, and is held to what the host demands."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from streamcore import ConfigError, Node, PayloadError, Port, Sink, Source, StreamPacket, array
from streamcore.errors import PayloadTooLarge, PluginError
from streamcore.testing import OLD_BYTE, run_node
from streamcore_nodes.jsonl import JsonLines
from streamcore_nodes.pattern import Frames


class Add(Node):
    """Adds `amount` to frames; written to be broken in many ways by its subclasses."""

    inputs = {"in": Port("frame", array("uint8", ndim=2))}
    outputs = {"out": Port("sum", array("uint8", ndim=2))}
    config = {"amount": {"type": "integer", "min": 1, "default": 1}}

    def process(self, packet: StreamPacket) -> Any:
        out = self.loan("out", packet.payload.shape)
        np.add(packet.payload, self.config["amount"], out=out)
        return packet.derive(payload=out)


def packet(payload: Any = None, **more: Any) -> StreamPacket:
    return StreamPacket.new(kind="frame", source_id="cam", payload=np.zeros((2, 3), np.uint8) if payload is None else payload, **more)


def test_outputs_come_back_in_order_with_port_kind_and_lineage() -> None:
    given = [packet(meta={"frame": n}) for n in range(3)]
    out = run_node(Add, given, {"amount": 7})
    assert [p.meta["frame"] for p in out if p.meta] == [0, 1, 2]
    assert {(p.port, p.kind, p.source_id) for p in out} == {("out", "sum", "cam")}
    assert all((p.payload == 7).all() for p in out)
    assert out.on("out") == list(out) and out.on("other") == []


def test_a_repeat_of_the_same_input_gets_the_same_id_and_another_input_another() -> None:
    # Sinks that write each id once depend on it.
    first, second = packet(), packet()
    ids = [p.packet_id for p in run_node(Add, [first, first, second])]
    assert ids[0] == ids[1] != ids[2]


def test_config_is_checked_with_all_its_problems_and_defaults_are_filled_in() -> None:
    assert (run_node(Add, [packet()])[0].payload == 1).all()
    with pytest.raises(ConfigError, match=r"(?s)amount.*(colour|amount)") as caught:
        run_node(Add, [packet()], {"amount": 0, "colour": "red"})
    assert "colour" in str(caught.value)


def test_the_node_may_not_write_into_its_input() -> None:
    # The real payload is a read-only mapping of the producer's memory; writing there ends the process.
    class Writes(Add):
        def process(self, packet: StreamPacket) -> None:
            packet.payload[0, 0] = 1

    mine = packet()
    with pytest.raises(ValueError, match="read-only"):
        run_node(Writes, [mine])
    assert mine.payload.flags.writeable and mine.in_port == ""  # and the test's own packet is left alone


def test_a_loan_holds_old_bytes_so_that_a_gap_is_seen() -> None:
    class Lazy(Add):
        def process(self, packet: StreamPacket) -> Any:
            return packet.derive(payload=self.loan("out", (2, 2)))

    assert (run_node(Lazy, [packet()])[0].payload == OLD_BYTE).all()


def test_a_forwarded_payload_is_the_same_memory() -> None:
    class Forward(Add):
        def process(self, packet: StreamPacket) -> Any:
            return packet.derive(payload=packet.payload[:1])

    given = packet()
    assert np.shares_memory(run_node(Forward, [given])[0].payload, given.payload)


@pytest.mark.parametrize(
    ("payload", "port", "said"),
    [
        ([1], "out", r"port node\.out: found list, expected array\(uint8, ndim=2\)"),
        (np.zeros((2, 2), np.float32), "out", "found array of dtype float32"),
        (np.zeros((2, 2), object), "out", "found array of dtype object"),
        (np.zeros((2, 2), np.uint8), "side", "found output port 'side', expected one of: out"),
    ],
)
def test_what_a_port_does_not_declare_is_refused(payload: Any, port: str, said: str) -> None:
    class Odd(Add):
        def process(self, packet: StreamPacket) -> Any:
            return packet.derive(payload=payload, port=port)

    with pytest.raises(PayloadError, match=said):
        run_node(Odd, [packet()])


def test_meta_that_is_not_json_or_too_large_is_refused() -> None:
    class Meta(Add):
        meta: Any = None

        def process(self, packet: StreamPacket) -> Any:
            return packet.derive(payload=packet.payload, meta=self.meta)

    Meta.meta = {"set": object()}
    with pytest.raises(PayloadError, match="not JSON"):
        run_node(Meta, [packet()])
    Meta.meta = {"long": "x" * 10_000}
    with pytest.raises(PayloadError, match=r"metadata of 1\d+ bytes"):
        run_node(Meta, [packet()])


def test_a_loan_larger_than_a_slot_names_the_key_to_raise() -> None:
    class Huge(Add):
        def process(self, packet: StreamPacket) -> Any:
            self.loan("out", (1 << 13, 1 << 13))

    with pytest.raises(PayloadTooLarge, match="slot_bytes"):
        run_node(Huge, [packet()])


def test_something_else_than_a_packet_is_refused() -> None:
    class Bare(Add):
        def process(self, packet: StreamPacket) -> Any:
            return [packet.payload]

    with pytest.raises(PayloadError, match="found ndarray, expected a StreamPacket"):
        run_node(Bare, [packet()])


def test_a_sink_that_returns_something_is_refused() -> None:
    class Chatty(Sink):
        inputs = {"in": Port("any")}

        def process(self, packet: StreamPacket) -> Any:
            return packet.derive(payload=1)

    with pytest.raises(PayloadError, match="expected one of: none"):
        run_node(Chatty, [packet()])


def test_an_input_that_the_port_does_not_take_is_the_test_s_mistake_and_is_said() -> None:
    with pytest.raises(PayloadError, match=r"port node\.in: found list"):
        run_node(Add, [packet([1])])
    lost = packet()
    lost.in_port = "side"
    with pytest.raises(PluginError, match="in_port 'side', expected one of: in"):
        run_node(Add, [lost])


@pytest.mark.parametrize(
    ("node", "packets", "said"),
    [
        (int, [], "found int, expected a subclass of Node, Source or Sink"),
        (Add, [np.zeros((2, 3), np.uint8)], "an input of the type ndarray, expected a StreamPacket"),
        (Add, packet(), "found one packet, expected a list of them"),
        (Frames, [packet()], "packets for a source, which has no input"),
    ],
)
def test_what_a_test_gives_instead_of_a_node_or_packets_is_said(node: Any, packets: Any, said: str) -> None:
    with pytest.raises(PluginError, match=said):
        run_node(node, packets)


def test_a_config_has_paths_and_numbers_as_python_has_them(tmp_path: Path) -> None:
    run_node(JsonLines, [packet({"n": 1})], {"path": tmp_path / "a.jsonl", "held": np.int64(3)})
    assert (tmp_path / "a.jsonl").read_text().count("\n") == 1
    with pytest.raises(ConfigError, match="path: found a value of the type object, expected text, a path"):
        run_node(JsonLines, config={"path": object()})
    with pytest.raises(ConfigError, match="config of Add: found list, expected a mapping"):
        run_node(Add, config=["amount"])  # type: ignore[arg-type]


def test_calls_come_in_the_host_s_order_and_what_flush_emits_counts() -> None:
    calls: list[str] = []

    class Tells(Add):
        def setup(self) -> None:
            calls.append("setup")

        def process(self, packet: StreamPacket) -> None:
            calls.append("process")
            self.held = packet

        def flush(self) -> Any:
            calls.append("flush")
            yield self.held.derive(payload=self.held.payload)

        def close(self) -> None:
            calls.append("close")

    out = run_node(Tells, [packet(), packet()])
    assert calls == ["setup", "process", "process", "flush", "close"]
    assert len(out) == 1


def test_batches_are_as_large_as_the_class_says() -> None:
    sizes: list[int] = []

    class Batch(Sink):
        inputs = {"in": Port("any")}
        config = {"group": {"type": "integer", "default": 2}}
        batch_max = "group"

        def process_batch(self, packets: list[StreamPacket]) -> None:
            sizes.append(len(packets))

    run_node(Batch, [packet() for _ in range(5)])
    run_node(Batch, [packet() for _ in range(5)], {"group": 4})
    assert sizes == [2, 2, 1, 4, 1]


class Count(Source):
    outputs = {"out": Port("number", "json")}

    def run(self) -> Any:
        number = 0 if self.resume_position is None else self.resume_position + 1
        while self.wait_until(number * 1000):
            yield StreamPacket.new(kind="number", source_id=self.id, payload=number, position=number)
            number += 1


def test_an_endless_source_is_limited_and_no_time_passes() -> None:
    out = run_node(Count, limit=4)
    assert [p.payload for p in out] == [0, 1, 2, 3]
    assert out.deadlines_ns == [0, 1000, 2000, 3000]


def test_a_source_is_resumed_and_repeats_its_ids() -> None:
    whole = [p.packet_id for p in run_node(Count, limit=6)]
    assert [p.packet_id for p in run_node(Count, limit=3, resume_position=2)] == whole[3:]


def test_metrics_and_completions_are_recorded() -> None:
    told: list[tuple[Any, str]] = []

    class Measured(Add):
        def process(self, packet: StreamPacket) -> Any:
            self.metrics.counter("seen").add()
            self.metrics.gauge("level").set(2.5)
            return super().process(packet)

        def on_completed(self, packet: StreamPacket, outcome: str) -> None:
            told.append((packet.payload, outcome))

    out = run_node(Measured, [packet(), packet()])
    assert out.metrics == {"seen": 2, "level": 2.5}
    assert out.completed == [(p.packet_id, "ok") for p in out]
    assert told == [(None, "ok"), (None, "ok")]


def test_a_failure_of_the_node_comes_out_as_it_is_and_close_is_not_called() -> None:
    class Fails(Add):
        closed = False

        def process(self, packet: StreamPacket) -> Any:
            raise ZeroDivisionError("by design")

        def close(self) -> None:
            self.closed = True

    node = Fails()
    with pytest.raises(ZeroDivisionError, match="by design"):
        run_node(node, [packet()])
    assert not node.closed
