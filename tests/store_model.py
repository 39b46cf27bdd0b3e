"""A durable store against a dict: any sequence of appends, deliveries, answers, replays, retries, drops, restarts, crashes. By hypothesis.

`tools/durable model --runs 1000` runs more of them than the suite does.
"""

from __future__ import annotations

import argparse
import os
import shutil
import sys
from dataclasses import dataclass

from hypothesis import HealthCheck, Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule, run_state_machine_as_test
from store_kills import examine_here, fast_folder

from streamcore.clock import ManualClock
from streamcore.durable import opening
from streamcore.durable.options import Options
from streamcore.durable.record import Entry, Head
from streamcore.durable.store import DurableStore

WINDOW_S, MAX_ATTEMPTS = 60, 3
WAITING, IN_FLIGHT, DELAYED, ACKED, DEAD = "waiting", "in flight", "delayed", "acked", "dead"
SECONDS = st.sampled_from([0, 0, 1, 5])
MOST = st.integers(1, 10)
ANSWERS = st.sampled_from(["ack", "ack", "ack", "now", "soon", "later", "never"])
KEYS = st.sampled_from(["", "", "a", "b", "c"])


@dataclass
class Item:
    """What the model knows of a record. `done` and `failed` are answers that the store has and has not written yet."""

    sequence: int
    name: int
    key: str
    state: str = WAITING
    failures: int = 0
    written_failures: int = 0
    unwritten: str = ""
    due_ns: int = 0
    replayed: bool = False
    retried: bool = False
    life: int = 0  # how often it was queued again


def payload_of(name: int) -> bytes:
    return b"%d" % name * (1 + name % 700)


