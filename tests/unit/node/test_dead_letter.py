"""Dead letters: what is written is complete, is written once, comes back as the packet that it was, and has a bound."""

from __future__ import annotations

import json
import logging
import os
import stat
from pathlib import Path

import numpy as np
import pytest

from streamcore import StreamPacket
from streamcore.clock import ManualClock
from streamcore.graph.model import Poisoned
from streamcore.node import dead_letter
from streamcore.node.dead_letter import Letters
from streamcore.node.placing import id16_of
from streamcore.shm.layout import NO_EDGE
from streamcore.wire import messages

FRAME = np.arange(4 * 6 * 3, dtype=np.uint8).reshape(4, 6, 3)
POISONED = Poisoned(0, 7, 2, "")
PAYLOADS = {
    "a frame": FRAME,
    "a crop, which is not contiguous": FRAME[1:3, 2:5],
    "floats": np.linspace(0, 1, 5, dtype=np.float32),
    "an empty array": np.empty((0, 3), np.int16),
    "bytes": b"\0\1\2" * 100,
    "no bytes": b"",
    "a mapping": {"boxes": [[1, 2], [3, 4]], "text": "größer"},
    "a number": 1.5,
    "nothing": None,
}


def packet(payload=FRAME, **fields) -> StreamPacket:
    made = StreamPacket.new(kind="frame", source_id="camera", payload=payload, meta={"frame": 7}, position=7, **fields)
    made.sequence, made.in_port, made.trace = 7, "in", [("camera", 5)]
    return made


def same(one, other) -> bool:
    if isinstance(one, np.ndarray):
        return isinstance(other, np.ndarray) and one.dtype == other.dtype and np.array_equal(one, other)
    return bytes(one) == bytes(other) if isinstance(one, bytes) else one == other


def folder(run_dir):
    return run_dir / dead_letter.FOLDER


@pytest.mark.parametrize("payload", PAYLOADS.values(), ids=PAYLOADS.keys())
def test_a_packet_comes_back_as_it_was(payload, tmp_path):
    sent = packet(payload)
    back = dead_letter.load(dead_letter.write(tmp_path, "motion", sent, POISONED))
    assert same(payload, back.payload)
    for name in ("kind", "source_id", "meta", "id16", "wall_ns", "capture_ns", "position", "sequence", "in_port", "trace"):
        assert getattr(back, name) == getattr(sent, name), name
    assert back.redelivered
    assert back.parent.inlet.plan.id == NO_EDGE, "it came by no edge: nobody waits for a receipt"
    if isinstance(back.payload, np.ndarray):
        with pytest.raises(ValueError, match="read-only"):
            back.payload[...] = 0  # as a frame in a ring is


def derived_id(packet: StreamPacket) -> bytes:
    output = packet.derive(payload=None)
    return id16_of(output.id16, output.parent, output.position, "camera", "out", "camera.out")


def test_what_it_derives_has_the_ids_that_it_would_have_had(tmp_path, make_wire):
    # Whoever has seen an output of the packet before the process died drops it then.
    wire = make_wire(slots=4)
    wire.emit(FRAME)
    before = wire.consumers[0].take()
    first = derived_id(before)
    again = dead_letter.load(dead_letter.write(tmp_path, "motion", before, POISONED))
    assert again.id16 == before.id16
    assert derived_id(again) == first


def test_what_is_redriven_may_be_forwarded_and_holds_nothing(tmp_path, make_wire):
    wire = make_wire(slots=4, forwards=frozenset({"in"}))
    again = dead_letter.load(dead_letter.write(tmp_path, "motion", packet(), POISONED))
    assert wire.outlet.emit(again.derive(payload=again.payload), False)
    wire.flush()
    arrived = wire.consumers[0].take()
    assert same(FRAME, arrived.payload)
    again.parent.settle()
    arrived.parent.settle()
    del arrived  # the last that holds the slot
    wire.report()
    assert wire.is_empty()


def test_the_record_says_where_it_came_from_and_why_it_is_there(tmp_path):
    incident = tmp_path / "motion.2.json"
    incident.write_text('{"v": 1, "reason": "crash", "exit": "killed by SIGSEGV"}')
    sent = packet()
    path = dead_letter.write(tmp_path, "motion", sent, Poisoned(0, 7, 2, str(incident)), "front-door", ManualClock(10**18))
    record = json.loads(Path(path).read_text())
    assert record["packet_id"] == sent.packet_id
    assert (record["run"], record["node"], record["sequence"], record["deaths"]) == ("front-door", "motion", 7, 2)
    assert record["incident"] == str(incident)
    assert record["report"]["exit"] == "killed by SIGSEGV", "the file itself goes when newer incidents come"
    expected = {"type": "array", "nbytes": FRAME.nbytes, "file": f"{sent.packet_id}.npy", "dtype": "uint8", "shape": [4, 6, 3]}
    assert record["payload"] == expected
    assert record["stored"].startswith("2001-09-09T01:46:40")


def test_only_its_owner_may_read_it(tmp_path):
    before = os.umask(0)
    try:
        dead_letter.write(tmp_path, "motion", packet(), POISONED)
    finally:
        os.umask(before)
    assert stat.S_IMODE(folder(tmp_path).stat().st_mode) == 0o700
    assert {stat.S_IMODE(path.stat().st_mode) for path in folder(tmp_path).iterdir()} == {0o600}


