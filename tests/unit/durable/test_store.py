"""The store of a durable queue: what it holds, in which order it hands it out, what becomes of it."""

from __future__ import annotations

import fcntl
import os
import subprocess
import sys

import pytest

from streamcore.clock import ManualClock
from streamcore.durable import files
from streamcore.durable.options import BYTES_MIN, Options
from streamcore.durable.record import Entry, Head
from streamcore.durable.store import DurableStore
from streamcore.errors import ConfigError, PayloadError, StoreError, StoreLocked


def entry(number: int, key: str = "", nbytes: int = 20, kind: str = "event") -> Entry:
    return Entry(number.to_bytes(16, "big"), number, Head(kind, "source", "bytes", key), b"%d" % number + b"." * nbytes)


def numbers(deliveries) -> list[int]:
    return [delivery.record.wall_ns for delivery in deliveries]


@pytest.fixture
def clock():
    return ManualClock(10**18)


@pytest.fixture
def opened(tmp_path, clock):
    """Opens the store again and again, closed first as an orderly process does."""
    stores = []

    def reopen(**options) -> DurableStore:
        while stores:
            stores.pop().close()
        stores.append(DurableStore(tmp_path / "queue", Options(**{"max_bytes": 16 << 20} | options), clock))
        return stores[-1]

    yield reopen
    for store in stores:
        store.close()


def test_records_come_out_in_order_whole_and_once(opened):
    store = opened()
    assert store.append([entry(n) for n in range(1, 6)]) == 5
    first = store.deliver(3)
    assert numbers(first) == [1, 2, 3]
    assert first[0].record.payload == entry(1).payload and first[0].record.head == entry(1).head
    assert [(d.record.sequence, d.attempt, d.redelivered, d.replayed) for d in first] == [(n, 1, False, False) for n in (1, 2, 3)]
    assert numbers(store.deliver(9)) == [4, 5]
    assert store.deliver(9) == [] and store.in_flight == store.waiting == 5


def test_what_was_not_acknowledged_comes_again_after_a_restart_and_says_so(opened):
    store = opened()
    store.append([entry(n) for n in range(1, 6)])
    for delivery in store.deliver(4):
        if delivery.record.wall_ns != 2:
            store.ack(delivery.record.sequence)
    store.commit()
    again = opened().deliver(9)
    assert numbers(again) == [2, 5]
    assert again[0].redelivered


def test_a_record_that_was_never_handed_out_is_not_flagged(opened):
    opened().append([entry(1)])
    assert [d.redelivered for d in opened().deliver(9)] == [False]
    assert [d.redelivered for d in opened().deliver(9)] == [True]


def test_sequences_go_on_after_everything_was_acknowledged(opened):
    store = opened()
    store.append([entry(1)])
    store.ack(store.deliver(1)[0].record.sequence)
    store = opened()
    store.append([entry(2)])
    assert [d.record.sequence for d in store.deliver(9)] == [2]


def test_a_record_that_failed_holds_its_queue_up_until_it_is_handed_out_again(opened, clock):
    store = opened()
    store.append([entry(n) for n in range(1, 5)])
    store.deliver(2)
    store.nack(1, delay_s=5)
    store.ack(2)
    assert store.deliver(9) == [] and store.due_ns == clock.now_ns + 5 * 10**9
    clock.advance(5)
    again = store.deliver(9)
    assert numbers(again) == [1, 3, 4]
    assert (again[0].attempt, again[0].redelivered) == (2, True)


def test_with_keys_only_the_records_of_that_key_wait(opened, clock):
    store = opened()
    store.append([entry(1, "a"), entry(2, "b"), entry(3, "a"), entry(4, "b"), entry(5, "a")])
    assert numbers(store.deliver(2)) == [1, 2]
    store.nack(1, delay_s=5)
    assert numbers(store.deliver(9)) == [4]
    clock.advance(5)
    assert numbers(store.deliver(9)) == [1, 3, 5]
    store.nack(1, delay_s=1)
    store.nack(3, delay_s=2)
    clock.advance(1)
    assert numbers(store.deliver(9)) == [1]


def test_failures_are_counted_across_restarts_and_the_last_makes_a_dead_letter(opened):
    opened(max_attempts=3).append([entry(1), entry(2)])
    for attempt in (1, 2, 3):
        store = opened(max_attempts=3)
        assert [(d.record.wall_ns, d.attempt) for d in store.deliver(1)] == [(1, attempt)]
        store.nack(1, reason="503")
    assert numbers(store.deliver(9)) == [2]
    store.commit()
    assert (store.counters.dead, store.counters.failed, store.waiting) == (1, 3, 1)


