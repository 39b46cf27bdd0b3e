"""Having plugins read by child processes: one for all jobs, a further one for what is left when a plugin ended it or made it hang."""

from __future__ import annotations

import json
import os
import select
import signal
import subprocess
from collections.abc import Mapping, Sequence
from contextlib import suppress
from time import monotonic
from typing import Any, NamedTuple

import msgspec

from streamcore import limits
from streamcore.errors import ReaderError
from streamcore.interpreter import command_of
from streamcore.plugins.child import READY, Answer

COMMAND = command_of("streamcore.plugins")
BAD_MAX = 8  # plugins that may end or hang their reader before the rest is refused unread; bounds the time
_START_S = 20.0  # until it is ready to import plugins: half a second on a busy machine
_CHUNK_BYTES = 64 * limits.KIB
_PIPE_READS = 2  # what a pipe holds, and its end; somebody outside the group may still write
_LAST_WORDS_BYTES = 4 * limits.KIB


class Job(NamedTuple):
    """Read the manifest of `target`, or, with a config, have its class check it. `plugin` is the name that the spec uses."""

    plugin: str
    target: str
    config: Mapping[str, Any] | None = None


def read(jobs: Sequence[Job], deadline_s: float = limits.PLUGIN_S, command: Sequence[str] = COMMAND) -> list[Answer]:
    """The answer to each job, in order. Jobs of one target stand together: those after one that cannot be read fail with it.

    Args:
      deadline_s: how long a child may work on one job.
    Raises:
      ReaderError: no child could be started.
    """
    answers: list[Answer] = []
    bad = 0
    while len(answers) < len(jobs) and bad < BAD_MAX:
        child = _Child(jobs[len(answers) :], command)
        try:
            child.listen(deadline_s)
        finally:
            child.end()
        answers += child.answers
        # A child may die of what an earlier plugin left in it, a thread for instance: the death of a child judges only the first in it.
        if len(answers) < len(jobs) and (child.was_ended or not child.answers):
            _fail(jobs, answers, child.cause())
            bad += 1
    expected = f"fewer than {BAD_MAX} that end or hang the process that reads them"
    rest = ("a plugin that was not read any more", expected, "mend those that did first")
    return answers + [Answer(refused=rest)] * (len(jobs) - len(answers))


def _fail(jobs: Sequence[Job], answers: list[Answer], cause: tuple[str, str]) -> None:
    """The first job without an answer ended its child; if that was the import, so would all further jobs of its target."""
    job = jobs[len(answers)]
    found, hint = cause
    if job.config is not None:
        answers.append(Answer(refused=(f"a config check that {found}", "a check that returns", hint)))
        return
    module = job.target.partition(":")[0]
    failed = Answer(refused=(f"an import that {found}", f"a module '{module}' that can be imported", hint))
    while len(answers) < len(jobs) and jobs[len(answers)].target == job.target:
        answers.append(failed)


def abandon() -> None:
    """Kill the child that is at work, if there is one, and wait until it is gone: for a process that is about to leave by a signal."""
    if _Child.at_work is not None:
        with suppress(ProcessLookupError, ChildProcessError):
            os.killpg(_Child.at_work, signal.SIGKILL)
            os.waitpid(_Child.at_work, 0)


