"""job.command and job.callable: a program, or a Python function, run to its end as a node.

A job is a source without ports: it gives no packets, and has done its work when it has ended well. Whatever it starts stays in the node's
process group and carries the run's mark, so nothing of it outlives the node.
"""

from __future__ import annotations

import inspect
import json
import os
import re
import select
import shutil
import signal
import subprocess
import threading
from collections.abc import Callable, Iterator
from importlib import import_module
from time import monotonic_ns
from typing import Any

from streamcore import ConfigError, JobError, Source

CONFIG_VARIABLE = "STREAMCORE_JOB_CONFIG"
_ENTRY = re.compile(r"[A-Za-z_]\w*(\.[A-Za-z_]\w*)*:[A-Za-z_]\w*", re.ASCII)
_VARIABLE = re.compile(r"[A-Za-z_]\w*", re.ASCII)
_OURS = (CONFIG_VARIABLE, "STREAMCORE_PROCESS")  # by the second what a run has started is found, wherever it hides
_Report = Callable[[Any, str], None]  # how a check_with function says what it expects


def _check_entry(field: str, value: Any, error: _Report) -> None:
    if isinstance(value, str) and not _ENTRY.fullmatch(value):
        error(field, "module:callable, such as my_pkg.jobs:main")


def _check_word(field: Any, value: Any, error: _Report) -> None:
    if isinstance(value, str) and "\0" in value:
        error(field, "text without a NUL character")


def _check_variable(field: str, value: Any, error: _Report) -> None:
    if not _VARIABLE.fullmatch(str(value)):
        error(field, "a name of letters, digits and _ that does not begin with a digit")
    elif value in _OURS:
        error(field, "another name: streamcore sets this one")


def _check_command_word(field: int, value: Any, error: _Report) -> None:
    """Of the first word what can be known before the start: a relative path depends on `cwd`, and is looked at when the node starts."""
    word = str(value)
    if "\0" in word:
        _check_word(field, word, error)
    elif field == 0 and (os.path.isabs(word) or "/" not in word) and (fault := _fault_of(word)):
        error(field, fault)


def _fault_of(program: str) -> str:
    """What is expected instead of a program that cannot be started; "" of one that can."""
    if "/" not in program:
        return "" if shutil.which(program) else "a program that is in PATH, or the path of one"
    if not os.path.exists(program):
        return "a program: there is no such file"
    return "" if os.path.isfile(program) and os.access(program, os.X_OK) else "a program: this is not an executable file"


_WORD = {"type": ["string", "number"], "check_with": _check_word}
_SHARED: dict[str, Any] = {
    "config": {"type": "dict", "default": {}, "meta": {"doc": "what the job is told"}},
    "env": {
        "type": "dict",
        "default": {},
        "keysrules": {"type": "string", "check_with": _check_variable},
        "valuesrules": _WORD,
        "meta": {"doc": "added to the environment"},
    },
    "cwd": {"type": "string", "default": ".", "empty": False, "check_with": _check_word, "meta": {"doc": "where it runs"}},
}


class Command(Source):
    """Run a program, wait for its end; a status other than 0, or a signal, is a failure.

    What it prints stands in the node's log, `config` as JSON in the environment variable STREAMCORE_JOB_CONFIG. When the run, or a restart,
    asks it to end it gets a SIGTERM, and how it ends then is no failure. A program without a slash is sought in PATH.
    """

    config = {
        "command": {
            "type": "list",
            "required": True,
            "minlength": 1,
            "schema": {"type": ["string", "number"], "check_with": _check_command_word},
            "meta": {"words": "the program and its arguments: a list", "doc": "the program and its arguments; no shell reads them"},
        },
        **_SHARED,
    }

    def setup(self) -> None:
        self.words = [str(word) for word in self.config["command"]]
        self.cwd = _directory(self.config["cwd"])
        word = self.words[0]
        if fault := _fault_of(os.path.join(self.cwd, word) if "/" in word else word):
            raise ConfigError(f"command: found {word!r}, expected {fault}")
        if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:  # which the program would inherit; what is handled is reset for it
            signal.signal(signal.SIGINT, _leave)

    def run(self) -> Iterator[Any]:
        began_ns = monotonic_ns()
        program = self.words[0] if "/" in self.words[0] else shutil.which(self.words[0])
        told = {CONFIG_VARIABLE: json.dumps(self.config["config"])}
        self.log.info("starts %s", self.words[0])  # once it runs it writes into the log as well, and may be in the middle of a line
        try:
            child = subprocess.Popen(self.words, executable=program, cwd=self.cwd, env={**os.environ, **_variables(self.config), **told})
        except OSError as error:
            raise JobError(f"command {self.words[0]!r} cannot be started: {error.strerror}") from None
        try:
            self._wait(child)
        finally:
            if child.poll() is None:
                child.kill()
                child.wait()
        ended = _how_it_ended(child.returncode)
        if self.stopping:
            self.log.info("the command was asked to end, and %s", ended)
        elif child.returncode != 0:
            raise JobError(f"the command {ended}")
        else:
            self.log.info("the command %s after %.1f s", ended, (monotonic_ns() - began_ns) / 1e9)
        yield from ()

    def _wait(self, child: subprocess.Popen[bytes]) -> None:
        """Until it has ended; as soon as the run is asked to end, so is it. Nothing here wakes up meanwhile."""
        pidfd = os.pidfd_open(child.pid)
        try:
            poller = select.poll()
            poller.register(pidfd, select.POLLIN)
            poller.register(self.stopping_fd, select.POLLIN)
            while pidfd not in (ready := [fd for fd, _ in poller.poll()]):
                if ready:
                    poller.unregister(self.stopping_fd)
                    signal.pidfd_send_signal(pidfd, signal.SIGTERM)
        finally:
            os.close(pidfd)
        child.wait()


