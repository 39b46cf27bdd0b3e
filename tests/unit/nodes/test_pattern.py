"""synthetic.frames: what is sent can be told apart and has the size asked for."""

from __future__ import annotations

import json

import numpy as np
import pytest

from streamcore import ConfigError
from streamcore.testing import OLD_BYTE, run_node
from streamcore_nodes.pattern import Frames, pattern, stamp

FRAME = {"width": 32, "height": 8}


def test_a_fresh_frame_is_the_pattern_with_its_number_at_both_ends() -> None:
    out = run_node(Frames, config={**FRAME, "count": 3})
    for number, packet in enumerate(out):
        flat = packet.payload.reshape(-1)
        expected = pattern(8, 32, 3)
        stamp(expected, number)
        assert np.array_equal(packet.payload, expected)
        assert int.from_bytes(flat[:8].tobytes(), "little") == int.from_bytes(flat[-8:].tobytes(), "little") == number
        assert (packet.position, packet.meta, packet.kind) == (number, {"frame": number}, "frame")


def test_touch_stamps_and_none_writes_nothing() -> None:
    touched = run_node(Frames, config={**FRAME, "fill": "touch", "count": 2})[1].payload.reshape(-1)
    assert touched[0] == 1 and touched[-8] == 1 and (touched[8:-8] == OLD_BYTE).all()
    assert (run_node(Frames, config={**FRAME, "fill": "none", "count": 1})[0].payload == OLD_BYTE).all()


@pytest.mark.parametrize("channels", [1, 3, 4])
def test_rows_of_the_pattern_differ_so_that_a_shifted_copy_is_seen(channels: int) -> None:
    frame = pattern(64, 64, channels)
    assert frame.shape == (64, 64, channels) and len({row.tobytes() for row in frame}) == 64


@pytest.mark.parametrize("nbytes", [16, 64, 1000])
def test_a_json_packet_has_about_the_size_asked_for(nbytes: int) -> None:
    out = run_node(Frames, config={"payload": "json", "bytes": nbytes, "count": 12})
    assert [p.payload["n"] for p in out] == list(range(12))
    assert all(abs(len(json.dumps(p.payload, separators=(",", ":"))) - nbytes) <= 1 for p in out)
    assert {(p.kind, p.meta is None) for p in out} == {("data", True)}


def test_a_bytes_packet_has_exactly_the_size_asked_for() -> None:
    out = run_node(Frames, config={"payload": "bytes", "bytes": 100, "count": 3})
    assert [(len(p.payload), int.from_bytes(p.payload[:8], "little")) for p in out] == [(100, 0), (100, 1), (100, 2)]


def test_bursts_change_the_grouping_and_nothing_else() -> None:
    config = {"payload": "json", "count": 10}
    assert [p.payload for p in run_node(Frames, config={**config, "burst": 4})] == [p.payload for p in run_node(Frames, config=config)]


def test_the_rate_paces_and_flat_out_waits_for_nothing() -> None:
    out = run_node(Frames, config={"payload": "json", "rate": 1000, "count": 4})
    assert np.diff(out.deadlines_ns).tolist() == [1_000_000] * 3
    assert run_node(Frames, config={"payload": "json", "count": 4}).deadlines_ns == []


def test_it_goes_on_behind_the_last_completed_packet_and_without_positions_from_the_start() -> None:
    config = {"payload": "json", "count": 6}
    assert [p.payload["n"] for p in run_node(Frames, config=config, resume_position=3)] == [4, 5]
    assert {p.position for p in run_node(Frames, config={**config, "positions": False})} == {None}


@pytest.mark.parametrize("config", [{"payload": "tensor"}, {"width": 3}, {"channels": 2}, {"rate": -1}, {"bytes": 4}, {"fill": "all"}])
def test_bad_config_is_refused(config: dict[str, object]) -> None:
    with pytest.raises(ConfigError, match=next(iter(config))):
        run_node(Frames, config=config, limit=1)
