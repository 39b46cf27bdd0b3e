"""`kill -9` of sinks, middle nodes and sources, hundreds of times in runs that go on: every frame arrives, untorn, in order.

Several chains share a run, so that on two cores one process starts while another is killed.
"""

from __future__ import annotations

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
    run = Run(box, "kills", chains(middle, config, 300), seed=kills)
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
