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
    with pytest.raises(RunError, match=f"no run 'old' found: it is not up; what it left is in {runtime_dir}/streamcore/old, its logs"):
        client.connect("old")
    assert client.directory("old") == client.directory(None) == runtime_dir / "streamcore" / "old"
    live("gate")
    assert client.directory(None).name == "gate"  # the live one is meant
    assert client.directory("old").name == "old"


def test_of_two_runs_of_one_name_the_directory_says_which_is_meant(live, runtime_dir, monkeypatch):
    # One in $XDG_RUNTIME_DIR and one in /tmp, as from a terminal and from a service: no name tells them apart.
    first = live("gate").path
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(runtime_dir / "other"))
    (runtime_dir / "other").mkdir()
    monkeypatch.setattr(client.rundir, "roots", lambda: (runtime_dir / "other" / "streamcore",))
    second = live("gate").path
    monkeypatch.setattr(client.rundir, "roots", lambda: (first.parent, second.parent))
    for name in ("gate", None):
        with pytest.raises(RunError, match=f"give the directory of the one that is meant, {first} or {second}"):
            client.connect(name)
    for path in (first, second):
        with client.connect(str(path)) as connected:
            assert connected.info.path == str(path) == str(client.directory(str(path)))


def test_a_directory_that_is_no_runs_or_not_ours_alone_is_refused(live, runtime_dir):
    RunDir.take("old").close()
    with pytest.raises(RunError, match="it is not up"):
        client.connect(str(runtime_dir / "streamcore" / "old"))
    with pytest.raises(RunError, match=r"none: No such file or directory"):
        client.connect(f"{runtime_dir}/none")
    (runtime_dir / "open").mkdir(mode=0o755)
    with pytest.raises(RunError, match="mode found 0755, expected 0700"):
        client.connect(f"{runtime_dir}/open")


@pytest.mark.skipif(os.getuid() != 0, reason="giving a directory away needs root")
def test_the_directory_of_another_user_is_refused(live, runtime_dir):
    path = live("gate").path
    os.chown(path, 65534, -1)
    with pytest.raises(RunError, match="owner found uid 65534, expected 0"):
        client.connect(str(path))
    os.chown(path.parent, 65534, -1)
    with pytest.raises(RunError, match="owner found uid 65534, expected 0"):
        client.connect("gate")


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
