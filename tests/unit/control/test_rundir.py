"""The run directory: private, locked, swept; anything that is not ours is refused with what was found and what was expected."""

import fcntl
import json
import multiprocessing
import os
import socket
import stat
from pathlib import Path

import msgspec
import pytest

from streamcore.clock import ManualClock
from streamcore.control import rundir
from streamcore.control.rundir import RunDir, RunInfo
from streamcore.errors import RunError

INFO = RunInfo("gate", os.getpid(), "0123456789abcdef", "front-door", "v1", "spec.yaml", "2026-11-23T07:00:00.000000Z")


@pytest.fixture(autouse=True)
def runtime_dir(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(tmp_path))
    return tmp_path


@pytest.fixture
def taken():
    run_dir = RunDir.take("gate")
    yield run_dir
    run_dir.close()


def mode(path):
    return stat.S_IMODE(os.lstat(path).st_mode)


def dead(name):
    """A run whose coordinator was killed: the kernel has closed its descriptors, its files are there. Returns its directory."""
    run_dir = RunDir.take(name)
    run_dir.write_info(INFO)
    os.close(run_dir._lock_fd)
    os.close(run_dir._directory_fd)
    return run_dir.path


def bind(path):
    socket.socket(socket.AF_UNIX).bind(str(path))


def test_every_level_is_made_for_this_user_alone(taken, runtime_dir):
    assert taken.path == runtime_dir / "streamcore" / "gate"
    assert [mode(path) for path in (taken.path.parent, taken.path, taken.path / "logs")] == [0o700] * 3
    assert mode(taken.path / "coordinator.pid") == 0o600


def test_without_a_runtime_directory_it_lies_below_tmp_with_the_uid(monkeypatch):
    monkeypatch.delenv("XDG_RUNTIME_DIR")
    expected = Path(f"/tmp/streamcore-{os.geteuid()}/gate")
    assert rundir.path_of("gate") == expected
    monkeypatch.setenv("XDG_RUNTIME_DIR", "/no/such/directory")  # left over from another login
    assert rundir.path_of("gate") == expected


@pytest.mark.parametrize("name", ["", "..", "a/b", "A", "a\n", "a" * 33, "-a"])
def test_a_name_that_is_no_id_is_refused(name):
    with pytest.raises(RunError, match="run name: found"):
        RunDir.take(name)


def test_a_directory_that_others_may_enter_is_refused(runtime_dir):
    (runtime_dir / "streamcore").mkdir(mode=0o755)
    (runtime_dir / "streamcore").chmod(0o755)
    with pytest.raises(RunError, match=r"streamcore: mode found 0755, expected 0700"):
        RunDir.take("gate")


def test_a_directory_of_somebody_else_is_refused(runtime_dir):
    if os.geteuid() != 0:
        pytest.skip("only root can give a directory away")
    (runtime_dir / "streamcore").mkdir(mode=0o700)
    os.chown(runtime_dir / "streamcore", 12345, 12345)
    with pytest.raises(RunError, match="owner found uid 12345, expected 0"):
        RunDir.take("gate")


@pytest.mark.parametrize("level", ["streamcore", "streamcore/gate", "streamcore/gate/logs"])
def test_a_symbolic_link_at_any_level_is_refused(runtime_dir, level):
    elsewhere = runtime_dir / "elsewhere"
    elsewhere.mkdir(mode=0o700)
    (runtime_dir / level).parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    for parent in list((runtime_dir / level).parents)[:-1]:
        if runtime_dir in parent.parents:
            parent.chmod(0o700)
    (runtime_dir / level).symlink_to(elsewhere)
    with pytest.raises(RunError, match="found a symbolic link, expected a directory of uid"):
        RunDir.take("gate")
    assert os.listdir(elsewhere) == []


def test_a_file_in_its_place_is_refused(runtime_dir):
    (runtime_dir / "streamcore").write_text("")
    with pytest.raises(RunError, match="found a file, expected a directory"):
        RunDir.take("gate")


def test_a_link_in_place_of_the_pid_file_is_refused_and_its_target_left_alone(runtime_dir):
    path, target = dead("gate"), runtime_dir / "target"
    target.write_text("precious")
    (path / "coordinator.pid").unlink()
    (path / "coordinator.pid").symlink_to(target)
    with pytest.raises(RunError, match=r"coordinator\.pid: .*expected a plain file of ours"):
        RunDir.take("gate")
    assert target.read_text() == "precious"


def test_a_path_that_is_too_long_for_sockets_is_refused(runtime_dir, monkeypatch):
    deep = runtime_dir / ("d" * 80)
    deep.mkdir()
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(deep))
    with pytest.raises(RunError, match="its socket paths have .* bytes, expected at most 107; choose a shorter --name"):
        RunDir.take("gate")


