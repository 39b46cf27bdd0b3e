"""Orders to nodes of a live run: carried out between packets, answered whatever comes of them."""

from __future__ import annotations

import os

import pytest
from boxes import Box

from streamcore import limits
from streamcore.control.client import connect
from streamcore.errors import MessageError, RunError

NODES = '''
import time
from streamcore import Node, Port, Source, StreamPacket


class Ticks(Source):
    """Nothing for ever."""

    outputs = {"out": Port("tick", "json")}

    def run(self):
        yield StreamPacket.new(kind="tick", source_id="s", payload=1)
        self.wait_until(time.monotonic_ns() + 10**15)

    def on_order(self, name, arguments):
        return {"source": name}


class Obeys(Node):
    inputs = {"in": Port("any", "json")}
    outputs = {"out": Port("any", "json")}

    def setup(self):
        self.inside = False

    def process(self, packet):
        self.inside = True
        yield packet.derive(payload=packet.payload)
        self.inside = False

    def on_order(self, name, arguments):
        if name == "fail":
            raise KeyError("no such thing")
        if name == "large":
            return {"x": "y" * 100_000}
        if name == "odd":
            return {"x": object()}
        return {"got": arguments, "inside": self.inside}
'''
SPEC = """
version: 2
name: obedient
allow: [obeys]
nodes:
  - {id: ticks, plugin: "obeys:Ticks"}
  - {id: node, plugin: "obeys:Obeys"}
  - {id: sink, plugin: debug.null}
edges:
  - {from: ticks, to: node}
  - {from: node, to: sink}
"""


def test_an_order_is_answered_by_its_node_whatever_it_says(box: Box, monkeypatch):
    (box.folder / "obeys.py").write_text(NODES)
    box.env["PYTHONPATH"] = os.pathsep.join(filter(None, [str(box.folder), os.environ.get("PYTHONPATH")]))
    box.start("up", box.write_spec(SPEC))
    box.wait_running("obedient")
    monkeypatch.setenv("XDG_RUNTIME_DIR", box.env["XDG_RUNTIME_DIR"])
    with connect("obedient") as client:

        def order(node: str, name: str, **arguments) -> dict:
            return client.request("order", timeout_s=30, node=node, name=name, arguments=arguments)

        assert order("node", "look", deep=[1, {"x": None}]) == {
            "node": "node",
            "reply": {"got": {"deep": [1, {"x": None}]}, "inside": False},
        }
        client.request("pause", node="node")
        assert order("node", "look")["reply"]["got"] == {}
        assert order("ticks", "hello")["reply"] == {"source": "hello"}
        for node, name, said in (
            ("node", "fail", "node 'node': KeyError: 'no such thing'"),
            ("node", "large", "it was done, its answer cannot be sent: control datagram"),
            ("node", "odd", "it was done, its answer cannot be sent: Encoding objects of type object"),
            ("sink", "look", "Null takes no orders, found 'look'"),
            ("nobody", "look", "node: found 'nobody', expected one of: ticks, node, sink"),
        ):
            with pytest.raises(RunError) as caught:
                order(node, name)
            assert said in str(caught.value), name
        with pytest.raises(MessageError, match="let it be several"):
            order("node", "look", x="y" * limits.MESSAGE_BYTES_MAX)
        with pytest.raises(MessageError):
            order("node", "x" * 65)
        assert order("node", "look")["reply"]["got"] == {}, "it goes on"
        assert {row["state"] for row in client.request("stats")["nodes"]} == {"READY"}
        assert client.request("ping")["orders"] == 0
    assert box.run("down", "obedient").returncode == 0
    box.assert_nothing_left()
