"""A spec with everything in it, run: for_each, include, params, secrets, environment, CPUs and niceness; and a graph from Python."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from typing import Any

import psutil
import pytest
from boxes import Box, wait_until

SECRET = "geheim-4711-xyz"
NODES = '''"""A source that prints what it was told, and crashes if it is told to."""
import ctypes, logging, os, time
from streamcore import Port, Source, StreamPacket

class Talker(Source):
    outputs = {"out": Port("word", "json")}
    config = {"url": {"type": "string", "required": True}, "how": {"type": "string", "default": ""}}

    def run(self):
        print("printed", self.config["url"])
        self.log.warning("logged %s", self.config["url"])
        logging.getLogger("elsewhere").error("elsewhere %s", os.environ.get("TOKEN"))
        os.write(2, f"raw {self.config['url']}\\n".encode())
        if self.config["how"] == "raise":
            raise ValueError(f"cannot reach {self.config['url']}")
        if self.config["how"] == "crash":
            ctypes.string_at(0)
        for number in range(5):
            yield StreamPacket.new(kind="word", source_id=self.id, payload={"n": number, "env": os.environ.get("GREETING", "")})
'''
CAMERA = """
version: 2
params: {url: {required: true}, how: ""}
ports: {outputs: {words: {port: pass.out, kind: any}}}
nodes:
  - id: talk
    plugin: whole_nodes:Talker
    config: {url: "${url}", how: "${how}"}
    env: {TOKEN: !secret env:SC_PASSWORD, GREETING: hello}
    cpu_affinity: [0]
    nice: 3
    restart: {max_restarts: 0}
  - {id: pass, plugin: flow.forward}
edges:
  - {from: talk, to: pass}
"""
MAIN = """
version: 2
name: whole
allow: [whole_nodes]
params: {password: !secret env:SC_PASSWORD, how: "", out: "${env:SC_OUT:-out.jsonl}"}
nodes:
  - {id: gate, for_each: {front: f, rear: r}, include: camera.yaml, with: {url: "rtsp://u:${password}@${each}", how: "${how}"}}
  - {id: file, plugin: file.jsonl, config: {path: "${out}"}}
edges:
  - {from: gate.*, to: file}
"""


@pytest.fixture
def whole(box: Box) -> Box:
    (box.folder / "whole_nodes.py").write_text(NODES)
    (box.folder / "camera.yaml").write_text(CAMERA)
    (box.folder / "main.yaml").write_text(MAIN)
    box.env |= {"SC_PASSWORD": SECRET, "PYTHONPATH": os.pathsep.join(filter(None, [str(box.folder), os.environ.get("PYTHONPATH", "")]))}
    return box


def written(box: Box) -> dict[str, str]:
    """Every file that a run has left, by its name."""
    return {str(path): path.read_bytes().decode("utf-8", "replace") for path in box.folder.rglob("*") if path.is_file()}


def test_every_part_of_it_does_what_it_says(whole: Box) -> None:
    done = whole.run("up", "main.yaml", "--report", "report.json")
    assert done.returncode == 0, done.stderr
    lines = [json.loads(line) for line in (whole.folder / "out.jsonl").read_text().splitlines()]
    assert len(lines) == 10
    assert {line["payload"]["env"] for line in lines} == {"hello"}
    report: dict[str, Any] = json.loads((whole.folder / "report.json").read_text())
    assert set(report["nodes"]) == {"gate.front.talk", "gate.front.pass", "gate.rear.talk", "gate.rear.pass", "file"}
    assert report["account"]["balanced"]


@pytest.mark.parametrize("how", ["", "raise", "crash"])
def test_a_secret_is_nowhere_to_be_read(whole: Box, how: str) -> None:
    seen = [whole.run(*words, "main.yaml", "--set", f"how={how}") for words in (("validate",), ("plan",), ("plan", "--json"), ("explain",))]
    done = whole.run("up", "main.yaml", "--report", "report.json", "--set", f"how={how}", "--debug")
    assert (done.returncode == 0) == (how == "")
    seen += [done, whole.run("incidents", "whole", "--json")]
    for each in seen:
        assert SECRET not in each.stdout + each.stderr, each.args
    logs = {name: text for name, text in written(whole).items() if "/logs/" in name}
    assert any("printed rtsp://u:***@f" in text for text in logs.values())
    assert any("elsewhere ***" in text for text in logs.values())
    for name, text in written(whole).items():
        without_raw = "\n".join(line for line in text.splitlines() if not line.startswith("raw "))  # what C writes is not ours to mask
        assert SECRET not in without_raw, name


def test_cpus_niceness_and_environment_are_those_of_the_process(whole: Box) -> None:
    (whole.folder / "main.yaml").write_text(
        "version: 2\nname: place\nnodes:\n"
        "  - id: camera\n    plugin: synthetic.frames\n    config: {width: 64, height: 48, rate: 10}\n"
        "    cpu_affinity: '0'\n    nice: 7\n    env: {A_VARIABLE: 'yes'}\n"
        "  - {id: sink, plugin: debug.null}\nedges: [{from: camera, to: sink}]\n"
    )
    run = whole.start("up", "main.yaml")
    try:
        node = wait_until("the camera's process", lambda: find("place/camera"))
        wait_until("its niceness", lambda: node.nice() == os.nice(0) + 7)
        assert node.cpu_affinity() == [0]
        assert node.environ()["A_VARIABLE"] == "yes"
        assert "A_VARIABLE" not in wait_until("the sink's process", lambda: find("place/sink")).environ()
    finally:
        run.send_signal(signal.SIGINT)
        run.wait(60)


def test_a_cpu_that_this_box_does_not_have_is_said(whole: Box) -> None:
    (whole.folder / "main.yaml").write_text(
        "version: 2\nname: place\nnodes: [{id: a, plugin: debug.null}, {id: s, plugin: synthetic.frames, cpu_affinity: [4000]}]\n"
        "edges: [{from: s, to: a}]\n"
    )
    done = whole.run("up", "main.yaml")
    assert done.returncode != 0
    assert "cpu_affinity" in done.stderr and "4000" in done.stderr


def find(words: str) -> psutil.Process | None:
    for process in psutil.process_iter(["cmdline"]):
        if words in (process.info["cmdline"] or ()):
            return process
    return None


PROGRAM = """
import json, sys
from streamcore import Graph
import whole_nodes

