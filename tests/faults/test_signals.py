"""SIGTERM and SIGINT at random moments of a run, also during start-up, once or twice: it ends in order, nothing is left."""

from __future__ import annotations

import json
import random
import signal
import time
from concurrent.futures import ThreadPoolExecutor

import pytest
from boxes import new_box, shmem_kib
from fault_kit import Broken, Ledger, Run, frames, node, others_run, spec

pytestmark = [pytest.mark.slow, pytest.mark.timeout(300)]
AT_ONCE, SIGNALS = 2, 60
SPEC = spec(
    [node("src", "synthetic.frames", frames(500)), node("mid", "flow.forward"), node("sink", "debug.hash", "path: sink.jsonl")],
    [("src", "mid"), ("mid", "sink")],
)
NOT_YET_LISTENING = (-signal.SIGTERM, -signal.SIGINT, 130, 1)  # what Python does of itself while it imports


def one_signal(run: Run, rng: random.Random) -> str:
    """Send it, and again at once in some cases; how the run ended."""
    time.sleep(rng.choice([rng.uniform(0, 0.4), rng.uniform(0.4, 2.0)]))
    number, twice = rng.choice([signal.SIGTERM, signal.SIGINT]), rng.random() < 0.25
    run.process.send_signal(number)
    if twice:
        time.sleep(rng.uniform(0, 0.05))
        run.process.send_signal(number)
    status = run.process.wait(30)
    # Before the first process of a node there is nothing to end in order, and the handlers may not be there yet.
    if status not in ((0,) if ": starting" in run.output else (0, *NOT_YET_LISTENING)):
        raise Broken(f"{number.name}{' twice' if twice else ''}: ended with {status}:\n{run.output[-3000:]}")
    return f"{number.name}{' twice' if twice else ''}"


def signals(seed: int) -> dict[str, int]:
    rng, counts = random.Random(seed), dict[str, int]()
    with new_box() as box:
        ledger = Ledger(box.folder / "sink.jsonl")
        for _ in range(SIGNALS // AT_ONCE):
            run = Run(box, "ending", SPEC, seed)
            how = one_signal(run, rng)
            box.assert_nothing_left()
            counts[how] = counts.get(how, 0) + 1
            counts["arrived"] = counts.get("arrived", 0) + ledger.check(repeats_max=0, sources=["src"])["arrived"]
            if run.report_path.exists():
                account = json.loads(run.report_path.read_text())["account"]
                if not account["balanced"] or (account["lost"] and "twice" not in how):
                    raise Broken(f"{how}: {account}")
                run.report_path.unlink()
            ledger.path.unlink(missing_ok=True)
    return counts


def test_a_signal_at_any_moment_ends_the_run_in_order():
    before_kib = shmem_kib()
    with ThreadPoolExecutor(AT_ONCE) as pool:
        found = list(pool.map(signals, range(AT_ONCE)))
    print(f"{SIGNALS} signals: {found}")
    assert sum(row["arrived"] for row in found) > 0
    assert others_run() or shmem_kib() <= before_kib + 1024
