"""Reports of real runs: each keeps to docs/report.schema.json, and its page opens in a browser without a complaint."""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import subprocess
from typing import Any

import jsonschema
import pytest
from boxes import ENDLESS, ROOT, Box, wait_until

SCHEMA = json.loads((ROOT / "docs" / "report.schema.json").read_text())
BROWSER = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
BROWSER_S = 120
PLUGINS = '''
"""A node that fails now and then."""
from streamcore import Node, Port


class Picky(Node):
    inputs = {"in": Port("any", "any")}
    outputs = {"out": Port("any", "any")}

    seen = 0

    def process(self, packet):
        self.seen += 1
        if self.seen % 5 == 0:
            raise ValueError("<script>no fives</script>")
        return packet.derive(payload=packet.payload)
'''
PICKY = """
version: 2
name: picky
allow: [picky]
nodes:
  - {id: camera, plugin: synthetic.frames, config: {width: 32, height: 32, rate: 400, count: 40}}
  - {id: picky, plugin: "picky:Picky", on_error: %s, restart: {policy: never}}
  - {id: sink, plugin: debug.null}
edges:
  - {from: camera, to: picky}
  - {from: picky, to: sink}
"""
DURABLE = """
version: 2
name: durable
nodes:
  - {id: camera, plugin: synthetic.frames, config: {width: 32, height: 32, rate: 400, count: 40}}
  - {id: slow, plugin: debug.slow, config: {work_ms: 2}}
  - {id: sink, plugin: debug.null}
edges:
  - {from: camera, to: slow, policy: spill, spill: {path: spill}}
  - {from: slow, to: sink}
"""


def closed(schema: Any) -> Any:
    """The same schema, refusing every key that it does not describe."""
    if isinstance(schema, dict):
        found = {key: closed(value) for key, value in schema.items()}
        return (
            {**found, "additionalProperties": False}
            if isinstance(found.get("properties"), dict) and found.get("type") == "object"
            else found
        )
    return [closed(item) for item in schema] if isinstance(schema, list) else schema


def report_of(box: Box, text: str, status: int) -> dict[str, Any]:
    (box.folder / "picky.py").write_text(PLUGINS)
    done = box.run("up", box.write_spec(text), "--report", "r.json", "--for", "30s")
    assert done.returncode == status, done.stderr
    return checked(box)


def checked(box: Box) -> dict[str, Any]:
    report: dict[str, Any] = json.loads((box.folder / "r.json").read_text())
    jsonschema.Draft202012Validator(closed(SCHEMA)).validate(report)
    assert list(report["timeline"]["nodes"]) == list(report["nodes"])
    assert list(report["timeline"]["edges"]) == list(report["edges"])
    for what, rate in (("nodes", "consumed"), ("edges", "sent")):
        for name, row in report[what].items():
            assert packets(report["timeline"], what, name, rate) == pytest.approx(row[rate], rel=0.002, abs=0.02), name
    return report


def packets(timeline: dict[str, Any], what: str, name: str, field: str) -> float:
    """The rates of all points, each over its time: what the whole run comes to."""
    rates = timeline[what][name][f"{field}_per_s"]
    spans = zip(timeline["begin_s"], timeline["end_s"], strict=True)
    return float(sum(rate * (end - begin) for rate, (begin, end) in zip(rates, spans, strict=True)))


def test_a_key_that_nobody_described_is_found():
    validator = jsonschema.Draft202012Validator(closed({"type": "object", "properties": {"a": {}}}))
    with pytest.raises(jsonschema.ValidationError, match="Additional properties are not allowed"):
        validator.validate({"a": 1, "b": 1})


def test_packets_that_fail_degrade_a_run(box: Box) -> None:
    report = report_of(box, PICKY % "fail_packet", 0)
    assert (report["status"], report["nodes"]["picky"]["failed"]) == ("degraded", 8)


def test_a_node_that_fails_for_good_is_marked(box: Box) -> None:
    report = report_of(box, PICKY % "stop", 1)
    assert report["status"] == "error"
    marks = {mark["what"]: mark for mark in report["timeline"]["marks"]}
    assert (marks["failed"]["node"], marks["incident"]["node"]) == ("picky", "picky")
    assert "<script>no fives</script>" in marks["failed"]["text"]
    assert 0 < marks["failed"]["at_s"] <= report["duration_s"]
    done = box.run("report", "r.json", "--html", "-")
    assert (done.returncode, "<script" in done.stdout, "&lt;script&gt;no fives" in done.stdout) == (0, False, True)


def test_a_durable_edge_has_its_node_in_the_report(box: Box) -> None:
    report = report_of(box, DURABLE, 0)
    assert (report["status"], len(report["nodes"]), len(report["edges"])) == ("ok", 4, 3)


@pytest.mark.parametrize(("script", "status"), [("exit 0", 0), ("exit 3", 1)])
def test_a_job_has_a_report_with_a_timeline(box: Box, script: str, status: int) -> None:
    spec = json.dumps({"version": 1, "name": "work", "job": {"command": ["sh", "-c", script]}, "restart": {"policy": "never"}})
    report = report_of(box, spec, status)
    assert (report["status"], report["edges"]) == (("ok", "error")[status], {})
    assert box.run("report", "r.json", "--html").returncode == 0


def test_a_killed_node_is_marked_and_the_page_shows_it(box: Box) -> None:
    process = box.start("up", box.write_spec(ENDLESS), "--report", "r.json")
    rows = {row["id"]: row for row in box.wait_running()["nodes"]}
    os.kill(rows["pass"]["pid"], signal.SIGKILL)
    wait_until("a new process", lambda: any(row["restarts"] for row in (box.ps() or {"nodes": []})["nodes"]))
    box.wait_running()
    wait_until("a look at the memory", lambda: (box.ps() or {"uptime_s": 0})["uptime_s"] > 3)
    assert box.run("down", "endless").returncode == 0
    assert process.wait(30) == 0, box.output()
    report = checked(box)
    marks = report["timeline"]["marks"]
    assert [(mark["node"], mark["what"]) for mark in marks] == [("pass", "incident"), ("pass", "restart")]
    assert "killed by SIGKILL" in marks[1]["text"]
    assert any(report["timeline"]["nodes"]["camera"]["rss_bytes"])
    assert box.run("report", "r.json", "--html").returncode == 0
    text = (box.folder / "r.html").read_text()
    plots = 4 + any(report["timeline"]["nodes"]["pass"]["rss_bytes"])  # on a busy box nobody has looked at the new process' memory
    assert len(re.findall(r'<title id="t\d+">pass: ', text)) == plots
    assert len(re.findall('class="mark"', text)) == 2 * plots  # both in each plot of the node


@pytest.mark.skipif(BROWSER is None, reason="needs chromium")
def test_a_browser_shows_the_page_without_a_complaint(box: Box) -> None:
    report_of(box, PICKY % "fail_packet", 0)
    assert box.run("report", "r.json", "--html").returncode == 0
    page, plots = box.folder / "r.html", (box.folder / "r.html").read_text().count("<svg")
    assert plots > 12
    options = ("--headless", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", f"--user-data-dir={box.folder / 'profile'}")
    command = [str(BROWSER), *options, "--enable-logging=stderr", "--dump-dom", page.as_uri()]
    done = subprocess.run(command, capture_output=True, text=True, timeout=BROWSER_S)
    assert done.returncode == 0, done.stderr
    assert "CONSOLE" not in done.stderr, done.stderr
    assert done.stdout.count("<svg") == done.stdout.count("</svg>") == plots
    assert done.stdout.count('<path class="line') >= plots - 1
