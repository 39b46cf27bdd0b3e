"""Every order in which the steps of one edge can happen, tried out on the real EdgeCredit.

One producer, one consumer, and between them two FIFO connections. In each state every step that could come next is taken: the producer
offers a packet, a DATA or RECEIPT message arrives, the consumer takes a packet, completes any that it has open, or reports what it has
not yet reported. Real consumers report at certain moments only (half the depth, WANT, idle); here they may do so at any, so whatever they
do is among what is tried. States are visited once; after each step the promises of the edge are checked against plain sets.
"""

from __future__ import annotations

import pickle
from collections.abc import Iterator
from dataclasses import dataclass, field, replace

from streamcore.wire.credit import BLOCK, DROP, DROP_NEW, DROP_OLDEST, KEEP, LATEST, SAMPLE, SEND, WAIT, EdgeCredit
from streamcore.wire.messages import OK

SAMPLE_RATE = 1.0
OFFER_EVERY_NS = 400_000_000  # of a sampled edge: five packets in two seconds


class Violation(AssertionError):
    """A promise that an order of steps has broken; the text holds the steps."""


@dataclass(frozen=True)
class State:
    """Where every packet is, by its sequence; `credit` is the pickled EdgeCredit, so that states can be told apart and taken up again."""

    credit: bytes
    offered: int = 0
    data: tuple[int, ...] = ()  # on the way to the consumer
    waiting: tuple[int, ...] = ()  # arrived, not taken
    open: tuple[int, ...] = ()  # taken, not completed
    unreported: tuple[int, ...] = ()  # completed, the producer does not know
    taken_upto: int = 0
    told_upto: int = 0
    receipts: tuple[tuple[int, tuple[int, ...]], ...] = ()  # on the way to the producer
    finished: frozenset[int] = frozenset()  # the producer knows
    dropped: frozenset[int] = frozenset()
    kept: tuple[int, ...] = ()


