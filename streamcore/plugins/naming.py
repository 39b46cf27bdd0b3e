"""How plugins are named: their forms, what is registered, and the error that says what a name should have been."""

from __future__ import annotations

import re
from collections.abc import Mapping
from difflib import get_close_matches

from streamcore import limits
from streamcore.errors import PluginError

GROUP = "streamcore.nodes"
FORMS = "a registered name such as video.file, or package.module:Class"
TARGET_FORM = "package.module:Class, where Class is a name in CapWords"
_CAUSE_CHARS_MAX = 500
NAME = re.compile(r"[a-z][a-z0-9_-]*(\.[a-z0-9][a-z0-9_-]*)*")
_PACKAGE = re.compile(r"[A-Za-z_][A-Za-z0-9_]*(\.[A-Za-z_][A-Za-z0-9_]*)*")
_TARGET = re.compile(r"([A-Za-z_][A-Za-z0-9_]*(?:\.[A-Za-z_][A-Za-z0-9_]*)*):([A-Z][A-Za-z0-9]*)")


class PluginRefused(PluginError):
    """A plugin that breaks a rule: `found`, `expected` and `hint` as a problem in a spec states them.

    `follows`: from a problem that is reported elsewhere, so that a spec does not report this one.
    """

    def __init__(self, plugin: str, found: str, expected: str, hint: str = "", *, follows: bool = False):
        self.plugin, self.found, self.expected, self.hint, self.follows = plugin, found, expected, hint, follows
        super().__init__(f"plugin {plugin!r}: found {found}; expected {expected}{f' ({hint})' if hint else ''}")


def names() -> dict[str, str]:
    """Registered plugins, name to `package.module:Class`, read from the metadata of installed packages without importing them."""
    return {name: targets[0] for name, targets in sorted(registered().items())}


def registered() -> dict[str, list[str]]:
    """Name to its different targets: more than one if packages disagree."""
    from importlib.metadata import entry_points  # a node process never asks, and would load it for 10 ms

    found: dict[str, list[str]] = {}
    for entry in entry_points(group=GROUP):
        targets = found.setdefault(entry.name, [])
        if entry.value not in targets:
            targets.append(entry.value)
    return found


def registered_target(plugin: str, known: Mapping[str, list[str]]) -> str:
    """The target of a registered name. Raises PluginRefused: nobody registers it, or several packages do and disagree."""
    targets = known.get(plugin, [])
    if len(targets) == 1:
        return targets[0]
    if targets:
        raise PluginRefused(plugin, f"registered by several packages: {', '.join(targets)}", "one package that registers it")
    if not NAME.fullmatch(plugin):
        raise PluginRefused(plugin, repr(plugin), FORMS)
    near = get_close_matches(plugin, known, n=1)
    hint = f"did you mean '{near[0]}'?" if near else "`streamctl node list` names those that are installed"
    raise PluginRefused(plugin, f"no plugin of the name {plugin!r}", "the name of an installed plugin, or package.module:Class", hint)


def split_target(target: str, plugin: str = "") -> tuple[str, str]:
    """Module and class of `package.module:Class`. Raises PluginRefused, by its form alone."""
    if len(target) > limits.PLUGIN_CHARS_MAX:
        raise PluginRefused(f"{(plugin or target)[:40]}...", f"a name of {len(target)} characters", FORMS)
    match = _TARGET.fullmatch(target)
    if match is None or any(part.startswith("__") for part in match.group(1).split(".")):
        raise PluginRefused(plugin or target, repr(target), TARGET_FORM)
    return match.group(1), match.group(2)


def cause_of(error: BaseException) -> str:
    """An exception of foreign code on one line that can be printed and sent."""
    text = " ".join(f"{type(error).__name__}: {error}".split())
    return text[:_CAUSE_CHARS_MAX].encode("utf-8", "backslashreplace").decode()


def is_package(name: str) -> bool:
    """Is this something that `allow` may list: a dotted package name?"""
    return len(name) <= limits.PLUGIN_CHARS_MAX and _PACKAGE.fullmatch(name) is not None


def is_in(module: str, package: str) -> bool:
    """By whole dotted parts: `foo` holds foo and foo.bar, never foobar."""
    return is_package(package) and (module == package or module.startswith(f"{package}."))
