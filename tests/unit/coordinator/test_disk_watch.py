"""Disks that fill: each level once, with some room before it counts as left; the run waits for no file system."""

import os
import threading
from dataclasses import dataclass, field

import msgspec
import pytest
from fake_runs import ORDERLY, chain
from small_file_system import small_file_system

from streamcore.clock import ManualClock
from streamcore.coordinator.disk_watch import IDLE_LOOK_S, LOOK_S, SILENT_S, DiskWatch, Levels, Room, folders_of, measure
from streamcore.coordinator.observer import Observer

DEADLINE_S = 20.0


@dataclass
class Told(Observer):
    told: list = field(default_factory=list)
    warnings: list = field(default_factory=list)

    def disk_filling(self, path, percent, detail):
        self.told.append(("filling", path, percent))

    def disk_freed(self, path, percent, detail):
        self.told.append(("freed", path, percent))

    def warning(self, text):
        self.warnings.append(text)


def room(percent, device=1, path="/data"):
    return Room(device, path, 1 << 30, 1 << 20, percent)


def told_of(*percents):
    levels = Levels(Told())
    for percent in percents:
        levels.note(room(percent))
    return [(word, percent) for word, _, percent in levels._observer.told]


@pytest.mark.parametrize(
    ("percents", "told"),
    [
        ((10, 79.9), []),
        ((80, 80, 85), [("filling", 80)]),
        ((50, 80, 90, 95), [("filling", 80), ("filling", 90), ("filling", 95)]),
        ((50, 99), [("filling", 95)]),  # one event for one thing that happened
        ((91, 89, 90, 88.1, 91), [("filling", 90)]),  # it hangs about a level: no news
        ((91, 88, 90), [("filling", 90), ("freed", 90), ("filling", 90)]),
        ((96, 10), [("filling", 95), ("freed", 80)]),
        ((96, 85, 96), [("filling", 95), ("freed", 90), ("filling", 95)]),
    ],
)
def test_each_level_is_told_once_until_it_is_left(percents, told):
    assert told_of(*percents) == told


def finish(watch):
    watch.thread.join(DEADLINE_S)
    assert not watch.thread.is_alive(), f"the measurement has not ended within {DEADLINE_S} s"


def test_it_is_looked_seldom_and_more_seldom_in_an_idle_run():
    clock, taken = ManualClock(), []
    watch = DiskWatch(lambda: taken.append(clock.now_ns) or [], Told(), clock)
    for busy, until_s in ((True, 100), (False, 400)):
        while clock.now_ns < until_s * 1e9:
            watch.look(busy=busy)
            if watch.thread is not None:
                finish(watch)
            clock.advance(1.0)
    seconds = [round(at / 1e9) for at in taken]
    assert seconds == [*range(0, 100, round(LOOK_S)), *range(150, 400, round(IDLE_LOOK_S))]


def test_a_file_system_that_does_not_answer_keeps_nobody_and_is_told_once():
    clock, answers, observer = ManualClock(), threading.Event(), Told()
    watch = DiskWatch(lambda: answers.wait(DEADLINE_S) and [room(97)], observer, clock)
    for _ in range(200):
        watch.look(busy=True)
        clock.advance(1.0)
    assert len(observer.warnings) == 1
    assert f"{SILENT_S:g} s" in observer.warnings[0]
    answers.set()
    finish(watch)
    watch.look(busy=True)
    assert observer.told == [("filling", "/data", 95)]
    finish(watch)


def test_a_real_file_system_that_fills_is_seen(tmp_path):
    with small_file_system(tmp_path / "small") as folder:
        if os.stat(folder).st_dev == os.stat(tmp_path).st_dev:
            pytest.skip("nothing may be mounted here")
        observer = Told()
        levels, missing = Levels(observer), str(folder / "queue" / "not-made-yet")
        for share in (0.5, 0.85, 0.97, 0.1):
            with open(folder / "big", "wb") as file:
                file.write(b"x" * round(share * (3 << 20)))
            for found in measure([missing, str(folder)]):
                levels.note(found)
        assert observer.told == [("filling", missing, 80), ("filling", missing, 95), ("freed", missing, 80)]


def test_file_systems_are_measured_as_df_does_and_each_once(tmp_path):
    said = os.statvfs_result((4096, 4096, 1000, 300, 200, 0, 0, 0, 0, 255))  # 700 used, 200 may be used, 100 are root's
    found = measure([str(tmp_path), str(tmp_path / "below")], lambda path: said)
    assert [(one.path, one.total_bytes, one.free_bytes) for one in found] == [(str(tmp_path), 900 * 4096, 200 * 4096)]
    assert found[0].percent == pytest.approx(100 * 700 / 900)
    assert measure(["/proc"]) == []  # it has no size


def test_what_has_inputs_and_a_path_is_taken_to_write_there(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    a, b, c = chain(ORDERLY, ORDERLY, ORDERLY).nodes
    a = msgspec.structs.replace(a, config={"path": "/clips/in.mp4"})
    b = msgspec.structs.replace(b, config={"path": "data/queue"})
    c = msgspec.structs.replace(c, config={"path": "/mnt/out.jsonl"})
    assert folders_of([a, b, c, b], "/run/x") == ["/run/x", str(tmp_path / "data/queue"), "/mnt/out.jsonl"]
