"""Where Python would take a package from, found out without importing it."""

from __future__ import annotations

import os
from importlib.machinery import PathFinder
from importlib.util import find_spec


def top_of(dotted: str) -> str:
    """The outermost package of a module or a target."""
    return dotted.partition(":")[0].partition(".")[0]


def location_of(top: str) -> str:
    """File and directories of an outermost package, as text; "" if it is not found. The finders run no code of a package at the top.

    SYNC: load_target looks into the working directory last too.
    """
    try:
        spec = find_spec(top) or PathFinder.find_spec(top, [os.getcwd()])
    except (ImportError, ValueError, OSError):  # ValueError: a module without a spec, such as __main__
        return ""
    if spec is None:
        return ""
    return os.pathsep.join([spec.origin or "", *(spec.submodule_search_locations or ())])
