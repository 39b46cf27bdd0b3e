"""What happens in a run, numbered from 1: a bounded list of events. Pure; times are handed in.

EVENTS is the contract: a name, once given, keeps its meaning, and whoever reads events may rely on it.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable
from typing import Any, Final, NamedTuple

import msgspec

from streamcore.secret import Masker

INFO, WARNING, ERROR = "info", "warning", "error"
SEVERITIES: Final = (INFO, WARNING, ERROR)  # rising

KEPT_MAX = 2000  # events, of at most some 10 KiB each and mostly 300 bytes: hours of a run in which much goes wrong
DETAIL_CHARS_MAX = 500  # a cause is one line
PATH_CHARS_MAX = 500
READ_BYTES_MAX = 32 * 1024  # of one reading: it has to fit into a control datagram, which takes twice that


class Kind(NamedTuple):
    """severity: unless whoever adds one knows better. about: node, edge, path or run. value: what its number is, or ""."""

    severity: str
    about: str
    value: str
    meaning: str


EVENTS: Final[dict[str, Kind]] = {
    "run_up": Kind(INFO, "run", "", "all nodes are ready and were told to begin"),
    "run_ending": Kind(INFO, "run", "", "it was asked to end, or its stream is at its end; the detail says why"),
    "run_killing": Kind(WARNING, "run", "", "what is left is killed; the detail says why"),
    "run_ended": Kind(INFO, "run", "", "no process is left; the last event of a report and of `events -f`"),
    "run_warning": Kind(WARNING, "run", "", "anything else that should be known, in the words of `streamctl up`"),
    "node_up": Kind(INFO, "node", "", "its process exists"),
    "node_ready": Kind(INFO, "node", "", "it said that it can work"),
    "node_draining": Kind(INFO, "node", "", "its inputs are at their end, its outputs are under way"),
    "node_done": Kind(INFO, "node", "", "everything is completed"),
    "node_stalled": Kind(WARNING, "node", "", "half of `progress_s` has passed without progress"),
    "node_moving": Kind(INFO, "node", "", "it was stalled and gets on again"),
    "node_hung": Kind(ERROR, "node", "", "a clock has run out: its process is killed"),
    "node_restarting": Kind(WARNING, "node", "seconds until its next process", "its process has failed; info if it only ended as asked"),
    "node_failed": Kind(ERROR, "node", "", "it has failed for good: nobody tries again"),
    "node_held": Kind(ERROR, "node", "", "it would have failed for good, and waits to be mended (`up --reload`)"),
    "node_reloaded": Kind(INFO, "node", "", "it works with what has changed (`up --reload`)"),
    "node_paused": Kind(INFO, "node", "", "it begins no further packet"),
    "node_resumed": Kind(INFO, "node", "", "it goes on"),
    "not_reloaded": Kind(WARNING, "run", "", "something has changed and nothing follows from it (`up --reload`)"),
    "edge_dropping": Kind(WARNING, "edge", "", "it has begun to drop packets, as its policy says; info of `latest`"),
    "edge_flowing": Kind(INFO, "edge", "packets dropped since it began", "it has dropped none for 10 s and has room"),
    "disk_filling": Kind(WARNING, "path", "80, 90 or 95", "so much of a file system that the run writes to is used; error from 95 % on"),
    "disk_freed": Kind(INFO, "path", "80, 90 or 95", "less than this is used again, by 2 % at least"),
}


class Event(msgspec.Struct, frozen=True):
    """One of EVENTS. `ts` is ISO-8601 in UTC; what it is not about is empty; `value` is a number, see EVENTS, or null."""

    number: int
    ts: str
    monotonic_ns: int
    event: str
    severity: str
    node: str = ""
    edge: str = ""
    path: str = ""
    detail: str = ""
    value: float | None = None


class Reading(NamedTuple):
    """Events in order, as JSON objects; how many before the first of them were forgotten; the number to read on after."""

    events: tuple[dict[str, Any], ...]
    lost: int
    next: int


class Journal:
    """The newest KEPT_MAX events. Details are masked and cut."""

    def __init__(self, kept_max: int = KEPT_MAX) -> None:
        self._events: deque[Event] = deque(maxlen=kept_max)
        self._masker = Masker(())
        self.last = 0  # number of the newest

    def hide(self, secrets: Iterable[Any]) -> None:
        """From now on no event shows one of these."""
        self._masker = Masker(secrets)

    def add(
        self,
        name: str,
        ts: str,
        monotonic_ns: int,
        *,
        node: str = "",
        edge: str = "",
        path: str = "",
        detail: str = "",
        value: float | None = None,
        severity: str = "",
    ) -> Event:
        """Raises KeyError for a name that is not in EVENTS."""
        kind = EVENTS[name]
        self.last += 1
        detail, path = _cut(self._masker.mask(detail), DETAIL_CHARS_MAX), _cut(self._masker.mask(path), PATH_CHARS_MAX)
        event = Event(self.last, ts, monotonic_ns, name, severity or kind.severity, node, edge, path, detail, value)
        self._events.append(event)
        return event

    def read(self, after: int, bytes_max: int = READ_BYTES_MAX) -> Reading:
        """What comes after this number, at least one event if there is any, and no more than fit into `bytes_max`."""
        found: list[dict[str, Any]] = []
        first = self.last - len(self._events) + 1
        room = bytes_max
        for place in range(max(0, after + 1 - first), len(self._events)):
            event = self._events[place]
            room -= len(msgspec.json.encode(event)) + 1
            if found and room < 0:
                break
            found.append(msgspec.to_builtins(event))
        return Reading(tuple(found), max(0, first - after - 1), found[-1]["number"] if found else after)

    def newest(self, count: int) -> list[dict[str, Any]]:
        return [msgspec.to_builtins(event) for event in list(self._events)[-count:]]


def _cut(text: str, chars_max: int) -> str:
    return text if len(text) <= chars_max else text[: chars_max - 3] + "..."
