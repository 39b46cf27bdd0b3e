"""SIGTERM and SIGINT at random moments of a run, from the first instant of its process, once or twice: it ends in order, nothing is left.

Moments are counted from events, so that each stretch of a run gets its share however busy the box is.
"""

from __future__ import annotations

import json
import random
import signal
import time
from concurrent.futures import ThreadPoolExecutor

import pytest
from boxes import new_box, signals_of
from fault_kit import PATIENCE_S, Broken, Ledger, Run, frames, node, spec

pytestmark = [pytest.mark.slow, pytest.mark.timeout(300)]
AT_ONCE, SIGNALS = 2, 60
SPEC = spec(
    [node("src", "synthetic.frames", frames(500)), node("mid", "flow.forward"), node("sink", "debug.hash", "path: sink.jsonl")],
    [("src", "mid"), ("mid", "sink")],
)
# What Python does with a signal before its first line is ours: nothing, a KeyboardInterrupt, or one while it prepares itself.
BEFORE_OUR_FIRST_LINE = (-signal.SIGTERM, -signal.SIGINT, 1)
STRETCHES = ("interpreter", "check", "start", "work")


def listens(run: Run) -> bool:
    """Python never catches TERM of itself, and `streamctl` catches it last: see entry.py."""
    return signal.SIGTERM in signals_of(run.process.pid, "SigCgt")


def dropped(run: Run) -> bool:
    """Python may drop a KeyboardInterrupt before our first line, and says so: in callbacks of imports, in what it reads of .pth files."""
    return "KeyboardInterrupt" in run.output and "ignored" in run.output


def wait_for(stretch: str, run: Run, ledger: Ledger, rng: random.Random) -> None:
    """Until a random moment in a stretch of the run, or a little after it."""
    if stretch == "check":
        run.until("signals to be caught", lambda: listens(run))
    elif stretch == "start":
        run.until("the first process", lambda: ": starting" in run.output)
    elif stretch == "work":
        run.until("the first packets", lambda: len(ledger.lines()) > 0)
    time.sleep(rng.uniform(0, 0.05 if stretch == "interpreter" else 0.6))
    run.see_memory()


def one_signal(run: Run, rng: random.Random) -> str:
    """Send it, and again at once in some cases; which it was."""
    number, twice = rng.choice([signal.SIGTERM, signal.SIGINT]), rng.random() < 0.25
    how = f"{number.name}{' twice' if twice else ''}"
    ours = listens(run)
    run.process.send_signal(number)
    if twice:
        time.sleep(rng.uniform(0, 0.05))
        run.process.send_signal(number)
    ignored = ""
    if not ours:
        run.until("Python to end, or to have dropped the signal", lambda: run.process.poll() is not None or (dropped(run) and listens(run)))
        ignored = run.output if dropped(run) else ""
        if run.process.poll() is None:  # whoever has pressed Ctrl-C presses it again
            run.process.send_signal(number)
    status = run.process.wait(PATIENCE_S)
    # Asked to end before it had begun it says nothing; as soon as it has said or made anything it ends as a run that was stopped.
    clean = (0,) if run.output.removeprefix(ignored) else (0, 128 + number)
    if ours and (status not in clean or "Traceback" in run.output):
        raise Broken(f"{how}: ended with {status}:\n{run.output[-3000:]}")
    if not ours and status not in (*clean, *BEFORE_OUR_FIRST_LINE):
        raise Broken(f"{how} before signals were caught: ended with {status}:\n{run.output[-3000:]}")
    return how if ours else "before the first line"


def signals(seed: int) -> dict[str, int]:
    rng, counts = random.Random(seed), dict[str, int]()
    with new_box() as box:
        ledger = Ledger(box.folder / "sink.jsonl")
        for turn in range(SIGNALS // AT_ONCE):
            run = Run(box, "ending", SPEC, seed)
            stretch = STRETCHES[turn % len(STRETCHES)]
            wait_for(stretch, run, ledger, rng)
            how = one_signal(run, rng)
            if stretch != "interpreter" and how == "before the first line":
                raise Broken("it had caught signals and no longer does")
            run.nothing_left()
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
    with ThreadPoolExecutor(AT_ONCE) as pool:
        found = list(pool.map(signals, range(AT_ONCE)))
    print(f"{SIGNALS} signals: {found}")
    assert sum(row["arrived"] for row in found) > 0
