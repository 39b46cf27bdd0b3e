"""Runs points: every program in turn, then all again, so that what else the machine does falls on all of them."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from streamcore_bench.environments import Peer
from streamcore_bench.points import Options, Point, takers
from streamcore_bench.programs import CannotDo, Failed, Stop
from streamcore_bench.results import OURS, Results

FAILURES_MAX = 2  # of one program at one point; then it is left out there


@dataclass
class Progress:
    """What is at work, and how much of all the turns is done. `show` gets the line, empty when all is over."""

    turns: int
    show: Callable[[str], None]

    def __post_init__(self) -> None:
        self._done, self._began_s = 0, time.monotonic()

    def turn(self, what: str) -> None:
        left = ""
        if self._done > 2:
            left_s = (time.monotonic() - self._began_s) / self._done * (self.turns - self._done)
            left = f", about {left_s / 60:.0f} min left" if left_s >= 90 else f", about {left_s:.0f} s left"
        self.show(f"{what} ({self._done + 1} of {self.turns}{left})")
        self._done += 1

    def skip(self, turns: int) -> None:
        self.turns -= turns


@dataclass
class Rounds:
    """`say` gets one line for whatever could not be measured."""

    results: Results
    peers: list[Peer]
    options: Options
    stop: Stop
    say: Callable[[str], None]

    def run(self, plan: Sequence[tuple[str, Point]], show: Callable[[str], None]) -> list[str]:
        """Measures all points. Returns those that our side failed at. Raises Stopped; what was measured is in the results."""
        per_point = 1 + len(self.peers)
        self._rounds = 1 + self.results.repeat
        progress = Progress(sum((per_point + point.memcpy) * self._rounds for _, point in plan), show)
        try:
            return [f"{case} {point.name}" for case, point in plan if not self._point(case, point, progress)]
        finally:
            show("")

    def _point(self, case: str, point: Point, progress: Progress) -> bool:
        """True if our side did its work."""
        left = takers(point, self.peers, self.stop, self.options)
        cold, failures = {taker.who for taker in left}, dict.fromkeys((taker.who for taker in left), 0)
        for number in range(self._rounds):
            for taker in tuple(left):
                progress.turn(f"{case} {point.name}: {taker.who}, " + (f"round {number} of {self._rounds - 1}" if number else "warm-up"))
                try:
                    if taker.who in cold:
                        taker.warm_up()
                        cold.discard(taker.who)
                    if number:
                        for who, found in taker.take().items():
                            self.results.add(case, point.name, who, found)
                except (CannotDo, Failed) as error:
                    failures[taker.who] += 1
                    if isinstance(error, Failed):
                        # Of another program one line; of ours all that it said.
                        text = str(error) if taker.who == OURS else str(error).splitlines()[0]
                        self.say(f"{case} {point.name}: {taker.who} failed: {text}")
                    if isinstance(error, CannotDo) or failures[taker.who] == FAILURES_MAX:
                        left.remove(taker)
                        progress.skip(self._rounds - 1 - number)
        self.results.versions |= {peer.name: peer.version for peer in self.peers if peer.version}
        return not failures[OURS]