@dataclass
class Explorer:
    """All histories of `packets` packets on one edge. `run` gives the number of states and the final ones."""

    policy: str
    depth: int
    window: int
    packets: int = 5
    ends: list[State] = field(default_factory=list)
    trace: list[str] = field(default_factory=list)

    def run(self) -> int:
        kept_max = {DROP_OLDEST: self.depth, LATEST: 1}.get(self.policy, 0)
        credit = EdgeCredit(self.policy, self.depth, self.window, kept_max, SAMPLE_RATE if self.policy == SAMPLE else 0.0)
        first = State(pickle.dumps(credit))
        seen, stack = {first}, [(first, self.steps(first))]
        while stack:
            state, steps = stack[-1]
            for name, following in steps:
                if following not in seen:
                    seen.add(following)
                    self.trace.append(name)
                    self.check(following)
                    stack.append((following, self.steps(following)))
                    break
            else:
                stack.pop()
                if self.trace:
                    self.trace.pop()
        return len(seen)

    def fail(self, what: str, state: State) -> None:
        raise Violation(f"{self.policy}, depth {self.depth}, window {self.window}: {what}\n  {' '.join(self.trace)}\n  {state}")

    # --- what can happen next

    def steps(self, state: State) -> Iterator[tuple[str, State]]:
        possible = 0
        for name, following in self._steps(state):
            possible += 1
            yield name, following
        if not possible:
            self.ends.append(state)

    def _steps(self, state: State) -> Iterator[tuple[str, State]]:
        if state.offered < self.packets:
            yield from self.offer(state)
        if state.data:
            yield "arrive", replace(state, data=state.data[1:], waiting=(*state.waiting, state.data[0]))
        if state.waiting:
            taken = state.waiting[0]
            yield "take", replace(state, waiting=state.waiting[1:], open=(*state.open, taken), taken_upto=taken + 1)
        for done in state.open:
            left = tuple(sequence for sequence in state.open if sequence != done)
            yield f"complete{done}", replace(state, open=left, unreported=(*state.unreported, done))
        if state.unreported or state.taken_upto > state.told_upto:
            sent = (*state.receipts, (state.taken_upto, state.unreported))
            yield "report", replace(state, unreported=(), told_upto=state.taken_upto, receipts=sent)
        if state.receipts:
            yield "receipt", self.receive(state)

    def offer(self, state: State) -> Iterator[tuple[str, State]]:
        credit = pickle.loads(state.credit)
        sequence, credit_was_there = state.offered, credit.has_credit
        verdict = credit.decide(sequence * OFFER_EVERY_NS)
        if verdict == WAIT:
            if self.policy != BLOCK or credit_was_there:
                self.fail(f"packet {sequence} was made to wait", state)
            return
        changes: dict[str, object] = {"offered": sequence + 1}
        if verdict == SEND:
            if not credit_was_there:
                self.fail(f"packet {sequence} was sent without credit", state)
            credit.on_sent(sequence)
            changes["data"] = (*state.data, sequence)
        elif verdict == KEEP:
            displaced = credit.on_kept((0, sequence))
            changes["kept"] = tuple(row[1] for row in credit.kept)
            if displaced is not None:
                changes["dropped"] = state.dropped | {displaced[1]}
        else:
            self.check_drop(state, verdict, credit_was_there)
            credit.on_dropped()
            changes["dropped"] = state.dropped | {sequence}
        yield f"offer{sequence}:{verdict}", replace(state, credit=pickle.dumps(credit), **changes)

    def receive(self, state: State) -> State:
        credit = pickle.loads(state.credit)
        taken_upto, completed = state.receipts[0]
        credit.on_taken(taken_upto)
        for sequence in completed:
            if not credit.on_completed(sequence, OK):
                self.fail(f"packet {sequence} was completed and not counted", state)
        sent = []
        while (row := credit.next_kept()) is not None:
            sent.append(row[1])
        return replace(
            state,
            credit=pickle.dumps(credit),
            receipts=state.receipts[1:],
            finished=state.finished | set(completed),
            data=(*state.data, *sent),
            kept=tuple(row[1] for row in credit.kept),
        )

    # --- the promises

    def check_drop(self, state: State, verdict: str, credit_was_there: bool) -> None:
        if verdict != DROP or self.policy in (BLOCK, DROP_OLDEST, LATEST):
            self.fail(f"packet {state.offered} got the verdict {verdict}", state)
        if self.policy == DROP_NEW and credit_was_there:
            self.fail(f"packet {state.offered} was dropped although there was credit", state)

    def check(self, state: State) -> None:
        credit = pickle.loads(state.credit)
        untaken = len(state.data) + len(state.waiting)
        under_way = untaken + len(state.open) + len(state.unreported) + sum(len(done) for _, done in state.receipts)
        if untaken > self.depth or under_way > self.window:
            self.fail(f"{untaken} untaken, {under_way} under way", state)
        places = [*state.data, *state.waiting, *state.open, *state.unreported, *state.finished, *state.dropped, *state.kept]
        places += [sequence for _, done in state.receipts for sequence in done]
        if sorted(places) != list(range(state.offered)):
            self.fail("a packet is lost, or in two places", state)
        counts = (credit.sent, credit.completed, credit.dropped, credit.failed, credit.in_flight)
        if counts != (state.offered, len(state.finished), len(state.dropped), 0, under_way + len(state.kept)):
            self.fail(f"the books say {counts}", state)
        in_order = [*state.waiting, *state.data, *state.kept]
        if in_order != sorted(in_order) or (in_order and in_order[0] < state.taken_upto):
            self.fail("packets overtook one another", state)
        if self.policy in (DROP_OLDEST, LATEST) and state.dropped and state.kept and max(state.dropped) > min(state.kept):
            self.fail("a newer packet was dropped for an older one", state)
        if state.kept and not untaken and under_way < self.window and not state.receipts and state.told_upto == state.taken_upto:
            self.fail("packets are kept although nothing is in the way", state)
