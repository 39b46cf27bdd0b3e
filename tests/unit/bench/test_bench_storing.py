"""The benchmark of the durable queue does the work that it says."""

from __future__ import annotations

import json
import sqlite3

import msgspec
import pytest

from streamcore.durable import upkeep
from streamcore_bench import storing
from streamcore_bench.points import Options
from streamcore_bench.programs import Stop
from streamcore_bench.storing_nodes import event


def test_an_event_has_the_size_that_its_points_name():
    for number in (0, 100, 70_000):
        assert abs(len(msgspec.msgpack.encode(event(0, 1024) | {"number": number})) - 1024) < 16


@pytest.mark.parametrize("group", [1, 16])
def test_each_program_stores_what_it_was_given(group, tmp_path, monkeypatch):
    # A rate of records that are nowhere would be a fine one.
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    monkeypatch.setattr(storing.shutil, "rmtree", lambda *_, **__: None)
    stop, rates = Stop(), {}
    rates["ours"] = storing.ours(stop, 0.05, group, "commit")
    rates["sqlite"] = storing.sqlite(stop, 0.05, group, 1024, ids=True)
    rates["append"] = storing.append(stop, 0.05, group, 1024)
    counts = [upkeep.look(next(tmp_path.glob("*/queue/"))).waiting]
    counts.append(sqlite3.connect(next(tmp_path.glob("*/queue.sqlite"))).execute("SELECT count(*) FROM records").fetchone()[0])
    counts.append(next(path for path in tmp_path.glob("*/queue") if path.is_file()).stat().st_size // 1000)
    for count, rate in zip(counts, rates.values(), strict=True):
        assert count >= group and rate <= count / 0.05


def test_what_goes_through_the_node_is_watched_in_its_file(monkeypatch):
    monkeypatch.setattr(storing, "COUNTS", {64: 1500})
    monkeypatch.setattr(storing, "LOOK_S", 0.002)
    with Stop() as stop:
        found = storing._stored(stop, 1500, 64, 1024, "commit")
    assert found["rate"] > 0 and found["delivered"] > 0 and 1 < found["group"] <= 64, json.dumps(found)
    assert [point.name for point in storing.points(Options())][-1] == "node, 150 KiB, groups of 16"
