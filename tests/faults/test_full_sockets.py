"""More on its way than the kernel has room for: it waits at the sender, and arrives in order, whatever becomes of the reader."""

from __future__ import annotations

import json
import os
import signal
from pathlib import Path

import pytest
from boxes import Box
from fault_kit import Run, node, spec

pytestmark = [pytest.mark.slow, pytest.mark.timeout(120)]
COUNT, DEPTH, CHARS = 2000, 400, 7000
ROOM_BYTES = int(Path("/proc/sys/net/core/wmem_default").read_text())


def stopped_reader(box: Box) -> Run:
    """A run whose sink is stopped before the first packet, and whose source has sent all that it may."""
    nodes = [node("src", "fault_nodes:Wordy", f"count: {COUNT}, chars: {CHARS}"), node("sink", "file.jsonl", "path: sink.jsonl")]
    text = spec(nodes, [("src", "sink")]).replace("{from: src, to: sink}", f"{{from: src, to: sink, depth: {DEPTH}}}")
    run = Run(box, "full", text)
    run.wait_up()
    os.kill(run.nodes()["sink"]["pid"], signal.SIGSTOP)
    (box.folder / "go").touch()
    run.until("the source to have no credit left", lambda: edge(run)["in_flight"] == DEPTH)
    assert DEPTH * CHARS > 2 * ROOM_BYTES, "or the kernel has room for all of it"
    return run


def edge(run: Run) -> dict[str, int]:
    (found,) = run.ask("stats")["edges"]
    return dict(found)


def check(box: Box, run: Run) -> None:
    report = run.end(how="end of stream")
    assert report["edges"]["src.out->sink.in"]["completed"] == COUNT
    numbers = [json.loads(line)["payload"]["number"] for line in (box.folder / "sink.jsonl").read_text().splitlines()]
    assert numbers == list(range(COUNT))


def test_it_arrives_in_order_when_the_reader_goes_on(box: Box):
    run = stopped_reader(box)
    os.kill(run.nodes()["sink"]["pid"], signal.SIGCONT)
    check(box, run)


def test_it_is_sent_to_the_successor_of_a_reader_that_dies(box: Box):
    run = stopped_reader(box)
    os.kill(run.nodes()["sink"]["pid"], signal.SIGKILL)
    check(box, run)


def test_it_is_sent_again_by_the_successor_of_a_sender_that_dies(box: Box):
    run = stopped_reader(box)
    os.kill(run.nodes()["src"]["pid"], signal.SIGKILL)
    run.until("a new source", lambda: (row := run.nodes().get("src")) and row["restarts"] == 1 and row["state"] == "READY")
    os.kill(run.nodes()["sink"]["pid"], signal.SIGCONT)
    check(box, run)
