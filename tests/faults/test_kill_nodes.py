"""`kill -9` of sinks, middle nodes and sources, hundreds of times in runs that go on: every frame arrives, untorn, in order.

Several chains share a run, so that on two cores one process starts while another is killed.
"""

from __future__ import annotations

import os
import signal

import pytest
from boxes import Box
from fault_kit import CROP, Ledger, Run, frames, node, spec

pytestmark = [pytest.mark.slow, pytest.mark.timeout(300)]
CHAINS = 4
DEPTH = 8
CROP_CONFIG = "x: {}, y: {}, width: {}, height: {}".format(*CROP)


def chains(middle: str, config: str, rate: float) -> str:
    nodes, edges = [], []
    for i in range(CHAINS):
        nodes += [node(f"src{i}", "synthetic.frames", frames(rate)), node(f"mid{i}", middle, config)]
        nodes += [node(f"sink{i}", "debug.hash", f"path: sink{i}.jsonl")]
        edges += [(f"src{i}", f"mid{i}"), (f"mid{i}", f"sink{i}")]
    return spec(nodes, edges)


@pytest.mark.parametrize(
    ("victim", "kills", "middle", "config"),
    [
        ("sink", 200, "flow.forward", ""),
        ("mid", 100, "flow.forward", ""),
        ("mid", 100, "vision.crop", CROP_CONFIG),
        ("src", 100, "flow.forward", ""),
    ],
    ids=["sink", "forwarding node", "cropping node", "source"],
)
def test_nothing_is_lost_when_a_node_is_killed_again_and_again(victim, kills, middle, config, box: Box):
    run = Run(box, "kills", chains(middle, config, 200), seed=kills)
    run.wait_up()
    run.hurt(signal.SIGKILL, {f"{victim}{i}": kills // CHAINS for i in range(CHAINS)})
    report = run.end()
    window = 3 * DEPTH + 10
    for i in range(CHAINS):
        ledger = Ledger(box.folder / f"sink{i}.jsonl", cropped=middle == "vision.crop")
        emitted = report["metrics"][f"edge.src{i}.out->mid{i}.in.completed"]
        found = ledger.check(repeats_max=(kills // CHAINS) * window, sources=[f"src{i}"])
        print(f"seed {run.seed}, chain {i}: {kills // CHAINS} kills of the {victim}, {found}, {emitted} completed")
        if victim != "sink":
            assert found["repeats"] == 0, "a sink that lived saw a packet twice"
    own = [line for line in run.output.splitlines() if "restarted in" in line and "killed by SIGKILL (not sent by streamcore" not in line]
    assert not own, "processes that ended by themselves"
    restarts = {row["restarts"] for name, row in report["nodes"].items() if name.startswith(victim)}
    assert restarts == {kills // CHAINS}


def test_what_a_node_had_emitted_before_it_was_lost_for_good_is_processed(box: Box):
    # A deep edge into a slow node: when its producer dies, some packets lie in its inbox, some on their way, some in a batch not yet sent.
    nodes = [
        f"  - {{id: src, plugin: synthetic.frames, config: {{{frames(0)}}}, restart: {{policy: never, on_give_up: isolate}}}}",
        node("slow", "debug.slow", "work_ms: 20"),
        node("sink", "debug.hash", "path: sink.jsonl"),
    ]
    text = spec(nodes, [("src", "slow"), ("slow", "sink")]).replace("{from: src, to: slow}", "{from: src, to: slow, depth: 64}")
    run = Run(box, "lost", text)
    run.wait_up()
    run.until("packets", lambda: len(Ledger(box.folder / "sink.jsonl").lines()) > 3)
    os.kill(run.nodes()["src"]["pid"], signal.SIGKILL)
    report = run.end(how="end of stream", status=1)
    edge = report["edges"]["src.out->slow.in"]
    assert edge["failed"] == 0 and edge["sent"] == edge["completed"] > 60
    Ledger(box.folder / "sink.jsonl").check(repeats_max=0, sources=["src"], expected=edge["sent"])


def test_what_was_done_with_is_not_made_again_because_an_old_packet_is_still_under_way(box: Box):
    # The edge to `slow` holds one packet for seconds while hundreds behind it are completed. `mid` knows their ids no more than its dead.
    nodes = [node("src", "synthetic.frames", frames(500)), node("mid", "flow.forward"), node("sink", "debug.hash", "path: sink.jsonl")]
    nodes += [node("slow", "debug.slow", "work_ms: 3000"), node("end", "debug.null")]
    text = spec(nodes, [("src", "mid"), ("mid", "sink"), ("src", "slow"), ("slow", "end")])
    run = Run(box, "old", text.replace("to: slow}", "to: slow, policy: latest}"))
    run.wait_up()
    sink = Ledger(box.folder / "sink.jsonl")
    run.until("300 packets", lambda: len(sink.lines()) > 300)
    for name in ("mid", "src"):
        os.kill(run.nodes()[name]["pid"], signal.SIGKILL)
    run.until("300 more", lambda: len(sink.lines()) > 600)
    report = run.end()
    assert report["nodes"]["src"]["restarts"] == report["nodes"]["mid"]["restarts"] == 1
    assert report["edges"]["src.out->slow.in"]["dropped"] > 300
    sink.check(repeats_max=0, sources=["src"])
