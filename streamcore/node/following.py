"""What happens in the run, for a source that tells it: asked of the coordinator over the control channel, and waited for like a message."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from typing import Any

from streamcore.node import channel
from streamcore.node.exchange import Exchange
from streamcore.shm.status import StatusWriter


class Following:
    """`news` is filled by the lifeline's thread, which then wakes the main loop."""

    def __init__(self, exchange: Exchange, status: StatusWriter, run: str, say: Callable[[channel.Report], None]):
        self._exchange, self._status, self._run, self._say = exchange, status, run, say
        self.news: deque[channel.News] = deque()

    def next_events(self, after: int) -> list[dict[str, Any]]:
        """See Source.next_events. Raises Stopped when the process was told to terminate. A node that is paused is told when it goes on.

        SYNC: coordinator.following answers each Follow once.
        """
        self._say(channel.Follow(after))
        self._status.set("waits_for_credit", 1)  # for something to happen: a run in which nothing does is no hang
        try:
            while not self.news or self._exchange.paused:
                self._exchange.wait(None)
        finally:
            self._status.set("waits_for_credit", 0)
        news = self.news.popleft()
        lost = [news.lost, *[0] * len(news.events)]
        return [event | {"lost": before, "run": self._run} for event, before in zip(news.events, lost, strict=False)]