class _Child:
    """One child, from its start to its end. Nothing of it is left after `end`, but what has left its process group."""

    at_work: int | None = None  # its pid; one at a time

    def __init__(self, jobs: Sequence[Job], command: Sequence[str]):
        self.answers: list[Answer] = []
        self._count = len(jobs)
        self._ready = False
        self._why = ""  # it was ended from here
        self._buffer = b""
        self._last_words = b""
        request_fd = os.memfd_create("streamcore:plugins", os.MFD_CLOEXEC)
        self._reply_fd, reply_fd = os.pipe2(os.O_CLOEXEC)
        self._output_fd, output_fd = os.pipe2(os.O_CLOEXEC)
        try:
            for fd in (self._reply_fd, self._output_fd):
                os.set_blocking(fd, False)
            with open(request_fd, "wb", closefd=False) as file:
                file.write(json.dumps(jobs).encode())
            os.lseek(request_fd, 0, os.SEEK_SET)
            self._popen = subprocess.Popen(
                [*command, str(request_fd), str(reply_fd), str(os.getpid())],
                pass_fds=(request_fd, reply_fd),
                stdin=subprocess.DEVNULL,
                stdout=output_fd,
                stderr=output_fd,
                start_new_session=True,
            )
            _Child.at_work = self._popen.pid
        except OSError as error:
            self._close()
            raise ReaderError(f"cannot start a process that reads plugins: {error.strerror}") from error
        finally:
            for fd in (request_fd, reply_fd, output_fd):
                os.close(fd)

    def listen(self, deadline_s: float) -> None:
        """Collect answers until all are there, the child is gone, or one takes longer than `deadline_s`."""
        poller = select.poll()
        pidfd = os.pidfd_open(self._popen.pid)
        try:
            for fd in (self._reply_fd, self._output_fd, pidfd):
                poller.register(fd, select.POLLIN)
            until = monotonic() + max(deadline_s, _START_S)
            while len(self.answers) < self._count and not self._why:
                events = dict(poller.poll(max(0.0, until - monotonic()) * 1000))
                known = (self._ready, len(self.answers))
                if self._output_fd in events and not self._hear():
                    poller.unregister(self._output_fd)
                if self._reply_fd in events and not self._take():
                    poller.unregister(self._reply_fd)
                if pidfd in events:
                    while self._take():
                        pass
                    return
                if (self._ready, len(self.answers)) != known:
                    until = monotonic() + deadline_s
                elif monotonic() >= until:
                    self._why = f"does not end within {deadline_s:g} s" if self._ready else "it took too long"
        finally:
            os.close(pidfd)

    def _hear(self) -> bool:
        """What plugins print is let go, but for its end, which may tell why the child died. False at its end of file."""
        try:
            raw = os.read(self._output_fd, _CHUNK_BYTES)
        except BlockingIOError:
            return True
        self._last_words = (self._last_words + raw)[-_LAST_WORDS_BYTES:]
        return bool(raw)

    def _take(self) -> bool:
        """Read answers. False if there is none to read now, or never again."""
        try:
            raw = os.read(self._reply_fd, _CHUNK_BYTES)
        except BlockingIOError:
            return False
        *lines, self._buffer = (self._buffer + raw).split(b"\n")
        for line in lines:
            if not self._ready:
                self._ready = line + b"\n" == READY
            elif not self._accept(line):
                self._why = "writes into the channel of its reader"
                return False
        if len(self._buffer) > limits.MANIFEST_BYTES_MAX:
            self._why = f"declares more than {limits.MANIFEST_BYTES_MAX // limits.MIB} MiB"
        return bool(raw) and not self._why

    def _accept(self, line: bytes) -> bool:
        try:
            answer = msgspec.json.decode(line, type=Answer)
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
            return False
        if answer.job != len(self.answers):
            return False
        self.answers.append(answer)
        return True

    @property
    def was_ended(self) -> bool:
        """From here, and not by itself."""
        return bool(self._why)

    def end(self) -> None:
        """Kill the process and all that it started and that stayed in its group. Its own end, if it came first, is what is kept."""
        with suppress(ProcessLookupError):  # only if this process was started with SIGCHLD ignored
            os.killpg(self._popen.pid, signal.SIGKILL)  # it is not reaped yet, so the number is still its own
        self._popen.wait()
        _Child.at_work = None
        for _ in range(_PIPE_READS):
            if not self._hear():
                break
        self._close()

    def cause(self) -> tuple[str, str]:
        """Why an answer is missing, to stand behind "an import that", and its last words as a hint."""
        lines = self._last_words.decode("utf-8", "replace").split("\n")
        said = next((" ".join(line.split())[:200] for line in reversed(lines) if line.strip()), "")
        how = _ended(self._popen.returncode)
        if not self._ready:
            raise ReaderError(f"the process that reads plugins ended before it began ({self._why or how}): {said or 'without a word'}")
        return self._why or f"ends its process ({how})", f"it said last: {said}" if said else ""

    def _close(self) -> None:
        os.close(self._reply_fd)
        os.close(self._output_fd)


def _ended(status: int) -> str:
    if status >= 0:
        return f"exit status {status}"
    try:
        return signal.Signals(-status).name
    except ValueError:
        return f"signal {-status}"
