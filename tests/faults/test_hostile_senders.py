"""A process of the same user that sends garbage, mutants and forgeries into a live run, by the hundred thousand: nothing comes of it."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from boxes import Box
from fault_kit import Ledger, Run, frames, node, spec

pytestmark = [pytest.mark.slow, pytest.mark.timeout(300)]
TESTS = Path(__file__).resolve().parents[1]
SPEC = spec(
    [node("src", "synthetic.frames", frames(200)), node("mid", "flow.forward"), node("sink", "debug.hash", "path: sink.jsonl")],
    [("src", "mid"), ("mid", "sink")],
)
MESSAGES, REQUESTS = 102_000, 20_000
GROWTH_BYTES_MAX = 6 << 20  # what an allocator keeps of a few hundred connections; the storm itself is some twenty times that


def send(what: str, seed: int, count: int, *paths: Path) -> subprocess.Popen[str]:
    command = [sys.executable, str(TESTS / "hostile_sender.py"), what, str(seed), str(count), *map(str, paths)]
    path = os.pathsep.join([str(TESTS), os.environ.get("PYTHONPATH", "")])
    return subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env={**os.environ, "PYTHONPATH": path})


def counts_of(sender: subprocess.Popen[str]) -> dict[str, Any]:
    said, _ = sender.communicate(timeout=200)
    assert sender.returncode == 0
    found: dict[str, Any] = json.loads(said)
    return found


def memory(run: Run) -> dict[str, int]:
    found = {row["id"]: row["rss_bytes"] for row in run.ask("ps")["nodes"]}
    return found | {"coordinator": 1024 * int(Path(f"/proc/{run.process.pid}/status").read_text().split("VmRSS:")[1].split()[0])}


def grown(before: dict[str, int], after: dict[str, int]) -> dict[str, float]:
    return {name: round((after[name] - before[name]) / (1 << 20), 1) for name in before}


def arrived(run: Run) -> int:
    return int(run.nodes()["sink"]["consumed"])


@pytest.mark.parametrize("seed", [1, 2])
def test_a_hundred_thousand_hostile_messages_reach_nobody_and_every_frame_arrives_once(seed, box: Box):
    run = Run(box, "hostile", SPEC)
    run.wait_up()
    run.until("frames at the sink", lambda: arrived(run) > 100)
    before, began = memory(run), arrived(run)
    folder = box.runtime / "streamcore" / "hostile"
    counts = counts_of(send("inboxes", seed, MESSAGES, *(folder / f"{name}.1" for name in before if name != "coordinator")))
    refused = run.until(
        "every message to be refused", lambda: (n := sum(row["refused"] for row in run.nodes().values())) >= counts["messages"] and n
    )
    during = arrived(run) - began
    run.until("frames after the storm", lambda: arrived(run) > began + during + 100)
    growth = grown(before, memory(run))
    print(f"seed {seed}: {counts}, {refused} refused, {during} frames meanwhile, MiB grown: {growth}")
    report = run.end()
    found = Ledger(box.folder / "sink.jsonl").check(repeats_max=0, sources=["src"])
    assert counts["messages"] >= MESSAGES and found["arrived"] > during > 0
    assert max(growth.values()) * (1 << 20) < GROWTH_BYTES_MAX, growth
    assert {row["restarts"] for row in report["nodes"].values()} == {0}
    for name in ("src", "mid", "sink"):
        log = (folder / "logs" / f"{name}.log").read_text()
        assert "message refused (1 so far)" in log and log.count("message refused") < 20
        assert "Traceback" not in log


def test_the_control_socket_answers_its_clients_whatever_else_is_asked_of_it(box: Box):
    run = Run(box, "asked", SPEC)
    run.wait_up()
    before = memory(run)
    sender = send("control", 3, REQUESTS, box.runtime / "streamcore" / "asked" / "control")
    answered = 0
    while sender.poll() is None:
        assert run.ask("ping")["pid"] == run.process.pid
        answered += 1
    counts = counts_of(sender)
    refused = run.until("the requests to be refused", lambda: (n := run.ask("ping")["refused"]) > counts["messages"] // 2 and n)
    growth = grown(before, memory(run))
    print(f"{counts}, {refused} refused, {answered} genuine ones answered meanwhile, MiB grown: {growth}")
    assert answered > 10
    assert max(growth.values()) * (1 << 20) < GROWTH_BYTES_MAX, growth
    report = run.end()
    Ledger(box.folder / "sink.jsonl").check(repeats_max=0, sources=["src"])
    assert {row["restarts"] for row in report["nodes"].values()} == {0}
