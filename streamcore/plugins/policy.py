"""Which plugins may load, decided by their names alone, before anything of them runs.

A registered plugin may load. `package.module:Class` may if its package was allowed: by the spec, by --allow or by $STREAMCORE_PLUGINS. The
machine's policy file comes before all three: its `allow` takes the place of theirs, its `registered` bounds the registered ones, and
what it denies is denied whoever asks.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from fnmatch import fnmatchcase
from typing import Any, NamedTuple

from streamcore import limits
from streamcore.errors import Problem, SpecError
from streamcore.plugins.naming import PluginRefused, is_in, is_package, registered_target, split_target
from streamcore.spec.model import Spec
from streamcore.spec.problems import Problems, names, show
from streamcore.spec.reader import Unreadable, decode, read_tree

POLICY_FILE = "/etc/streamcore/policy.yaml"
VARIABLE = "STREAMCORE_PLUGINS"
A_PACKAGE = "a package such as my_nodes or my_nodes.vision"
A_PATTERN = "a name or pattern such as video.file or video.*"
_PATTERN = re.compile(r"[A-Za-z0-9_*?-]+(\.[A-Za-z0-9_*?-]+)*")
_RULES = {
    "allow": {"type": "list", "schema": {"type": "string"}},
    "registered": {
        "type": ["string", "list"],
        "words": ("all",),
        "schema": {"type": "string"},
        "meta": {"words": "all, or a list of names"},
    },
    "deny": {"type": "list", "schema": {"type": "string"}},
}


class Rule(NamedTuple):
    """A package, name or pattern, and who wrote it: an option, a variable, or file:line."""

    text: str
    source: str


@dataclass(frozen=True)
class Machine:
    """A policy file. None: the file has no such key. `places`: key to file:line."""

    allow: tuple[Rule, ...] | None = None
    registered: tuple[Rule, ...] | None = None
    deny: tuple[Rule, ...] = ()
    places: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Policy:
    """Who may load: `allow` is what was asked for, `machine` what the box says.

    `leave_is_known`: False if something that was asked for is wrong, and so reported; a lack of leave may be nothing but that.
    """

    allow: tuple[Rule, ...] = ()
    machine: Machine = Machine()
    leave_is_known: bool = True

    def target_of(self, plugin: str, known: Mapping[str, list[str]]) -> str:
        """The target that a spec's `plugin:` stands for; `known`: registered names to their targets. Raises PluginRefused."""
        if ":" in plugin or len(plugin) > limits.PLUGIN_CHARS_MAX:
            module, _ = split_target(plugin)
            self.admit_module(plugin, module, f"a class of '{module}'")
            return plugin
        target = registered_target(plugin, known)
        module, _ = split_target(target, plugin)
        rules = self.machine.registered
        if rules is not None and not any(fnmatchcase(plugin, rule.text) for rule in rules):
            listed = names(rule.text for rule in rules) or "none"
            raise PluginRefused(
                plugin, f"the registered plugin '{plugin}'", f"one that {self.machine.places['registered']} admits: {listed}"
            )
        self._deny(plugin, [plugin], module, f"the registered plugin '{plugin}'")
        return target

    def admit_definition(self, plugin: str, module: str) -> None:
        """May the class be defined in this module, where it was found to be? Raises PluginRefused."""
        found = f"a class defined in '{module}'"
        if ":" in plugin:
            self.admit_module(plugin, module, found)
        else:
            self._deny(plugin, [], module, found)

    def admit_module(self, plugin: str, module: str, found: str, instead: str = "a registered plugin") -> None:
        """May this module be named? Raises PluginRefused; `instead`: what needs no leave."""
        self._deny(plugin, [], module, found)
        machine = self.machine.allow
        rules = self.allow if machine is None else machine
        if any(is_in(module, rule.text) for rule in rules):
            return
        if machine is not None:
            place = self.machine.places["allow"]
            listed = f"one of the packages that {place} allows: {names(rule.text for rule in machine)}"
            wins = f"this policy takes the place of --allow, ${VARIABLE} and the spec's allow"
            raise PluginRefused(plugin, found, listed if machine else f"{instead}: {place} allows no package", wins)
        package = module.partition(".")[0]
        listed = ", ".join(f"{rule.text} ({rule.source})" for rule in rules)
        expected = f"one of the allowed packages: {listed}" if rules else f"{instead}: no package is allowed"
        hint = f"to allow it: --allow {package}, or allow: [{package}] in the spec"
        raise PluginRefused(plugin, found, expected, hint, follows=not self.leave_is_known)

    def _deny(self, plugin: str, called: Iterable[str], module: str, found: str) -> None:
        for rule in self.machine.deny:
            if is_in(module, rule.text) or any(fnmatchcase(name, rule.text) for name in (*called, module)):
                raise PluginRefused(plugin, found, f"one that {rule.source} does not deny: {rule.text}")


