"""`streamctl node check`: each check can fail, a plugin that hangs or dies is a finding, and the standard nodes keep every promise."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest
from answering import Answering
from click.testing import CliRunner

from streamcore import StreamPacket
from streamcore.authoring.checks import CHECKS
from streamcore.authoring.judge import Verdict, judge
from streamcore.cli.root import streamctl
from streamcore.errors import PluginError
from streamcore.plugins.naming import names
from streamcore.testing import run_node
from streamcore_nodes.durable_record import Record

DEADLINE_S = 20.0
SHORT_S = 1.5  # where the plugin hangs
BAD = "bad_plugins"


@pytest.fixture(autouse=True)
def _bad_plugins_can_be_imported(monkeypatch):
    # The child seeks modules in its working directory, last.
    monkeypatch.chdir(Path(__file__).parent)


def check(cls: str, deadline_s: float = DEADLINE_S, **samples: object) -> Verdict:
    return judge(f"{BAD}:{cls}", [BAD], {}, samples, deadline_s)


def failures(verdict: Verdict) -> dict[str, str]:
    return {finding.name: finding.reason for finding in verdict.findings if finding.state == "failed"}


@pytest.mark.parametrize("cls", ["Good", "Ticks"])
def test_a_plugin_that_keeps_its_promises_passes_every_check(cls):
    verdict = check(cls)
    assert [finding.state for finding in verdict.findings] == ["ok"] * len(verdict.findings), verdict
    assert [finding.name for finding in verdict.findings] == [each.name for each in CHECKS if verdict.role in each.roles]


ONE_FAULT = [
    ("BadDefault", "defaults", "the default of 'ksize' is 1, its rule wants an integer, at least 3"),
    ("TupleDefault", "defaults", "the value of 'size' is (640, 480); a node's process gets it by way of JSON as [640, 480]"),
    ("AnyKey", "unknown-keys", "config.box takes any key"),
    ("BadSetup", "setup", "no such file: model.onnx; give another one with --config"),
    ("UndeclaredKey", "declared-keys", "does not declare: treshold"),
    ("WrongPort", "emits", "found output port 'output', expected one of: out"),
    ("WrongProfile", "emits", "found array of dtype uint8, shape (48, 64), expected array(uint8, ndim=3)"),
    ("NoPacket", "emits", "found bool, expected a StreamPacket"),
    ("TalkingSink", "returns-nothing", "a Sink has no outputs"),
    ("Immortal", "stops", "let GeneratorExit pass"),
    ("UntypedSource", "stops", "found array of dtype uint8, shape (3,)"),
    ("Forgetful", "resumes", "with resume_position 4, it began at 0"),
    ("Backward", "resumes", "positions do not rise"),
    ("NeedsInput", "no-input", "AttributeError: 'NeedsInput' object has no attribute 'last' (flush() at bad_plugins.py:"),
    ("NoRepeats", "restart", "SystemExit: cannot happen, which ends the node's process (process() at bad_plugins.py:"),
    ("Poisoned", "odd-input", "after odd inputs it cannot handle an ordinary one any more: ValueError: empty"),
    ("Quitter", "odd-input", "SystemExit: an empty frame, which ends the node's process"),
    ("Hoard", "held", "it keeps 3 of port in beyond process(), retention declares 2"),
    ("Cycle", "held", "reference cycle"),
    ("Global", "held", "by a global, a class or a thread"),
    ("Thread", "threads", "thread 'grabber' runs on after close()"),
]


@pytest.mark.parametrize(("cls", "name", "reason"), ONE_FAULT, ids=[cls for cls, _, _ in ONE_FAULT])
def test_each_check_finds_the_plugin_that_breaks_its_promise(cls, name, reason):
    found = failures(check(cls))
    assert name in found, found
    assert reason in found[name]


def test_every_check_is_proved_able_to_fail():
    assert {each.name for each in CHECKS} == {name for _, name, _ in ONE_FAULT}


def test_a_process_that_hangs_is_ended_and_said_to_hang_where_it_does():
    found = failures(check("Hang", SHORT_S))
    assert set(found) == {"returns-nothing"}  # what would hang in the same way is not tried
    assert found["returns-nothing"].startswith("it hung: no answer within 1.5 s (in process() at bad_plugins.py:")


def test_a_process_that_prints_without_end_does_not_fill_the_disk(monkeypatch):
    monkeypatch.setattr("streamcore.authoring.judge.LOOK_S", 0.05)
    monkeypatch.setattr("streamcore.authoring.judge.LOG_BYTES_MAX", 1 << 20)
    logs = []
    fstat = os.fstat
    monkeypatch.setattr("streamcore.authoring.judge.os.fstat", lambda fd: logs.append(fstat(fd)) or logs[-1])
    assert "it hung" in failures(check("Chatter", SHORT_S))["returns-nothing"]
    assert max(log.st_size for log in logs[1:]) > 1 << 20
    assert logs[-1].st_size < max(log.st_size for log in logs)


def test_nothing_is_left_when_the_command_is_killed():
    command = [sys.executable, "-m", "streamcore", "node", "check", f"{BAD}:Hang", "--allow", BAD]
    with subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as process:
        seen = psutil.Process(process.pid)
        deadline = time.monotonic() + DEADLINE_S
        while not (children := seen.children()):
            assert time.monotonic() < deadline, f"waited {DEADLINE_S} s for the process of the checks"
            time.sleep(0.01)
        process.kill()
        assert psutil.wait_procs(children, DEADLINE_S)[1] == []


def test_the_asking_side_imports_nothing_that_the_plugin_is_called_with():
    # Whatever a plugin does to numpy, or an import of it to the process, it does to the child.
    program = "import sys, streamcore.authoring.judge, streamcore.cli.node; print({'numpy', 'zmq'} & set(sys.modules))"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=60)
    assert (done.stdout, done.stderr) == ("set()\n", "")


def test_a_plugin_that_closes_the_pipe_of_the_checks_is_told():
    assert "it has closed a descriptor that is not its own" in failures(check("Closer"))["returns-nothing"]


def test_the_manual_names_every_check():
    text = (Path(__file__).resolve().parents[3] / "docs" / "nodes.md").read_text("utf-8")
    assert [each.name for each in CHECKS if f"`{each.name}`" not in text] == []


@pytest.mark.parametrize(("cls", "deadline_s"), [("Deaf", 3.0), ("Stubborn", 1.5)])
def test_a_source_that_never_looks_whether_it_should_end_is_found(cls, deadline_s):
    verdict = check(cls, deadline_s)
    assert set(failures(verdict)) == {"stops"}
    assert {each.name: each.reason for each in verdict.findings if each.state == "skipped"}["resumes"] == "it would end as 'stops' did"


def test_a_crash_is_a_finding_and_the_other_checks_are_made_all_the_same():
    verdict = check("Crash")
    found = failures(verdict)
    assert found["returns-nothing"].startswith("its process was ended by SIGSEGV (in process() at bad_plugins.py:")
    assert [finding.name for finding in verdict.findings] == [each.name for each in CHECKS if "sink" in each.roles]


def test_a_setup_that_leaves_the_process_is_told_once():
    verdict = check("Exit")
    assert failures(verdict) == {"setup": "its process ended with status 3"}
    assert {each.state for each in verdict.findings[3:]} == {"skipped"}


def test_an_import_that_hangs_or_leaves_is_told(tmp_path, monkeypatch):
    (tmp_path / "leaves.py").write_text("import os\nos._exit(5)\n")
    (tmp_path / "waits.py").write_text("import threading\nthreading.Event().wait()\n")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("streamcore.authoring.judge.START_S", 3.0)
    for module, told in (("leaves", "its process ended with status 5"), ("waits", "it hung")):
        verdict = judge(f"{module}:Node", [module], {}, {}, SHORT_S)
        assert [(each.name, each.state) for each in verdict.findings] == [("load", "failed")]
        assert verdict.findings[0].reason.startswith(told)


def test_what_only_the_author_knows_is_asked_for():
    def emits(verdict: Verdict) -> tuple[str, str]:
        return next((each.state, each.reason) for each in verdict.findings if each.name == "emits")

    assert emits(check("Picky")) == (
        "skipped",
        "process() raised for every input: KeyError: 'price'; give a payload that it takes with --input in=JSON",
    )
    # A keyword cannot be named `in`.
    assert emits(check("Picky", **{"in": {"price": 3}})) == ("ok", "12 by out")


@pytest.mark.parametrize(
    ("plugin", "told"),
    [
        (f"{BAD}:Nobody", "no class 'Nobody'"),
        (f"{BAD}:Required", "config.path: found nothing, expected text; give it with --config KEY=VALUE"),
        (f"{BAD}:BadSchema", "BadSchema.config is no Cerberus schema"),
        ("no.such.plugin", "no plugin of the name"),
    ],
)
def test_what_cannot_be_checked_is_refused(plugin, told):
    with pytest.raises(PluginError, match=told.replace("(", r"\(")):
        judge(plugin, [BAD], {}, {}, DEADLINE_S)


def cli(*args: str):
    return CliRunner().invoke(streamctl, ["node", "check", *args], standalone_mode=False)


def test_the_command_prints_each_check_and_says_by_its_status_whether_one_failed():
    good = cli(f"{BAD}:Good", "--allow", BAD)
    assert good.return_value == 0
    assert good.output.splitlines()[0] == "bad_plugins:Good  (node, bad_plugins:Good)"
    assert good.output.splitlines()[-1] == "10 checks: 10 ok"
    bad = cli(f"{BAD}:Hoard", "--allow", BAD, "--json")
    assert bad.return_value == 1
    told = json.loads(bad.output)
    assert told["failed"] == 1
    assert next(each for each in told["checks"] if each["state"] == "failed")["name"] == "held"
    assert cli(f"{BAD}:Good", "--allow", BAD).output == good.output  # and always the same


def test_config_on_the_command_line_is_read_as_in_a_spec():
    assert cli(f"{BAD}:Good", "--allow", BAD, "--config", "gain=2", "--config", 'box={"x": 1}').return_value == 0
    refused = cli(f"{BAD}:Good", "--allow", BAD, "--config", "gain=much")
    assert "config.gain: found 'much', expected a number" in str(refused.exception)
    assert "not JSON" in str(cli(f"{BAD}:Good", "--allow", BAD, "--input", "in={").exception)


BOX = {"x": 1, "y": 2, "w": 8, "h": 8, "area": 64, "score": 0.5, "label": "motion"}
DETECTIONS = {"frame": 1, "size": [64, 48], "boxes": [BOX]}


@pytest.fixture(scope="module")
def clips(tmp_path_factory) -> Path:
    """A folder with twelve pictures, a video of them, and a recording."""
    import cv2
    import numpy as np

    folder: Path = tmp_path_factory.mktemp("clips")
    writer = cv2.VideoWriter(str(folder / "clip.mp4"), cv2.VideoWriter_fourcc(*"mp4v"), 25.0, (64, 48))
    for number in range(12):
        picture = np.full((48, 64, 3), 20 * number, np.uint8)
        assert cv2.imwrite(str(folder / f"{number}.png"), picture)
        writer.write(picture)
    writer.release()
    packets = [StreamPacket.new(kind="event", source_id="cam", payload={"n": number}) for number in range(12)]
    run_node(Record, packets, {"path": str(folder / "recording")})
    return folder


@pytest.fixture(scope="module")
def server() -> Iterator[Answering]:
    with Answering() as made:
        yield made


@pytest.mark.parametrize("plugin", sorted(name for name, target in names().items() if target.startswith("streamcore_nodes.")))
def test_the_standard_nodes_keep_the_contract(plugin, clips, server, tmp_path):
    configs = {
        "core.health": {"level": "info"},
        "debug.slow": {"work_ms": 1},
        "durable.queue": {"path": str(tmp_path / "queue")},
        "durable.record": {"path": str(tmp_path / "recording")},
        "durable.replay": {"path": str(clips / "recording")},
        "durable.spill": {"path": str(tmp_path / "spill")},
        "http.post": {"url": server.url, "codec": "png"},
        "file.jsonl": {"path": str(tmp_path / "out.jsonl"), "flush": "interval", "interval_s": 60},
        "synthetic.street": {"width": 160, "height": 120, "cars": 1, "people": 1},
        "flow.sample": {"every": 2},
        "image.folder": {"path": str(clips)},
        "video.file": {"path": str(clips / "clip.mp4")},
        "video.writer": {"path": str(tmp_path / "out.mp4")},
        "vision.crop": {"x": 2, "y": 2, "width": 8, "height": 8},
        "vision.follow": {"width": 8, "height": 8},
        "vision.resize": {"width": 32},
        "job.command": {"command": ["sleep", "60"]},
        "job.callable": {"entry": "time:tzset"},
    }
    detections = {"detections": DETECTIONS}
    samples = {"events.build": {"in": DETECTIONS}, "vision.annotate": detections, "vision.follow": detections}
    verdict = judge(plugin, [], configs.get(plugin, {}), samples.get(plugin, {}), DEADLINE_S)
    idle = [("resumes", "skipped", "it gave no packet")] if plugin.startswith("job.") else []
    assert [(each.name, each.state, each.reason) for each in verdict.findings if each.state != "ok"] == idle
