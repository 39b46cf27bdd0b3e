"""How `up` shows a run where no terminal is: plain lines, each complete in itself."""

from __future__ import annotations

import threading
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import click

from streamcore.cli.endings import failure_block
from streamcore.cli.follow import Follower, Sieve, log_end
from streamcore.cli.wording import plural
from streamcore.coordinator.observer import Failure, Observer
from streamcore.limits import LOG_TAIL_LINES
from streamcore.secret import Masker, secrets_in

if TYPE_CHECKING:
    from streamcore.graph.model import Plan
    from streamcore.telemetry.snapshot import Snapshot

LOOK_S, LOOK_MAX_S = 1.0, 4.0  # between two looks at the logs: soon after news, seldom while nothing happens
SILENT = {"EXITED", "KILLING", "BACKOFF"}  # on the way to another state, or told in better words by failed() and killing()


def say(text: str, *, err: bool = False) -> None:
    """Print one piece of text whole. A reader that has gone away does not end the run, nor change how it ends."""
    try:
        click.echo(text, err=err)
    except BrokenPipeError:
        pass


class Lines(Observer):
    """Prints what happens to a run: news on stdout, warnings and failures on stderr.

    What nodes log as a warning, and what they print, appears as `node | text`. The logs are looked at from a thread of its own, because
    the coordinator sleeps until something happens to a process. `snapshot` is set to Coordinator.snapshot before the run begins.
    """

    snapshot: Callable[[], Snapshot]

    def __init__(self, plan: Plan, logs: Path, *, debug: bool, on_up: Callable[[], None] = lambda: None):
        self._plan, self._debug, self._on_up = plan, debug, on_up
        self._masker = Masker(secret.reveal() for node in plan.nodes for secret in secrets_in((node.config, node.env)))
        self._follower, self._sieve = Follower(logs, [node.id for node in plan.nodes]), Sieve()
        self._is_up = False
        self._printing = threading.Lock()
        self._over = threading.Event()
        self._watcher = threading.Thread(target=self._watch_logs, name="logs", daemon=True)

    def say(self, text: str, *, err: bool = False) -> None:
        """Print one piece of text whole, without the secrets that a C library may have written into a log."""
        say(self._masker.mask(text), err=err)

    def node_changed(self, node: str, before: str, after: str, detail: str) -> None:
        if after not in SILENT:
            self._locked(f"{node}: {after.lower()}" + (f" ({detail})" if detail else ""))

    def up(self) -> None:
        plan, self._is_up = self._plan, True
        self._locked(
            f"run {plan.run} is up: {plural(len(plan.nodes), 'node')}, {plural(len(plan.edges), 'edge')}; streamctl down {plan.run} ends it"
        )
        self._on_up()
        self._watcher.start()

    def shown_at(self, url: str, *, exposed: bool) -> None:
        self._locked(f"metrics and health: {url}/")
        if exposed:
            self.warning(f"{url} can be read by anybody who reaches this box: there is no password, and nothing is encrypted")

    def failed(self, failure: Failure) -> None:
        path = Path(failure.log_path) if failure.log_path else None
        end = log_end(path, failure.node, LOG_TAIL_LINES, stacks=self._debug) if path else []
        with self._printing:
            self._follower.skip(failure.node)  # it stands in the block
            self.say("\n".join(failure_block(failure, end, debug=self._debug)), err=True)

    def restarting(self, failure: Failure, delay_s: float) -> None:
        incident = f"; incident {failure.incident}" if failure.incident else ""
        self._locked(f"{failure.node}: {failure.cause}; restarted in {delay_s:.1f} s{incident}", err=True)

    def held(self, failure: Failure) -> None:
        self.failed(failure)
        self._locked(f"{failure.node}: waits to be mended, or for `streamctl restart {failure.node}`", err=True)

    def reloaded(self, node: str, why: str) -> None:
        self._locked(f"reloaded {node}: {why}")

    def not_reloaded(self, text: str) -> None:
        self._locked(text, err=True)

    def stopping(self, reason: str) -> None:
        how = f"draining, up to {self._plan.drain_s:g} s" if self._is_up else "ending before it was up"
        self._locked(f"{reason}: {how}" + ("; Ctrl-C again kills" if reason == "SIGINT" else ""))

    def killing(self, reason: str) -> None:
        self._locked(f"{reason}: killing what is left", err=True)

    def warning(self, text: str) -> None:
        self._locked(f"warning: {text}", err=True)

    def close(self) -> None:
        """Show what the logs still hold. Call it when the run has ended."""
        self._over.set()
        if self._watcher.is_alive():
            self._watcher.join()
        with self._printing:
            self._show_logs(last=True)

    def _locked(self, text: str, *, err: bool = False) -> None:
        with self._printing:
            self.say(text, err=err)

    def _show_logs(self, *, last: bool) -> bool:
        """True if there was anything new."""
        news = self._follower.poll(last=last)
        for line in self._sieve.sift(news):
            level = f"{line.level} " if line.level else ""
            self.say(f"{line.node} | {level}{line.text}")
        return bool(news)

    def _watch_logs(self) -> None:
        pause_s = LOOK_S
        while not self._over.wait(pause_s):
            with self._printing:
                pause_s = LOOK_S if self._show_logs(last=False) else min(2 * pause_s, LOOK_MAX_S)
