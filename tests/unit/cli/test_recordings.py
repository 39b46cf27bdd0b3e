"""streamctl recording, on files that a recorder has left or still owns."""

from __future__ import annotations

import json
import os

import pytest
from click.testing import CliRunner

from streamcore.cli import recordings, root
from streamcore.durable.record import Entry, Head, pack_json
from streamcore.durable.recorder import Recorder

T0_NS = 1_700_000_000_000_000_000


def entry(number: int, kind: str = "event") -> Entry:
    head = Head(kind, "cam", "json", f"{kind}s.out")
    return Entry(number.to_bytes(16, "big"), T0_NS + number * 1_000_000_000, head, pack_json({"n": number}))


@pytest.fixture
def path(tmp_path):
    with Recorder(tmp_path / "rec", run="0123456789abcdef") as recorder:
        recorder.append([entry(number, "event" if number % 4 else "alarm") for number in range(100)])
    return tmp_path / "rec"


def run(*args: object) -> tuple[int, str]:
    done = CliRunner().invoke(recordings.recording, [str(arg) for arg in args], standalone_mode=False)
    assert done.exception is None, done.output
    return done.return_value, done.stdout


def test_the_verb_is_found():
    assert root.streamctl.get_command(None, "recording") is recordings.recording


def test_ls_tells_how_much_there_is_also_while_it_is_written(path):
    with Recorder(path) as recorder:
        recorder.append([entry(100)])
        (found,) = json.loads(run("ls", path, "--json")[1])["recordings"]
    assert found["owner"] == str(os.getpid())
    assert (found["records"], found["segments"]) == (101, 2)
    assert (found["begin"], found["end"]) == ("2023-11-14T22:13:20.000000Z", "2023-11-14T22:15:00.000000Z")
    status, text = run("ls", path)
    assert status == 0 and "101" in text and "1 min 40 s" in text and text.splitlines()[1].endswith(" -")


def test_info_tells_of_every_port_and_run(path):
    facts = json.loads(run("info", path, "--json")[1])
    assert facts["runs"] == ["0123456789abcdef"]
    assert [(port["port"], port["kind"], port["records"]) for port in facts["ports"]] == [
        ("alarms.out", "alarm", 25),
        ("events.out", "event", 75),
    ]
    assert "alarms.out  cam     alarm  json        25" in run("info", path)[1]


def test_check_says_what_is_damaged_and_changes_nothing(path):
    assert run("check", path) == (0, f"{path}: 100 records, all of it is whole\n")
    file = next(path.glob("*.seg"))
    raw = bytearray(file.read_bytes())
    raw[len(raw) // 2] ^= 1
    file.write_bytes(raw)
    status, text = run("check", path)
    assert status == 1 and "1 damaged record: 00000000000000000001.seg: record " in text and "99 records, 1 damaged record" in text
    found = json.loads(run("check", path, "--json")[1])
    assert (found["records"], found["damaged"], len(found["findings"])) == (99, 1, 1)
    assert file.read_bytes() == raw


def test_export_writes_what_is_chosen(path, tmp_path):
    target = tmp_path / "out.jsonl"
    choice = ("--from", "10s", "--to-time", "2023-11-14T22:13:50Z", "--kind", "alarm")
    status, text = run("export", path, "--to", target, *choice, "--json")
    facts = json.loads(text)
    assert (status, facts["records"], facts["format"], facts["bytes"]) == (0, 5, "jsonl", target.stat().st_size)
    assert [json.loads(line)["payload"]["n"] for line in target.read_text().splitlines()] == [12, 16, 20, 24, 28]
    assert run("export", path, "--to", tmp_path / "all", "--format", "mcap")[1].startswith(f"{tmp_path / 'all'}: 100 records, ")


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("export", "PATH", "--to", "out.txt"), "expected a name that ends with .mcap or .jsonl"),
        (("export", "PATH", "--to", "there.jsonl"), "there.jsonl exists; nothing was written"),
        (("export", "PATH", "--to", "new.jsonl", "--from", "noon"), "'noon' is no time"),
        (("ls", "nowhere"), "recording nowhere: no such folder"),
        (("check", "."), "found no segment in it"),
    ],
)
def test_what_cannot_be_done_is_said_and_is_2(path, tmp_path, monkeypatch, capsys, words, said):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "there.jsonl").write_text("mine")
    assert root.run(["recording", *(word.replace("PATH", str(path)) for word in words)]) == 2
    assert said in capsys.readouterr().err
    assert (tmp_path / "there.jsonl").read_text() == "mine" and not (tmp_path / "new.jsonl").exists()
