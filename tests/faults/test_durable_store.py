"""kill -9 and power cuts against the durable store; tools/durable does the same with larger numbers."""

from __future__ import annotations

import json
import random
import subprocess
import sys
from pathlib import Path

import pytest
import store_cuts

TESTS = Path(__file__).resolve().parents[1]
SYNCS = ("commit", "pipelined")


def _cut_often(folder: Path, steps: list[store_cuts.Step], sync: str, cuts: int) -> None:
    for number in range(cuts):
        chance = random.Random(number)
        store_cuts.check(folder, steps, chance.randrange(1, len(steps) + 1), chance, sync)


@pytest.mark.slow
@pytest.mark.timeout(600)
@pytest.mark.parametrize("sync", SYNCS)
def test_a_killed_process_loses_repeats_and_reorders_nothing_that_was_durable(sync):
    command = [sys.executable, TESTS / "store_kills.py", "--cycles", "120", "--sync", sync]
    done = subprocess.run(command, capture_output=True, text=True, timeout=580)
    assert (done.returncode, done.stderr) == (0, "")
    assert json.loads(done.stdout)["records"] > 1000


@pytest.mark.skipif(store_cuts.compiler() is None, reason="the recorder of writes needs a C compiler")
@pytest.mark.parametrize("sync", SYNCS)
def test_a_power_cut_loses_nothing_that_was_durable_and_corrupts_nothing(sync, tmp_path):
    steps = store_cuts.record(tmp_path, sync, seed=3, rounds=60)
    _cut_often(tmp_path, steps, sync, 150)


@pytest.mark.skipif(store_cuts.compiler() is None, reason="the recorder of writes needs a C compiler")
def test_a_store_that_claims_too_much_is_found_out(tmp_path):
    # If this passes by itself, the cuts above prove nothing.
    steps = store_cuts.record(tmp_path, "pipelined", 3, 60, "--early")
    with pytest.raises(store_cuts.Broken, match="lost, though they were durable"):
        _cut_often(tmp_path, steps, "pipelined", 300)