class StoreMachine(RuleBasedStateMachine):
    @initialize(pipelined=st.booleans())
    def start(self, pipelined: bool) -> None:
        opening.examine = examine_here
        self.folder = fast_folder("sc-model-")
        self.clock = ManualClock(10**18)
        self.options = Options(
            max_bytes=32 << 20,
            sync="pipelined" if pipelined else "commit",
            retain_bytes=8 << 20,
            dedup_window_s=WINDOW_S,
            max_attempts=MAX_ATTEMPTS,
        )
        self.items: dict[int, Item] = {}
        self.seen_ns: dict[int, int] = {}
        self.turns: dict[tuple[int, int], tuple[int, int]] = {}
        self.next_sequence = 1
        self.store = DurableStore(self.folder / "queue", self.options, self.clock)

    def teardown(self) -> None:
        if hasattr(self, "store"):
            self.store.close()
            shutil.rmtree(self.folder)

    def written(self) -> None:
        """The store has made a commit."""
        for item in self.items.values():
            if item.unwritten:
                item.state, item.unwritten = item.unwritten, ""
            item.written_failures = item.failures

    # Rules do several things each: of many small ones hypothesis leaves some out of every run, and then little happens.

    @rule(names=st.lists(st.tuples(st.integers(0, 200), KEYS), min_size=1, max_size=12), most=MOST)
    def flow(self, names: list[tuple[int, str]], most: int) -> None:
        self.append(names)
        self.deliver(most)

    @rule(
        answers=st.lists(st.tuples(st.integers(0, 99), ANSWERS), min_size=1, max_size=8), seconds=st.sampled_from([0, 0, 1, 5]), most=MOST
    )
    def settle(self, answers: list[tuple[int, str]], seconds: int, most: int) -> None:
        for which, answer in answers:
            if answer == "ack":
                self.ack(which)
            else:
                self.nack(which, {"now": 0, "soon": 1, "later": 5}.get(answer, 0), answer == "never")
        self.clock.advance(seconds)
        self.deliver(most)

    def append(self, names: list[tuple[int, str]]) -> None:
        entries = [Entry(name.to_bytes(16, "big"), name, Head("event", "s", "bytes", key), payload_of(name)) for name, key in names]
        assert self.store.append(entries) == len(entries)
        self.written()
        for name, key in names:
            seen_ns = self.seen_ns.get(name)
            if seen_ns is None or self.clock.now_ns - seen_ns > WINDOW_S * 10**9:
                self.items[self.next_sequence] = Item(self.next_sequence, name, key)
                self.seen_ns[name] = self.clock.now_ns
                self.next_sequence += 1

    def deliver(self, most: int) -> None:
        expected = self.expected(most)
        found = self.store.deliver(most)
        assert [item.record.sequence for item in found] == [item.sequence for item in expected]
        for delivery, item in zip(found, expected, strict=True):
            assert delivery.record.payload == payload_of(item.name) and delivery.record.head.key == item.key
            assert (delivery.attempt, delivery.replayed) == (item.failures + 1, item.replayed)
            assert delivery.redelivered or not (item.failures or item.replayed or item.retried)
            assert self.turns.setdefault((item.sequence, delivery.turn), (item.life, item.failures)) == (item.life, item.failures)

    def expected(self, most: int) -> list[Item]:
        due = [item for item in self.items.values() if item.state == DELAYED and not item.unwritten and item.due_ns <= self.clock.now_ns]
        chosen = sorted(due, key=lambda item: (item.due_ns, item.sequence))[:most]
        for item in chosen:
            item.state = IN_FLIGHT
        stuck = {item.key for item in self.items.values() if item.state == DELAYED}
        for item in sorted(self.items.values(), key=lambda item: item.sequence):
            if len(chosen) < most and item.state == WAITING and item.key not in stuck:
                item.state = IN_FLIGHT
                chosen.append(item)
        return chosen

    def chosen(self, which: int) -> Item | None:
        """Most often one in flight; now and then one whose answer means nothing."""
        flying = [item for item in self.items.values() if item.state == IN_FLIGHT and not item.unwritten]
        candidates = flying if which % 8 else list(self.items.values())
        return candidates[which % len(candidates)] if candidates else None

    def ack(self, which: int) -> None:
        item = self.chosen(which)
        if item is None:
            return
        self.store.ack(item.sequence)
        if item.state == IN_FLIGHT and not item.unwritten:
            item.unwritten = ACKED

    def nack(self, which: int, delay_s: int, permanent: bool) -> None:
        item = self.chosen(which)
        if item is None:
            return
        self.store.nack(item.sequence, delay_s, "no", permanent)
        if item.state == IN_FLIGHT and not item.unwritten:
            item.failures += 1
            if permanent or item.failures >= MAX_ATTEMPTS:
                item.unwritten = DEAD
            else:
                item.state, item.due_ns = DELAYED, self.clock.now_ns + delay_s * 10**9

    @rule()
    def commit(self) -> None:
        self.store.commit()
        self.written()

    @rule(seconds=st.sampled_from([1, 5, WINDOW_S - 1, WINDOW_S + 1]), most=MOST)
    def time_passes(self, seconds: int, most: int) -> None:
        self.clock.advance(seconds)
        self.deliver(most)

    @rule(name=st.integers(0, 60))
    def replay(self, name: int) -> None:
        self.commit()
        chosen = self.store.select(lambda record: record.wall_ns == name)
        assert chosen == [item.sequence for item in self.items.values() if item.state == ACKED and item.name == name]
        self.store.replay(chosen)
        for sequence in chosen:
            item = self.items[sequence]
            item.state, item.failures, item.written_failures, item.replayed, item.life = WAITING, 0, 0, True, item.life + 1

    @rule(which=st.lists(st.integers(0, 99), min_size=1, max_size=4), drop=st.booleans(), most=MOST)
    def amend(self, which: list[int], drop: bool, most: int) -> None:
        names = list(self.items)
        chosen = {names[number % len(names)] for number in which} if names else set()
        done = (self.store.drop if drop else self.store.retry)(chosen)
        self.written()
        changed = [item for item in map(self.items.__getitem__, chosen) if drop or item.state in (DEAD, DELAYED) or self.waits_again(item)]
        assert done == len(changed)
        for item in changed:
            if drop:
                del self.items[item.sequence]
            else:
                item.state, item.failures, item.written_failures, item.retried, item.life = WAITING, 0, 0, True, item.life + 1
        self.deliver(most)

    @staticmethod
    def waits_again(item: Item) -> bool:
        """It has failed before the last restart, which forgets when its retry was due."""
        return item.state == WAITING and item.failures > 0

    @rule(crash=st.booleans())
    def restart(self, crash: bool) -> None:
        if crash:  # what was not committed is forgotten
            self.store._environment.close()
            os.close(self.store._owner)
        else:
            self.store.close()
            self.written()
        for item in self.items.values():
            item.unwritten, item.failures = "", item.written_failures
            if item.state in (IN_FLIGHT, DELAYED):
                item.state = WAITING
        self.store = DurableStore(self.folder / "queue", self.options, self.clock)
        assert self.store.findings == []

    @invariant()
    def it_holds_what_the_model_holds(self) -> None:
        if not hasattr(self, "store"):
            return
        done = [item.unwritten or item.state for item in self.items.values()]
        assert self.store.waiting == len(done) - done.count(ACKED) - done.count(DEAD)
        assert self.store.in_flight == done.count(IN_FLIGHT)
        due = [item.due_ns for item in self.items.values() if item.state == DELAYED]
        assert self.store.due_ns == min(due, default=None)


def run(runs: int, steps: int = 40, shrink: bool = True) -> None:
    phases = [phase for phase in Phase if shrink or phase not in (Phase.shrink, Phase.explain)]
    checks = [HealthCheck.too_slow, HealthCheck.filter_too_much, HealthCheck.data_too_large]
    chosen = settings(max_examples=runs, stateful_step_count=steps, deadline=None, suppress_health_check=checks, phases=phases)
    run_state_machine_as_test(StoreMachine, settings=chosen)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=int, default=1000, help="(default: %(default)s)")
    parser.add_argument("--first", action="store_true", help="end at the first failure; else minutes are spent on making it small")
    given = parser.parse_args()
    run(given.runs, shrink=not given.first)
    sys.stdout.write(f"{given.runs} runs\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
