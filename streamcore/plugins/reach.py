"""Which files run when a plugin's module is imported, as their import statements say.

A manifest names every file of its packages that its reader had imported by then, on behalf of other plugins too: right for a cache, which
may be wrong in one direction only, too much for whoever asks which plugins one file belongs to. Nothing is imported here.
"""

from __future__ import annotations

import ast
import os
from collections.abc import Iterable, Iterator

from streamcore.plugins.location import location_of


class Reach:
    """The import statements of these files, and of whatever lies in these outermost packages. Each is read once, when it is first met."""

    def __init__(self, files: Iterable[str], tops: Iterable[str] = ()):
        self._files, self._tops = frozenset(files), frozenset(tops)
        self._locations: dict[str, list[str]] = {}
        self._imports: dict[str, list[str]] = {}

    def of(self, module: str) -> frozenset[str]:
        """The files that an import of `module` may run: imports inside functions count, imports by a computed name do not."""
        found: set[str] = set()
        seen: set[str] = set()
        todo = [module]
        while todo:
            name = todo.pop()
            if name in seen:
                continue
            seen.add(name)
            path = self._file_of(name)
            if path:
                found.add(path)
                todo += _parents(name)
                todo += self._imports_of(name, path)
        return frozenset(found)

    def _file_of(self, module: str) -> str:
        """ "" of what is not among the files: another package, or a name that is no module."""
        top, *inner = module.split(".")
        if top not in self._locations:
            self._locations[top] = location_of(top).split(os.pathsep)
        origin, *folders = self._locations[top]
        paths = [origin] if not inner else [os.path.join(folder, *inner) + end for folder in folders for end in (".py", "/__init__.py")]
        return next((path for path in paths if path in self._files or (top in self._tops and os.path.isfile(path))), "")

    def _imports_of(self, module: str, path: str) -> list[str]:
        if path not in self._imports:
            package = module if os.path.basename(path) == "__init__.py" else module.rpartition(".")[0]
            self._imports[path] = list(_imported(path, package))
        return self._imports[path]


def _imported(path: str, package: str) -> Iterator[str]:
    """Whatever may be a module in the import statements of a file. None of one that cannot be read, or is no Python."""
    try:
        with open(path, "rb") as file:
            tree = ast.parse(file.read())
    except (OSError, ValueError, SyntaxError, RecursionError, MemoryError):  # the last two: of a hostile file
        return
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            for alias in node.names:
                yield alias.name
                yield from _parents(alias.name)
        elif isinstance(node, ast.ImportFrom):
            outer = package.split(".")[: len(package.split(".")) - node.level + 1] if node.level else []
            base = ".".join([*outer, *filter(None, [node.module])])
            if base:
                yield base
                yield from _parents(base)
                yield from (f"{base}.{alias.name}" for alias in node.names)


def _parents(module: str) -> list[str]:
    """a.b.c gives a.b and a: they are imported before it."""
    parts = module.split(".")
    return [".".join(parts[:length]) for length in range(len(parts) - 1, 0, -1)]
