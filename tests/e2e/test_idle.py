"""Idle costs nothing: no process of a run wakes more often than once a second while no packet flows."""

from __future__ import annotations

import time
from pathlib import Path

from boxes import Box, wait_until

SILENT = """
version: 2
name: silent
allow: [silent_source]
nodes:
  - {id: quiet, plugin: "silent_source:Quiet"}
  - {id: pass, plugin: flow.forward}
  - {id: sink, plugin: debug.null}
  - {id: health, plugin: core.health}
  - {id: told, plugin: file.jsonl, config: {path: health.jsonl}}
edges:
  - {from: health, to: told}
  - {from: quiet, to: pass}
  - {from: pass, to: sink}
"""
SOURCE = '''
from streamcore import Port, Source, StreamPacket, array
import time

class Quiet(Source):
    """One packet, then silence."""
    outputs = {"out": Port("frame", "any")}

    def run(self):
        yield StreamPacket.new(kind="frame", source_id="quiet", payload={"n": 1})
        self.wait_until(time.monotonic_ns() + 3_600_000_000_000)
'''
WATCHED_S = 4.0


def wake_ups(pid: int) -> int:
    """Voluntary context switches of all threads: each is a sleep that ended."""
    total = 0
    for status in Path(f"/proc/{pid}/task").glob("*/status"):
        total += next(int(line.split()[1]) for line in status.read_text().splitlines() if line.startswith("voluntary_ctxt_switches"))
    return total


def test_no_process_of_a_silent_run_wakes_more_than_once_a_second(box: Box) -> None:
    (box.folder / "silent_source.py").write_text(SOURCE)
    box.env["PYTHONPATH"] = str(box.folder)
    coordinator = box.start("up", box.write_spec(SILENT))
    running = box.wait_running("silent")
    health = box.folder / "health.jsonl"
    wait_until("the last event of the start to be told", lambda: health.exists() and "run_up" in health.read_text())
    pids = {"coordinator": coordinator.pid, **{node["id"]: node["pid"] for node in running["nodes"]}}

    def is_over() -> bool:
        """The start: its last events are told, its logs are shown, and the first look at the disks is taken."""
        before = wake_ups(coordinator.pid)
        time.sleep(1.0)
        return wake_ups(coordinator.pid) - before <= 1

    wait_until("the start to be over", is_over)
    before = {name: wake_ups(pid) for name, pid in pids.items()}
    time.sleep(WATCHED_S)
    woken = {name: wake_ups(pid) - before[name] for name, pid in pids.items()}
    assert all(count <= WATCHED_S + 2 for count in woken.values()), woken
