"""The process that nodes are forked from is killed or stopped, in the middle of a run and at random moments of its start: the run goes on,
nothing is lost, nobody is left.
"""

from __future__ import annotations

import os
import random
import signal
import time
from concurrent.futures import ThreadPoolExecutor

import psutil
import pytest
from boxes import Box, new_box
from fault_kit import Broken, Ledger, Run, frames, node, spec

pytestmark = [pytest.mark.slow, pytest.mark.timeout(300)]
AT_ONCE, STARTS = 2, 40
WARNING = "the fork server is not used any more"
SPEC = spec(
    [node("src", "synthetic.frames", frames(200)), node("mid", "flow.forward"), node("sink", "debug.hash", "path: sink.jsonl")],
    [("src", "mid"), ("mid", "sink")],
)


def fork_servers(run: Run) -> list[int]:
    """The one of this run; none before it was started, or after its end. One that was killed is none, reaped or not."""
    try:
        children = psutil.Process(run.process.pid).children()
    except psutil.NoSuchProcess:
        return []
    found = []
    for child in children:
        try:
            if "forkserver" in child.cmdline():
                found.append(child.pid)
        except (psutil.NoSuchProcess, psutil.ZombieProcess):
            continue
    return found


@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGSTOP], ids=lambda how: how.name)
def test_a_run_goes_on_without_its_fork_server(how, box: Box):
    run = Run(box, "alone", SPEC)
    run.wait_up()
    run.hurt(signal.SIGKILL, {"mid": 3})
    assert WARNING not in run.output
    (server,) = fork_servers(run)
    os.kill(server, how)
    run.hurt(signal.SIGKILL, {"src": 3, "mid": 3})
    report = run.end()
    assert run.output.count(WARNING) == 1, run.output
    assert (report["nodes"]["mid"]["restarts"], report["nodes"]["src"]["restarts"]) == (6, 3)
    Ledger(box.folder / "sink.jsonl").check(repeats_max=0, sources=["src"])


def test_a_killed_coordinator_leaves_nothing_while_its_fork_server_is_stopped(box: Box):
    # Neither of them can say a word: the kernel and the guardian do it.
    run = Run(box, "stopped", SPEC)
    run.wait_up()
    (server,) = fork_servers(run)
    os.kill(server, signal.SIGSTOP)
    run.process.kill()
    run.process.wait(60)
    run.nothing_left()


def starts(seed: int) -> dict[str, int]:
    rng, counts = random.Random(seed), {"before the first node": 0, "later": 0, "arrived": 0}
    with new_box() as box:
        ledger = Ledger(box.folder / "sink.jsonl")
        for _ in range(STARTS // AT_ONCE):
            run = Run(box, "starts", SPEC, seed)
            (server,) = run.until("the fork server", lambda run=run: fork_servers(run))
            if rng.random() < 0.5:
                run.until("the first node", lambda run=run: ": starting" in run.output)
                time.sleep(rng.uniform(0, 0.02))
            else:
                time.sleep(rng.uniform(0, 0.5))
            early = ": starting" not in run.output
            os.kill(server, signal.SIGKILL)
            run.wait_up()
            run.end()
            if run.output.count(WARNING) != 1:
                raise Broken(f"no word of it, or more than one:\n{run.output}")
            counts["before the first node" if early else "later"] += 1
            counts["arrived"] += ledger.check(repeats_max=0, sources=["src"])["arrived"]
            ledger.path.unlink(missing_ok=True)
    return counts


def test_a_fork_server_that_is_killed_during_the_start_delays_it_and_nothing_else():
    with ThreadPoolExecutor(AT_ONCE) as pool:
        found = list(pool.map(starts, range(AT_ONCE)))
    print(f"{STARTS} fork servers killed: {found}")
    assert min(row[when] for row in found for when in row) > 0
