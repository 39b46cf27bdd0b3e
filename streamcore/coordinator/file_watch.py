"""Files that may change: looked at by stat, read only when that shows something new, changed only if their content is another.

A folder may be followed like a file; its content is the names of the Python and YAML files in it.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping, Sequence
from hashlib import sha256

Stamp = tuple[int, int, int]  # mtime_ns, size, inode: an editor may write a file anew or put another one in its place
GONE: Stamp = (0, 0, 0)
FILES_MAX = 4096  # looking at so many takes 5 ms a second
ENDINGS = (".py", ".yaml", ".yml")  # other names in a folder come and go: caches, what editors keep


class FileWatch:
    """`follow` files with the content that they are known to have; `look` says which have another one."""

    def __init__(self) -> None:
        self._known: dict[str, str] = {}  # path to sha256, "" for what never counts as known
        self._stamps: dict[str, Stamp] = {}  # with which it was found to have that content

    def follow(self, hashes: Mapping[str, str]) -> int:
        """From now on these files and no others. Returns how many had to be left out: those that come last."""
        self._known = dict(list(hashes.items())[:FILES_MAX])
        self._stamps.clear()
        return len(hashes) - len(self._known)

    def follow_too(self, paths: Sequence[str]) -> None:
        """These as well, as they are now, and the folders of all: what is missing may come there."""
        more = [*paths, *{os.path.dirname(path) or "." for path in (*self._known, *paths)}]
        for path in more:
            if path not in self._known and len(self._known) < FILES_MAX:
                self._known[path] = _hash(path)

    def look(self) -> dict[str, Stamp]:
        """The files whose content is not the known one, with what they look like now."""
        changed = {}
        for path, known in self._known.items():
            stamp = _stamp(path)
            if self._stamps.get(path) != stamp:
                if _hash(path) != known:
                    changed[path] = stamp
                else:
                    self._stamps[path] = stamp
        return changed

    def accept(self, paths: Iterable[str]) -> None:
        """What these files contain now is known."""
        for path in paths:
            self._known[path] = _hash(path)
            self._stamps.pop(path, None)


def _stamp(path: str) -> Stamp:
    try:
        found = os.stat(path)
    except OSError:
        return GONE
    return found.st_mtime_ns, found.st_size, found.st_ino


def _hash(path: str) -> str:
    """ "gone" of a file that cannot be read, which is a state like others."""
    try:
        with open(path, "rb") as file:
            return sha256(file.read()).hexdigest()
    except IsADirectoryError:
        return _listing(path)
    except OSError:
        return "gone"


def _listing(folder: str) -> str:
    try:
        return "/".join(sorted(name for name in os.listdir(folder) if name.endswith(ENDINGS) and not name.startswith(".")))
    except OSError:
        return "gone"
