"""The process that imports plugins so that others need not: it does one job after the other and answers each with a line.

It is told its jobs by a memfd and answers on a pipe of its own, so what a plugin prints harms nothing. Answers come in the order of the
jobs: if the process dies, the first job without an answer is the one that it died of. SYNC: reading.py is the other side.
"""

from __future__ import annotations

import json
import os
import sys
import traceback
from hashlib import sha256
from typing import Any

import msgspec

from streamcore.interpreter import die_with
from streamcore.manifest import Manifest
from streamcore.node import api
from streamcore.plugins.configs import Configs, Sent
from streamcore.plugins.loading import load_target
from streamcore.plugins.location import location_of, top_of
from streamcore.plugins.naming import PluginRefused, cause_of

READY = b"ready\n"
FILES_MAX = 2000  # of one plugin's packages: more are not looked at again in a few milliseconds, so its manifest is not kept
_TRACE_CHARS_MAX = 16_000


class Answer(msgspec.Struct, frozen=True):
    """Of a job without config the manifest, of one with a config what its check gave; or why neither. `job`: its number in this child.

    `files`: those that the manifest follows from, path to sha256; empty if they cannot vouch for it. `location`: see location_of.
    """

    job: int = 0
    manifest: Manifest | None = None
    files: dict[str, str] = {}
    location: str = ""
    checked: Sent | None = None
    refused: tuple[str, str, str] | None = None  # found, expected, hint
    trace: str = ""


def main(request_fd: int, reply_fd: int, parent_pid: int) -> None:
    """Do the jobs that `request_fd` holds: a JSON list of [plugin, target, config or null]."""
    die_with(parent_pid)
    os.set_inheritable(reply_fd, False)
    with open(request_fd, "rb") as file:
        begun_ns = os.fstat(request_fd).st_mtime_ns
        jobs = json.load(file)
    me = os.getpid()
    _say(reply_fd, READY)
    worker = _Worker(begun_ns)
    for number, (plugin, target, config) in enumerate(jobs):
        raw = worker.answer(number, plugin, target, config)
        if os.getpid() != me:
            os._exit(0)  # a plugin forked, and this is what came of it
        _say(reply_fd, raw + b"\n")


def _say(fd: int, raw: bytes) -> None:
    while raw:
        raw = raw[os.write(fd, raw) :]


class _Worker:
    def __init__(self, begun_ns: int):
        self._begun_ns = begun_ns  # by the clock that stamps files
        self._configs = Configs()
        self._hashes: dict[str, str] = {}
        self._data: set[str] = set()  # targets whose schema has no code: whoever asks can check their configs

    def answer(self, job: int, plugin: str, target: str, config: dict[str, Any] | None) -> bytes:
        """An Answer as JSON, whatever the plugin does short of ending the process."""
        what = "a class that cannot be read" if config is None else "a config schema that fails"
        try:
            cls = load_target(target, plugin)
            if config is None:
                answer = self._read(job, cls, plugin, target)
            elif target in self._data:
                answer = Answer(job)
            else:
                answer = Answer(job, checked=Sent.of(self._configs.check(target, cls.config, config)))
            raw = msgspec.json.encode(answer)
            msgspec.json.decode(raw, type=Answer)  # a fault of types is found here, where its plugin is known
            return raw
        except PluginRefused as error:
            return msgspec.json.encode(Answer(job, refused=(error.found, error.expected, error.hint), trace=_trace(error.__cause__)))
        except BaseException as error:  # foreign code: a class may compute what it declares, and an import may raise KeyboardInterrupt
            refused = (f"{what}: {cause_of(error)}", "inputs, outputs and config that are data", "")
            return msgspec.json.encode(Answer(job, refused=refused, trace=_trace(error)))

    def _read(self, job: int, cls: type[api.Node], plugin: str, target: str) -> Answer:
        manifest = Manifest.of(cls, plugin)
        if not manifest.has_code:
            self._data.add(target)
        tops = {top_of(target)} | {top_of(base.__module__) for base in cls.__mro__}
        return Answer(job, manifest, self._files(tops - set(sys.stdlib_module_names)), location_of(top_of(target)))

    def _files(self, tops: set[str]) -> dict[str, str]:
        """What was imported of these packages, of streamcore itself only what shapes a manifest."""
        own = [sys.modules[Manifest.__module__], api]
        modules = [module for name, module in list(sys.modules.items()) if top_of(name) in tops - {"streamcore"}]
        files: dict[str, str] = {}
        for module in (*own, *modules):
            path = getattr(module, "__file__", None)
            if path is None and hasattr(module, "__path__"):
                continue  # a namespace package: a directory, of which the location tells
            if path is None or len(files) == FILES_MAX or not self._hash(path):
                return {}
            files[path] = self._hashes[path]
        return files

    def _hash(self, path: str) -> str:
        """sha256, or "" of a file that is gone or was written after this process began: it need not be what was imported."""
        if path not in self._hashes:
            self._hashes[path] = ""
            try:
                with open(path, "rb") as file:
                    if os.fstat(file.fileno()).st_mtime_ns < self._begun_ns:
                        self._hashes[path] = sha256(file.read()).hexdigest()
            except (OSError, ValueError):
                pass
        return self._hashes[path]


def _trace(error: BaseException | None) -> str:
    text = "".join(traceback.format_exception(error))[-_TRACE_CHARS_MAX:] if error else ""
    return text.encode("utf-8", "backslashreplace").decode()
