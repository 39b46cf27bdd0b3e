"""What a person sees and does when nodes crash, hang and are told to wait: incidents, dead letters, stacks, pause, restart, the account."""

from __future__ import annotations

import json
import os
import signal
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from boxes import Box, wait_until

NODES = '''"""A source of numbered frames, a node that does to itself what its config says, a sink that writes down what it gets."""
import ctypes, os, time
import numpy as np
from streamcore import Node, Port, Sink, Source, StreamPacket, array

FRAME = Port("frame", array("uint8", ndim=3))


class Count(Source):
    outputs = {"out": FRAME}

    def run(self):
        at = 0 if self.resume_position is None else self.resume_position + 1
        while True:
            frame = self.loan("out", (40, 60, 3), np.uint8)
            frame[:] = at % 251
            yield StreamPacket.new(kind="frame", source_id="count", payload=frame, meta={"n": at}, position=at)
            del frame
            at += 1
            if not self.wait_until(time.monotonic_ns() + 20_000_000):
                return


class Harm(Node):
    inputs, outputs = {"in": FRAME}, {"out": FRAME}
    config = {"how": {"type": "string"}, "at": {"type": "integer"}}

    def process(self, packet):
        if packet.meta["n"] == self.config["at"] and not os.path.exists("mended"):
            self.harm_here()
        return packet.derive(payload=packet.payload)

    def harm_here(self):
        how = self.config["how"]
        while how != "not at all":  # a signal ends a sleep early
            if how == "crash":
                ctypes.string_at(0)
            elif how == "gil":
                ctypes.PyDLL(None).sleep(1000)
            elif how == "native":
                ctypes.CDLL(None).sleep(1000)


class Write(Sink):
    inputs = {"in": FRAME}

    def process(self, packet):
        with open("out.jsonl", "a") as file:
            file.write('{"n": %d, "again": %d, "pixel": %d}\\n' % (packet.meta["n"], packet.redelivered, packet.payload[1, 1, 1]))
'''
SPEC = """
version: 2
name: care
allow: [care_nodes]
drain_s: 10
nodes:
  - {{id: count, plugin: "care_nodes:Count"}}
  - id: harm
    plugin: care_nodes:Harm
    config: {{how: {how}, at: 10}}
    progress_s: 1
    poison_limit: {limit}
    restart: {{backoff_s: 0.05}}
  - {{id: write, plugin: "care_nodes:Write"}}
edges:
  - {{from: count, to: harm}}
  - {{from: harm, to: write}}
"""


class Run:
    """A run of SPEC in a box of its own."""

    def __init__(self, box: Box, how: str, limit: int = 2):
        self.box = box
        (box.folder / "care_nodes.py").write_text(NODES)
        self.process = box.start("up", box.write_spec(SPEC.format(how=how, limit=limit)), "--report", "report.json")
        wait_until("the run to be up", lambda: "is up" in box.output() or self.process.poll() is not None)
        assert self.process.poll() is None, box.output()

    def say(self, *words: str) -> Any:
        """A command that has to succeed; what it prints as JSON, or as text."""
        done = self.box.run(*words)
        assert done.returncode == 0, (words, done.stdout, done.stderr)
        return json.loads(done.stdout) if "--json" in words else done.stdout

    def written(self) -> list[dict[str, int]]:
        path = self.box.folder / "out.jsonl"
        return [json.loads(line) for line in path.read_text().splitlines() if line.endswith("}")] if path.exists() else []

    def wait_written(self, number: int) -> None:
        wait_until(f"packet {number} to be written", lambda: any(row["n"] >= number for row in self.written()))

    def end(self) -> dict[str, Any]:
        """Drain it, look that the account balances and nothing is left; its report."""
        self.say("down", "care")
        assert self.process.wait(30) == 0, self.box.output()
        self.box.assert_nothing_left()
        report: dict[str, Any] = json.loads((self.box.folder / "report.json").read_text())
        assert report["account"]["balanced"]
        assert report["account"]["lost"] == {}
        return report


