"""`up --reload`: what has changed gets a new process, all others keep theirs, and no packet is lost."""

from __future__ import annotations

import json
import re
import signal
from pathlib import Path
from typing import Any

import pytest
from boxes import Box, wait_until

SPEC = """\
version: 2
name: dev
allow: [my_nodes]
nodes:
  - {id: count, plugin: "my_nodes.count:Count"}
  - id: scale
    plugin: my_nodes.scale:Scale
    config:
      factor: 2
  - {id: keep, plugin: "my_nodes.keep:Keep", config: {path: kept.txt}}
edges:
  - {from: count, to: scale, depth: 8}
  - {from: scale, to: keep}
"""
COUNT = """
from time import monotonic_ns

from streamcore import Port, Source, StreamPacket

class Count(Source):
    outputs = {"out": Port("number", "json")}

    def run(self):
        number = self.resume_position or 0
        while not self.stopping:
            number += 1
            yield StreamPacket.new(kind="number", source_id="count", payload=number, position=number)
            self.wait_until(monotonic_ns() + 5_000_000)
"""
SCALE = """
from my_nodes.arithmetic import times
from streamcore import Node, Port

class Scale(Node):
    inputs = {"in": Port("number", "json")}
    outputs = {"out": Port("number", "json")}
    config = {"factor": {"type": "integer", "required": True}, "model": {"type": "string", "default": ""}}

    def setup(self):
        if self.config["model"]:
            open(self.config["model"]).close()

    def process(self, packet):
        yield packet.derive(payload=times(packet.payload, self.config["factor"]))
"""
ARITHMETIC = """
def times(number, factor):
    return [number, number * factor]
"""
KEEP = """
from streamcore import Port, Sink

class Keep(Sink):
    inputs = {"in": Port("number", "json")}
    config = {"path": {"type": "string", "required": True}}

    def process(self, packet):
        with open(self.config["path"], "a") as file:
            file.write(f"{packet.payload[0]} {packet.payload[1]}\\n")
"""
FILES = {"__init__": "", "count": COUNT, "scale": SCALE, "arithmetic": ARITHMETIC, "keep": KEEP}


SCALED = """\
version: 2
params: {factor: 1}
ports: {inputs: {in: scale.in}, outputs: {out: scale.out}}
nodes:
  - id: scale
    config: {factor: "${factor}"}
    plugin: my_nodes.scale:Scale
"""
TWO_SCALES = """\
version: 2
name: dev
allow: [my_nodes]
params: {factors: {two: 2, four: 4}}
nodes:
  - {id: count, plugin: "my_nodes.count:Count"}
  - {id: by, for_each: "${factors}", include: scaled.yaml, with: {factor: "${each}"}}
  - {id: keep, for_each: "${factors}", plugin: "my_nodes.keep:Keep", config: {path: "${each.name}.txt"}}
edges:
  - {from: count, to: by.*.in}
  - {from: by.*.out, to: keep.*}
"""


class Dev:
    """A run of a spec with --reload, and the files it is made of."""

    def __init__(self, box: Box, spec: str = SPEC):
        self.box, self.package = box, box.folder / "my_nodes"
        self.package.mkdir()
        for name, text in FILES.items():
            (self.package / f"{name}.py").write_text(text)
        self.spec = box.write_spec(spec)
        self.process = box.start("up", "spec.yaml", "--reload", "--report", "report.json")
        wait_until("the run to be up, or over", lambda: "run dev is up" in box.output() or self.process.poll() is not None)
        assert self.process.poll() is None, box.output()

    def pids(self) -> dict[str, int]:
        return {node["id"]: node["pid"] for node in self.box.wait_running("dev")["nodes"]}

    def edit(self, path: Path, old: str, new: str) -> None:
        text = path.read_text()
        assert old in text
        path.write_text(text.replace(old, new))

    def await_line(self, pattern: str, count: int = 1) -> None:
        def said() -> bool:
            return len(re.findall(pattern, self.box.output(), re.MULTILINE)) >= count

        try:
            wait_until(f"{count} x a line with {pattern}", said, 20)
        except pytest.fail.Exception as error:
            pytest.fail(f"{error}\n{self.box.output()}")

    def await_kept(self, factor: int, path: str = "kept.txt") -> None:
        """Until the last number was scaled so."""

        def scaled() -> bool:
            last = (self.box.folder / path).read_text().splitlines()[-1:] if (self.box.folder / path).exists() else []
            return any(int(product) == factor * int(number) for number, product in map(str.split, last))

        wait_until(f"numbers times {factor} in {path}", scaled, 20)

    def end(self) -> dict[str, Any]:
        """The report of a run that ended well: balanced, and every number processed."""
        self.process.send_signal(signal.SIGINT)
        assert self.process.wait(30) == 0, self.box.output()
        report: dict[str, Any] = json.loads((self.box.folder / "report.json").read_text())
        assert (report["status"], report["account"]["balanced"], report["account"]["lost"]) == ("ok", True, {}), report
        numbers = {int(line.split()[0]) for path in self.box.folder.glob("*.txt") for line in path.read_text().splitlines()}
        assert numbers == set(range(1, max(numbers) + 1)), "numbers are missing"
        assert all(edge["dropped"] == edge["failed"] == 0 for edge in report["edges"].values())
        self.box.assert_nothing_left()
        return report


