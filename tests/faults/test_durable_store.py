"""kill -9 and power cuts against the durable store; tools/durable does the same with larger numbers."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import store_cuts

TESTS = Path(__file__).resolve().parents[1]
SYNCS = ("commit", "pipelined")


@pytest.mark.slow
@pytest.mark.timeout(600)
@pytest.mark.parametrize("sync", SYNCS)
def test_a_killed_process_loses_repeats_and_reorders_nothing_that_was_durable(sync):
    command = [sys.executable, TESTS / "store_kills.py", "--cycles", "1000", "--life", "0.02", "--sync", sync]
    done = subprocess.run(command, capture_output=True, text=True, timeout=580)
    assert (done.returncode, done.stderr) == (0, "")
    assert json.loads(done.stdout)["records"] > 10_000


@pytest.mark.slow
@pytest.mark.timeout(600)
@pytest.mark.skipif(store_cuts.compiler() is None, reason="the recorder of writes needs a C compiler")
@pytest.mark.parametrize("sync", SYNCS)
def test_a_power_cut_loses_nothing_that_was_durable_and_corrupts_nothing(sync):
    store_cuts.run(sync, seed=3, cuts=3000, per_record=300, rounds=60)


@pytest.mark.skipif(store_cuts.compiler() is None, reason="the recorder of writes needs a C compiler")
def test_a_store_that_claims_too_much_is_found_out():
    # If this passes by itself, the cuts above prove nothing.
    with pytest.raises(store_cuts.Broken, match="lost, though they were durable") as caught:
        store_cuts.run("pipelined", 3, 300, 300, 60, early=True)
    shutil.rmtree(str(caught.value).rpartition(" ")[2])


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_damage_is_noticed_put_aside_and_never_ends_the_owner():
    done = subprocess.run([sys.executable, TESTS / "store_damage.py"], capture_output=True, text=True, timeout=580)
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    assert (found["flips"], found["truncations"], found["failures"]) == (1000, 300, 0)


def test_a_queue_that_never_stands_still_keeps_the_size_of_its_file():
    done = subprocess.run(
        [sys.executable, TESTS / "store_churn.py", "--through", "300MiB", "--keep", "8MiB"], capture_output=True, text=True, timeout=100
    )
    assert done.returncode == 0, done.stderr


@pytest.mark.slow
@pytest.mark.timeout(300)
@pytest.mark.parametrize(
    "options",
    [
        ["--events", "20000", "--factor", "120", "--disturbed", "8"],
        ["--events", "3000", "--factor", "60", "--disturbed", "4", "--calm", "0.4"],  # most kills while the sink turns everything away
    ],
    ids=["many events", "many kills"],
)
def test_outages_and_kills_leave_each_event_at_the_server_once_and_in_order(options):
    done = subprocess.run([sys.executable, TESTS / "store_soak.py", *options], capture_output=True, text=True, timeout=280)
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["kills"] > 3
