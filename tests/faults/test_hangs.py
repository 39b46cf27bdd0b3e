"""A node that hangs is found, described and replaced, whatever holds it; one that is slow is left alone. Nothing is lost by either."""

from __future__ import annotations

import json
import signal
from pathlib import Path

import pytest
from boxes import Box
from fault_kit import PATIENCE_S, Ledger, Run, frames, node, spec

pytestmark = [pytest.mark.slow, pytest.mark.timeout(300)]
KINDS = ("stop", "gil", "native", "spin")
TIMES, FRAMES = 5, 2000
PROGRESS_S = 2.0  # a node that gets no processor for so long, because the box is busy, would count as hung too


def test_every_kind_of_hang_is_found_five_times_and_nothing_is_lost(box: Box):
    nodes, edges = [], []
    at = [50 + 40 * turn for turn in range(TIMES)]
    counts = dict.fromkeys(KINDS, FRAMES) | {"stop": 2 * FRAMES}  # it has to last for five stops, each of which is found after 2 s
    for kind in KINDS:
        plugin, config = ("flow.forward", "") if kind == "stop" else ("fault_nodes:Harm", f"how: {kind}, at: {at}")
        nodes += [node(f"src-{kind}", "synthetic.frames", frames(200, counts[kind]))]
        nodes += [node(kind, plugin, config, f"progress_s: {PROGRESS_S}")]
        nodes += [node(f"sink-{kind}", "debug.hash", f"path: {kind}.jsonl")]
        edges += [(f"src-{kind}", kind), (kind, f"sink-{kind}")]
    run = Run(box, "hangs", spec(nodes, edges))
    run.wait_up()
    run.hurt(signal.SIGSTOP, {"stop": TIMES})  # from outside, at whatever it is doing
    report = run.end(how="end of stream")
    found_s: list[float] = []
    for kind in KINDS:
        print(kind, Ledger(box.folder / f"{kind}.jsonl").check(repeats_max=0, sources=[f"src-{kind}"], expected=counts[kind]))
        row = report["nodes"][kind]
        assert row["restarts"] == TIMES and len(row["incidents"]) == TIMES
        for path in row["incidents"]:
            incident = json.loads(Path(path).read_text())
            assert incident["reason"] == "hang"
            stacks = json.dumps(incident["stacks"])
            if kind == "stop":
                assert "File" in stacks, stacks[:2000]
            else:
                # Never sooner; the second that it may take longer is that of a box which lets the coordinator look.
                assert PROGRESS_S <= incident["busy_s"] < PATIENCE_S, (kind, incident["busy_s"])
                found_s.append(incident["busy_s"])
                assert "do_harm" in stacks, stacks[:2000]
    print(f"found after {sorted(found_s)} s")


def test_a_slow_node_is_never_taken_for_a_hung_one_nor_is_one_that_waits_for_it(box: Box):
    nodes = [
        node("src", "synthetic.frames", frames(0, 10), f"progress_s: {PROGRESS_S}"),
        node("pass", "flow.forward", "", f"progress_s: {PROGRESS_S}"),
        node("slow", "debug.slow", "work_ms: 1000", f"progress_s: {PROGRESS_S}"),
        node("sink", "debug.hash", "path: slow.jsonl", f"progress_s: {PROGRESS_S}"),
    ]
    run = Run(box, "slow", spec(nodes, [("src", "pass"), ("pass", "slow"), ("slow", "sink")]))
    report = run.end(how="end of stream")
    Ledger(box.folder / "slow.jsonl").check(repeats_max=0, sources=["src"], expected=10)
    assert all(row["restarts"] == 0 for row in report["nodes"].values())
