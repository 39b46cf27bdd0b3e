"""The error tree. The class tells whose fault it is and whether a retry can help; the text says where, found and expected."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, ClassVar


class StreamcoreError(Exception):
    """Base of every error that streamcore raises on purpose.

    `fault` is one of spec, plugin, box, streamcore: who has to act. `retry` is True if the same call may succeed later.
    """

    fault: ClassVar[str] = "streamcore"
    retry: ClassVar[bool] = False


@dataclass(frozen=True)
class Problem:
    """One thing that is wrong in a spec, at its place. `line` and `column` count from 1; 0 means the file as a whole.

    The fields are those of `streamctl validate --json`; `found` and `expected` are sentences or values as a person reads them.
    """

    file: str
    line: int
    column: int
    path: str
    found: str
    expected: str
    hint: str = ""

    def __str__(self) -> str:
        place = f"{self.file}:{self.line}:{self.column}" if self.line else self.file
        lines = [f"{place}  {self.path}", f"    found     {self.found}", f"    expected  {self.expected}"]
        if self.hint:
            lines.append(f"    {self.hint}")
        return "\n".join(lines)

    def as_json(self) -> dict[str, Any]:
        return {name: getattr(self, name) for name in ("file", "line", "column", "path", "found", "expected", "hint")}


@dataclass
class SpecError(StreamcoreError):
    """A spec that may not start. Carries every problem found, never only the first."""

    problems: list[Problem] = field(default_factory=list)
    fault: ClassVar[str] = "spec"

    def __str__(self) -> str:
        return self.told("nothing was started.")

    def told(self, outcome: str) -> str:
        """The problems, and what came of them."""
        count = len(self.problems)
        where = self.problems[0].file if self.problems else "the spec"
        return "\n".join([*map(str, self.problems), f"{count} problem{'s' if count != 1 else ''} in {where}; {outcome}"])


class PluginError(StreamcoreError):
    """A plugin cannot be found, may not be loaded, or broke the node API's contract."""

    fault = "plugin"


class ReaderError(StreamcoreError):
    """The process that reads plugins could not be started."""

    fault = "box"


class ConfigError(StreamcoreError):
    """A node cannot work with what it was given (a missing file, an unreachable device). Not retried."""

    fault = "spec"


class JobError(StreamcoreError):
    """What a job runs came to a bad end. Its text is the whole cause: a traceback of ours would explain nothing."""

    fault = "spec"


class PayloadError(StreamcoreError):
    """A payload that its port does not allow or that cannot be carried. The packet counts as failed."""

    fault = "plugin"


class DeliveryRefused(StreamcoreError):
    """Raise it in a sink for a packet that would be refused each time. A durable queue before it makes a dead letter of it."""

    fault = "plugin"


class DestinationAway(StreamcoreError):
    """Raise it in a sink while its destination takes nothing. A durable queue before it waits, and counts no attempt of the packet."""

    fault = "box"
    retry = True


class DeliveryFailed(StreamcoreError):
    """Raise it in a sink for a packet that did not arrive this time, where a traceback would explain nothing."""

    fault = "box"
    retry = True


class PayloadTooLarge(PayloadError):
    """A payload larger than its port's slots. Carries port, found and allowed bytes; the text names the spec key to raise."""

    def __init__(self, port: str, found_bytes: int, slot_bytes: int):
        self.port, self.found_bytes, self.slot_bytes = port, found_bytes, slot_bytes
        node = port.rpartition(".")[0]
        super().__init__(
            f"port {port}: payload of {found_bytes} bytes, slot_bytes is {slot_bytes}; "
            f"raise it with `ring: {{slot_bytes: {found_bytes}}}` at node '{node}'"
        )


class RingFull(StreamcoreError):
    """No slot or entry was completed in time. `holders` names (edge, packets) that keep them."""

    fault = "box"
    retry = True

    def __init__(self, port: str, holders: list[tuple[str, int]]):
        self.port, self.holders = port, holders
        held = ", ".join(f"{edge} keeps {count}" for edge, count in holders) or "the node itself keeps them all"
        super().__init__(f"port {port}: no free slot: {held}")


class LayoutError(StreamcoreError):
    """A segment, page or message that does not have the layout this version writes. Names found and expected."""


class MessageError(StreamcoreError):
    """A message that is not one of ours, or that points outside what it may name. Refused and counted."""


class InvalidTransition(StreamcoreError):
    """An event that a node's state does not allow."""


class BudgetError(StreamcoreError):
    """The plan needs more memory than the box or `limits.shm` gives."""

    fault = "spec"


class RunError(StreamcoreError):
    """A run cannot be started, found or reached."""

    fault = "box"


class NativeError(StreamcoreError):
    """The compiled inner loop was insisted on and cannot be used."""

    fault = "box"


class Stopped(StreamcoreError):
    """Raised inside node code by a waiting call when the node is told to end at once. Let it pass."""


class StoreError(StreamcoreError):
    """A store cannot be used: not its owner, a damaged file, a disk that fails. Nothing acknowledged is lost by it. Raised over an input it
    ends the process and does not fail the input, which the next one gets again.
    """

    fault = "box"


class StoreLocked(StoreError):
    """Another process owns the store. It may be read meanwhile."""

    retry = True
