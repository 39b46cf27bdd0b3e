"""What may be asked of a store by name: replay, retry, drop. Of the files of a stopped run, or of the node that owns them."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Any

from streamcore.errors import ConfigError

if TYPE_CHECKING:
    from streamcore.durable.store import DurableStore

NAMES = ("replay", "retry", "drop")
ORDER_MAX = 1000  # records of one order: it is one transaction, and nothing else happens in its node meanwhile


def carry_out(store: DurableStore, name: str, arguments: dict[str, Any]) -> dict[str, Any]:
    """Arguments: {"spans": [[first, last], ...]}. Reply: {"done": how many records it found and changed}.

    Raises ConfigError for what is no such order, StoreError if the disk is full.
    """
    if name not in NAMES:
        raise ConfigError(f"order: found {name!r}, expected one of: {', '.join(NAMES)}")
    sequences = _sequences(arguments.get("spans"))
    do: Callable[[Iterable[int]], int] = getattr(store, name)
    return {"done": do(sequences)}


def _sequences(spans: Any) -> list[int]:
    if not isinstance(spans, list) or not all(_is_span(span) for span in spans):
        raise ConfigError("spans: expected a list of [first, last], sequences from 1 on")
    count = sum(last - first + 1 for first, last in spans)
    if count > ORDER_MAX:
        raise ConfigError(f"spans: found {count} sequences, expected at most {ORDER_MAX}; let it be several orders")
    return [sequence for first, last in spans for sequence in range(first, last + 1)]


def _is_span(span: Any) -> bool:
    return isinstance(span, list) and len(span) == 2 and all(type(end) is int for end in span) and 0 < span[0] <= span[1]


def spans_of(sequences: Iterable[int]) -> list[list[int]]:
    """Ascending sequences, neighbours put together."""
    spans: list[list[int]] = []
    for sequence in sequences:
        if spans and spans[-1][1] == sequence - 1:
            spans[-1][1] = sequence
        else:
            spans.append([sequence, sequence])
    return spans
