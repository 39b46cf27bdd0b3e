"""Real runs in which one node holds the graph back: it is named while they run, and in their report."""

from __future__ import annotations

import json
from typing import Any

import pytest
from boxes import Box, wait_until

NODES = '''"""A node that computes, a sink that is slow."""
import time
from streamcore import Node, Port, Sink

ANY = Port("any", "any")


class Compute(Node):
    inputs, outputs = {"in": ANY}, {"out": ANY}

    def process(self, packet):
        end = time.thread_time() + 0.03
        while time.thread_time() < end:
            pass
        return packet.derive(payload=packet.payload, kind=packet.kind)


class SlowSink(Sink):
    inputs = {"in": ANY}

    def process(self, packet):
        time.sleep(0.05)
'''
SPEC = """
version: 2
name: slow
allow: [mine]
nodes:
  - {{id: camera, plugin: synthetic.frames, config: {{width: 64, height: 48, rate: {rate}}}}}
  - {{id: middle, {middle}}}
  - {{id: last, {last}}}
edges:
  - {{from: camera, to: middle, policy: {policy}}}
  - {{from: middle, to: last}}
"""
SLOW = "plugin: debug.slow, config: {work_ms: 50}"
FORWARD, NULL = "plugin: flow.forward", "plugin: debug.null"
NO_NODE = "No node holds the graph back: "


@pytest.mark.parametrize(
    ("middle", "last", "rate", "policy", "node", "kinds"),
    [
        pytest.param(SLOW, NULL, 100, "block", "middle", {"slow_code"}, id="it sleeps"),
        # On a box whose cores others want it is the cores that are missing.
        pytest.param("plugin: 'mine:Compute'", NULL, 100, "block", "middle", {"cpu_bound", "cores"}, id="it computes"),
        pytest.param(FORWARD, "plugin: 'mine:SlowSink'", 100, "block", "last", {"sink"}, id="a slow sink"),
        pytest.param(FORWARD, NULL, 5, "block", "", {"source"}, id="a slow source"),
        pytest.param(SLOW, NULL, 100, "latest", "middle", {"drops"}, id="latest into a slow node"),
    ],
)
def test_the_node_that_holds_it_back_is_named_live_and_in_the_report(
    box: Box, middle: str, last: str, rate: int, policy: str, node: str, kinds: set[str]
) -> None:
    (box.folder / "mine.py").write_text(NODES)
    box.env["PYTHONPATH"] = str(box.folder)
    process = box.start("up", box.write_spec(SPEC.format(middle=middle, last=last, rate=rate, policy=policy)), "--report", "r.json")
    box.wait_running("slow")

    def found() -> dict[str, Any] | None:
        live: dict[str, Any] = (box.look("stats", "slow") or {}).get("bottleneck", {})
        return live if live and live["kind"] in kinds and live["node"] == node else None

    live = wait_until(f"{node or 'no node'} to be named for {kinds}", found)
    begin = f"'{node}' holds the graph back: " if node else NO_NODE
    assert live["sentence"].startswith(begin)
    assert live["sentence"] and live["advice"]
    assert begin in box.run("stats", "slow").stdout

    report = finished(box, process)
    detail = report["bottleneck_detail"]
    assert (detail["node"], detail["kind"] in kinds) == (node, True), detail
    assert report["bottleneck"] == detail["sentence"] and report["bottleneck"].startswith(begin)
    assert report["bottleneck"] in box.output() and detail["advice"] in box.output()
    if node:
        assert 0.5 < detail["share_of_end_to_end"] <= 1


def test_a_paused_node_is_named_and_how_it_goes_on(box: Box) -> None:
    process = box.start("up", box.write_spec(SPEC.format(middle=FORWARD, last=NULL, rate=50, policy="block")), "--report", "r.json")
    box.wait_running("slow")
    assert box.run("pause", "middle", "--run", "slow").returncode == 0

    def named() -> bool:
        return "'middle' holds the graph back: it is paused, while" in box.run("stats", "slow").stdout

    wait_until("the paused node to be named", named)
    assert "`streamctl resume middle` lets it go on." in box.run("stats", "slow").stdout
    finished(box, process)


def finished(box: Box, process: Any) -> dict[str, Any]:
    assert box.run("down", "slow").returncode == 0
    process.wait(60)
    report: dict[str, Any] = json.loads((box.folder / "r.json").read_text())
    return report
