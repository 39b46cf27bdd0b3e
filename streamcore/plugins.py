"""Which classes may become nodes, and loading them.

A plugin is named by what an installed package registered in the entry-point group `streamcore.nodes` (`video.file`), or by
`package.module:Class` if the user allowed that package. The rules prevent mistakes; they are no sandbox: importing a module runs it.
"""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Mapping, Sequence
from difflib import get_close_matches
from importlib import import_module
from typing import Any

from streamcore import limits
from streamcore.errors import PluginError
from streamcore.node.api import Node, Port, Sink, Source, forwarded_inputs
from streamcore.packet import carries_arrays

GROUP = "streamcore.nodes"
_NAME = re.compile(r"[a-z][a-z0-9_-]*(\.[a-z0-9][a-z0-9_-]*)*")
_PACKAGE = re.compile(r"[A-Za-z_][A-Za-z0-9_]*(\.[A-Za-z_][A-Za-z0-9_]*)*")
_TARGET = re.compile(r"([A-Za-z_][A-Za-z0-9_]*(?:\.[A-Za-z_][A-Za-z0-9_]*)*):([A-Z][A-Za-z0-9]*)")
_CHARS_MAX = 200
FORMS = "a registered name such as video.file, or package.module:Class"


class PluginRefused(PluginError):
    """A plugin that breaks a rule: `found`, `expected` and `hint` as a problem in a spec states them."""

    def __init__(self, plugin: str, found: str, expected: str, hint: str = ""):
        self.plugin, self.found, self.expected, self.hint = plugin, found, expected, hint
        super().__init__(f"plugin {plugin!r}: found {found}; expected {expected}{f' ({hint})' if hint else ''}")


def names() -> dict[str, str]:
    """Registered plugins, name to `package.module:Class`, read from the metadata of installed packages without importing them."""
    return {name: targets[0] for name, targets in sorted(_registered().items())}


def _registered() -> dict[str, list[str]]:
    """Name to its different targets: more than one if packages disagree."""
    from importlib.metadata import entry_points  # a node process never asks, and would load it for 10 ms

    found: dict[str, list[str]] = {}
    for entry in entry_points(group=GROUP):
        targets = found.setdefault(entry.name, [])
        if entry.value not in targets:
            targets.append(entry.value)
    return found


def resolve(plugin: str, allow: Sequence[str] = ()) -> type[Node]:
    """The class that a spec's `plugin:` names.

    Args:
      allow: packages whose classes may be named as `package.module:Class`, subpackages included. Registered plugins need none.
    Raises:
      PluginError: not registered, not allowed, not importable, or not a proper node class.
    """
    if len(plugin) > _CHARS_MAX:
        raise PluginRefused(f"{plugin[:40]}...", f"a name of {len(plugin)} characters", FORMS)
    if ":" not in plugin:
        return load_target(_registered_target(plugin, _registered()), plugin)
    match = _TARGET.fullmatch(plugin)
    if match is None:
        raise PluginRefused(plugin, repr(plugin), "package.module:Class, where Class is a name in CapWords")
    module = match.group(1)
    if not _is_allowed(module, allow):
        package = module.partition(".")[0]
        listed = f"one of the allowed packages: {', '.join(allow)}" if allow else "a registered plugin: no package is allowed"
        raise PluginRefused(plugin, f"a class of '{module}'", listed, f"to allow it: --allow {package}, or allow: [{package}] in the spec")
    cls = load_target(plugin)
    if not _is_allowed(cls.__module__, allow):
        raise PluginRefused(plugin, f"a class defined in '{cls.__module__}'", f"a class defined in: {', '.join(allow)}")
    return cls


def resolve_all(plugins: Sequence[str], allow: Sequence[str] = ()) -> dict[str, type[Node] | PluginError]:
    """Each plugin's class, or the reason why it has none."""
    classes: dict[str, type[Node] | PluginError] = {}
    for plugin in plugins:
        if plugin not in classes:
            try:
                classes[plugin] = resolve(plugin, allow)
            except PluginError as error:
                classes[plugin] = error
    return classes


def is_package(name: str) -> bool:
    """Is this something that `allow` may list: a dotted package name?"""
    return len(name) <= _CHARS_MAX and _PACKAGE.fullmatch(name) is not None


def _is_allowed(module: str, allow: Sequence[str]) -> bool:
    """By whole dotted parts: `foo` admits foo and foo.bar, never foobar."""
    return any(is_package(package) and (module == package or module.startswith(f"{package}.")) for package in allow)


def _registered_target(plugin: str, registered: Mapping[str, list[str]]) -> str:
    targets = registered.get(plugin, [])
    if len(targets) == 1:
        return targets[0]
    if targets:
        raise PluginRefused(plugin, f"it registered by several packages: {', '.join(targets)}", "one package that registers it")
    if not _NAME.fullmatch(plugin):
        raise PluginRefused(plugin, repr(plugin), FORMS)
    near = get_close_matches(plugin, registered, n=1)
    hint = f"did you mean '{near[0]}'?" if near else "`streamctl node list` names those that are installed"
    raise PluginRefused(plugin, f"no plugin of the name {plugin!r}", "the name of an installed plugin, or package.module:Class", hint)


def target_of(cls: type[Node]) -> str:
    """`package.module:Class`, by which a node process loads the class again."""
    return f"{cls.__module__}:{cls.__qualname__}"


