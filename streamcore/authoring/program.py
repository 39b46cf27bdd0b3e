"""The child process of `streamctl node check`: loads the plugin, makes the checks, and reports each on a pipe.

    python -m streamcore.authoring.program REPORT_FD < request

The request and every report are JSON; a report is one line. What the plugin prints goes where stdout and stderr of the process go.
"""

from __future__ import annotations

import faulthandler
import logging
import os
import sys
import traceback
from collections.abc import Sequence

import msgspec

from streamcore.authoring.checks import Check, Failed, Skipped, Subject, check_given, checks_of
from streamcore.authoring.protocol import ENDED, Report, Request, is_plugins
from streamcore.authoring.trial import Stalled
from streamcore.errors import ConfigError, PluginError, SpecError
from streamcore.interpreter import die_with
from streamcore.manifest import target_of
from streamcore.node.api import Node, role_of
from streamcore.plugins import load_target
from streamcore.plugins.naming import registered
from streamcore.plugins.policy import Policy, asked, load_machine

WITHOUT_SETUP = ("defaults", "unknown-keys", "setup")
WITHOUT_STREAM = (*WITHOUT_SETUP, "emits", "returns-nothing", "stops", "no-input")
REASON_CHARS_MAX = 2000  # an exception may say anything


def main(report_fd: int) -> None:
    request = msgspec.json.decode(sys.stdin.buffer.read(), type=Request)
    die_with(request.parent_pid)
    os.set_inheritable(report_fd, False)
    faulthandler.enable()
    logging.basicConfig(level=logging.WARNING)
    Session(request, report_fd).run()


def _load(plugin: str, allow: Sequence[str]) -> type[Node]:
    """Import what the policy admits. Raises PluginError, or SpecError for a policy file that is wrong."""
    policy = Policy(asked(allow, None, os.environ), load_machine())
    cls = load_target(policy.target_of(plugin, registered()), plugin)
    policy.admit_definition(plugin, cls.__module__)
    return cls


class Session:
    """One process' part of a check."""

    def __init__(self, request: Request, report_fd: int):
        self._request, self._fd = request, report_fd

    def run(self) -> None:
        request = self._request
        with self._guard():
            try:
                cls = _load(request.plugin, request.allow)
                subject = Subject(cls, request.config, request.samples)
                unknown = sorted(set(request.samples) - set(cls.inputs))
                if unknown:
                    raise ConfigError(f"it has no input port {unknown[0]!r}; there is {', '.join(cls.inputs) or 'none'}")
                check_given(subject)
            except (PluginError, ConfigError, SpecError) as error:
                self._say(Report("refused", reason=str(error)))
                return
        checks = checks_of(cls)
        named = [(check.name, check.promise) for check in checks]
        self._say(Report("plugin", target=target_of(cls), role=role_of(cls), checks=named))
        states = dict(request.done)
        for check in checks:
            if check.name not in states:
                states[check.name] = self._make(check, subject, _obstacle(check, states))

    def _make(self, check: Check, subject: Subject, obstacle: str) -> str:
        state, reason = "skipped", obstacle
        if not obstacle:
            with self._guard():
                state, reason = _verdict(check, subject)
        self._say(Report("end", check.name, state, " ".join(reason[:REASON_CHARS_MAX].split())))
        return state

    def _guard(self) -> _Alarm:
        return _Alarm(self._request.deadline_s)

    def _say(self, report: Report) -> None:
        try:
            os.write(self._fd, msgspec.json.encode(report) + b"\n")
        except OSError as error:
            raise PluginError("it has closed a descriptor that is not its own; in a run that ends the node") from error


class _Alarm:
    """Writes all stacks to stderr when the time is up; the parent ends the process a moment later."""

    def __init__(self, deadline_s: float):
        self._deadline_s = deadline_s

    def __enter__(self) -> None:
        faulthandler.dump_traceback_later(self._deadline_s, file=sys.__stderr__ or 2)

    def __exit__(self, *_: object) -> None:
        faulthandler.cancel_dump_traceback_later()


def _obstacle(check: Check, states: dict[str, str]) -> str:
    """Why a check would only find again what an earlier one has found; "" if it may find something new."""
    if states.get("setup") in ("failed", ENDED) and check.name not in WITHOUT_SETUP:
        return "setup() or close() fails"
    ended = next((name for name, state in states.items() if state == ENDED and name in WITHOUT_STREAM), "")
    return f"it would end as {ended!r} did" if ended and check.name not in WITHOUT_STREAM else ""


def _verdict(check: Check, subject: Subject) -> tuple[str, str]:
    """State and reason."""
    try:
        return "ok", check.look(subject)
    except Failed as failed:
        return "failed", str(failed)
    except Skipped as skipped:
        return "skipped", str(skipped)
    except Stalled:
        return "failed", "it keeps every packet that it was given"
    except (Exception, SystemExit, KeyboardInterrupt) as error:  # the plugin's code: whatever it raises is what was found
        ends = "" if isinstance(error, Exception) else ", which ends the node's process"
        return "failed", f"{type(error).__name__}: {error}{ends} ({_place(error)})"
    finally:
        subject.close_what_is_open()


def _place(error: BaseException) -> str:
    """Where in the plugin it was raised, or where the plugin was left."""
    frames = traceback.extract_tb(error.__traceback__)
    frame = next((each for each in reversed(frames) if is_plugins(each.filename)), frames[-1])
    return f"{frame.name}() at {os.path.basename(frame.filename)}:{frame.lineno}"


if __name__ == "__main__":
    main(int(sys.argv[1]))