def test_a_second_run_of_a_live_name_is_refused_and_told_who_has_it(taken):
    taken.write_info(INFO)
    who = rf"\(pid {os.getpid()}, since 2026-11-23T07:00:00.000000Z\)"
    with pytest.raises(RunError, match=rf"run 'gate' is live {who}; end it with `streamctl down gate`"):
        RunDir.take("gate", ManualClock())
    assert json.loads((taken.path / "coordinator.pid").read_text())["graph"] == "front-door"


def test_a_name_is_free_again_after_the_end():
    for _ in range(2):
        RunDir.take("gate").close()


def test_a_reader_that_looks_at_the_lock_does_not_refuse_a_new_run():
    reader = os.open(dead("gate") / "coordinator.pid", os.O_RDONLY)
    fcntl.flock(reader, fcntl.LOCK_SH | fcntl.LOCK_NB)

    class LetsGo(ManualClock):
        """The reader needs its lock no longer than one pause."""

        def sleep(self, seconds):
            os.close(reader)

    RunDir.take("gate", LetsGo()).close()


def test_who_waited_for_the_lock_of_a_run_that_ended_does_not_hold_the_removed_file(monkeypatch):
    # Two new runs could otherwise each hold a lock: one on the file in the directory, one on the file that was removed from it.
    runs, flock = [RunDir.take("gate")], fcntl.flock

    def flock_late(fd, how):
        monkeypatch.setattr(rundir.fcntl, "flock", flock)
        runs.pop().close()  # between our open and our lock
        runs.append(RunDir.take("gate"))
        flock(fd, how)

    monkeypatch.setattr(rundir.fcntl, "flock", flock_late)
    with pytest.raises(RunError, match="is live"):
        RunDir.take("gate", ManualClock())
    runs.pop().close()


def test_what_a_dead_run_left_is_swept_and_only_that():
    path = dead("gate")
    bind(path / "control")
    bind(path / "camera.1")
    (path / "notes").write_text("not a socket")
    (path / "logs" / "camera.log").write_text("old")
    (path / "logs" / "_coordinator.log").write_text("of the one that is being started")
    for folder in ("incidents", "dead-letters"):
        (path / folder).mkdir(mode=0o700)
        (path / folder / "camera.1.json").write_text("{}")
    new = RunDir.take("gate")
    assert sorted(os.listdir(path)) == ["coordinator.pid", "dead-letters", "incidents", "logs", "notes"]
    assert os.listdir(path / "incidents") == [], "why nodes of another run died is no news of this one"
    assert os.listdir(path / "dead-letters") == ["camera.1.json"], "packets are kept until somebody drops them"
    assert os.listdir(path / "logs") == ["_coordinator.log"]
    new.close()


def test_at_the_end_sockets_and_pid_file_go_and_logs_stay(taken):
    run_dir = RunDir.take("other")
    bind(run_dir.path / "control")
    os.close(run_dir.open_log("camera"))
    run_dir.close()
    assert os.listdir(run_dir.path) == ["logs"]
    assert os.listdir(run_dir.path / "logs") == ["camera.log"]
    assert mode(run_dir.path / "logs" / "camera.log") == 0o600


def test_a_log_is_not_written_through_a_link(taken, runtime_dir):
    (runtime_dir / "target").write_text("precious")
    (taken.path / "logs" / "camera.log").symlink_to(runtime_dir / "target")
    with pytest.raises(OSError, match="symbolic link"):
        taken.open_log("camera")


def test_a_run_is_live_while_its_lock_is_held(taken):
    assert rundir.live_info(taken.path) is None  # it has not yet said who it is
    taken.write_info(INFO)
    assert rundir.live_info(taken.path) == msgspec.structs.replace(INFO, path=str(taken.path))
    assert rundir.live_info(dead("other")) is None


def test_the_lock_is_not_inherited_by_children(taken):
    # It would be held after the coordinator was killed, for as long as any child lives.
    assert not os.get_inheritable(taken._lock_fd)
    child = multiprocessing.get_context("spawn").Process(target=_try_lock, args=(str(taken.path),))
    child.start()
    child.join()
    assert child.exitcode == 0


def _try_lock(path):
    fd = os.open(f"{path}/coordinator.pid", os.O_RDONLY)
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        raise SystemExit(0) from None
    raise SystemExit(1)


def test_a_directory_that_was_removed_or_replaced_is_noticed(taken):
    assert taken.in_place
    taken.path.rename(taken.path.with_name("elsewhere"))
    assert not taken.in_place
    taken.path.mkdir()
    assert not taken.in_place


def test_known_runs_are_listed_by_name_and_strangers_skipped(taken, runtime_dir):
    RunDir.take("alpha").close()
    (runtime_dir / "streamcore" / "Not An Id").mkdir()
    (runtime_dir / "streamcore" / "link").symlink_to(taken.path)
    assert [path.name for path in rundir.known() if runtime_dir in path.parents] == ["alpha", "gate"]