def test_a_permanent_failure_is_a_dead_letter_at_once_and_holds_nobody_up(opened):
    store = opened()
    store.append([entry(1), entry(2)])
    store.deliver(1)
    store.nack(1, reason="400", permanent=True)
    assert numbers(store.deliver(9)) == [2]


def test_an_answer_to_what_is_not_in_flight_means_nothing(opened):
    store = opened()
    store.append([entry(1)])
    store.ack(1)
    store.nack(1)
    store.nack(7)
    assert numbers(store.deliver(9)) == [1]
    store.ack(1)
    store.ack(1)
    store.commit()
    store.ack(1)
    store.commit()
    assert (store.waiting, store.counters.acknowledged) == (0, 1)


def test_an_acknowledgement_that_is_not_committed_is_not_handed_out_again_by_this_process(opened, clock):
    store = opened()
    store.append([entry(1, "a"), entry(2, "b")])
    store.deliver(2)
    store.nack(1)
    store.ack(2)  # stands in the table until the next commit, and the retry begins to look from 1 on
    assert numbers(store.deliver(9)) == [1]


def test_an_id_is_stored_once_within_its_window(opened, clock):
    store = opened(dedup_window_s=60)
    assert store.append([entry(1), entry(1), entry(2)]) == 3
    store = opened(dedup_window_s=60)
    assert store.append([entry(2)]) == 1
    assert (store.counters.duplicates, store.waiting) == (2, 2)
    clock.advance(61)
    store.append([entry(1)])
    assert store.waiting == 3


def test_no_more_than_dedup_max_ids_are_kept(opened):
    store = opened(dedup_max=10)
    for n in range(30):
        store.append([entry(n)])
    store.append([entry(5), entry(29)])
    assert (store.counters.duplicates, store.waiting) == (1, 31)


def test_retained_records_are_given_up_by_room_and_by_age(opened, clock):
    store = opened(retain_bytes=1 << 20, retain_s=100)
    for n in range(300):
        store.append([entry(n, nbytes=10_000)])
        store.ack(store.deliver(1)[0].record.sequence)
    store.commit()
    assert (1 << 20) - 20_000 < store.counters.retained_bytes <= 1 << 20
    kept = len(store.select(lambda record: True))
    assert kept == store.counters.retained_bytes // (store.counters.used_bytes // kept)
    clock.advance(101)
    store.commit()
    assert (store.counters.retained_bytes, store.counters.used_bytes) == (0, 0)


def test_what_is_retained_can_be_delivered_again_by_time_kind_key_source_and_sequence(opened):
    store = opened(retain_bytes=1 << 20)
    store.append([entry(n, key="ab"[n % 2], kind="xyz"[n % 3]) for n in range(1, 13)])
    for delivery in store.deliver(99):
        store.ack(delivery.record.sequence)
    store.commit()
    store.append([entry(50)])
    chosen = store.select(lambda r: r.head.key == "b" and r.head.kind == "y" and 1 <= r.wall_ns <= 10 and r.head.source_id == "source")
    store.replay(chosen)
    again = store.deliver(99)
    assert numbers(again) == [1, 7, 50]
    assert [d.replayed for d in again] == [True, True, False] and again[0].record.id16 == entry(1).id16
    store.ack(1)
    store.commit()
    assert 1 in store.select(lambda record: True)


def test_dead_letters_are_kept_until_a_bound_that_was_asked_for(opened, clock):
    store = opened()
    store.append([entry(n, nbytes=10_000) for n in range(1, 11)])
    for delivery in store.deliver(99):
        store.nack(delivery.record.sequence, permanent=True)
        store.commit()
        clock.advance(10)
    one = store.counters.used_bytes // 10
    assert store.counters.dead_bytes == store.counters.used_bytes
    store = opened(dead_max_bytes=7 * one)
    assert (store.counters.removed, store.counters.dead_bytes) == (3, 7 * one)
    store = opened(dead_max_s=45)
    assert (store.counters.removed, store.counters.dead_bytes) == (6, 4 * one)
    assert store.retry(range(1, 99)) == 4 and store.counters.dead_bytes == 0
    assert [(d.record.sequence, d.attempt, d.redelivered, d.replayed) for d in store.deliver(99)] == [
        (n, 1, True, False) for n in (7, 8, 9, 10)
    ]


