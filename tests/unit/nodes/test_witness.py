"""debug.hash, debug.print and debug.null tell what arrived."""

from __future__ import annotations

import json
from collections.abc import Callable
from hashlib import blake2b
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from streamcore import ConfigError, StreamPacket
from streamcore.testing import run_node
from streamcore_nodes.witness import Hash, Null, Print, describe, payload_hash


def test_a_line_proves_which_packet_came_with_which_bytes(tmp_path: Path, frame_packet: Callable[..., StreamPacket]) -> None:
    given = frame_packet(7)
    given.position, given.redelivered = 7, True
    run_node(Hash, [given], {"path": str(tmp_path / "h.jsonl")})
    assert json.loads((tmp_path / "h.jsonl").read_text()) == {
        "port": "in",
        "sequence": 0,
        "packet_id": given.packet_id,
        "source_id": "cam",
        "frame": 7,
        "position": 7,
        "kind": "frame",
        "redelivered": True,
        "hash": blake2b(given.payload.tobytes(), digest_size=16).hexdigest(),
        "shape": [48, 64, 3],
        "dtype": "uint8",
    }


def test_every_packet_is_written_also_a_repeat_and_lines_are_appended(tmp_path: Path, frame_packet: Callable[..., StreamPacket]) -> None:
    path, given = tmp_path / "h.jsonl", frame_packet(1)
    run_node(Hash, [given, given], {"path": str(path)})
    run_node(Hash, [given], {"path": str(path)})
    assert [json.loads(line)["sequence"] for line in path.read_text().splitlines()] == [0, 1, 0]


def test_without_a_path_lines_go_to_standard_output(frame_packet: Callable[..., StreamPacket], capsys: Any) -> None:
    run_node(Hash, [frame_packet(1)])
    assert json.loads(capsys.readouterr().out)["frame"] == 1


@pytest.mark.parametrize(
    ("one", "same", "other"),
    [
        (np.arange(12, dtype=np.uint8).reshape(3, 4), np.arange(24, dtype=np.uint8).reshape(3, 8)[:, :4] * 0, None),
        (b"abc", bytearray(b"abc"), b"abd"),
        ({"a": 1, "b": [1.5, None]}, {"b": [1.5, None], "a": 1}, {"a": 1, "b": [1.5, 0]}),
    ],
)
def test_the_hash_is_of_the_content(one: Any, same: Any, other: Any) -> None:
    if isinstance(one, np.ndarray):  # the same elements with other strides
        wide = np.zeros((3, 9), np.uint8)
        wide[:, 2:6] = one
        same, other = wide[:, 2:6], one + 1
    assert payload_hash(one) == payload_hash(same) != payload_hash(other)


@pytest.mark.parametrize("payload", [np.array(1.5), np.zeros((0, 3)), np.ones((2, 2), bool), np.zeros((2, 3), np.int64)])
def test_arrays_of_every_kind_can_be_hashed(payload: np.ndarray) -> None:
    assert payload_hash(payload) == blake2b(payload.tobytes(), digest_size=16).hexdigest()


def test_print_says_one_short_line_per_packet(json_packet: Callable[..., StreamPacket], capsys: Any) -> None:
    long = json_packet({"text": "x" * 10_000}, 3)
    long.redelivered = True
    run_node(Print, [json_packet({"n": 1}, 2), long], {"meta": True})
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == 2 and all(len(line) < 400 for line in lines)
    assert '{"n": 1}' in lines[0] and '"frame": 2' in lines[0] and "again" in lines[1] and "..." in lines[1]


def test_print_can_leave_packets_out(json_packet: Callable[..., StreamPacket], capsys: Any) -> None:
    run_node(Print, [json_packet(n) for n in range(1, 8)], {"every": 3})
    assert [line[-1] for line in capsys.readouterr().out.splitlines()] == ["3", "6"]


def test_payloads_are_described_briefly() -> None:
    assert describe(np.zeros((2, 3), np.uint8)) == "uint8 2x3"
    assert describe(b"1234") == "4 bytes"
    assert describe([1, "ü"]) == '[1, "ü"]'


def test_null_reads_the_ends_of_arrays_and_takes_everything(json_packet: Callable[..., StreamPacket]) -> None:
    node = Null()
    payloads = [np.array([[3, 0], [0, 5]], np.uint8), np.zeros((0, 2), np.uint8), b"x", {"a": 1}, np.array([True, False])]
    run_node(node, [json_packet(payload) for payload in payloads], {"batch": 2})
    assert node.touched == 3 ^ 5 ^ 1


@pytest.mark.parametrize(("node", "config"), [(Print, {"every": 0}), (Hash, {"path": 3}), (Null, {"batch": 0})])
def test_bad_config_is_refused(node: Any, config: dict[str, object]) -> None:
    with pytest.raises(ConfigError, match=next(iter(config))):
        run_node(node, config=config)


def test_a_witness_file_that_cannot_be_made_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="Is a directory"):
        run_node(Hash, [], {"path": str(tmp_path)})
