"""`kill -9` of the coordinator, and of everything at once, at random moments: nothing is left, and the next run of that name works."""

from __future__ import annotations

import os
import random
import signal
import time
from concurrent.futures import ThreadPoolExecutor

import psutil
import pytest
from boxes import Box, new_box, shmem_kib
from fault_kit import Broken, Ledger, Run, frames, node, others_run, spec

NOISY_S = 10.0
pytestmark = [pytest.mark.slow, pytest.mark.timeout(300)]
AT_ONCE = 2  # boxes
SPEC = spec(
    [
        node("src", "synthetic.frames", frames(200)),
        node("mid", "fault_nodes:WithChildren"),
        node("sink", "debug.hash", "path: sink.jsonl"),
    ],
    [("src", "mid"), ("mid", "sink")],
)


def kill_the_coordinator(run: Run) -> None:
    os.kill(run.process.pid, signal.SIGKILL)


def kill_everything(run: Run) -> None:
    """As the kernel does when memory runs out for a whole group: stopped first, so that nobody sees another one die."""
    processes: list[psutil.Process] = []
    for _ in range(2):  # what was started meanwhile too
        processes = run.box.processes()
        for process in processes:
            try:
                process.suspend()
            except psutil.NoSuchProcess:
                continue
    for process in processes:
        try:
            process.kill()
        except psutil.NoSuchProcess:
            continue


def kill_runs(kill, kills: int, seed: int) -> dict[str, float]:
    """One box, one run after the other under the same name, each killed at a random moment, start-up included."""
    rng = random.Random(seed)
    slowest_s, arrived = 0.0, 0
    with new_box() as box:
        for turn in range(kills):
            run = Run(box, "again", SPEC, seed)
            time.sleep(rng.choice([rng.uniform(0, 0.5), rng.uniform(0.5, 2.0)]))
            kill(run)
            began = time.monotonic()
            run.process.wait(10)
            while left := box.processes():
                if time.monotonic() - began > 10:
                    raise Broken(f"turn {turn}: still there: {[process.cmdline() for process in left]}")
                time.sleep(0.01)
            slowest_s = max(slowest_s, time.monotonic() - began)
            ledger = Ledger(box.folder / "sink.jsonl")
            arrived += ledger.check(repeats_max=0, sources=["src"])["arrived"]
            ledger.path.unlink(missing_ok=True)
        run = Run(box, "again", SPEC, seed)
        run.wait_up()
        run.end()
        Ledger(box.folder / "sink.jsonl").check(repeats_max=0, sources=["src"])
    return {"slowest_s": slowest_s, "arrived": arrived}


@pytest.mark.parametrize(("kill", "kills"), [(kill_the_coordinator, 50), (kill_everything, 30)], ids=lambda value: str(value)[10:31])
def test_nothing_is_left_of_a_run_that_was_killed_and_the_next_one_works(kill, kills):
    before_kib = shmem_kib()
    with ThreadPoolExecutor(AT_ONCE) as pool:
        found = list(pool.map(lambda seed: kill_runs(kill, kills // AT_ONCE, seed), range(AT_ONCE)))
    print(f"{kills} times {kill.__name__}: {found}")
    # The promise is a second on a box that is not otherwise busy; here two runs start and end at the same time, and psutil looks on.
    assert max(row["slowest_s"] for row in found) < NOISY_S
    if kill is kill_the_coordinator:  # everything at once may well come before the first packet, on a busy box each time
        assert sum(row["arrived"] for row in found) > 0
    assert others_run() or shmem_kib() <= before_kib + 1024


def test_a_killed_coordinator_alone_on_the_box_leaves_nothing_after_a_second(box: Box):
    run = Run(box, "alone", SPEC)
    run.wait_up()
    kill_the_coordinator(run)
    run.process.wait(10)
    run.nothing_left(deadline_s=1.0)
