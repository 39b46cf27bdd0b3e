"""streamctl queue, on files that a store has left or still owns."""

from __future__ import annotations

import base64
import json
import os
import subprocess
import sys

import click
import msgspec
import pytest
from click.testing import CliRunner

from streamcore.cli import dlq, queues, root
from streamcore.durable import export, files, selection, upkeep
from streamcore.durable.options import Options
from streamcore.durable.record import Entry, Head
from streamcore.durable.store import DurableStore
from streamcore.errors import StoreLocked

OPTIONS = Options(max_bytes=16 << 20, retain_bytes=1 << 20)


@pytest.fixture
def path(tmp_path):
    """Five waiting, two retained, one dead letter."""
    with DurableStore(tmp_path / "queue", OPTIONS) as store:
        store.append([Entry(bytes([n]) * 16, n, Head("event", "cam", key="a"), msgspec.msgpack.encode({"n": n})) for n in range(1, 9)])
        store.deliver(3)
        store.ack(1)
        store.ack(2)
        store.nack(3, reason="HTTP 400", permanent=True)
    return tmp_path / "queue"


def run(*args: object) -> tuple[int, str]:
    done = CliRunner().invoke(queues.queue, [str(arg) for arg in args], standalone_mode=False)
    if done.exception:
        raise done.exception
    return done.return_value, done.output


def test_ls_counts_what_is_there_and_names_the_owner(path):
    assert root.streamctl.get_command(None, "queue") is queues.queue
    status, text = run("ls", path)
    assert status == 0 and text.splitlines()[1].split()[1:4] == ["5", "2", "1"]
    with DurableStore(path, OPTIONS):
        command = [sys.executable, "-m", "streamcore", "queue", "ls", str(path), "--json"]  # LMDB opens a file once per process
        (found,) = json.loads(subprocess.run(command, check=True, capture_output=True, timeout=60).stdout)["queues"]
    assert (found["waiting"], found["acked"], found["dead"], found["owner"]) == (5, 2, 1, str(os.getpid()))
    assert found["counters"]["appended"] == 8 and found["max_bytes"] == 16 << 20


def test_peek_shows_values_and_takes_nothing(path):
    status, text = run("peek", path, "--count", 2)
    assert status == 0 and '{"n": 4}' in text and '{"n": 5}' in text and '{"n": 6}' not in text
    records = json.loads(run("peek", path, "--sequence", "6-", "--json")[1])["records"]
    assert [(item["sequence"], item["value"], item["key"]) for item in records] == [(n, {"n": n}, "a") for n in (6, 7, 8)]
    assert "HTTP 400" in run("peek", path, "--state", "dead")[1]
    assert run("stats", path)[1].splitlines()[0].split() == ["waiting", "5"]


def test_check_and_repair_name_the_damaged_record(path):
    assert run("check", path)[0] == 0
    data = path / files.DATA
    value = msgspec.msgpack.encode({"n": 6})
    data.write_bytes(data.read_bytes().replace(value, b"!" + value[1:]))  # free pages hold older copies of it
    status, text = run("check", path)
    assert status == 1 and "record 6: found checksum" in text and "1 damaged record" in text
    assert json.loads(run("check", path, "--json")[1])["damaged"][0]["sequence"] == 6
    assert "quarantine/6.record" in run("repair", path)[1]
    assert run("check", path)[0] == 0 and run("ls", path)[1].splitlines()[1].split()[1:4] == ["4", "2", "1"]


def test_compact_gives_room_back_and_keeps_everything(path):
    with DurableStore(path, OPTIONS) as store:
        store.append([Entry(bytes([9, n]) * 8, n, Head("frame", "cam", "bytes"), bytes(50_000)) for n in range(60)])
        for delivery in store.deliver(99):
            if delivery.record.head.kind == "frame":
                store.ack(delivery.record.sequence)
    before = json.loads(run("ls", path, "--json")[1])["queues"][0]
    status, text = run("compact", path)
    after = json.loads(run("ls", path, "--json")[1])["queues"][0]
    assert status == 0 and "now" in text and after["file_bytes"] < before["file_bytes"] / 2
    assert {**before, "file_bytes": 0} == {**after, "file_bytes": 0}
    with DurableStore(path, OPTIONS) as store:
        assert store.findings == [] and len(store.deliver(99)) == 5


@pytest.mark.parametrize("verb", ["ls", "peek", "stats", "check", "repair", "compact", "replay", "retry", "export"])
def test_where_there_is_no_queue_that_is_said(tmp_path, verb):
    assert root.run(["queue", verb, str(tmp_path)]) == 2
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("verb", ["repair", "compact"])
def test_what_is_owned_is_not_changed(path, verb):
    with DurableStore(path, OPTIONS):
        assert root.run(["queue", verb, str(path)]) == 1


def chosen(verb: str, *words: object) -> dict:
    return json.loads(run(verb, *words, "--json")[1])


def test_peek_shows_what_was_asked_for(path):
    with DurableStore(path, OPTIONS) as store:
        more = [Entry(bytes([90 + n]) * 16, n, Head("alarm", "door", key="b"), msgspec.msgpack.encode("x" * 1000 * n)) for n in range(3)]
        store.append(more)
    for words, sequences in (
        (["--kind", "alarm"], [9, 10, 11]),
        (["--kind", "alarm", "--kind", "event"], [*range(4, 12)]),
        (["--key", "b", "--larger", "1KiB"], [11]),
        (["--source", "cam", "--sequence", "5-6", "--sequence", "10"], [5, 6]),
        (["--from", "1h ago", "--to", "now"], [*range(4, 12)]),
        (["--to", "1h ago"], []),
    ):
        assert [item["sequence"] for item in chosen("peek", path, *words, "--count", 50)["records"]] == sequences, words


