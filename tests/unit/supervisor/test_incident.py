"""Incident files: what stands in them for a node that hangs, one that died, one that cannot answer; and what does not."""

from __future__ import annotations

import json
import os
import signal
import stat
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from streamcore.clock import ManualClock
from streamcore.graph.model import EdgePlan, NodePlan, Plan, RingPlan
from streamcore.packet import Meta, SlotRef, encode_meta
from streamcore.shm.ring import RingWriter, attach_ring
from streamcore.shm.status import StatusWriter
from streamcore.supervisor import incident
from streamcore.supervisor.incident import Case
from streamcore.supervisor.segments import Segments

RUN_ID = "5a" * 16
RINGS = (RingPlan(0, "cam.out", 4, 512, 4, 32768, ()), RingPlan(1, "det.out", 4, 512, 4, 4096, ()))
EDGES = (
    EdgePlan(0, 0, "cam", "out", "det", "in", 0, "block", 2, 4, ()),
    EdgePlan(1, 0, "det", "out", "end", "in", 1, "block", 2, 4, ()),
)
NODES = (
    NodePlan("cam", "t.cam", "t:C", "source", {}, {"out": 0}, (), (), (0,)),
    NodePlan("det", "t.det", "t:D", "node", {"password": "hunter2"}, {"out": 1}, (0,), (0,), (1,)),
    NodePlan("end", "t.end", "t:E", "sink", {}, {}, (1,), (1,), ()),
)
PLAN = Plan("run", "door", "abc123", NODES, EDGES, RINGS, ("end", "det", "cam"), 0)
FRAME = np.arange(40 * 60 * 3, dtype=np.uint8).reshape(40, 60, 3)
HUNG = """
from streamcore.node import stacks
stacks.register()

def stuck_here():
    print("up", flush=True)
    while True:
        pass

stuck_here()
"""


@pytest.fixture
def segments():
    made = Segments(PLAN, RUN_ID)
    yield made
    made.close()


@pytest.fixture
def at_work(segments):
    """Node det works on packet 1 of three that wait at it; gives its status page as the coordinator reads it."""
    det = PLAN.node("det")
    ring = RingWriter(attach_ring(segments.rings_of(NODES[0])[0], RINGS[0], RUN_ID, writable=True), RINGS[0])
    rows = []
    for number in range(3):
        slot = ring.claim_slot()
        ring.slot_view(slot, FRAME.nbytes)[:] = FRAME.tobytes()
        ref = SlotRef(0, slot, 0, FRAME.nbytes, "uint8", FRAME.shape, ())
        source = "rtsp://admin:hunter2@10.0.0.7/h264"
        meta = encode_meta(Meta(bytes([number]) * 16, "frame", source, 10**18, 5, ref, None, {"n": number, "token": "hunter2"}, number))
        rows.append(ring.commit(meta, 1, ref))
        ring.release_slot(slot)
    ring.complete(*rows[0], 1)
    page = StatusWriter(segments.status_of(det))
    for name, value in {"current_edge": 0, "current_entry": rows[1][0], "current_sequence": rows[1][1], "busy_since_ns": 4 * 10**9}.items():
        page.set(name, value)
    return lambda: segments.readers["det"].read()


@pytest.fixture
def run_dir(tmp_path):
    (tmp_path / "logs").mkdir()
    (tmp_path / "logs" / "det.log").write_text("".join(f"line {number}\n" for number in range(500)) + "api_key=hunter2\n")
    return tmp_path


def case(segments, page=None, **changes) -> Case:
    facts = {"plan": PLAN, "run_id": RUN_ID, "node": "det", "incarnation": 3, "pid": 0, "reason": "crash", "cause": "killed by SIGSEGV"}
    return Case(**{**facts, "page": page, "ring_fds": segments.rings_of(PLAN.node("det")), **changes})


@pytest.fixture
def hung():
    environ = {**os.environ, "RTSP_PASSWORD": "hunter2", "LANG": "C"}
    process = subprocess.Popen([sys.executable, "-c", HUNG], stdout=subprocess.PIPE, env=environ)
    assert process.stdout
    process.stdout.readline()
    yield process
    process.kill()
    process.communicate()


def written(path: str) -> dict:
    assert path
    with open(path) as file:
        return json.load(file)


def test_a_hung_node_is_described_before_it_is_killed(segments, at_work, run_dir, hung):
    clock = ManualClock(10**10)
    clock.sleep = lambda seconds: (clock.advance(seconds), time.sleep(seconds))
    path = incident.write(run_dir, case(segments, at_work(), pid=hung.pid, reason="hang", cause="busy for 6 s", alive=True), clock)
    assert path == str(run_dir / "incidents" / "det.3.json")
    facts = written(path)
    assert (facts["node"], facts["incarnation"], facts["reason"], facts["graph_version"]) == ("det", 3, "hang", "abc123")
    assert "in stuck_here" in facts["stacks"]["python"]
    assert facts["stacks"]["threads"][0]["tid"] == hung.pid
    assert facts["process"]["VmRSS"].endswith("kB")
    assert facts["status"]["current_sequence"] == 1
    assert facts["busy_s"] >= 6
    assert facts["environment"]["LANG"] == "C"
    assert hung.poll() is None, "it is the coordinator that kills"