@pytest.fixture
def dev(box: Box) -> Dev:
    return Dev(box)


def test_another_config_restarts_its_node_alone_and_nothing_is_lost(dev: Dev) -> None:
    before, version = dev.pids(), (dev.box.ps("dev") or {})["graph_version"]
    dev.await_kept(2)
    dev.edit(dev.spec, "factor: 2", "factor: 7")
    dev.await_line(r"^reloaded scale: config changed \(spec\.yaml:9\)$")
    dev.await_kept(7)
    after, found = dev.pids(), dev.box.ps("dev") or {}
    assert {node for node in after if after[node] != before[node]} == {"scale"}
    assert found["graph_version"] != version
    planned = json.loads(dev.box.run("plan", "spec.yaml", "--json").stdout)["graph_version"]
    assert found["graph_version"] == planned
    assert json.loads(dev.box.run("account", "dev", "--json").stdout)["balanced"]
    report = dev.end()
    assert report["graph_version"] == planned
    assert {node: row["restarts"] for node, row in report["nodes"].items()} == {"count": 0, "scale": 1, "keep": 0}


def test_another_version_of_a_plugin_restarts_its_nodes_and_those_that_use_the_file(dev: Dev) -> None:
    before = dev.pids()
    dev.await_kept(2)
    dev.edit(dev.package / "keep.py", "class Keep", "# a better sink\nclass Keep")
    dev.await_line(r"^reloaded keep: plugin changed \(my_nodes/keep\.py\)$")
    dev.edit(dev.package / "arithmetic.py", "number * factor", "number * factor * 10")
    dev.await_line(r"^reloaded scale: plugin changed \(my_nodes/arithmetic\.py\)$")
    dev.await_kept(20)
    after = dev.pids()
    assert {node for node in after if after[node] != before[node]} == {"keep", "scale"}
    dev.end()


def test_a_broken_spec_or_plugin_is_said_once_and_the_run_goes_on_until_it_is_mended(dev: Dev) -> None:
    before = dev.pids()
    dev.edit(dev.spec, "factor: 2", "factor: two")
    dev.await_line(r"^spec\.yaml:9:15  nodes\[1\]\.config\.factor$")
    dev.await_line(r"^1 problem in spec\.yaml; the run goes on as it was\.$")
    dev.edit(dev.package / "scale.py", "def process", "def process(")
    dev.await_line(r"an import that fails: SyntaxError")
    assert dev.pids() == before
    dev.edit(dev.package / "scale.py", "def process(", "def process")
    dev.await_line(r"^spec\.yaml:9:15 ", 2)
    dev.edit(dev.spec, "factor: two", "factor: 3")
    dev.await_line(r"^reloaded scale: config changed \(spec\.yaml:9\)$")
    dev.await_kept(3)
    after = dev.pids()
    assert {node for node in after if after[node] != before[node]} == {"scale"}
    assert len(re.findall("the run goes on as it was", dev.box.output())) == 3
    dev.end()


