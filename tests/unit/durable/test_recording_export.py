"""What an export holds, read back with the package that everybody reads MCAP with."""

from __future__ import annotations

import base64
import json
import struct
import sys

import numpy as np
import pytest
from mcap.reader import make_reader

from streamcore import StreamPacket
from streamcore.durable import recording_export as export
from streamcore.durable.recording import Recording
from streamcore.durable.store import DurableStore
from streamcore.errors import ConfigError
from streamcore.testing import run_node
from streamcore_nodes.durable_record import Record
from streamcore_nodes.picture_codec import decode_picture

RANDOM = np.random.default_rng(3)
T0_NS = 1_700_000_000_123_456_789
PICTURES = {
    "mono8": RANDOM.integers(0, 256, (48, 64), "uint8"),
    "bgr8": RANDOM.integers(0, 256, (300, 400, 3), "uint8"),
    "bgra8": RANDOM.integers(0, 256, (20, 30, 4), "uint8"),
    "mono16": RANDOM.integers(0, 65536, (20, 30), "uint16"),
    "32FC1": RANDOM.random((20, 30)).astype("float32"),
}
TENSOR = RANDOM.random((2, 3, 4, 5)).astype("float64")


def packets(payloads) -> list[StreamPacket]:
    return [
        StreamPacket.new(kind="thing", source_id="cam", payload=payload, meta={"frame": n}, position=n, wall_ns=T0_NS + n * 40_000_000)
        for n, payload in enumerate(payloads)
    ]


def exported(tmp_path, payloads, **config):
    """(schema, channel, message) of everything in the file, in the order of time."""
    run_node(Record, packets(payloads), {"path": str(tmp_path / "r"), **config})
    target = tmp_path / "out.mcap"
    assert export.save(Recording(tmp_path / "r").read(), target, "mcap") == len(payloads)
    with open(target, "rb") as file:
        reader = make_reader(file, validate_crcs=True)
        found = list(reader.iter_messages())
        assert reader.get_summary().statistics.message_count == len(found)
    return found


def fields(raw: bytes) -> dict[int, list]:
    """A protobuf message as its fields, by number."""
    found: dict[int, list] = {}
    at = 0

    def varint() -> int:
        nonlocal at
        value = shift = 0
        while True:
            byte = raw[at]
            at += 1
            value |= (byte & 0x7F) << shift
            shift += 7
            if byte < 0x80:
                return value

    while at < len(raw):
        number, wire = divmod(varint(), 8)
        if wire == 0:
            value = varint()
        elif wire == 5:
            (value,) = struct.unpack_from("<I", raw, at)
            at += 4
        else:
            assert wire == 2
            length = varint()
            value, at = raw[at : at + length], at + length
        found.setdefault(number, []).append(value)
    return found


def test_json_and_bytes_and_tensors_are_json_with_all_that_is_known(tmp_path):
    payloads = [{"a": [1, "ä"]}, b"\x00\xff", 3.5, TENSOR]
    found = exported(tmp_path, payloads)
    assert {(schema.name, schema.encoding, channel.topic, channel.message_encoding) for schema, channel, _ in found} == {
        ("streamcore.Packet", "jsonschema", "/cam/thing", "json")
    }
    assert [message.log_time for _, _, message in found] == [T0_NS + n * 40_000_000 for n in range(4)]
    values = [json.loads(message.data) for _, _, message in found]
    assert [value["meta"] for value in values] == [{"frame": n} for n in range(4)]
    assert [value["sequence"] for value in values] == [1, 2, 3, 4] == [message.sequence for _, _, message in found]
    assert (values[0]["payload"], values[2]["payload"]) == (payloads[0], 3.5)
    assert base64.b64decode(values[1]["payload_base64"]) == payloads[1]
    assert np.array_equal(
        np.frombuffer(base64.b64decode(values[3]["payload_base64"]), values[3]["dtype"]).reshape(values[3]["shape"]), TENSOR
    )
    properties = json.loads(found[0][0].data)["properties"]
    assert all(set(value) <= set(properties) for value in values)


