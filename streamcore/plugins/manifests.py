"""From the names in a spec to manifests: policy first, then the cache, then one child process for all that is left."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import msgspec

from streamcore import limits
from streamcore.errors import PluginError
from streamcore.manifest import Manifest
from streamcore.plugins.cache import Cache, Entry, cache_folder
from streamcore.plugins.child import Answer
from streamcore.plugins.configs import Checked
from streamcore.plugins.naming import PluginRefused, registered
from streamcore.plugins.policy import Policy
from streamcore.plugins.reading import Job, read
from streamcore.secret import revealed
from streamcore.spec.schema import Finding

_NOT_DATA = Finding((), "something that JSON cannot carry", "a config of text, numbers, lists and mappings")


class Asked(NamedTuple):
    """A plugin by the name that the spec uses, and a config for it, if there is one to be checked."""

    plugin: str
    config: Mapping[str, Any] | None = None


class Found(NamedTuple):
    """Each plugin's manifest or the reason why it has none; and by index the configs that only a plugin's own code can check, checked.

    `files`: those that were read for a plugin's manifest, path to sha256; none if they cannot vouch for it (see child.py).
    """

    manifests: dict[str, Manifest | PluginError]
    checked: dict[int, Checked]
    files: dict[str, Mapping[str, str]]


class _Traceback(Exception):
    """A traceback from another process, as the cause of an error here: `--debug` prints it."""

    def __str__(self) -> str:
        return f"\n{self.args[0]}"


def find(asked: Sequence[Asked], policy: Policy, cache: Cache | None = None, deadline_s: float = limits.PLUGIN_S) -> Found:
    """What the plugins declare. Nothing of a plugin runs in this process, and nothing at all of one that the policy refuses.

    Args:
      cache: by default the user's.   deadline_s: how long the import of one plugin, or the check of one config, may take.
    Raises:
      ReaderError: this box cannot start a process.
    """
    cache = Cache(cache_folder(os.environ)) if cache is None else cache
    found = Found({}, {}, {})
    targets = _targets(asked, policy, found)
    tasks: dict[str, _Task] = {}  # by target: two names may stand for one class
    for index, (plugin, config) in enumerate(asked):
        target = targets.get(plugin)
        if target is not None:
            if target not in tasks:
                tasks[target] = _Task(target, cache.get(target))
            tasks[target].add(plugin, config, index)
    jobs = [job for task in tasks.values() for job in task.jobs(policy)]
    answers = iter(read(jobs, deadline_s) if jobs else ())
    for task in tasks.values():
        task.settle(answers, policy, cache, found)
    return found


def _targets(asked: Sequence[Asked], policy: Policy, found: Found) -> dict[str, str]:
    """Name to target of what may load; what may not is noted in `found`."""
    known = registered()
    targets: dict[str, str] = {}
    for plugin in dict.fromkeys(ask.plugin for ask in asked):
        try:
            targets[plugin] = policy.target_of(plugin, known)
        except PluginRefused as error:
            found.manifests[plugin] = error
    return targets


class _Task:
    """All that is asked of one class. While it is not known whether its schema has code, its configs go with it: one child is enough."""

    def __init__(self, target: str, kept: Entry | None):
        self._target, self._kept = target, kept.manifest if kept else None
        self._files: Mapping[str, str] = kept.files if kept else {}
        self._plugins: list[str] = []
        self._configs: dict[str, list[int]] = {}  # as JSON, to where it was asked
        self._unfit: list[int] = []

    def add(self, plugin: str, config: Mapping[str, Any] | None, index: int) -> None:
        if plugin not in self._plugins:
            self._plugins.append(plugin)
        if config is not None and (self._kept is None or self._kept.has_code):
            try:
                self._configs.setdefault(json.dumps(revealed(config)), []).append(index)
            except (TypeError, ValueError, RecursionError):
                self._unfit.append(index)

    def jobs(self, policy: Policy) -> list[Job]:
        if self._kept and not any(isinstance(_admit(plugin, self._kept, policy), Manifest) for plugin in self._plugins):
            self._configs.clear()  # where it is defined is known and not admitted, so none of its code is run
        manifest = [] if self._kept else [Job(self._plugins[0], self._target)]
        return manifest + [Job(self._plugins[0], self._target, json.loads(config)) for config in self._configs]

    def settle(self, answers: Iterator[Answer], policy: Policy, cache: Cache, found: Found) -> None:
        """Take the answers to the jobs, in their order."""
        manifest = self._kept
        if manifest is None:
            answer = next(answers)
            manifest = answer.manifest
            if manifest is None:
                found.manifests.update({plugin: _refused(plugin, answer) for plugin in self._plugins})
            else:
                self._files = answer.files
                cache.put(self._target, manifest, answer.files, answer.location)
        for indexes in self._configs.values():
            answer = next(answers)
            if manifest is not None and manifest.has_code:
                found.checked.update(dict.fromkeys(indexes, _checked(answer)))
        if manifest is None:
            return
        found.checked.update(dict.fromkeys(self._unfit, Checked(findings=(_NOT_DATA,))))
        found.manifests.update({plugin: _admit(plugin, manifest, policy) for plugin in self._plugins})
        found.files.update(dict.fromkeys(self._plugins, self._files))


def _admit(plugin: str, manifest: Manifest, policy: Policy) -> Manifest | PluginError:
    """A manifest under the name that the spec uses, if its class is defined where one may be."""
    try:
        policy.admit_definition(plugin, manifest.module)
    except PluginRefused as error:
        return error
    return msgspec.structs.replace(manifest, name=plugin)


def _refused(plugin: str, answer: Answer) -> PluginRefused:
    error = PluginRefused(plugin, *(answer.refused or ("no answer", "a manifest", "")))
    if answer.trace:
        error.__cause__ = _Traceback(answer.trace)
    return error


def _checked(answer: Answer) -> Checked:
    if answer.checked is not None:
        return answer.checked.received()
    return Checked(fault=answer.refused[0] if answer.refused else "a config schema that gives no answer")
