"""Finding the run that is meant."""

import os

import pytest

from streamcore.control import client
from streamcore.control.rundir import RunDir, RunInfo
from streamcore.errors import RunError


@pytest.fixture(autouse=True)
def runtime_dir(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(tmp_path))
    monkeypatch.setattr(client.rundir, "roots", lambda: (tmp_path / "streamcore",))  # and no run of somebody who works on this box
    return tmp_path


@pytest.fixture
def live():
    """Make live runs; they end with the test."""
    taken = []

    def start(name):
        taken.append(RunDir.take(name))
        taken[-1].write_info(RunInfo(name, os.getpid(), f"id-of-{name}", "graph", "v1", "", "2026-11-23T07:00:00.000000Z"))
        return taken[-1]

    yield start
    for run_dir in taken:
        run_dir.close()


def test_without_any_run_one_is_told_where_it_was_looked_for(runtime_dir):
    assert client.runs() == []
    with pytest.raises(RunError, match=rf"no run found in {runtime_dir}/streamcore; start one with"):
        client.connect(None)


def test_the_only_run_needs_no_name(live):
    live("gate")
    with client.connect(None) as connected:
        assert connected.info.run == "gate"


def test_of_several_runs_one_has_to_say_which(live):
    live("gate")
    live("door")
    assert [info.run for info in client.runs()] == ["door", "gate"]
    with pytest.raises(RunError, match="several runs: door, gate; say which one"):
        client.connect(None)
    with client.connect("door") as connected:
        assert connected.info.run == "door"


def test_an_unknown_name_is_told_what_there_is(live):
    live("gate")
    with pytest.raises(RunError, match="no run 'gat' found; there is gate"):
        client.connect("gat")


def test_a_run_that_has_ended_is_not_connected_to_but_its_directory_is_found(live, runtime_dir):
    RunDir.take("old").close()
    with pytest.raises(RunError, match="no run 'old' found; there is none at all"):
        client.connect("old")
    assert client.directory("old") == client.directory(None) == runtime_dir / "streamcore" / "old"
    live("gate")
    assert client.directory(None).name == "gate"  # the live one is meant
    assert client.directory("old").name == "old"


def test_waiting_for_the_end_ends_with_the_lock_and_not_before():
    run_dir = RunDir.take("gate")
    run_dir.write_info(RunInfo("gate", os.getpid(), "id", "graph", "v1", "", ""))
    with client.connect("gate") as connected:
        assert not connected.wait_end(0)
        run_dir.close()
        assert connected.wait_end(0)


def test_a_later_run_of_the_same_name_is_another_run(live):
    run_dir = RunDir.take("gate")
    run_dir.write_info(RunInfo("gate", os.getpid(), "an earlier one", "graph", "v1", "", ""))
    with client.connect("gate") as connected:
        run_dir.close()
        live("gate")
        assert not connected.live()


def test_a_run_that_lives_and_does_not_answer_is_given_up(live):
    live("gate")
    with client.connect("gate") as connected, pytest.raises(RunError, match=r"lives but did not answer `ps` within 0.1 s"):
        connected.request("ps", timeout_s=0.1)


def test_a_run_that_ends_before_it_answers_is_noticed_long_before_the_time_is_up():
    run_dir = RunDir.take("gate")
    run_dir.write_info(RunInfo("gate", os.getpid(), "id", "graph", "v1", "", ""))
    connected = client.connect("gate")
    run_dir.close()
    with connected, pytest.raises(RunError, match="run 'gate' ended before it answered `ps`"):
        connected.request("ps", timeout_s=3600)