def test_what_is_dropped_is_gone_in_whatever_state_it_was_and_its_answer_means_nothing(opened):
    store = opened(retain_bytes=1 << 20, max_attempts=1)
    store.append([entry(n) for n in range(1, 8)])
    store.deliver(4)
    store.ack(1)
    store.nack(2)
    assert store.drop([1, 2, 3, 6, 99]) == 4
    store.ack(3)
    store.nack(4)
    assert numbers(store.deliver(99)) == [5, 7]
    assert (store.counters.removed, store.counters.acknowledged, store.in_flight) == (4, 1, 2)
    store = opened(retain_bytes=1 << 20)
    assert store.findings == [] and numbers(store.deliver(99)) == [5, 7]


@pytest.mark.parametrize("full", ["block", "drop_new", "drop_oldest_acked"])
def test_a_full_store_does_what_its_policy_says_and_never_raises(opened, full):
    store = opened(max_bytes=BYTES_MIN, full=full, retain_bytes=BYTES_MIN // 2, dedup_max=0)
    batch = [entry(n, nbytes=50_000) for n in range(40)]
    assert store.append(batch) == 40
    for delivery in store.deliver(30):
        store.ack(delivery.record.sequence)
    store.commit()
    stored = sum(store.append([entry(n, nbytes=50_000)]) for n in range(100, 200))
    used = store.counters.used_bytes
    assert used <= store.options.records_bytes_max
    if full == "block":
        assert stored < 30 and store.full == "max_bytes"
    elif full == "drop_new":
        assert stored == 100 and store.counters.dropped > 70
    else:
        assert 45 < stored < 60 and store.counters.retained_bytes == 0 and store.full
    for delivery in store.deliver(999):
        store.ack(delivery.record.sequence)
    store.commit()
    assert store.append([entry(999, nbytes=50_000)]) == 1
    assert os.path.getsize(store.path / "data.mdb") <= BYTES_MIN


def test_churn_does_not_let_the_file_grow(opened):
    store = opened(max_bytes=BYTES_MIN, dedup_max=100)
    for n in range(3000):
        assert store.append([entry(n, nbytes=(n * 7919) % 60_000)]) == 1, n
        store.ack(store.deliver(1)[0].record.sequence)
    assert os.path.getsize(store.path / "data.mdb") <= BYTES_MIN


def test_a_payload_that_can_never_fit_is_refused(opened):
    with pytest.raises(PayloadError, match="raise max_bytes"):
        opened(max_bytes=BYTES_MIN).append([entry(1, nbytes=BYTES_MIN)])


def test_pipelined_is_durable_one_commit_later_or_when_synced(opened):
    store = opened(sync="pipelined")
    store.append([entry(1)])
    first = store.counters.commits
    assert store.durable_commits == first - 1
    store.append([entry(2)])
    assert store.durable_commits == first
    store.sync()
    assert store.durable_commits == first + 1


def test_one_process_owns_a_store_and_is_named(opened, tmp_path):
    opened()
    with pytest.raises(StoreLocked, match=f"process {os.getpid()} owns it"):
        DurableStore(tmp_path / "queue")


def test_no_descriptor_of_a_store_is_inherited(opened, tmp_path):
    opened()
    program = "import os, sys; sys.stdout.write(str([os.path.realpath(f'/proc/self/fd/{fd}') for fd in os.listdir('/proc/self/fd')]))"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, close_fds=False, timeout=60)
    assert str(tmp_path) not in done.stdout, done.stdout


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        ({"max_bytes": 1}, "max_bytes"),
        ({"full": "explode"}, "drop_new"),
        ({"sync": "never"}, "pipelined"),
        ({"retain_bytes": 1 << 30}, "half"),
    ],
)
def test_options_that_make_no_sense_are_refused(wrong, said):
    with pytest.raises(ConfigError, match=said):
        Options(**{"max_bytes": 1 << 30} | wrong)


@pytest.mark.parametrize("place", ["note.txt", "note.txt/queue"])
def test_a_path_that_is_no_folder_is_said_and_left_as_it_is(tmp_path, place):
    (tmp_path / "note.txt").write_text("mine")
    with pytest.raises(StoreError, match=f"store .*/{place}: found a file there, expected a folder, or nothing"):
        DurableStore(tmp_path / place)
    assert (tmp_path / "note.txt").read_text() == "mine"


def test_who_asks_for_the_owner_does_not_keep_one_from_becoming_it(tmp_path, monkeypatch):
    DurableStore(tmp_path / "queue").close()
    asking = os.open(tmp_path / "queue" / files.OWNER, os.O_RDONLY)
    fcntl.flock(asking, fcntl.LOCK_SH)
    monkeypatch.setattr(files.Clock, "sleep", lambda seconds: fcntl.flock(asking, fcntl.LOCK_UN))
    DurableStore(tmp_path / "queue").close()
    os.close(asking)
