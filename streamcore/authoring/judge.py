"""Have a plugin checked in a process of its own, and say what became of each check also when that process hangs or dies.

One process makes all checks; another goes on where it hung or died. Rejected: a run of a source, the node and a sink per check, which takes
seconds each, and where what the node did is seen through two other processes.
"""

from __future__ import annotations

import os
import re
import select
import signal
import subprocess
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import IO, Any

import msgspec

from streamcore.authoring.protocol import ENDED, Report, Request, is_plugins
from streamcore.clock import Clock
from streamcore.errors import PluginError
from streamcore.interpreter import command_of

COMMAND = command_of("streamcore.authoring.program")
START_S = 30.0  # for an interpreter on a busy box; what the plugin's import takes comes on top
GRACE_S = 1.0  # after the deadline, for the stacks to be written
REPORT_BYTES_MAX = 1 << 20
LOG_TAIL_BYTES = 16_000
LOG_BYTES_MAX, LOOK_S = 1 << 24, 0.5  # what a plugin prints without end must not fill the disk
FAILED = "failed"
LOAD = ("load", "it can be imported")


@dataclass
class Finding:
    """One check: `state` is ok, failed or skipped."""

    name: str
    promise: str
    state: str
    reason: str


@dataclass
class Verdict:
    """What was found; `findings` in the order of the checks."""

    plugin: str
    target: str = ""
    role: str = ""
    findings: list[Finding] = field(default_factory=list)

    def count(self, state: str) -> int:
        return sum(finding.state == state for finding in self.findings)


def judge(
    plugin: str, allow: Sequence[str], config: Mapping[str, Any], samples: Mapping[str, Any], deadline_s: float, clock: Clock | None = None
) -> Verdict:
    """Check a plugin; each check may take `deadline_s`. Call it from the main thread: the child dies with the thread that made it.

    Raises:
      PluginError: there is no such plugin, it may not be loaded, or it cannot be checked with this config.
    """
    verdict = Verdict(plugin)
    promises: dict[str, str] = {}
    ended: dict[str, str] = {}
    while True:
        done = {finding.name: finding.state for finding in verdict.findings} | ended
        request = Request(plugin, list(allow), dict(config), dict(samples), deadline_s, os.getpid(), done)
        child = _Child(request, clock or Clock())
        try:
            under_way = _hear(child, verdict, promises)
        finally:
            child.end()
        if under_way is None:
            return verdict
        promise = promises.get(under_way, LOAD[1])
        verdict.findings.append(Finding(under_way, promise, FAILED, child.cause))
        ended[under_way] = ENDED
        if under_way == LOAD[0]:
            return verdict


def _hear(child: _Child, verdict: Verdict, promises: dict[str, str]) -> str | None:
    """Listen until the end. The check during which the process hung or died, None if it came to the end."""
    under_way: str | None = LOAD[0]
    while True:
        report = child.report()
        if report is None:
            return under_way
        if report.what == "refused":
            raise PluginError(report.reason)
        if report.what == "plugin":
            verdict.target, verdict.role = report.target, report.role
            promises.update(report.checks)
        elif report.what == "end":
            verdict.findings.append(Finding(report.name, promises[report.name], report.state, report.reason))
        # Between two checks, too, a thread of the plugin may end the process: then it is the next one that cannot be made.
        made = {finding.name for finding in verdict.findings}
        under_way = next((name for name in promises if name not in made), None)
        if under_way is None:
            return None


class _Child:
    """The process, and why it said nothing more."""

    def __init__(self, request: Request, clock: Clock):
        self.cause = ""
        self._clock, self._deadline_s = clock, request.deadline_s
        self._wait_s = START_S + request.deadline_s
        self._rest = b""
        self._log: IO[bytes] = tempfile.TemporaryFile("ab+")  # noqa: SIM115 - closed by end()
        self._fd, theirs = os.pipe()
        try:
            self._process = subprocess.Popen(
                [*COMMAND, str(theirs)],
                pass_fds=[theirs],
                stdin=subprocess.PIPE,
                stdout=self._log,
                stderr=self._log,
                start_new_session=True,  # so that what the plugin starts can be ended with it
            )
        finally:
            os.close(theirs)
        assert self._process.stdin is not None
        try:
            self._process.stdin.write(msgspec.json.encode(request))
            self._process.stdin.close()
        except BrokenPipeError:  # it is gone already; its reports, which never come, tell
            pass

    def report(self) -> Report | None:
        """The next report, None if there will be none; then `cause` says why."""
        deadline_ns = self._clock.monotonic_ns() + round(self._wait_s * 1e9)
        self._wait_s = self._deadline_s + GRACE_S
        while b"\n" not in self._rest and len(self._rest) < REPORT_BYTES_MAX:
            left_s = (deadline_ns - self._clock.monotonic_ns()) / 1e9
            if left_s <= 0:
                self.cause = f"it hung: no answer within {self._deadline_s:g} s{self._where()}"
                return None
            if os.fstat(self._log.fileno()).st_size > LOG_BYTES_MAX:
                os.ftruncate(self._log.fileno(), 0)
            if not select.select([self._fd], [], [], min(left_s, LOOK_S))[0]:
                continue
            got = os.read(self._fd, 1 << 16)
            if not got:
                self.cause = self._death()
                return None
            self._rest += got
        line, _, self._rest = self._rest.partition(b"\n")
        try:
            return msgspec.json.decode(line, type=Report)
        except msgspec.DecodeError:
            self.cause = "it wrote into the pipe of the checks: a descriptor that is not its own"
            return None

    def end(self) -> None:
        """Kill what is left of it, grandchildren included."""
        try:
            os.killpg(self._process.pid, signal.SIGKILL)
        except ProcessLookupError:
            pass
        self._process.wait()
        os.close(self._fd)
        self._log.close()

    def _death(self) -> str:
        try:
            status = self._process.wait(GRACE_S)
        except subprocess.TimeoutExpired:  # it has closed every descriptor that it found
            return "it has closed a descriptor that is not its own, and hung"
        if status < 0:
            return f"its process was ended by {signal.Signals(-status).name}{self._where()}"
        last = self._tail().strip().splitlines()[-1:]
        return f"its process ended with status {status}" + (f": {last[0]}" if last and status else "")

    def _where(self) -> str:
        """Where the main thread was, as faulthandler wrote it: its block is the last."""
        blocks = re.split(r"^(?:Current thread|Thread) 0x[^\n]*\n", self._tail(), flags=re.MULTILINE)[1:]
        frames = re.findall(r'File "([^"]+)", line (\d+) in (\S+)', blocks[-1]) if blocks else []
        frame = next((each for each in frames if is_plugins(each[0])), None)
        return f" (in {frame[2]}() at {os.path.basename(frame[0])}:{frame[1]})" if frame else ""

    def _tail(self) -> str:
        size = os.fstat(self._log.fileno()).st_size
        return os.pread(self._log.fileno(), LOG_TAIL_BYTES, max(0, size - LOG_TAIL_BYTES)).decode("utf-8", "replace")
