"""`kill -9` of the coordinator, and of everything at once, at random moments: nothing is left, and the next run of that name works.

Moments are counted from events, so that each stretch of a run gets its share however busy the box is.
"""

from __future__ import annotations

import os
import random
import select
import signal
import statistics
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor

import psutil
import pytest
from boxes import Box, new_box
from fault_kit import PATIENCE_S, Broken, Ledger, Run, frames, node, spec

pytestmark = [pytest.mark.slow, pytest.mark.timeout(300)]
AT_ONCE = 2  # boxes
STRETCHES = ("interpreter", "start", "work", "work")
# A second of a box that does nothing else, in units of what the box needs at that time to start and end a bare interpreter.
GONE_S, INTERPRETER_S, TURNS = 1.0, 0.015, 5
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


def wait_for(stretch: str, run: Run, ledger: Ledger, rng: random.Random) -> None:
    """Until a random moment in a stretch of the run, or a little after it."""
    if stretch == "start":
        run.until("the first process", lambda: ": starting" in run.output)
    elif stretch == "work":
        run.until("the first packets", lambda: len(ledger.lines()) > 0)
    time.sleep(rng.uniform(0, 0.5))
    run.see_memory()


def kill_runs(kill, kills: int, seed: int) -> dict[str, float]:
    """One box, one run after the other under the same name, each killed at a random moment, start-up included."""
    rng = random.Random(seed)
    slowest_s, arrived = 0.0, 0
    with new_box() as box:
        ledger = Ledger(box.folder / "sink.jsonl")
        for turn in range(kills):
            run = Run(box, "again", SPEC, seed)
            wait_for(STRETCHES[turn % len(STRETCHES)], run, ledger, rng)
            kill(run)
            began = time.monotonic()
            run.process.wait(PATIENCE_S)
            run.nothing_left(sockets=kill is kill_the_coordinator)  # else nobody lives who could remove them: the next run does
            slowest_s = max(slowest_s, time.monotonic() - began)
            arrived += ledger.check(repeats_max=0, sources=["src"])["arrived"]
            ledger.path.unlink(missing_ok=True)
        run = Run(box, "again", SPEC, seed)
        run.wait_up()
        run.end()
        ledger.check(repeats_max=0, sources=["src"])
    return {"slowest_s": slowest_s, "arrived": arrived}


@pytest.mark.parametrize(("kill", "kills"), [(kill_the_coordinator, 50), (kill_everything, 30)], ids=["coordinator", "everything"])
def test_nothing_is_left_of_a_run_that_was_killed_and_the_next_one_works(kill, kills):
    with ThreadPoolExecutor(AT_ONCE) as pool:
        found = list(pool.map(lambda seed: kill_runs(kill, kills // AT_ONCE, seed), range(AT_ONCE)))
    print(f"{kills} times {kill.__name__}: {found}")
    assert min(row["arrived"] for row in found) > 0


def interpreter_s() -> float:
    began = time.monotonic()
    subprocess.run([sys.executable, "-I", "-S", "-c", "pass"], check=True)
    return time.monotonic() - began


def until_gone_s(run: Run) -> float:
    """From the death of the coordinator to the end of the last process, seen by the kernel's word and not by looking around."""
    pidfds = [os.pidfd_open(process.pid) for process in run.box.processes()]
    poller = select.poll()
    for fd in pidfds:
        poller.register(fd, select.POLLIN)
    began = time.monotonic()
    kill_the_coordinator(run)
    left = set(pidfds)
    while left:
        ended = {fd for fd, _ in poller.poll(PATIENCE_S * 1000)}
        if not ended:
            raise Broken(f"{len(left)} processes are still there: {[process.cmdline() for process in run.box.processes()]}")
        for fd in ended:
            poller.unregister(fd)
            os.close(fd)
        left -= ended
    return time.monotonic() - began


def test_a_killed_coordinator_leaves_nothing_after_a_second_of_a_quiet_box(box: Box):
    ratios = []
    for _ in range(TURNS):
        run = Run(box, "alone", SPEC)
        run.wait_up()
        unit_s = [interpreter_s() for _ in range(3)]
        gone_s = until_gone_s(run)
        unit_s += [interpreter_s() for _ in range(3)]
        run.process.wait(PATIENCE_S)
        assert not box.sockets(), "the last one to go is the one that removes them"
        run.nothing_left()
        ratios.append(gone_s / statistics.median(unit_s))
        print(f"gone after {gone_s * 1000:.0f} ms; an interpreter takes {statistics.median(unit_s) * 1000:.0f} ms")
    assert statistics.median(ratios) < GONE_S / INTERPRETER_S
