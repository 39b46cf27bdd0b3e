"""flow.* and debug.slow pass packets of any kind on, arrays by reference."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from streamcore import ConfigError, StreamPacket
from streamcore.testing import run_node
from streamcore_nodes.flow import Forward, Sample, Tee
from streamcore_nodes.slow import Slow


@pytest.fixture
def mixed(frame_packet: Callable[..., StreamPacket], json_packet: Callable[..., StreamPacket]) -> list[StreamPacket]:
    return [frame_packet(0), json_packet({"a": 1}, 1, kind="event"), json_packet(b"raw", 2, kind="blob")]


@pytest.mark.parametrize(("node", "config"), [(Forward, {}), (Slow, {"work_ms": 0}), (Sample, {"every": 1})])
def test_packets_pass_unchanged_and_arrays_stay_where_they_are(mixed: list[StreamPacket], node: Any, config: dict[str, int]) -> None:
    out = run_node(node, mixed, config)
    told = [(p.kind, p.source_id, p.meta, p.wall_ns, p.capture_ns) for p in mixed]
    assert [(p.kind, p.source_id, p.meta, p.wall_ns, p.capture_ns) for p in out] == told
    assert np.shares_memory(out[0].payload, mixed[0].payload)
    assert [p.payload for p in out[1:]] == [{"a": 1}, b"raw"]


def test_tee_passes_by_both_ports_with_ids_of_their_own(mixed: list[StreamPacket]) -> None:
    out = run_node(Tee, mixed)
    assert [p.port for p in out] == ["a", "b"] * 3
    assert [p.kind for p in out.on("a")] == [p.kind for p in out.on("b")] == ["frame", "event", "blob"]
    assert all(np.shares_memory(out.on(port)[0].payload, mixed[0].payload) for port in ("a", "b"))
    assert len({p.packet_id for p in out}) == 6


def numbers(json_packet: Any, times_ms: list[int]) -> list[StreamPacket]:
    packets = [json_packet(n) for n in range(len(times_ms))]
    for packet, time_ms in zip(packets, times_ms, strict=True):
        packet.capture_ns = time_ms * 1_000_000
    return packets


def test_one_of_so_many_passes_beginning_with_the_first(json_packet: Any) -> None:
    assert [p.payload for p in run_node(Sample, numbers(json_packet, [0] * 10), {"every": 4})] == [0, 4, 8]


def test_a_rate_spaces_packets_evenly_in_capture_time(json_packet: Any) -> None:
    out = run_node(Sample, numbers(json_packet, list(range(0, 1000, 30))), {"rate": 10})
    assert len(out) == 10
    assert all(70 <= gap <= 130 for gap in np.diff([p.capture_ns // 1_000_000 for p in out]))


def test_a_slower_stream_passes_whole_and_a_pause_starts_a_new_grid(json_packet: Any) -> None:
    assert len(run_node(Sample, numbers(json_packet, [0, 200, 400, 600]), {"rate": 10})) == 4
    out = run_node(Sample, numbers(json_packet, [0, 50, 5000, 5010, 5090, 5100]), {"rate": 10})
    assert [p.payload for p in out] == [0, 2, 5]


def test_a_stream_whose_time_begins_anew_passes_again(json_packet: Any) -> None:
    assert [p.payload for p in run_node(Sample, numbers(json_packet, [90_000, 90_010, 0, 10, 100]), {"rate": 10})] == [0, 2, 4]


def test_sample_needs_exactly_one_way_to_choose() -> None:
    with pytest.raises(ConfigError, match="neither every nor rate"):
        run_node(Sample)
    with pytest.raises(ConfigError, match="config of Sample"):
        run_node(Sample, config={"every": 2, "rate": 3})
    with pytest.raises(ConfigError, match="config of Sample"):
        run_node(Sample, config={"rate": 0})
    with pytest.raises(ConfigError, match="config of Slow"):
        run_node(Slow, config={"work_ms": -1})