@pytest.mark.parametrize("encoding", PICTURES)
def test_raw_pictures_are_those_of_foxglove_bit_for_bit(tmp_path, encoding):
    picture = PICTURES[encoding]
    (schema, channel, message), (_, beside, facts) = exported(tmp_path, [picture])
    assert (schema.name, schema.encoding, channel.topic, channel.message_encoding) == (
        "foxglove.RawImage",
        "protobuf",
        "/cam/thing",
        "protobuf",
    )
    image = fields(message.data)
    height, width = picture.shape[:2]
    assert {number: value[0] for number, value in image.items() if number != 1} == {
        2: width,
        3: height,
        4: encoding.encode(),
        5: picture.strides[0],
        6: picture.tobytes(),
        7: b"cam",
    }
    assert fields(image[1][0]) == {1: [T0_NS // 10**9], 2: [T0_NS % 10**9]}
    assert beside.topic == "/cam/thing/packet" and json.loads(facts.data)["meta"] == {"frame": 0}


@pytest.mark.parametrize("codec", ["png", "jpeg"])
def test_compressed_pictures_are_handed_on_as_they_were_stored(tmp_path, codec):
    picture = PICTURES["bgr8"]
    (schema, _, message), _ = exported(tmp_path, [picture], codec=codec)
    image = fields(message.data)
    assert (schema.name, image[3], image[4]) == ("foxglove.CompressedImage", [codec.encode()], [b"cam"])
    assert image[2] == [item.payload for item in Recording(tmp_path / "r").read()]
    assert codec == "jpeg" or np.array_equal(decode_picture(image[2][0], "png", "uint8", picture.shape), picture)


@pytest.mark.parametrize("codec", ["raw", "png"])
def test_the_schema_describes_the_fields_as_foxglove_names_and_numbers_them(tmp_path, codec):
    schema, _, _ = exported(tmp_path, [PICTURES["bgr8"]], codec=codec)[0]
    stamp, file = (fields(raw) for raw in fields(schema.data)[1])
    assert stamp[1] == file[3] == [b"google/protobuf/timestamp.proto"] and stamp[2] == [b"google.protobuf"]
    assert (file[2], file[12]) == ([b"foxglove"], [b"proto3"])
    message = fields(file[4][0])
    assert f"foxglove.{message[1][0].decode()}" == schema.name
    named = {field[1][0]: field[3][0] for field in map(fields, message[2])}
    raw = {b"timestamp": 1, b"width": 2, b"height": 3, b"encoding": 4, b"step": 5, b"data": 6, b"frame_id": 7}
    assert named == (raw if codec == "raw" else {b"timestamp": 1, b"data": 2, b"format": 3, b"frame_id": 4})


def test_the_records_of_a_queue_are_exported_by_the_same_code(tmp_path):
    with DurableStore(tmp_path / "q", DurableStore.Options(max_bytes=16 << 20)) as store:
        head = DurableStore.Head("event", "cam")
        store.append([DurableStore.Entry(bytes([n]) * 16, T0_NS + n, head, DurableStore.pack_json({"n": n})) for n in range(5)])
        records = [delivery.record for delivery in store.deliver(5)]
    assert export.save(records, tmp_path / "q.mcap", "mcap") == 5
    with open(tmp_path / "q.mcap", "rb") as file:
        found = [(channel.topic, json.loads(message.data)["payload"]) for _, channel, message in make_reader(file).iter_messages()]
    assert found == [("/cam/event", {"n": n}) for n in range(5)]


def test_json_lines_have_values_and_say_what_arrays_are(tmp_path):
    run_node(Record, packets([{"a": "ä"}, PICTURES["mono8"]]), {"path": str(tmp_path / "r")})
    assert export.save(Recording(tmp_path / "r").read(), tmp_path / "out.jsonl", "jsonl") == 2
    first, second = map(json.loads, (tmp_path / "out.jsonl").read_text("utf-8").splitlines())
    assert (first["payload"], first["ts"]) == ({"a": "ä"}, "2023-11-14T22:13:20.123456Z")
    assert (second["shape"], second["payload_bytes"]) == ([48, 64], 48 * 64) and "payload_base64" not in second


def test_without_the_package_it_is_said_what_to_install_and_nothing_is_written(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "mcap.writer", None)
    with pytest.raises(ConfigError, match="pip install 'streamcore\\[mcap\\]'"):
        export.save([], tmp_path / "out.mcap", "mcap")
    assert list(tmp_path.iterdir()) == []


def test_a_file_that_is_not_complete_does_not_appear(tmp_path):
    def broken():
        yield from Recording(tmp_path / "r").read()
        raise OSError(5, "Input/output error")

    run_node(Record, packets([{}]), {"path": str(tmp_path / "r")})
    with pytest.raises(OSError, match="Input/output error"):
        export.save(broken(), tmp_path / "out.jsonl", "jsonl")
    assert [path.name for path in tmp_path.iterdir()] == ["r"]