def load_target(target: str, plugin: str = "") -> type[Node]:
    """Import `package.module:Class` and check that it is a proper node class. Called by node processes too; it applies no allow list.

    Modules are sought where Python seeks them and then in the working directory, last, so that nothing there hides an installed module.

    Raises:
      PluginError: names the plugin and the cause on one line; the exception of a failed import is its `__cause__`.
    """
    plugin = plugin or target
    match = _TARGET.fullmatch(target)
    if match is None or any(part.startswith("__") for part in match.group(1).split(".")):
        raise PluginRefused(plugin, repr(target), "package.module:Class, where Class is a name in CapWords")
    module_name, class_name = match.groups()
    if not {"", os.getcwd()} & set(sys.path):
        sys.path.append(os.getcwd())
    try:
        module = import_module(module_name)
    except (Exception, SystemExit) as error:  # foreign code: whatever it raises becomes an error that names the plugin
        cause = " ".join(f"{type(error).__name__}: {error}".split())
        raise PluginRefused(plugin, f"an import that fails: {cause}", f"a module '{module_name}' that can be imported") from error
    cls = getattr(module, class_name, None)
    if not (isinstance(cls, type) and issubclass(cls, Node)):
        what = f"no class '{class_name}' in '{module_name}'" if cls is None else f"'{class_name}', which is not a node class"
        offered = [name for name, value in vars(module).items() if isinstance(value, type) and issubclass(value, Node)]
        near = get_close_matches(class_name, offered, n=1)
        raise PluginRefused(plugin, what, "a subclass of Node, Source or Sink", f"did you mean '{near[0]}'?" if near else "")
    check_shape(cls, plugin)
    return cls


def check_shape(cls: type[Node], plugin: str = "") -> None:
    """Raises PluginError if a class does not keep the contract of the node API."""
    plugin = plugin or target_of(cls)
    for fault in (_class_fault, _ports_fault, _forwards_fault, _numbers_fault):
        text = fault(cls)
        if text:
            found, expected = text
            raise PluginRefused(plugin, found, expected)


def _class_fault(cls: type[Node]) -> tuple[str, str] | None:
    if cls in (Node, Source, Sink):
        return f"{cls.__name__} itself", "a subclass of it"
    if issubclass(cls, Source) and issubclass(cls, Sink):
        return "a subclass of both Source and Sink", "one of them"
    module = sys.modules.get(cls.__module__)
    if getattr(module, cls.__name__, None) is not cls:
        return f"a class that '{cls.__module__}' does not hold as {cls.__name__}", "a class at the top of a module"
    if issubclass(cls, Source):
        return ("a source without run()", "a run() method") if cls.run is Source.run else None
    if cls.process is Node.process and cls.process_batch is Node.process_batch:
        return "a node without process()", "a process() or process_batch() method"
    return None


def _ports_fault(cls: type[Node]) -> tuple[str, str] | None:
    for side in ("inputs", "outputs"):
        ports: Any = getattr(cls, side)
        if not isinstance(ports, Mapping):
            return f"{side} of type {type(ports).__name__}", "a mapping of names to Port"
        for name, port in ports.items():
            if not isinstance(name, str) or not re.fullmatch(limits.ID_PATTERN, name):
                return f"the port name {name!r} in {side}", f"a name that matches {limits.ID_PATTERN}"
            if not isinstance(port, Port):
                return f"{side}[{name!r}] of type {type(port).__name__}", "a Port"
            if not isinstance(port.kind, str) or not 0 < len(port.kind) <= limits.KIND_CHARS_MAX:
                return f"the kind {port.kind!r} of {side}[{name!r}]", f"text of 1 to {limits.KIND_CHARS_MAX} characters"
            if side == "outputs" and port.transport != "shm":
                return (
                    f"outputs[{name!r}] with transport {port.transport!r}",
                    "a transport at inputs only",
                )
    if issubclass(cls, Source) and cls.inputs:
        return f"a source with inputs: {', '.join(cls.inputs)}", "no inputs; a Node has both"
    if issubclass(cls, Sink) and cls.outputs:
        return f"a sink with outputs: {', '.join(cls.outputs)}", "no outputs; a Node has both"
    if not issubclass(cls, Source) and not cls.inputs:
        return "a node without inputs", "inputs; what has none is a Source"
    return None


def _forwards_fault(cls: type[Node]) -> tuple[str, str] | None:
    for name, port in cls.outputs.items():
        for into in port.forwards or ():
            if into not in cls.inputs:
                return f"outputs[{name!r}] that forwards {into!r}", f"one of the inputs: {', '.join(cls.inputs) or 'none'}"
            if not carries_arrays(cls.inputs[into].profile) or into not in forwarded_inputs(cls, name):
                return f"outputs[{name!r}] that forwards {into!r}", "forwards only between ports that can carry arrays"
        if cls.breaks_cycles and forwarded_inputs(cls, name):
            return f"breaks_cycles with outputs[{name!r}] that may forward its input", "forwards=() there: a cycle must not hold memory"
    return None


def _numbers_fault(cls: type[Node]) -> tuple[str, str] | None:
    if not isinstance(cls.config, Mapping):
        return f"config of type {type(cls.config).__name__}", "a mapping: the Cerberus schema of the node's config"
    for attribute, least in (("retention", 0), ("batch_max", 1)):
        value: Any = getattr(cls, attribute)
        if isinstance(value, str):
            if value not in cls.config:
                return f"{attribute} = {value!r}", f"a number, or one of the config keys: {', '.join(map(str, cls.config)) or 'none'}"
        elif not isinstance(value, int) or isinstance(value, bool) or value < least:
            return f"{attribute} = {value!r}", f"an integer of at least {least}, or the name of a config key"
    return None