class Call(Source):
    """Call a Python function in the node's main thread; what it raises, or a returned number other than 0, is a failure.

    It is given `config`, a dict, and `stopping`, a threading.Event that is set when it is asked to end, each if it has a parameter of that
    name. The package of `entry` has to be allowed, as that of a node class.
    """

    config = {
        "entry": {
            "type": "string",
            "required": True,
            "check_with": _check_entry,
            "meta": {"doc": "module:callable", "code": True},
        },
        **_SHARED,
    }

    def setup(self) -> None:
        os.environ.update(_variables(self.config))
        os.chdir(_directory(self.config["cwd"]))
        self.function = self._load()
        self.keywords = self._keywords()

    def run(self) -> Iterator[Any]:
        entry = self.config["entry"]
        over = os.eventfd(0, os.EFD_CLOEXEC)
        telling = threading.Thread(target=self._tell, args=(self.stopping_fd, over), name="stopping", daemon=True)
        telling.start()
        try:
            result = self.function(**self.keywords)
        except SystemExit as left:
            result = left.code
            if isinstance(result, str):
                raise JobError(f"{entry} has left with: {result}") from None
        finally:
            os.eventfd_write(over, 1)
            telling.join()
            os.close(over)
        if isinstance(result, int) and not isinstance(result, bool) and result != 0:
            raise JobError(f"{entry} returned {result}")
        yield from ()

    def _tell(self, stopping_fd: int, over: int) -> None:
        """In a thread, for the function has the main one: until it is asked to end, or is over."""
        ready, _, _ = select.select([stopping_fd, over], (), ())
        if over not in ready and "stopping" in self.keywords:
            self.keywords["stopping"].set()

    def _load(self) -> Callable[..., Any]:
        entry = self.config["entry"]
        module_name, _, name = entry.partition(":")
        try:
            module = import_module(module_name)
        except (Exception, SystemExit) as error:  # the author's code; its traceback goes to the log
            self.log.error("entry %s: its import fails", entry, exc_info=True)
            cause = " ".join(f"{type(error).__name__}: {error}".split())
            raise ConfigError(f"entry {entry}: found an import that fails: {cause}, expected a module that can be imported") from error
        function = getattr(module, name, None)
        if not callable(function) or inspect.iscoroutinefunction(function):
            found = f"no {name!r}" if function is None else f"{name!r}, a {'coroutine function' if callable(function) else 'value'},"
            raise ConfigError(f"entry {entry}: found {found} in {module_name!r}, expected a plain function")
        return function

    def _keywords(self) -> dict[str, Any]:
        """What it is called with. A setting that it does not take is refused: it would be lost in silence."""
        entry, offered = self.config["entry"], {"config": self.config["config"], "stopping": threading.Event()}
        try:
            parameters = inspect.signature(self.function).parameters.values()
        except (TypeError, ValueError):  # of a builtin
            return {}
        any_name = any(parameter.kind is parameter.VAR_KEYWORD for parameter in parameters)
        named = {parameter.name for parameter in parameters if parameter.kind in (parameter.POSITIONAL_OR_KEYWORD, parameter.KEYWORD_ONLY)}
        keywords = {name: value for name, value in offered.items() if any_name or name in named}
        if self.config["config"] and "config" not in keywords:
            raise ConfigError(f"entry {entry}: found no parameter `config`, expected one for the `config` that the spec gives it")
        try:
            inspect.signature(self.function).bind(**keywords)
        except TypeError as error:
            raise ConfigError(f"entry {entry}: found {error}, expected no parameters without a default but config and stopping") from None
        return keywords


def _leave(*_: object) -> None:
    """A signal that is not for this process."""


def _directory(path: str) -> str:
    """Raises ConfigError if it is none."""
    if not os.path.isdir(path):
        raise ConfigError(f"cwd {path!r}: found no directory, expected the one in which the job runs")
    return os.path.abspath(path)


def _variables(config: dict[str, Any]) -> dict[str, str]:
    return {name: str(value) for name, value in config["env"].items()}


def _how_it_ended(status: int) -> str:
    if status >= 0:
        return f"ended with {status}"
    try:
        name = signal.Signals(-status).name
    except ValueError:  # real-time signals have numbers only
        name = f"signal {-status}"
    return f"was killed by {name}"
