"""durable.queue without processes: what goes in comes out whole, and what a packet is stored once by."""

from __future__ import annotations

import numpy as np
import pytest
from boxes import wait_until

from streamcore import ConfigError, DurableStore, PayloadError, StreamPacket
from streamcore.node.api import attach
from streamcore.testing import Bench, check_config, run_node
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


class Life(Bench):
    """One process of the node, whose outputs are completed when the test says so, and how."""

    def __init__(self, tmp_path, **more):
        super().__init__(DurableQueue(), "queue", None)
        attach(self.node, "queue", check_config(DurableQueue, config(tmp_path, **more)), self)
        self.node.setup()
        self.sent: list[StreamPacket] = []

    def give(self, *numbers: int) -> None:
        self.node.process_batch([packet({"n": number}) for number in numbers])

    def pulled(self) -> list[int]:
        """The numbers of what comes out until nothing does."""
        self.sent = []
        while (out := self.node.pull()) is not None:
            self.sent.append(out)
        return [out.payload["n"] for out in self.sent]

    def answer(self, *outcomes: str) -> None:
        for out, outcome in zip(self.sent, outcomes, strict=True):
            self.node.on_completed(out, outcome)


def test_what_is_refused_is_a_dead_letter_at_once_and_holds_nobody_up(tmp_path):
    life = Life(tmp_path)
    life.give(1, 2, 3)
    assert life.pulled() == [1, 2, 3]
    life.answer("ok", "refused", "ok")
    life.node.flush()
    counters = life.node.store.counters
    assert (counters.acknowledged, counters.dead, counters.failed, life.node.store.waiting) == (2, 1, 1, 0)


def test_while_the_destination_is_away_everything_waits_in_order_and_nothing_is_counted(tmp_path):
    life = Life(tmp_path, retry_s=0.05, max_attempts=1)
    life.give(1, 2, 3)
    assert life.pulled() == [1, 2, 3]
    life.answer("away", "away", "away")
    life.give(4)
    assert life.pulled() == []  # of the same key: it may not overtake them
    assert life.node.pull_at_ns is not None
    found = wait_until("the records to come again", life.pulled)
    assert found == [1, 2, 3, 4]
    assert [(out.meta["durable"]["attempt"], out.meta["durable"]["settled_below"]) for out in life.sent] == [(1, 1)] * 4
    life.answer(*["ok"] * 4)
    life.node.flush()
    assert (life.node.store.counters.failed, life.node.store.waiting) == (0, 0)


def test_when_the_run_is_to_end_only_what_is_under_way_is_waited_for(tmp_path):
    # However much waits, and however fast the sink takes it: else a run with a backlog would never end.
    life = Life(tmp_path)
    life.give(*range(200))
    life.sent = [life.node.pull() for _ in range(3)]
    life.stopping = True
    assert life.node.pull() is None and life.node.pending
    life.answer("ok", "ok", "ok")
    assert life.node.pull() is None and not life.node.pending
    life.node.flush()
    assert (life.node.store.counters.acknowledged, life.node.store.waiting) == (3, 197)


@pytest.mark.parametrize("outcome", ["failed", "away"])
def test_what_fails_when_it_is_too_old_is_a_dead_letter(tmp_path, outcome):
    life = Life(tmp_path, max_age_s=1e-6)
    life.give(1)
    assert life.pulled() == [1]
    life.answer(outcome)
    life.node.flush()
    assert (life.node.store.counters.dead, life.node.store.waiting) == (1, 0)


def test_inputs_that_found_no_room_are_stored_once_there_is_some_though_nothing_can_leave(tmp_path, monkeypatch):
    life = Life(tmp_path)
    with monkeypatch.context() as full:
        full.setattr(life.node.store, "append", lambda entries: 0)
        life.give(1, 2)
    assert not life.node.taking
    life.node.blocked()
    assert life.node.taking and life.pulled() == [1, 2]


def test_one_packet_that_cannot_be_stored_fails_and_the_others_of_its_batch_are_stored(tmp_path):
    life = Life(tmp_path)
    life.node.process_batch([packet({"n": 1}), packet(PICTURE), packet({"n": 2})])
    assert [type(error) for _, error in life.outputs.failed] == [PayloadError]
    assert life.pulled() == [1, 2]
