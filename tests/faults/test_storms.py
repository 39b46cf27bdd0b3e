"""A few storms of tools/faults, so that what it checks holds for every change: random graphs, random faults, every way to end a run."""

from __future__ import annotations

from collections import Counter
from concurrent.futures import ThreadPoolExecutor

import pytest
from boxes import new_box
from storm_case import Outcome, Storm

pytestmark = [pytest.mark.slow, pytest.mark.timeout(300)]
AT_ONCE, SEED, CASES = 2, 2026, 8  # another seed by tools/faults


def play(case: int) -> Outcome:
    with new_box() as box:
        return Storm(box, f"{SEED}/{case}").play()


def test_what_was_sent_arrives_through_storms_of_faults():
    with ThreadPoolExecutor(AT_ONCE) as pool:
        outcomes = list(pool.map(play, range(CASES)))
    counts: Counter[str] = sum((outcome.counts for outcome in outcomes), Counter())
    print(f"{CASES} storms of seed {SEED}: {dict(counts)}")
    assert [f"case {outcome.case}: {outcome.broken}" for outcome in outcomes if outcome.broken] == []
    assert counts["packets verified"] > 0 and sum(count for what, count in counts.items() if what.startswith("SIGKILL")) > CASES