def asked(options: Sequence[str], spec: Spec | None, environ: Mapping[str, str]) -> tuple[Rule, ...]:
    """What --allow, the environment and a spec allow. Words that are no packages are left out: see `wrong_words`."""
    rules = [Rule(package, "--allow") for package in options]
    rules += [Rule(package, f"${VARIABLE}") for package in _words(environ)]
    if spec is not None:
        rules += [Rule(package, f"{spec.file}:{spec.mark(('allow', index)).line}") for index, package in enumerate(spec.allow)]
    return tuple(rule for rule in rules if is_package(rule.text))


def wrong_words(options: Sequence[str], environ: Mapping[str, str]) -> list[Problem]:
    """Words of --allow and the environment that are no packages."""
    words = [("--allow", package) for package in options] + [(f"${VARIABLE}", package) for package in _words(environ)]
    return [Problem(source, 0, 0, package, repr(package), A_PACKAGE) for source, package in words if not is_package(package)]


def _words(environ: Mapping[str, str]) -> list[str]:
    return [word for word in re.split(r"[:,]", environ.get(VARIABLE, "")) if word]


def load_machine(path: str = POLICY_FILE) -> Machine:
    """The policy of this machine; it bounds nothing if there is no such file.

    Raises:
      SpecError: it cannot be read, or something in it is wrong. Then nothing may load: what it would have refused is not known.
    """
    problems = Problems(path)
    try:
        os.lstat(path)
    except FileNotFoundError:
        return Machine()
    except OSError:
        pass  # somebody has put something there; opening it says what is wrong
    try:
        with open(path, "rb") as file:
            raw = file.read(limits.SPEC_BYTES_MAX + 1)
        if len(raw) > limits.SPEC_BYTES_MAX:
            problems.add_at(0, 0, (), f"more than {limits.SPEC_BYTES_MAX} bytes", "a policy file")
            raise Unreadable
        tree, problems.places = read_tree(decode(raw, problems), problems)
    except OSError as error:
        problems.add_at(0, 0, (), error.strerror or str(error), "a policy file that can be read", "no plugin may load before it is mended")
        tree = None
    except Unreadable:
        tree = None
    if not problems:
        return _machine(tree, problems)
    raise _refused(problems)


def _refused(problems: Problems) -> SpecError:
    """As problems of a policy file: the reader takes what it reads for a spec, and says so of the file as a whole."""
    a_mapping = f"a mapping with {names(_RULES)}"
    listed = [replace(found, path="policy") if found.path == "spec" else found for found in problems.listed()]
    return SpecError([replace(found, expected=a_mapping) if found.found == "an empty file" else found for found in listed])


def _machine(tree: Any, problems: Problems) -> Machine:
    from streamcore.spec.schema import Checker

    if not isinstance(tree, dict):
        problems.add((), show(tree), f"a mapping with {names(_RULES)}")
        raise _refused(problems)
    _, findings = Checker(_RULES).check(tree)
    for finding in findings:
        problems.add(*finding)

    def rules(key: str, fits: Any, expected: str) -> tuple[Rule, ...] | None:
        words = tree.get(key)
        if not isinstance(words, list):
            return None
        for index, word in enumerate(words):
            if not problems.is_bad((key, index)) and not fits(word):
                problems.add((key, index), show(word), expected)
        return tuple(Rule(word, place((key, index))) for index, word in enumerate(words) if not problems.is_bad((key, index)))

    def place(where: tuple[str | int, ...]) -> str:
        return f"{problems.file}:{problems.places.find(where)[0]}"

    machine = Machine(
        rules("allow", is_package, A_PACKAGE),
        rules("registered", _PATTERN.fullmatch, A_PATTERN),
        rules("deny", _PATTERN.fullmatch, f"{A_PATTERN}, or a package") or (),
        {key: place((key,)) for key in tree},
    )
    if problems:
        raise _refused(problems)
    return machine
