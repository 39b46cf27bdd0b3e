"""One call of `streamctl bench run` from the plan to the results."""

from __future__ import annotations

import importlib.metadata
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from streamcore import __version__, native
from streamcore_bench import environments
from streamcore_bench.cases import CASES
from streamcore_bench.compiling import compile_inner_loop
from streamcore_bench.environments import Peer
from streamcore_bench.points import Options, Point
from streamcore_bench.programs import Failed, Stop, Stopped
from streamcore_bench.results import OURS, Results, machine
from streamcore_bench.rounds import Rounds


@dataclass
class Outcome:
    """`failed`: the points at which our side did not do its work. `stopped`: the signal that ended it, 0 if none did."""

    results: Results
    failed: list[str] = field(default_factory=list)
    stopped: int = 0


def run(
    cases: Sequence[str],
    peers: Sequence[str],
    repeat: int,
    options: Options,
    date: str,
    say: Callable[[str], None],
    show: Callable[[str], None],
    more: Sequence[tuple[str, Point]] = (),
) -> Outcome:
    """Measure these cases, and `more` points. Returns also when a signal of the user ended it, with what was measured until then."""
    outcome = Outcome(Results(date, machine(), repeat))
    with Stop() as stop:
        try:
            compile_inner_loop(stop, say)
            outcome.results.versions = _versions()
            rounds = Rounds(outcome.results, _ready(peers, stop, say), options, stop, say)
            plan = [(name, point) for name in cases for point in CASES[name].points(options)]
            outcome.failed = rounds.run([*plan, *more], show)
        except Stopped:
            outcome.stopped = stop.signals[0]
    return outcome


def _ready(names: Sequence[str], stop: Stop, say: Callable[[str], None]) -> list[Peer]:
    """The peers whose environment exists or could be made."""
    found = []
    for name in names:
        peer = Peer(name)
        try:
            peer.environment.make(stop, say)
            found.append(peer)
        except Failed as error:
            say(f"{name}: {error}; it is left out")
    return found


def known_peers() -> dict[str, bool]:
    """Name to whether its environment exists."""
    return {name: Peer(name).environment.exists for name in environments.names()}


def _versions() -> dict[str, str]:
    form = "native inner loop" if native.finder.decide() else "pure Python"
    return {OURS: f"{__version__} ({form})", **{name: importlib.metadata.version(name) for name in ("numpy", "pyzmq", "msgspec")}}
