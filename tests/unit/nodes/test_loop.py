"""flow.delay and flow.initial: what leaves when, and that it holds nothing of its input."""

from __future__ import annotations

import gc
import weakref

import numpy as np
import pytest

from streamcore import ConfigError, StreamPacket
from streamcore.testing import run_node
from streamcore_nodes.loop import Delay, Initial


def packets(count, step_ns=0):
    made = [StreamPacket.new(kind="n", source_id="s", payload={"n": n}, meta={"frame": n}, capture_ns=n * step_ns) for n in range(count)]
    return made


def numbers(out):
    return [packet.payload["n"] for packet in out]


class Watched(Delay):
    """Notes how many had left when each came."""

    def process(self, packet):
        for out in super().process(packet):
            yield out.__class__.new(kind=out.kind, source_id=out.source_id, payload={**out.payload, "after": packet.payload["n"]})


@pytest.mark.parametrize(("config", "behind"), [({}, 1), ({"packets": 1}, 1), ({"packets": 3}, 3)])
def test_a_packet_leaves_when_so_many_more_have_come_or_at_the_end(config, behind):
    out = run_node(Watched, packets(6), config)
    assert numbers(out) == list(range(6))
    assert [packet.payload["after"] - packet.payload["n"] for packet in out if "after" in packet.payload] == [behind] * (6 - behind)


def test_seconds_are_those_of_capture_and_what_is_held_has_a_bound():
    out = run_node(Watched, packets(10, step_ns=100_000_000), {"seconds": 0.25})
    assert {packet.payload["after"] - packet.payload["n"] for packet in out if "after" in packet.payload} == {3}
    out = run_node(Watched, packets(10), {"seconds": 60, "held_max": 4})
    assert [packet.payload["n"] for packet in out if "after" in packet.payload] == list(range(6))


def test_packets_and_seconds_exclude_each_other():
    with pytest.raises(ConfigError):
        run_node(Delay, [], {"packets": 1, "seconds": 1})


def test_what_passes_on_is_a_copy_that_says_the_same():
    frame = np.arange(24, dtype=np.uint8).reshape(2, 4, 3)[:, ::-1]
    sent = StreamPacket.new(kind="frame", source_id="s", payload=frame, meta={"frame": 7}, wall_ns=5, capture_ns=6)
    out = run_node(Delay, [sent])[0]
    assert (out.kind, out.source_id, out.meta, out.wall_ns, out.capture_ns) == ("frame", "s", {"frame": 7}, 5, 6)
    assert np.array_equal(out.payload, frame)
    assert not np.shares_memory(out.payload, frame)
    assert out.lease is None
    assert out.trace is None


def test_bytes_are_copied_too():
    out = run_node(Initial, [StreamPacket.new(kind="b", source_id="s", payload=memoryview(b"abc"))])
    assert [packet.payload for packet in out] == [None, b"abc"]


def test_a_delay_lets_go_of_its_input():
    # A slot that a loop held would be one that the loop waits for.
    frame = np.zeros((4, 4, 3), np.uint8)
    gone = weakref.ref(frame)
    node = Delay()
    run_node(node, [StreamPacket.new(kind="f", source_id="s", payload=frame)])
    del frame
    gc.collect()
    assert gone() is None


def test_initial_packets_come_first_and_have_the_same_ids_again():
    config = {"value": {"boxes": []}, "count": 3, "kind": "detections"}
    out = run_node(Initial, packets(2), config, node_id="again")
    assert [packet.payload for packet in out] == [{"boxes": []}] * 3 + [{"n": 0}, {"n": 1}]
    assert [packet.kind for packet in out[:3]] == ["detections"] * 3
    again = run_node(Initial, [], config, node_id="again")
    assert [packet.packet_id for packet in again] == [packet.packet_id for packet in out[:3]]
    assert len({packet.packet_id for packet in out}) == 5


def test_initial_arrays_are_filled():
    out = run_node(Initial, [], {"shape": [2, 3], "dtype": "float32", "fill": 1.5})[0].payload
    assert (out.shape, out.dtype, set(out.reshape(-1).tolist())) == ((2, 3), np.float32, {1.5})


def test_a_value_and_a_shape_exclude_each_other():
    with pytest.raises(ConfigError):
        run_node(Initial, [], {"value": 1, "shape": [1]})