def test_a_packet_is_written_once_however_often_it_fails(tmp_path):
    # Its process may die between the writing and the receipt; the next one fails it again.
    sent = packet()
    path = dead_letter.write(tmp_path, "motion", sent, POISONED)
    before = Path(path).read_text()
    assert dead_letter.write(tmp_path, "motion", sent, Poisoned(0, 7, 9)) == path
    assert Path(path).read_text() == before
    assert len(list(folder(tmp_path).iterdir())) == 2


def test_one_that_was_redriven_and_dies_again_is_written_anew_and_keeps_its_count(tmp_path):
    sent = packet()
    path = dead_letter.write(tmp_path, "motion", sent, POISONED)
    dead_letter.mark_redriven(path, "failed", ManualClock(10**18))
    dead_letter.write(tmp_path, "motion", sent, Poisoned(0, 9, 3))
    letter = dead_letter.read(path)
    assert (letter.deaths, letter.redriven, letter.outcome) == (3, 1, "failed")
    assert letter.redriven_ts.startswith("2001-09-09")


def test_a_kill_between_payload_and_record_leaves_no_record(tmp_path, monkeypatch):
    real = dead_letter._store

    def dies(path, content):
        if path.suffix == ".json":
            raise OSError("killed here")
        real(path, content)

    monkeypatch.setattr(dead_letter, "_store", dies)
    sent = packet()
    with pytest.raises(OSError, match="killed here"):
        dead_letter.write(tmp_path, "motion", sent, POISONED)
    assert dead_letter.read(dead_letter.path_of(tmp_path, sent.packet_id)) is None
    monkeypatch.undo()
    assert dead_letter.load(dead_letter.write(tmp_path, "motion", sent, POISONED)) is not None


def test_the_folder_is_bounded_and_says_so(tmp_path, monkeypatch, caplog):
    monkeypatch.setattr(dead_letter, "LETTERS_MAX", 2)
    for _ in range(2):
        dead_letter.write(tmp_path, "motion", packet(), POISONED)
    letters = Letters("run", str(tmp_path), "motion", [POISONED], logging.getLogger("test"))
    one_more = packet()
    one_more.parent = dead_letter.load(next(folder(tmp_path).glob("*.json"))).parent
    letters._poisoned = {(NO_EDGE, 7): POISONED}
    letters.keep(one_more)
    assert "could not be stored" in caplog.text
    assert "at most 2 records" in caplog.text
    assert len(list(folder(tmp_path).glob("*.json"))) == 2


def test_bytes_count_towards_the_bound(tmp_path, monkeypatch):
    monkeypatch.setattr(dead_letter, "LETTERS_BYTES_MAX", 1 << 20)
    with pytest.raises(OSError, match="at most"):
        dead_letter.write(tmp_path, "motion", packet(bytes(2 << 20)), POISONED)
    assert not list(folder(tmp_path).iterdir())


@pytest.mark.parametrize("packet_id", ["", "..", "../../etc/passwd", "a" * 31, "A" * 32, "a" * 32 + "\n"])
def test_what_is_no_packet_id_names_no_file(packet_id, tmp_path, caplog):
    with pytest.raises(ValueError, match="32 hex digits"):
        dead_letter.path_of(tmp_path, packet_id)
    assert Letters("run", str(tmp_path), "motion", [], logging.getLogger("test")).load(packet_id) is None
    assert "cannot be processed again" in caplog.text


def test_a_damaged_payload_is_said_and_not_processed(tmp_path, caplog):
    sent = packet()
    dead_letter.write(tmp_path, "motion", sent, POISONED)
    (folder(tmp_path) / f"{sent.packet_id}.npy").write_bytes(b"\x93NUMPY nonsense")
    letters = Letters("run", str(tmp_path), "motion", [], logging.getLogger("test"))
    assert letters.load(sent.packet_id) is None
    assert "cannot be processed again" in caplog.text


def test_a_payload_that_hides_a_pickle_is_refused(tmp_path):
    sent = packet()
    path = dead_letter.write(tmp_path, "motion", sent, POISONED)
    np.save(folder(tmp_path) / f"{sent.packet_id}.npy", np.array([{}], dtype=object), allow_pickle=True)
    with pytest.raises(ValueError, match="allow_pickle"):
        dead_letter.load(path)


def test_a_record_of_another_version_or_a_link_is_none(tmp_path):
    sent = packet()
    path = dead_letter.path_of(tmp_path, sent.packet_id)
    dead_letter.write(tmp_path, "motion", sent, POISONED)
    text = path.read_text()
    path.write_text(text.replace('"v": 1', '"v": 2'))
    assert dead_letter.read(path) is None
    path.rename(tmp_path / "elsewhere")
    path.symlink_to(tmp_path / "elsewhere")
    assert dead_letter.read(path) is None


def test_keys_of_a_later_writer_are_ignored(tmp_path):
    path = dead_letter.path_of(tmp_path, packet_id := packet().packet_id)
    other = dead_letter.write(tmp_path, "motion", packet(), POISONED)
    record = json.loads(Path(other).read_text()) | {"packet_id": packet_id, "attempts": 3}
    path.write_text(json.dumps(record))
    assert dead_letter.read(path).packet_id == packet_id


def test_the_node_marks_what_it_has_processed_again(tmp_path):
    sent = packet()
    path = dead_letter.write(tmp_path, "motion", sent, POISONED)
    letters = Letters("run", str(tmp_path), "motion", [], logging.getLogger("test"))
    assert letters.load(sent.packet_id).packet_id == sent.packet_id
    letters.mark(sent.packet_id, messages.OK)
    letters.mark(sent.packet_id, messages.FAILED)
    letter = dead_letter.read(path)
    assert (letter.redriven, letter.outcome) == (2, "failed")