def test_records_of_many_pieces_are_all_walked(path, monkeypatch):
    monkeypatch.setattr(selection, "PIECE_RECORDS", 2)
    steps: list[int] = []
    assert [seen.sequence for seen in selection.walk(path, "waiting", selection.Selection(), steps.append)] == [*range(4, 9)]
    assert steps == [2, 2, 1]


def test_replay_retry_and_drop_do_what_they_said(path):
    status, text = run("replay", path, "--kind", "event")
    assert status == 2 and "say --yes" in text and chosen("ls", path)["queues"][0]["acked"] == 2
    assert "would replay 2 retained records" in run("replay", path, "--dry-run")[1]
    told = chosen("replay", path, "--sequence", 2, "--yes")
    assert (told["action"], told["found"], told["done"], told["first"]) == ("replay", 1, 1, 2)
    assert chosen("peek", path, "--count", 1)["records"][0] | {"sequence": 2, "replayed": True} == chosen("peek", path)["records"][0]
    assert "1 done" in run("retry", path, "--yes")[1]
    assert [item["sequence"] for item in chosen("peek", path)["records"]] == [*range(2, 9)]
    assert "3 done" in run("drop", path, "--state", "waiting", "--sequence", "6-8", "--yes")[1]
    assert "no such dead records" in run("drop", path, "--state", "dead", "--yes")[1]
    with DurableStore(path, OPTIONS) as store:
        found = [(delivery.record.sequence, delivery.replayed) for delivery in store.deliver(99)]
    assert found == [(2, True), (3, False), (4, False), (5, False)]
    assert run("check", path)[0] == 0


def test_a_queue_of_a_foreign_process_is_read_and_not_changed(path):
    hold = "import sys; from streamcore import DurableStore as D; s = D(sys.argv[1], D.Options(retain_bytes=9999))"
    holder = f"{hold}; print('up', flush=True); sys.stdin.read()"
    command = [sys.executable, "-c", holder, str(path)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as owner:
        assert owner.stdout.readline() == "up\n"
        assert len(chosen("peek", path)["records"]) == 5 and run("check", path)[0] == 0
        for words in (["replay"], ["retry"], ["drop", "--state", "waiting"]):
            with pytest.raises(StoreLocked, match=f"process {owner.pid} owns it"):
                run(words[0], path, *words[1:], "--yes")
        owner.stdin.close()


def test_export_writes_every_payload(path, tmp_path):
    with DurableStore(path, OPTIONS) as store:
        store.append([Entry(b"p" * 16, 1, Head("frame", "cam", "png", dtype="uint8", shape=(1, 2, 3)), b"\x89PNG")])
    out = tmp_path / "out.jsonl"
    assert "6 records" in run("export", path, "-o", out)[1]
    lines = [json.loads(line) for line in out.read_text().splitlines()]
    assert [line["value"] for line in lines[:5]] == [{"n": n} for n in range(4, 9)]
    assert base64.b64decode(lines[5]["payload_base64"]) == b"\x89PNG" and lines[5]["shape"] == [1, 2, 3]
    status, text = run("export", path, "--state", "all", "--payloads", tmp_path / "files")
    lines = [json.loads(line) for line in text.splitlines()]
    assert [(line["sequence"], line["state"]) for line in lines] == [(n, "waiting") for n in range(4, 10)] + [
        (1, "acked"),
        (2, "acked"),
        (3, "dead"),
    ]
    assert (tmp_path / "files" / lines[5]["payload_file"]).read_bytes() == b"\x89PNG" and lines[8]["reason"] == "HTTP 400"
    assert sorted(file.name for file in tmp_path.iterdir()) == ["files", "out.jsonl", "queue"]


def test_an_export_that_fails_leaves_the_file_that_was_there(path, tmp_path, monkeypatch):
    out = tmp_path / "out.jsonl"
    out.write_text("before")

    def interrupted(records, file, payloads):
        file.write(b"half")
        raise KeyboardInterrupt

    monkeypatch.setitem(export.FORMATS, "jsonl", interrupted)
    with pytest.raises(click.Abort):
        run("export", path, "-o", out)
    assert out.read_text() == "before" and sorted(file.name for file in tmp_path.iterdir()) == ["out.jsonl", "queue"]


def test_a_compaction_that_is_interrupted_leaves_the_old_file(path):
    before = (path / files.DATA).read_bytes()

    def interrupt(nbytes):
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        upkeep.compact(path, interrupt)
    assert (path / files.DATA).read_bytes() == before and not (path / files.COMPACTED).exists()
    assert run("check", path)[0] == 0 and "now" in run("compact", path)[1]


def test_dead_letters_of_a_folder_are_listed_shown_redriven_and_dropped(path, monkeypatch, tmp_path):
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(tmp_path))

    def say(*words: object) -> str:
        done = CliRunner().invoke(dlq.dlq, [str(word) for word in words], standalone_mode=False)
        if done.exception:
            raise done.exception
        assert not done.return_value
        return done.output

    assert "1 failure: HTTP 400" in say("list", "--queue", path)
    (letter,) = json.loads(say("list", "--queue", path, "--json"))["letters"]
    assert (letter["letter_id"], letter["type"], letter["reason"]) == (f"{path}:3", "record", "HTTP 400")
    assert json.loads(say("show", f"{path}:3", "--json"))["value"] == {"n": 3}
    assert "queued again" in say("redrive", f"{path}:3") and "no dead letters" in say("list", "--queue", path)
    with DurableStore(path, OPTIONS) as store:
        store.nack(store.deliver(1)[0].record.sequence, permanent=True)
    assert "1 dead letter removed" in say("drop", "--all", "--yes", "--queue", path)
    with pytest.raises(click.BadParameter, match="has none with this sequence"):
        say("drop", f"{path}:3")
