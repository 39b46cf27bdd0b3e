"""What is measured: a case has points, a point has takers, one per program, each of which gives values."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Protocol

from streamcore_bench import flows
from streamcore_bench.environments import Peer
from streamcore_bench.flows import Flow
from streamcore_bench.memcpy import Limit
from streamcore_bench.programs import CannotDo, Stop
from streamcore_bench.results import MEMCPY, OURS
from streamcore_bench.sizes import Size

TIMEOUT_S = 60.0  # of one run, which takes some seconds: a program that hangs must not cost much more than its turn
FLAT_S, PACED_S = 1.3, 2.0  # of a measured part; 60 frames per second give 120 latencies
KEPT_UP = 0.95  # of a pace; whoever is below has its rate shown
COUNT_MIN, COUNT_MAX = 20, 1_000_000
FIRST_BYTES, FIRST_COUNT_MAX = 400_000_000, 4000  # of a warm-up round, which finds out how fast a program is


@dataclass(frozen=True)
class Options:
    """What the user asked for; None is each case's default."""

    sizes: tuple[Size, ...] | None = None
    rates: tuple[float, ...] | None = None
    fanout: tuple[int, ...] | None = None
    hops: tuple[int, ...] | None = None
    quick: bool = False

    def seconds(self, usual: float) -> float:
        """Of a measured part."""
        return usual * 0.25 if self.quick else usual


Found = dict[str, dict[str, float]]  # who: measure: value


class Taker(Protocol):
    """One program at one point."""

    who: str

    def warm_up(self) -> None: ...
    def take(self) -> Found: ...


@dataclass(frozen=True)
class Point:
    """`ours` gives the values of one run. `job`: what the peers are asked, None if they have no such thing. A `flow` is both in one."""

    name: str
    measures: tuple[str, ...]
    flow: Flow | None = None
    ours: Callable[[Stop, Options], Found] | None = None
    job: dict[str, Any] | None = None
    memcpy: bool = False


@dataclass(frozen=True)
class Case:
    name: str
    what: str
    defaults: str
    points: Callable[[Options], list[Point]]


def takers(point: Point, peers: list[Peer], stop: Stop, options: Options) -> list[Taker]:
    """Ours first, then the peers, then the limit: the order of every round."""
    found: list[Taker] = []
    if point.flow:
        found.append(FlowTaker(OURS, point, options, lambda count: flows.run(stop, _flow(point), count, TIMEOUT_S)))
        for peer in peers:
            found.append(FlowTaker(peer.name, point, options, _of_peer(peer, point.flow, stop)))
    elif point.ours:
        found.append(OurTaker(point, stop, options))
        found += [JobTaker(peer, point, stop) for peer in peers]
    if point.memcpy:
        found.append(MemcpyTaker(_flow(point).nbytes, stop, options))
    return found


def _flow(point: Point) -> Flow:
    assert point.flow is not None
    return point.flow


def _of_peer(peer: Peer, flow: Flow, stop: Stop) -> Callable[[int], dict[str, Any]]:
    return lambda count: peer.run(stop, flow.job(count, TIMEOUT_S))


class FlowTaker:
    """Runs a flow with as many packets as the program moves in the time that a measurement should take."""

    def __init__(self, who: str, point: Point, options: Options, run: Callable[[int], dict[str, Any]]) -> None:
        self.who, self._point, self._options, self._run = who, point, options, run
        self._count = COUNT_MIN

    def warm_up(self) -> None:
        flow = _flow(self._point)
        if flow.rate:
            self._run(max(COUNT_MIN, round(flow.rate * 0.3)))
            self._count = max(COUNT_MIN, round(flow.rate * self._options.seconds(PACED_S)))
            return
        first = max(COUNT_MIN, min(FIRST_COUNT_MAX, FIRST_BYTES // flow.nbytes))
        rate = self._run(first)["rate"] / flow.sources
        least = max(COUNT_MIN, 4 * flow.under_way)  # else the clocks of the CPU would see the graph fill and empty, and little more
        self._count = max(least, min(COUNT_MAX, round(rate * self._options.seconds(FLAT_S))))

    def take(self) -> Found:
        found = flows.measures(self._run(self._count))
        shown = {name: found[name] for name in self._point.measures}
        late = found["rate"] < KEPT_UP * _flow(self._point).rate
        return {self.who: shown | ({"rate": found["rate"]} if late else {}) | ({"lost": found["lost"]} if found["lost"] else {})}


class OurTaker:
    """Ours, of a case that is no flow. Its first run is as long as the others: they are lives, not streams."""

    who = OURS

    def __init__(self, point: Point, stop: Stop, options: Options) -> None:
        self._point, self._stop, self._options = point, stop, options

    def warm_up(self) -> None:
        """Nothing: each run starts anew."""

    def take(self) -> Found:
        assert self._point.ours is not None
        return self._point.ours(self._stop, self._options)


class JobTaker:
    """A peer, of a case that is no flow."""

    def __init__(self, peer: Peer, point: Point, stop: Stop) -> None:
        self.who, self._peer, self._point, self._stop = peer.name, peer, point, stop

    def warm_up(self) -> None:
        """Nothing, as ours."""

    def take(self) -> Found:
        if self._point.job is None:
            raise CannotDo(f"{self.who}: this case has no job for other programs")
        found = self._peer.run(self._stop, self._point.job | {"timeout_s": TIMEOUT_S})
        seconds = found["seconds"]
        values = {"seconds": sorted(seconds)[len(seconds) // 2] if isinstance(seconds, list) else seconds}
        return {self.who: values | ({"lost": float(found["lost"])} if "lost" in found else {})}


class MemcpyTaker:
    who = MEMCPY

    def __init__(self, nbytes: int, stop: Stop, options: Options) -> None:
        self._limit, self._stop, self._seconds = Limit(nbytes), stop, options.seconds(0.6)

    def warm_up(self) -> None:
        self._limit.rate(self._stop, self._seconds / 4)

    def take(self) -> Found:
        return {self.who: {"rate": self._limit.rate(self._stop, self._seconds)}}