def test_a_packet_that_kills_its_node_is_kept_looked_at_and_processed_after_all(box):
    run = Run(box, "crash")
    run.wait_written(15)
    assert [row["n"] for row in run.written()][:11] == [*range(10), 11], "all the others arrive, in order"

    (letter,) = run.say("dlq", "list", "--json")["letters"]
    assert (letter["node"], letter["sequence"], letter["deaths"], letter["meta"]) == ("harm", 10, 2, {"n": 10})
    assert np.array_equal(np.load(letter["payload_path"]), np.full((40, 60, 3), 10, np.uint8))
    shown = run.say("dlq", "show", letter["packet_id"][:6], "--json")
    assert "in harm_here" in shown["report"]["stacks"]["python"], "with its incident, whole"

    found = run.say("incidents", "list", "--json")["incidents"]
    assert [(row["name"], row["reason"], row["packet"]["sequence"]) for row in found] == [("harm.1", "crash", 10), ("harm.2", "crash", 10)]
    assert all("SIGSEGV" in row["cause"] for row in found)
    assert all((Path(found[0]["path"]).parent / picture).read_bytes()[:4] == b"\x89PNG" for picture in found[0]["pictures"])
    page = run.say("incidents", "show", "harm")
    assert "crash of node 'harm' (incarnation 2" in page
    assert "in harm_here" in page

    (box.folder / "mended").touch()
    assert "ok" in run.say("dlq", "redrive", letter["packet_id"])
    wait_until("the packet to be written after all", lambda: {"n": 10, "again": 1, "pixel": 10} in run.written())
    assert run.say("dlq", "list", "--json")["letters"][0]["outcome"] == "ok"
    assert "removed" in run.say("dlq", "drop", "--all", "--yes")
    assert run.say("dlq", "list", "--json")["letters"] == []
    assert run.end()["status"] == "degraded", "a packet has failed on its edge, whatever became of it later"
    assert len({row["n"] for row in run.written()}) == len(run.written())


@pytest.mark.parametrize("how", ["gil", "native", "spin"])
def test_a_hang_of_every_kind_is_found_described_and_ended(how, box):
    run = Run(box, how, limit=1)  # one hang is enough: the packet is poisoned
    run.wait_written(15)
    (found,) = run.say("incidents", "list", "--json")["incidents"]
    assert (found["reason"], found["packet"]["sequence"]) == ("hang", 10)
    assert "in harm_here" in run.say("incidents", "show", found["name"], "--json")["stacks"]["python"]
    run.end()
    assert [row["n"] for row in run.written()] == [n for n in range(len(run.written()) + 1) if n != 10]


def test_a_stopped_process_is_found_described_and_replaced_without_loss(box):
    run = Run(box, "not at all")
    run.wait_written(5)
    pid = next(node["pid"] for node in run.box.ps("care")["nodes"] if node["id"] == "harm")
    os.kill(pid, signal.SIGSTOP)
    assert "stopped" in box.run("stack", "harm").stdout, "the kernel's view, for it cannot answer"
    wait_until("another process", lambda: any(n["id"] == "harm" and n["pid"] not in (pid, None) for n in run.box.ps("care")["nodes"]))
    (found,) = run.say("incidents", "list", "--json")["incidents"]
    stacks = run.say("incidents", "show", found["name"], "--json")["stacks"]
    assert found["reason"] == "hang"
    assert "start.py" in stacks["python"], "it is woken for its last word"
    assert stacks["state"].startswith("T")
    run.end()
    assert [row["n"] for row in run.written()] == list(range(len(run.written())))


def test_pause_resume_and_restart_lose_nothing_and_the_account_balances(box):
    run = Run(box, "not at all")
    run.wait_written(5)
    assert run.say("pause", "write") == "paused: write\n"
    assert run.say("pause") == "paused: count, harm, write\n"
    quiet = wait_until(
        "the graph to be quiet",
        lambda: (a := run.say("account", "--json")) == (run.say("account", "--json") | {"uptime_s": a["uptime_s"]}) and a,
    )
    assert quiet["balanced"]
    assert quiet["edges"][0]["sent"] == quiet["sources"]["count"]
    assert quiet["sinks"]["write"] == len(run.written())
    assert "still paused: count, harm" in run.say("resume", "write")
    assert run.say("resume") == "resumed all nodes\n"
    assert "harm: restarted, incarnation 2" in run.say("restart", "harm")
    run.wait_written(max(row["n"] for row in run.written()) + 10)
    assert "poll" in run.say("stack", "count")
    assert run.say("incidents", "list") == "run care: no incidents\n", "a restart on request is no incident"
    assert run.end()["status"] == "ok"
    assert [row["n"] for row in run.written()] == list(range(len(run.written())))


def test_what_a_run_cannot_do_is_refused_with_a_sentence(box):
    run = Run(box, "not at all")
    for words, status, said in (
        (["restart", "nobody"], 2, "there is count, harm, write"),
        (["pause", "nobody"], 2, "there is count, harm, write"),
        (["stack", "nobody"], 2, "there is count, harm, write"),
        (["incidents", "show"], 2, "there is none"),
        (["dlq", "show", "abcd"], 2, "has none with this id"),
        (["dlq", "redrive", "xyz"], 2, "4 to 32 hex digits"),
        (["dlq", "drop"], 2, "give IDs, or --all"),
        (["account", "nobody"], 3, "no run 'nobody'"),
        (["dlq", "list", "nobody"], 3, "no run 'nobody'"),
    ):
        done = box.run(*words)
        assert (done.returncode, said in done.stderr) == (status, True), (words, done.stdout, done.stderr)
        assert "Traceback" not in done.stderr
    run.end()