def test_what_needs_a_new_run_is_named_and_changes_nothing(dev: Dev) -> None:
    before, version = dev.pids(), (dev.box.ps("dev") or {})["graph_version"]
    dev.spec.write_text(SPEC.replace("depth: 8", "depth: 9").replace("factor: 2", "factor: 5") + "  - {from: count.out, to: more}\n")
    dev.await_line(r"'more'")  # there is no such node: the spec is broken
    dev.spec.write_text(SPEC.replace("depth: 8", "depth: 9").replace("factor: 2", "factor: 5"))
    dev.await_line(r"^spec\.yaml: a new run is needed for what has changed; the run goes on as it was$")
    dev.await_line(r"^    spec\.yaml:12  edge count\.out->scale\.in: depth 9, was 8$")
    assert dev.pids() == before
    assert (dev.box.ps("dev") or {})["graph_version"] == version
    dev.spec.write_text(SPEC)
    dev.await_line(r"^spec\.yaml: the run has again what the files say; no node has changed$")
    assert dev.pids() == before
    dev.end()


def test_a_node_that_cannot_work_with_the_change_waits_until_it_is_mended(dev: Dev) -> None:
    # Somebody types a path wrong: that must not cost the run, with its camera and its model of a minute to load.
    before = dev.pids()
    dev.edit(dev.spec, "      factor: 2", "      factor: 4\n      model: no-such-file")
    dev.await_line(r"^scale: waits to be mended")
    dev.edit(dev.spec, "      model: no-such-file\n", "")
    dev.await_line(r"^reloaded scale: config changed")
    dev.await_kept(4)
    after = dev.pids()
    assert {node for node in after if after[node] != before[node]} == {"scale"}
    dev.end()


def test_a_file_that_was_missing_mends_what_asked_for_it(dev: Dev) -> None:
    before = dev.pids()
    dev.edit(dev.package / "scale.py", "my_nodes.arithmetic", "my_nodes.numbers")
    dev.await_line(r"No module named 'my_nodes\.numbers'")
    (dev.package / "numbers.py").write_text(ARITHMETIC.replace("* factor", "* factor * 3"))
    dev.await_line(r"^reloaded scale: plugin changed \(my_nodes/scale\.py\)$")
    dev.await_kept(6)
    after = dev.pids()
    assert {node for node in after if after[node] != before[node]} == {"scale"}
    dev.end()


def test_a_run_ends_although_a_node_waits_to_be_mended(dev: Dev) -> None:
    dev.edit(dev.spec, "      factor: 2", "      factor: 4\n      model: no-such-file")
    dev.await_line(r"^scale: waits to be mended")
    dev.process.send_signal(signal.SIGINT)
    assert dev.process.wait(30) == 1  # it is tried once more, to process what it still has, and fails for good
    assert "node 'scale' failed in" in dev.box.output()
    dev.box.assert_nothing_left()


def test_nodes_of_included_files_and_templates_are_reloaded_by_their_dotted_ids(box: Box) -> None:
    inner = box.write_spec(SCALED, "scaled.yaml")
    dev = Dev(box, TWO_SCALES)
    before = dev.pids()
    assert list(before) == ["count", "by.two.scale", "by.four.scale", "keep.two", "keep.four"]
    dev.edit(dev.spec, "four: 4", "four: 5")
    dev.await_line(r"^reloaded by\.four\.scale: config changed \(.*scaled\.yaml:6\)$")
    dev.await_kept(5, "four.txt")
    dev.edit(inner, "factor: ", "model: scaled.yaml, factor: ")
    dev.await_line(r"^reloaded by\.(two|four)\.scale: config changed \(.*scaled\.yaml:6\)$", 3)
    after = dev.pids()
    assert {node for node in after if after[node] != before[node]} == {"by.two.scale", "by.four.scale"}
    dev.end()


def test_a_job_begins_anew_with_another_version_of_its_function(box: Box) -> None:
    job, ran = box.folder / "nightly.py", box.folder / "ran"
    job.write_text('def main(stopping):\n    open("ran", "a").write("one ")\n    stopping.wait()\n')
    box.write_spec('version: 1\nname: nightly\nallow: [nightly]\njob: {entry: "nightly:main"}\n')
    process = box.start("up", "spec.yaml", "--reload")
    wait_until("the job to be at work", lambda: ran.exists() and ran.read_text() == "one ")
    box.wait_running("nightly")
    job.write_text(job.read_text().replace("one ", "another "))
    wait_until("the job to be at work again", lambda: ran.read_text() == "one another ")
    process.send_signal(signal.SIGINT)
    assert process.wait(30) == 0
    assert "plugin changed (nightly.py)" in box.output()
    box.assert_nothing_left()


def test_reload_and_detach_exclude_each_other(box: Box) -> None:
    done = box.run("up", box.write_spec(SPEC), "--reload", "--detach")
    assert done.returncode == 2
    assert "--reload" in done.stderr
