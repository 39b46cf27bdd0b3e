"""The inner loop in machine code: which modules, and when their compiled form is taken instead of the source.

`tools/native` compiles MODULES, as they stand, with mypyc into `_native/TAG/` beside this file: one library with all their code, a small
library for each that hands it out, and `manifest.json`, which holds the sha256 of every source that was compiled. TAG names interpreter
and machine as Python's own extension modules do. Source and library are the same text.

Beside them lies `leaves.c`, written by hand: functions that do to bytes and words of shared memory what a few Python functions do, and hand
back to those whatever is not the plain case. `take_over` puts them in their place.

All or nothing: the libraries are used if the manifest knows just these modules and every source is still what was compiled, so that an
edited module is never hidden by a library of yesterday. Otherwise all of them are loaded from source, as if `_native` were not there.

The environment variable STREAMCORE_NATIVE: 0 never uses the libraries, 1 insists on them (NativeError names what is in the way), unset
or empty uses them where they fit. It is read once, when the first of MODULES is imported.
"""

from __future__ import annotations

import os

from streamcore import __version__
from streamcore.errors import NativeError

TYPE_CHECKING = False  # known to type checkers by its name; `typing` takes longer to import than this module
if TYPE_CHECKING:
    from collections.abc import Sequence
    from importlib.machinery import ModuleSpec
    from types import ModuleType
    from typing import Any

MODULES = (
    "streamcore.node.checks",
    "streamcore.node.completions",
    "streamcore.node.exchange",
    "streamcore.node.host",
    "streamcore.node.inlet",
    "streamcore.node.lease",
    "streamcore.node.out_edge",
    "streamcore.node.outlet",
    "streamcore.node.placing",
    "streamcore.node.positions",
    "streamcore.node.pulling",
    "streamcore.node.slots",
    "streamcore.node.timing",
    "streamcore.shm.layout",
    "streamcore.shm.ring",
    "streamcore.wire.credit",
    "streamcore.wire.inbox",
)
LEAVES = "streamcore.leaves"  # leaves.c
LIBRARY = "streamcore_native__mypyc"  # a module of its own at the top, by which mypyc's small libraries find the large one
VARIABLE = "STREAMCORE_NATIVE"
MANIFEST = "manifest.json"
PACKAGE = os.path.dirname(os.path.abspath(__file__))


def tag() -> str:
    """Interpreter and machine, e.g. `cpython-311-x86_64-linux-gnu`."""
    from importlib.machinery import EXTENSION_SUFFIXES

    return EXTENSION_SUFFIXES[0].removeprefix(".").removesuffix(".so")


def folder() -> str:
    """Where the libraries for this interpreter lie, if there are any."""
    return os.path.join(PACKAGE, "_native", tag())


def source_of(module: str) -> str:
    return os.path.join(PACKAGE, *module.split(".")[1:]) + (".c" if module == LEAVES else ".py")


def library_of(place: str, module: str) -> str:
    """Laid out as mypyc takes it to be: it tells modules their `__file__`."""
    return os.path.join(place, *module.split(".")) + f".{tag()}.so"


def hashes() -> dict[str, str]:
    """sha256 of the source of each of MODULES and of LEAVES, as the manifest holds it."""
    from hashlib import sha256

    found = {}
    for module in (*MODULES, LEAVES):
        with open(source_of(module), "rb") as file:
            found[module] = sha256(file.read()).hexdigest()
    return found


def obstacle(place: str) -> str:
    """Why the libraries in a folder may not be used; empty if they may."""
    import json

    try:
        with open(os.path.join(place, MANIFEST), "rb") as file:
            manifest = json.load(file)
        known = manifest["sources"]
        if (manifest["version"], manifest["tag"]) != (__version__, tag()):
            return f"{place} was made for streamcore {manifest['version']} on {manifest['tag']}, this is {__version__} on {tag()}"
        if known.keys() != {*MODULES, LEAVES}:
            return f"{place} was compiled from other modules: {', '.join(sorted(known.keys() ^ {*MODULES, LEAVES}))}"
        changed = [module for module, digest in hashes().items() if known[module] != digest]
    except FileNotFoundError as error:
        return f"{error.filename} is not there"
    except (OSError, ValueError, TypeError, LookupError, AttributeError) as error:
        return f"{place}: {type(error).__name__}: {error}"
    return f"changed since they were compiled: {', '.join(changed)}" if changed else ""


def wanted() -> bool | None:
    """What STREAMCORE_NATIVE asks for; None if it leaves it open. NativeError if it is neither 0 nor 1."""
    value = os.environ.get(VARIABLE, "")
    if value not in ("", "0", "1"):
        raise NativeError(f"{VARIABLE}: found {value!r}, expected 0 (never), 1 (insist) or nothing")
    return bool(int(value)) if value else None


class Finder:
    """Stands first in sys.meta_path. `place`: where the libraries are, "" for the sources, None until decided."""

    def __init__(self, place: str | None = None):
        self.place = place
        self._names = {*MODULES, LEAVES, LIBRARY}

    def find_spec(self, name: str, path: Sequence[str] | None = None, target: ModuleType | None = None) -> ModuleSpec | None:
        if name not in self._names or not self.decide():
            return None
        from importlib.util import spec_from_file_location

        return spec_from_file_location(name, library_of(self.place or "", name))

    def decide(self) -> str:
        """The folder whose libraries are used, "" if none are. Asked once, for modules of both kinds would not fit together."""
        if self.place is None:
            want = wanted()
            why = "" if want is False else obstacle(folder())
            if want and why:
                raise NativeError(f"{VARIABLE}=1, but there is no compiled inner loop that fits: {why}; tools/native makes it")
            self.place = "" if want is False or why else folder()
        return self.place


finder = Finder()  # of this process


def take_over(namespace: dict[str, Any], *names: str, **known: Any) -> None:
    """At the end of a module: put the leaves of these names in the place of its functions, if the libraries are used. `known`: the classes
    and codecs that they work with.
    """
    if finder.decide():
        from importlib import import_module

        leaves = import_module(LEAVES)
        for name, value in known.items():
            leaves.learn(name, value)
        for name in names:
            namespace[name] = leaves.learn(name, namespace[name])
