"""The network of the crash model."""

from __future__ import annotations

import random
from collections import deque

from crash_process import KEY

from streamcore.wire import messages

Me = tuple[str, int]
Key = tuple[Me, Me]


class Net:
    """FIFO connections between incarnations. What was on its way to a dead process dies with it; what one has sent arrives although it is
    dead, or has hung up, but for a tail that it had not got rid of.
    """

    def __init__(self, rng: random.Random):
        self._rng = rng
        self.queues: dict[Key, deque[bytes]] = {}

    def send(self, key: Key, message: bytes) -> None:
        self.queues.setdefault(key, deque()).append(message)

    def hung_up(self, key: Key) -> None:
        queue = self.queues.get(key, deque())
        for _ in range(self._rng.randint(0, len(queue))):
            queue.pop()

    def killed(self, me: Me) -> None:
        for key in list(self.queues):
            if key[1] == me:
                del self.queues[key]
            elif key[0] == me:
                self.hung_up(key)

    def loaded(self, live: set[Me]) -> list[Key]:
        return [key for key, queue in self.queues.items() if queue and key[1] in live]


def told(raw: bytes) -> str:
    """A message in short, for a trace."""
    header = messages.read_header(raw := messages.unsealed(raw, KEY))
    want = " WANT" if header.flags else ""
    if header.type == messages.DATA:
        return (
            f"edge {header.edge} DATA "
            + " ".join(f"#{r[0]}@{r[2]}{'again' * r[3]}" for r in messages.read_data(raw, header.records))
            + want
        )
    if header.type == messages.RECEIPT:
        taken, completed = messages.read_receipt(raw, header.records)
        return f"edge {header.edge} RECEIPT upto {taken} " + " ".join(f"#{c[0]}@{c[1]}:{c[2]}" for c in completed)
    return f"edge {header.edge} END"