def test_the_packet_under_work_is_named_with_its_metadata(segments, at_work, run_dir):
    packet = written(incident.write(run_dir, case(segments, at_work())))["packet"]
    assert (packet["edge"], packet["sequence"], packet["packet_id"]) == ("cam.out->det.in", 1, "01" * 16)
    assert (packet["kind"], packet["position"], packet["meta"]["n"], packet["ts"]) == ("frame", 1, 1, "2001-09-09T01:46:40.000000Z")
    assert packet["payload"] == {"type": "array", "nbytes": FRAME.nbytes, "dtype": "uint8", "shape": [40, 60, 3]}


def test_the_frame_under_work_and_those_that_waited_are_pictures(segments, at_work, run_dir):
    cv2 = pytest.importorskip("cv2")
    facts = written(incident.write(run_dir, case(segments, at_work())))
    assert facts["pictures"] == ["det.3.1.png", "det.3.2.png"]
    for name in facts["pictures"]:
        assert np.array_equal(cv2.imread(str(run_dir / "incidents" / name)), FRAME)


def test_an_entry_that_was_used_again_is_not_taken_for_the_packet(segments, at_work, run_dir):
    StatusWriter(segments.status_of(PLAN.node("det"))).set("current_sequence", 99)
    packet = written(incident.write(run_dir, case(segments, at_work())))["packet"]
    assert packet == {"edge": "cam.out->det.in", "sequence": 99, "note": "its entry has been used again"}


def test_a_node_that_was_at_no_packet_has_none(segments, at_work, run_dir):
    StatusWriter(segments.status_of(PLAN.node("det"))).set("busy_since_ns", 0)
    facts = written(incident.write(run_dir, case(segments, at_work())))
    assert (facts["packet"], facts["busy_s"], facts["pictures"]) == (None, None, [])
    source = case(segments, at_work(), node="cam")
    assert written(incident.write(run_dir, source))["packet"] is None


def test_no_secret_is_in_the_file(segments, at_work, run_dir, hung, monkeypatch):
    monkeypatch.setenv("API_TOKEN", "hunter2")
    for alive in (True, False):
        path = incident.write(run_dir, case(segments, at_work(), pid=hung.pid, alive=alive, cause="cannot open rtsp://a:hunter2@b/"))
        text = Path(path).read_text()
        assert "hunter2" not in text
        assert "***@10.0.0.7" in text, "what is left says which camera it was"


def test_the_last_lines_of_the_log_are_kept_and_no_more(segments, run_dir):
    log = written(incident.write(run_dir, case(segments)))["log"]
    assert len(log) == incident.LOG_LINES
    assert log[-2:] == ["line 499", "api_key=***"]


def test_a_process_that_died_in_native_code_has_left_its_stacks_in_the_log(segments, run_dir):
    with (run_dir / "logs" / "det.log").open("a") as log:
        program = "import faulthandler, ctypes\nfaulthandler.enable()\ndef crash_here(): ctypes.string_at(0)\ncrash_here()"
        subprocess.run([sys.executable, "-c", program], stderr=log, check=False)
    facts = written(incident.write(run_dir, case(segments, exit="killed by SIGSEGV")))
    assert facts["stacks"]["python"].startswith("Fatal Python error: Segmentation fault")
    assert "in crash_here" in facts["stacks"]["python"]


def test_a_stopped_process_says_that_it_cannot_answer(segments, run_dir, hung):
    hung.send_signal(signal.SIGSTOP)
    os.waitpid(hung.pid, os.WUNTRACED)
    stacks = written(incident.write(run_dir, case(segments, pid=hung.pid, alive=True)))["stacks"]
    assert stacks["python"] == ""
    assert "stopped" in stacks["note"]
    assert stacks["threads"][0]["state"] == "T"


def test_only_its_owner_may_read_it(segments, at_work, run_dir):
    before = os.umask(0)
    try:
        incident.write(run_dir, case(segments, at_work()))
    finally:
        os.umask(before)
    folder = run_dir / "incidents"
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700
    assert {stat.S_IMODE(path.stat().st_mode) for path in folder.iterdir()} == {0o600}


def test_the_oldest_make_room_with_their_pictures(segments, at_work, run_dir, monkeypatch):
    monkeypatch.setattr(incident, "INCIDENTS_MAX", 2)
    for number in range(1, 5):
        path = incident.write(run_dir, case(segments, at_work(), incarnation=number))
        os.utime(path, (number, number))
    names = sorted(path.name for path in (run_dir / "incidents").iterdir())
    assert names == ["det.3.1.png", "det.3.2.png", "det.3.json", "det.4.1.png", "det.4.2.png", "det.4.json"]


@pytest.mark.parametrize("spoil", ["gone", "file", "link"])
def test_a_box_that_refuses_does_not_end_the_run(spoil, segments, run_dir):
    target = run_dir / "incidents"
    if spoil == "gone":
        (run_dir / "logs" / "det.log").unlink()
        (run_dir / "logs").rmdir()
        run_dir.rmdir()
    elif spoil == "file":
        target.write_text("")
    else:
        target.symlink_to("/tmp")
    assert incident.write(run_dir, case(segments)) == ""


def test_incidents_are_listed_oldest_first_and_read_by_name(segments, run_dir):
    clock = ManualClock(10**18)
    for number in (2, 10, 1):
        clock.advance(1)
        incident.write(run_dir, case(segments, incarnation=number), clock)
    (run_dir / "incidents" / "det.7.json").write_text("{half")
    assert [found["incarnation"] for found in incident.known(run_dir)] == [2, 10, 1]
    assert incident.read(run_dir, "det.10")["incarnation"] == 10
    assert [incident.read(run_dir, name) for name in ("det.9", "det.7", "../logs/det", "det", "")] == [None] * 5
    assert incident.known(run_dir / "nowhere") == []
