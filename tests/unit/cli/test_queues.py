"""streamctl queue, on files that a store has left or still owns."""

from __future__ import annotations

import json
import os
import subprocess
import sys

import msgspec
import pytest
from click.testing import CliRunner

from streamcore.cli import queues, root
from streamcore.durable import files
from streamcore.durable.options import Options
from streamcore.durable.record import Entry, Head
from streamcore.durable.store import DurableStore

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


@pytest.mark.parametrize("verb", ["ls", "peek", "stats", "check", "repair", "compact"])
def test_where_there_is_no_queue_that_is_said(tmp_path, verb):
    assert root.run(["queue", verb, str(tmp_path)]) == 2
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("verb", ["repair", "compact"])
def test_what_is_owned_is_not_changed(path, verb):
    with DurableStore(path, OPTIONS):
        assert root.run(["queue", verb, str(path)]) == 1
