"""Bad input ends with a located message and the right exit status; what was processed is kept, nothing is left."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest
from boxes import ENDLESS, SPECS, Box, clip, jsonl

PLUGIN_SPEC = """
version: 2
name: broken
allow: [broken_nodes]
nodes:
  - {{id: source, plugin: "{plugin}", restart: {restart}}}
  - {{id: sink, plugin: debug.hash, config: {{path: out.jsonl}}}}
edges:
  - {{from: source, to: sink}}
"""
PLUGINS = '''
import numpy as np
from streamcore import Port, Source, StreamPacket, array


class SetupFails(Source):
    outputs = {"out": Port("frame", array("uint8", ndim=3))}

    def setup(self):
        raise RuntimeError("no such device: /dev/video9")

    def run(self):
        yield from ()


class Odd(Source):
    """Three good packets among one that cannot travel and two that are not what the port declares."""

    outputs = {"out": Port("frame", array("uint8", ndim=3))}

    def run(self):
        good = np.zeros((4, 4, 3), np.uint8)
        for payload in (good, np.empty((2, 2, 2), object), good, {"a": 1}, np.zeros((4, 4, 3), np.float32), good):
            yield StreamPacket.new(kind="frame", source_id="odd", payload=payload)


class TooLarge(Source):
    outputs = {"out": Port("frame", array("uint8", ndim=3))}

    def run(self):
        for height in (4, 20_000, 4):
            yield StreamPacket.new(kind="frame", source_id="large", payload=np.zeros((height, 1000, 3), np.uint8))


class FailsMidway(Source):
    outputs = {"out": Port("frame", array("uint8", ndim=3))}

    def run(self):
        for i in range(25):
            yield StreamPacket.new(kind="frame", source_id="midway", payload=np.full((4, 4, 3), i, np.uint8))
        raise OSError("the stream broke")
'''


def up(box: Box, plugin: str, *more: str, restart: str = "never", checks: str = "first") -> tuple[int, str]:
    (box.folder / "broken_nodes.py").write_text(PLUGINS)
    (box.folder / "import_fails.py").write_text("import a_package_that_is_not_there\n")
    box.env["PYTHONPATH"] = str(box.folder)
    done = box.run(
        "up", box.write_spec(PLUGIN_SPEC.format(plugin=plugin, restart=restart) + f"checks: {checks}\n"), "--report", "r.json", *more
    )
    box.assert_nothing_left()
    return done.returncode, done.stdout + done.stderr


def test_a_missing_video_is_named_with_path_and_reason(box: Box) -> None:
    done = box.run("up", SPECS / "video_file.yaml", "--set", "video=/no/such/clip.mp4")
    assert done.returncode == 1
    assert "/no/such/clip.mp4" in done.stdout + done.stderr and "Traceback" not in done.stdout + done.stderr
    box.assert_nothing_left()


@pytest.mark.parametrize("content", [b"", b"this is no video" * 100], ids=["empty", "text"])
def test_a_file_that_is_no_video_is_named_with_path_and_reason(box: Box, content: bytes) -> None:
    path = box.folder / "clip.mp4"
    path.write_bytes(content)
    done = box.run("up", SPECS / "video_file.yaml", "--set", f"video={path}")
    assert done.returncode == 1
    assert str(path) in done.stdout + done.stderr and "Traceback" not in done.stdout + done.stderr


def test_what_was_decoded_before_the_damage_is_kept(box: Box) -> None:
    whole = clip("bikes.mp4").read_bytes()
    path = box.folder / "cut.mp4"
    path.write_bytes(whole[: len(whole) // 2] + b"\0" * (len(whole) - len(whole) // 2))
    done = box.run("up", SPECS / "video_file.yaml", "--set", f"video={path}", "--report", "r.json")
    report = json.loads((box.folder / "r.json").read_text())
    rows = [row for found in box.folder.rglob("*.jsonl") for row in jsonl(found)]
    assert len(rows) == report["metrics"]["packets.source_emitted_total"]
    assert done.returncode == 1 and str(path) in done.stdout + done.stderr


def test_a_plugin_whose_import_fails_is_a_problem_of_the_spec(box: Box) -> None:
    (box.folder / "import_fails.py").write_text("import a_package_that_is_not_there\n")
    box.env["PYTHONPATH"] = str(box.folder)
    spec = box.write_spec(PLUGIN_SPEC.format(plugin="import_fails:Anything", restart="never").replace("broken_nodes", "import_fails"))
    done = box.run("up", spec)
    assert done.returncode == 2
    assert "import_fails" in done.stderr and "a_package_that_is_not_there" in done.stderr and "Traceback" not in done.stderr


def test_a_setup_that_raises_names_node_plugin_and_cause_without_a_traceback(box: Box) -> None:
    status, text = up(box, "broken_nodes:SetupFails")
    assert status == 1
    for part in ("source", "broken_nodes:SetupFails", "no such device: /dev/video9"):
        assert part in text
    assert "Traceback" not in text
    assert "Traceback" in up(box, "broken_nodes:SetupFails", "--debug")[1]


@pytest.mark.parametrize(("checks", "failed"), [("first", 1), ("all", 3)])
def test_payloads_that_cannot_travel_fail_and_the_others_arrive(box: Box, checks: str, failed: int) -> None:
    status, text = up(box, "broken_nodes:Odd", checks=checks)
    report = json.loads((box.folder / "r.json").read_text())
    assert (status, report["status"]) == (0, "degraded"), text
    assert report["metrics"]["node.source.failed"] == failed
    assert len(jsonl(box.folder / "out.jsonl")) == 6 - failed


def test_a_payload_larger_than_its_slot_names_port_sizes_and_the_key_to_raise(box: Box) -> None:
    status, text = up(box, "broken_nodes:TooLarge")
    assert status == 0
    log = box.run("logs", "source", "--run", "broken").stdout
    for part in ("source.out", "60000000", "33554432", "slot_bytes"):
        assert part in log, log
    assert len(jsonl(box.folder / "out.jsonl")) == 2


def test_everything_a_source_emitted_before_it_failed_arrives(box: Box) -> None:
    status, text = up(box, "broken_nodes:FailsMidway")
    assert status == 1 and "the stream broke" in text
    assert len(jsonl(box.folder / "out.jsonl")) == 25


def test_a_source_that_fails_is_restarted_until_its_limit_and_every_incarnations_packets_arrive(box: Box) -> None:
    restart = "{max_restarts: 2, backoff_s: 0.01}"
    status, text = up(box, "broken_nodes:FailsMidway", restart=restart)
    assert status == 1 and "the stream broke" in text
    assert len(jsonl(box.folder / "out.jsonl")) == 3 * 25
    report = json.loads((box.folder / "r.json").read_text())
    assert report["nodes"]["source"]["restarts"] == 2 and report["account"]["balanced"]


def test_a_bad_spec_starts_nothing_and_names_every_problem(box: Box) -> None:
    text = "version: 2\nnodes:\n  - {id: a, plugin: no.such}\n  - {id: B, plugin: debug.null}\nedges:\n  - {from: a, to: c, polcy: block}\n"
    done = box.run("up", box.write_spec(text))
    assert done.returncode == 2
    assert done.stderr.count("spec.yaml:") >= 4, done.stderr
    assert not list(box.runtime.rglob("*.log"))


@pytest.mark.skipif(os.getuid() != 0, reason="giving a directory to another user needs root")
@pytest.mark.parametrize("wrong", ["owner", "mode", "symlink"])
def test_a_run_directory_that_is_not_ours_is_refused(box: Box, wrong: str) -> None:
    root = box.runtime / "streamcore"
    if wrong == "symlink":
        elsewhere = Path(box.folder / "elsewhere")
        elsewhere.mkdir(mode=0o700)
        root.symlink_to(elsewhere)
    else:
        root.mkdir(mode=0o777 if wrong == "mode" else 0o700)
        root.chmod(0o777 if wrong == "mode" else 0o700)
        if wrong == "owner":
            os.chown(root, 65534, 65534)
    spec = box.write_spec(
        "version: 2\nnodes:\n  - {id: a, plugin: synthetic.frames}\n  - {id: b, plugin: debug.null}\nedges:\n  - {from: a, to: b}\n"
    )
    done = box.run("up", spec, "--for", "1s")
    assert done.returncode != 0
    assert str(root) in done.stderr and "Traceback" not in done.stderr


@pytest.mark.parametrize("name", ["s.yaml", "link.yaml"])
def test_a_report_never_takes_the_place_of_its_spec(box: Box, name: str) -> None:
    spec = box.write_spec(ENDLESS, "s.yaml")
    (box.folder / "link.yaml").symlink_to(spec)
    done = box.run("up", spec, "--report", name)
    assert done.returncode == 2 and f"{name}: is the file that this was to be made from" in done.stderr
    assert spec.read_text() == ENDLESS
