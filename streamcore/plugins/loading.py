"""Importing a plugin's class and checking its shape: the one place where foreign code comes in."""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Mapping
from difflib import get_close_matches
from importlib import import_module
from typing import Any

from streamcore import limits
from streamcore.manifest import target_of
from streamcore.node.api import Node, Port, Sink, Source, forwarded_inputs
from streamcore.packet import carries_arrays
from streamcore.plugins.naming import PluginRefused, cause_of, split_target

under_way: list[str] = []  # modules that are being imported just now; what they run must start nothing that imports them again


def load_target(target: str, plugin: str = "") -> type[Node]:
    """Import `package.module:Class` and check that it is a proper node class. Called by node processes too; it applies no allow list.

    Modules are sought where Python seeks them and then in the working directory, last, so that nothing there hides an installed module.

    Raises:
      PluginError: names the plugin and the cause on one line; the exception of a failed import is its `__cause__`.
    """
    plugin = plugin or target
    module_name, class_name = split_target(target, plugin)
    if not {"", os.getcwd()} & set(sys.path):
        sys.path.append(os.getcwd())
    under_way.append(module_name)
    try:
        module = import_module(module_name)
    except (Exception, SystemExit) as error:  # foreign code: whatever it raises becomes an error that names the plugin
        raise PluginRefused(plugin, f"an import that fails: {cause_of(error)}", f"a module '{module_name}' that can be imported") from error
    finally:
        under_way.pop()
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
