"""What passes between `judge` and the process that makes the checks: one request on its stdin, a line per report on a pipe; all JSON.

Kept apart from both, so that the asking side imports nothing of what the plugin is called with.
"""

from __future__ import annotations

import os
from typing import Any

import msgspec

_OURS = os.path.dirname(os.path.dirname(__file__)) + os.sep
_STANDARD = os.path.dirname(os.__file__) + os.sep
ENDED = "ended"  # state of a check during which a process hung or died


class Request(msgspec.Struct):
    """What to check. `done`: names of checks that an earlier process has made, with their state."""

    plugin: str
    allow: list[str]
    config: dict[str, Any]
    samples: dict[str, Any]
    deadline_s: float
    parent_pid: int
    done: dict[str, str] = {}


class Report(msgspec.Struct, omit_defaults=True):
    """`what`: refused (`reason` says why), plugin (what it is, names and promises of its checks), or end (of one check)."""

    what: str
    name: str = ""
    state: str = ""
    reason: str = ""
    target: str = ""
    role: str = ""
    checks: list[tuple[str, str]] = []


def is_plugins(path: str) -> bool:
    """Is this file neither streamcore's nor of the standard library."""
    installed = "site-packages" in path or "dist-packages" in path
    return not path.startswith((_OURS, "<frozen")) and (installed or not path.startswith(_STANDARD))