graph = Graph("from-python")
talker = graph.node("talker", whole_nodes.Talker, config={"url": "nowhere"})
out = graph.node("file", "file.jsonl", config={"path": "out.jsonl"})
graph.edge(talker, out)
if __name__ == "__main__":
    problems = graph.validate()
    assert problems == [], problems
    done = graph.run()
    print(json.dumps([done.status, done.report["account"]["balanced"], done.report["metrics"]["packets.consumed_total"]]))
"""


def test_a_graph_from_python_runs_and_gives_its_report(whole: Box) -> None:
    done = program(whole, PROGRAM)
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout.splitlines()[-1]) == [0, True, 5]


ITS_OWN = """
import json
from streamcore import Graph, Port, Source, StreamPacket

class Count(Source):
    outputs = {"out": Port(kind="number", profile="json")}
    config = {"n": {"type": "integer", "required": True}}

    def run(self):
        for number in range(self.config["n"]):
            yield StreamPacket.new(kind="number", source_id="count", payload=number)

def main():
    graph = Graph("its-own")
    graph.edge(graph.node("count", Count, config={"n": 7}), graph.node("file", "file.jsonl", config={"path": "out.jsonl"}))
    problems = graph.validate()
    if problems:
        print(problems[0])
        return
    done = graph.run()
    print(json.dumps([done.status, done.report["account"]["balanced"], done.report["metrics"]["packets.consumed_total"]]))

"""


def program(whole: Box, text: str) -> subprocess.CompletedProcess[str]:
    (whole.folder / "program.py").write_text(text)
    return subprocess.run([sys.executable, "program.py"], capture_output=True, text=True, env=whole.env, cwd=whole.folder, timeout=60)


def test_a_graph_of_classes_of_the_program_itself_runs_as_well(whole: Box) -> None:
    done = program(whole, ITS_OWN + 'if __name__ == "__main__":\n    main()\n')
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout.splitlines()[-1]) == [0, True, 7]


def test_a_program_that_does_not_say_that_it_is_one_is_told_so_and_not_imported_without_end(whole: Box) -> None:
    done = program(whole, ITS_OWN + "main()\n")
    assert "belongs below `if __name__ == '__main__':`" in done.stdout, done.stdout + done.stderr
    assert not (whole.folder / "out.jsonl").exists()


def test_a_node_with_a_drain_time_of_its_own_is_told_to_go_and_the_others_finish(whole: Box) -> None:
    (whole.folder / "main.yaml").write_text(
        "version: 2\nname: drain\ndrain_s: 50\nnodes:\n"
        "  - {id: numbers, plugin: synthetic.frames, config: {payload: json, rate: 50}}\n"
        "  - {id: stuck, plugin: debug.slow, config: {work_ms: 60000}, drain_s: 0.5}\n"
        "  - {id: file, plugin: file.jsonl, config: {path: out.jsonl}}\n"
        "edges: [{from: numbers, to: stuck, policy: latest}, {from: numbers, to: file}]\n"
    )
    done = whole.run("up", "main.yaml", "--for", "1s", "--report", "r.json", timeout_s=40)  # the run's own drain_s would take longer
    assert "node 'stuck' has not drained within its 0.5 s; it is told to go" in done.stderr
    assert "killing what is left" not in done.stdout + done.stderr
    edges = json.loads((whole.folder / "r.json").read_text())["account"]["edges"]
    to_file = next(edge for edge in edges if edge["edge"] == "numbers.out->file.in")
    assert to_file["sent"] == to_file["completed"] == len((whole.folder / "out.jsonl").read_text().splitlines()) > 0
