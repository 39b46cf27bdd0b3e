"""Logs of nodes that print without end, into a disk that has no room, while somebody reads them."""

from __future__ import annotations

NODES = '''"""A source that prints and logs as its config says, and says itself how far it is."""
import logging, os, subprocess, sys, time
from streamcore import Port, Source, StreamPacket, json_payload


class Talk(Source):
    outputs = {"out": Port("n", json_payload())}
    config = {
        "count": {"type": "integer"}, "line_bytes": {"type": "integer", "default": 80}, "lines": {"type": "integer", "default": 1},
        "how": {"type": "string", "default": "print"}, "wait_for": {"type": "string", "default": ""},
    }

    def run(self):
        tail = "." * self.config["line_bytes"]
        for n in range(self.config["count"]):
            for line in range(self.config["lines"]):
                if self.config["how"] == "child":
                    subprocess.run(["echo", f"line {n}.{line} {tail}"], check=False)
                elif self.config["how"] == "log":
                    self.log.info("line %d.%d %s", n, line, tail)
                else:
                    print(f"line {n}.{line} {tail}")
            yield StreamPacket.new(kind="n", source_id="talk", payload={"n": n})
            if n == self.config["count"] // 2:
                while self.config["wait_for"] and not os.path.exists(self.config["wait_for"]) and not self.stopping:
                    time.sleep(0.01)
'''
