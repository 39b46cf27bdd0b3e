"""durable.queue without processes: what goes in comes out whole, and what a packet is stored once by."""

from __future__ import annotations

import numpy as np
import pytest

from streamcore import ConfigError, DurableStore, PayloadError, StreamPacket
from streamcore.testing import run_node
from streamcore_nodes.durable_queue import DurableQueue
from streamcore_nodes.picture_codec import decode_picture, encode_picture

PICTURE = np.random.default_rng(1).integers(0, 256, (48, 64, 3), "uint8")


def packet(payload, **more) -> StreamPacket:
    return StreamPacket.new(kind="event", source_id="cam", payload=payload, **more)


def config(tmp_path, **more) -> dict:
    return {"path": str(tmp_path / "queue"), "max_bytes": "16MiB", **more}


@pytest.mark.parametrize("payload", [{"a": [1, None, "ä"]}, [], "text", None, 3.5, b"bytes", PICTURE], ids=repr)
@pytest.mark.parametrize("codec", ["raw", "png"])
def test_payloads_come_back_as_they_were(tmp_path, payload, codec):
    given = packet(payload, meta={"own": 1})
    (out,) = run_node(DurableQueue, [given], config(tmp_path, codec=codec))
    assert np.array_equal(out.payload, payload) if isinstance(payload, np.ndarray) else out.payload == payload
    told = out.meta.pop("durable")
    assert (out.kind, out.source_id, out.meta, out.wall_ns) == ("event", "cam", {"own": 1}, given.wall_ns)
    assert told == {"sequence": 1, "id": given.id16.hex(), "attempt": 1, "replayed": False, "settled_below": 1}


def test_jpeg_is_near_and_png_is_exact_for_every_depth_it_takes():
    smooth = np.tile(np.arange(64, dtype="uint8"), (48, 1))
    assert np.abs(decode_picture(encode_picture(smooth, "jpeg", 95), "jpeg", "uint8", smooth.shape).astype(int) - smooth).max() < 8
    for array in (smooth, PICTURE, PICTURE[..., :1], PICTURE.astype("uint16") * 200, np.dstack([PICTURE, PICTURE[..., 0]])):
        assert np.array_equal(decode_picture(encode_picture(array, "png", 90), "png", str(array.dtype), array.shape), array)
    with pytest.raises(PayloadError, match="codec jpeg: found float32 4x4, expected uint8"):
        encode_picture(np.zeros((4, 4), "float32"), "jpeg", 90)


def test_what_comes_again_is_stored_once(tmp_path):
    events = [packet({"event_id": n % 3}) for n in range(9)]
    assert [out.payload["event_id"] for out in run_node(DurableQueue, events, config(tmp_path, id="payload.event_id"))] == [0, 1, 2]
    assert run_node(DurableQueue, events[:2], config(tmp_path, id="payload.event_id")) == []


def test_what_was_not_acknowledged_comes_first_in_the_next_life(tmp_path):
    with DurableStore(tmp_path / "queue", DurableStore.Options(max_bytes=16 << 20)) as store:
        head = DurableStore.Head("event", "cam")
        store.append([DurableStore.Entry(bytes([n]) * 16, n, head, DurableStore.pack_json({"n": n})) for n in (1, 2)])
        store.deliver(1)
    out = run_node(DurableQueue, [packet({"n": 3})], config(tmp_path))
    assert [(item.payload["n"], item.redelivered) for item in out] == [(1, True), (2, True), (3, False)]
    with DurableStore(tmp_path / "queue", DurableStore.Options(max_bytes=16 << 20)) as store:
        assert store.waiting == 0


@pytest.mark.parametrize("path", ["payload", "source_id.x", "nothing", "."])
def test_a_key_that_names_nothing_is_refused(tmp_path, path):
    with pytest.raises(ConfigError, match="expected source_id, kind, payload.NAME or meta.NAME"):
        run_node(DurableQueue, [], config(tmp_path, key=path))
