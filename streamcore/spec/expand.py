"""`for_each` and `include`: from the written lists of nodes and edges to flat ones with every reference replaced.

An entry with `for_each` becomes one entry per item, its id followed by the item's name: camera.front. An entry with `include` becomes the
nodes and edges of that file, ids below its own: gate.camera. Edges name an instance (`camera.front.out`), all of them (`camera.*.out`), or
a port that an included graph shows (`gate.frames`). Entries keep the path under which they are written, so that a problem has its place.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

from streamcore import limits
from streamcore.secret import Secret, revealed
from streamcore.spec.interpolate import EACH, UNSET, Filler, resolve_with
from streamcore.spec.model import Place, PortSpec, Where
from streamcore.spec.problems import Problems, names, show
from streamcore.spec.reader import Unreadable, read_file, read_tree
from streamcore.spec.rules import INCLUDE, NODE, SUBGRAPH, VERSION
from streamcore.spec.schema import Checker

INCLUDE_DEPTH_MAX = 8  # files within files; a deeper graph is a mistake
INCLUDES_MAX = 256  # different files
EDGES_MAX = 20_000  # after expansion; bounds what a few lines with `*` can make
INSTANCE = r"[a-z0-9][a-z0-9_-]{0,31}"
_MAY_BE_SECRET = ("config", "env", "with")  # of a node
_SIDES = {"from": "outputs", "to": "inputs"}

_include_checker = Checker(INCLUDE, proven=True)
_subgraph_checker = Checker(SUBGRAPH, proven=True)


class Entry(NamedTuple):
    """A node or edge after expansion, and where it is written."""

    where: Where
    value: Any


@dataclass
class Expanded:
    """`partial`: something could not be expanded, so nothing may be concluded from what is missing."""

    nodes: list[Entry] = field(default_factory=list)
    edges: list[Entry] = field(default_factory=list)
    ports: list[PortSpec] = field(default_factory=list)
    includes: list[str] = field(default_factory=list)
    partial: bool = False


class _Level(NamedTuple):
    """One file at one place of the graph. `prefix` of the ids that it makes, e.g. "gate."; `path` of its tree within the spec's."""

    tree: Mapping[str, Any]
    path: Where
    prefix: str
    known: Mapping[str, Any]
    folder: Path
    chain: tuple[str, ...]  # files from the spec to here


class _Instance(NamedTuple):
    """An included graph: what it shows, side to port name to the flat end behind it. Not whole: it may show more, once it is mended."""

    ports: Mapping[str, Mapping[str, str]]
    file: str
    is_whole: bool


def expand(tree: Mapping[str, Any], known: Mapping[str, Any], file: str, folders: Sequence[str], filler: Filler) -> Expanded:
    """Expand a spec whose params are `known`. `folders`: where included files may lie besides the folder of the spec."""
    expander = _Expander(file, folders, filler)
    expander.level(_Level(tree, (), "", known, Path(file).parent, (os.path.realpath(file),)))
    return expander.made


class _Expander:
    def __init__(self, file: str, folders: Sequence[str], filler: Filler):
        self.made = Expanded()
        self._filler, self._problems = filler, filler.problems
        self._roots = [os.path.realpath(folder) for folder in (os.path.dirname(file) or ".", *folders)]
        self._files: dict[str, tuple[Any, Place] | None] = {}
        self._instances: dict[str, _Instance] = {}
        self._groups: dict[str, dict[str, None]] = {}  # each with its instances, in the order written
        self._first: dict[str, Where] = {}  # ids of groups and included graphs, to where they are written
        self._full = False

    def level(self, level: _Level) -> Mapping[str, Mapping[str, str]]:
        """Adds the nodes and edges of one file; returns the ports that it shows."""
        for where, entry in _entries(level, "nodes"):
            self._node(level, where, entry)
        for where, entry in _entries(level, "edges"):
            self._edge(level, where, entry)
        return self._ports(level)

    # --- nodes

    def _node(self, level: _Level, where: Where, entry: Any) -> None:
        if not isinstance(entry, dict) or "for_each" not in entry:
            self._one(level, where, entry, level.known, "")
            return
        rest = {key: value for key, value in entry.items() if key != "for_each"}
        items = self._items(level, (*where, "for_each"), entry["for_each"])
        if items is None:
            self.made.partial = True
            return
        node_id = self._filler.fill(rest.get("id"), (*where, "id"), level.known, level.folder)
        if isinstance(node_id, str):
            self._claim(level.prefix + node_id, node_id, where)
            self._groups.setdefault(level.prefix + node_id, dict.fromkeys(name for name, _ in items))
        for name, item in items:
            if self._full:
                return  # a few lines within each other could go on for hours
            self._one(level, where, rest, {**level.known, **item}, f".{name}")

    def _claim(self, flat: str, node_id: str, where: Where) -> bool:
        """Is this the first node of this id? Else that is reported."""
        first = self._first.setdefault(flat, where)
        if first == where:
            return True
        hint = f"first on line {self._problems.places.find((*first, 'id'))[0]}"
        self._problems.add((*where, "id"), f"{show(node_id)} again", "an id that no other node has", hint)
        return False

    def _items(self, level: _Level, where: Where, written: Any) -> list[tuple[str, dict[str, Any]]] | None:
        """(name, what `each` stands for) of every item; None after a problem."""
        value = revealed(self._filler.fill(written, where, level.known, level.folder))
        problems = self._problems
        if problems.is_bad(where) or value is UNSET:
            return None
        if isinstance(value, int) and not isinstance(value, bool) and value >= 0:
            value = range(value) if value <= limits.NODES_MAX else range(limits.NODES_MAX + 1)
        if not isinstance(value, (dict, list, range)):
            problems.add(where, show(value), "a list, a mapping or a number of instances")
            return None
        if len(value) > limits.NODES_MAX:
            problems.add(where, f"more than {limits.NODES_MAX} items", f"at most {limits.NODES_MAX}: each is a process")
            return None
        pairs = list(value.items()) if isinstance(value, dict) else [(self._name_of(item), item) for item in value]
        found: list[tuple[str, dict[str, Any]]] = []
        taken: set[str] = set()
        for index, (name, item) in enumerate(pairs):
            place: Where = (*where, name if isinstance(value, dict) else index)
            if name is None or not re.fullmatch(INSTANCE, name):
                what = show(item) if name is None else show(name)
                expected = f"a name that matches {INSTANCE}: text, or the key `name` of a mapping"
                problems.add(place, what, expected, at_key=isinstance(value, dict))
            elif name in taken:
                problems.add(place, f"{show(name)} again", "a name that no other item has")
            else:
                taken.add(name)
                fields = {f"{EACH}.{key}": part for key, part in item.items()} if isinstance(item, dict) else {}
                found.append((name, {**fields, EACH: item, f"{EACH}.name": name, f"{EACH}.index": index}))
        return None if problems.is_bad(where) or len(found) < len(pairs) else found

    @staticmethod
    def _name_of(item: Any) -> str | None:
        name = item.get("name") if isinstance(item, dict) else item
        return str(name) if isinstance(name, (str, int)) and not isinstance(name, bool) else None

    def _one(self, level: _Level, where: Where, entry: Any, known: Mapping[str, Any], suffix: str) -> None:
        value = self._filler.fill(entry, where, known, level.folder)
        if not isinstance(value, dict):
            self.made.nodes.append(Entry(where, value))
            return
        if isinstance(value.get("id"), str) and not self._problems.is_bad((*where, "id")):
            if (suffix or level.prefix) and not re.fullmatch(limits.ID_PATTERN, value["id"]):
                self._problems.add((*where, "id"), show(value["id"]), f"an id that matches {limits.ID_PATTERN}")
            value["id"] = f"{level.prefix}{value['id']}{suffix}"
        if "include" in value:
            self._include(level, where, value)
        elif len(self.made.nodes) > limits.NODES_MAX and (suffix or level.prefix):
            self.made.partial = self._full = True
            self._problems.add(where, f"more than {limits.NODES_MAX} nodes in all", f"at most {limits.NODES_MAX}: each is a process")
        else:
            self.made.nodes.append(Entry(where, value))

    # --- included graphs

    def _include(self, level: _Level, where: Where, value: dict[str, Any]) -> None:
        refuse_secrets(value, where, self._problems)
        checked, findings = _include_checker.check(value)
        for finding in findings:
            if finding.at_key and finding.where[0] in NODE:
                finding = finding._replace(hint="it is for the nodes of the included file", near=None)
            self._problems.add((*where, *finding.where), *finding[1:])
        if any(self._problems.is_bad((*where, key)) for key in ("id", "include", "with")):
            self.made.partial = True
            return
        if not self._claim(checked["id"], checked["id"], where):
            return
        place: Where = (*where, "include")
        opened = self._open(level, place, checked["include"])
        if opened is None:
            self.made.partial = True
            return
        path, tree = opened
        folder = Path(path).parent
        given = checked.get("with") or {}
        known = resolve_with(tree.get("params", {}), place, given, (*where, "with") if "with" in value else where, self._filler, folder)
        inner = _Level(tree, place, f"{checked['id']}.", known, folder, (*level.chain, path))
        ports = self.level(inner)
        is_whole = not self.made.partial and not any(bad[: len(place)] == place for bad in self._problems.bad)
        self._instances[checked["id"]] = _Instance(ports, checked["include"], is_whole)

    def _open(self, level: _Level, where: Where, name: str) -> tuple[str, Mapping[str, Any]] | None:
        """(real path, tree) of an included file, its places grafted; None after a problem."""
        problems = self._problems
        path = os.path.realpath(level.folder / name)
        if "\0" in name or not any(os.path.commonpath((root, path)) == root for root in self._roots):
            folder = os.path.dirname(path)
            hint = f"to allow it: --include-from {folder if os.path.isabs(name) else os.path.relpath(folder)}"
            problems.add(where, f"{show(name)}, outside of the folder of the spec", "a file below it", hint)
        elif not os.path.isfile(path):
            problems.add(where, f"{show(name)}: {'a directory' if os.path.isdir(path) else 'no such file'}", "the file of a sub-graph")
        elif path in level.chain:
            shown = " -> ".join(os.path.basename(file) for file in (*level.chain[level.chain.index(path) :], path))
            problems.add(where, f"a file that includes itself: {shown}", "a graph that ends")
        elif len(level.chain) > INCLUDE_DEPTH_MAX:
            problems.add(where, f"more than {INCLUDE_DEPTH_MAX} files within each other", "fewer")
        elif path not in self._files and len(self._files) >= INCLUDES_MAX:
            problems.add(where, f"more than {INCLUDES_MAX} different files", "fewer")
        else:
            shown = os.path.join(os.path.dirname(level.chain[-1]), name) if level.path else str(level.folder / name)
            return self._read(where, path, os.path.relpath(shown) if level.path else shown)
        return None

    def _read(self, where: Where, path: str, shown: str) -> tuple[str, Mapping[str, Any]] | None:
        if path not in self._files:
            self._files[path] = self._parse(path, shown)
            self.made.includes.append(path)
        found = self._files[path]
        if found is None:
            self._problems.silence(where)
            return None
        tree, root = found
        place, exact = self._problems.places.nearest(where)
        if exact:
            place.graft(root, shown)
        for finding in _subgraph_checker.check({key: value for key, value in tree.items() if key != "params"})[1]:
            self._problems.add((*where, *finding.where), *finding[1:])
        if "params" in tree and not isinstance(tree["params"], dict):
            self._problems.add((*where, "params"), show(tree["params"]), "a mapping")
        return path, tree

    def _parse(self, path: str, shown: str) -> tuple[Any, Place] | None:
        inner = Problems(shown)
        try:
            tree, root = read_tree(read_file(path, inner), inner)
            if not isinstance(tree, dict):
                inner.add_at(1, 1, (), show(tree), "a mapping with version, nodes and edges")
            elif tree.get("version", VERSION) != VERSION or isinstance(tree.get("version"), (bool, float)):
                inner.add_at(*root.find(("version",)), ("version",), show(tree["version"]), f"{VERSION}: only such a graph can be included")
        except Unreadable:
            root = None
        self._problems.extend(inner.listed())
        return None if root is None or not isinstance(tree, dict) or inner.is_bad(("version",)) else (tree, root)

    # --- edges and ports

    def _edge(self, level: _Level, where: Where, entry: Any) -> None:
        value = self._filler.fill(entry, where, level.known, level.folder)
        if not isinstance(value, dict) or not all(isinstance(value.get(end), str) for end in _SIDES):
            self.made.edges.append(Entry(where, value))
            return
        ends = {end: self._ends(level, (*where, end), value[end], side) for end, side in _SIDES.items()}
        if not (ends["from"] and ends["to"]):
            self.made.partial = self.made.partial or any(self._problems.is_bad((*where, end)) for end in _SIDES)
            return
        pairs = self._pairs(where, ends["from"], ends["to"])
        if len(self.made.edges) + len(pairs) > EDGES_MAX:
            self.made.partial = True
            self._problems.add(where, f"more than {EDGES_MAX} edges in all", f"at most {EDGES_MAX}")
            return
        self.made.edges += [Entry(where, {**value, "from": producer, "to": consumer}) for producer, consumer in pairs]

    def _pairs(self, where: Where, froms: dict[str, str], tos: dict[str, str]) -> list[tuple[str, str]]:
        """Every instance to its namesake if both ends are many, else the one end to each of the other."""
        if "" in froms or "" in tos:
            return [(producer, consumer) for producer in froms.values() for consumer in tos.values()]
        if set(froms) != set(tos):
            odd = sorted(set(froms) ^ set(tos))
            found = f"instances without a namesake at the other end: {names(odd)}"
            self.made.partial = True
            self._problems.add(where, found, "the same names at both ends, as `*` to `*` joins them by name")
            return []
        return [(producer, tos[name]) for name, producer in froms.items()]

    def _ends(self, level: _Level, where: Where, text: str, side: str) -> dict[str, str]:
        """Instance name ("" if there is only one) to the flat end; empty after a problem, or if `*` stands for none."""
        flat = level.prefix + text
        head, star, port = flat.partition(".*")
        if not star:
            if self._is_group(flat, text, where):
                return {}
            end = self._behind(flat, text, where, side)
            return {} if end is None else {"": end}
        if self.made.partial and head not in self._groups:
            return {}
        if head not in self._groups or (port and not port.startswith(".")):
            known = [group.removeprefix(level.prefix) for group in self._groups if group.startswith(level.prefix)]
            expected = f"the id of a node with for_each before it: {names(known)}" if known else "no *: no node has for_each"
            self._problems.add(where, show(text), expected)
            return {}
        ends = {name: self._behind(f"{head}.{name}{port}", text, where, side) for name in self._groups[head]}
        return {name: end for name, end in ends.items() if end is not None}

    def _is_group(self, flat: str, text: str, where: Where) -> bool:
        """Does this name a node with for_each but none of its instances? Then it is reported."""
        for group in heads(flat, self._groups):
            rest = flat[len(group) + 1 :]
            instances = self._groups[group]
            if not heads(rest, instances):
                shown = text[: len(text) - len(rest)].rstrip(".") if rest else text
                expected = f"{shown}.* for all, or one of: {names(f'{shown}.{name}' for name in instances)}" if instances else "instances"
                self._problems.add(where, f"{show(text)}, which for_each makes {len(instances)} of", expected)
                return True
        return False

    def _behind(self, flat: str, text: str, where: Where, side: str) -> str | None:
        """The end itself, or what an included graph shows under this name; None after a problem."""
        for owner in heads(flat, self._instances):
            ports, port = self._instances[owner].ports[side], flat[len(owner) + 1 :]
            if port in ports:
                return ports[port]
            if not port and len(ports) == 1:
                return next(iter(ports.values()))
            if not self._instances[owner].is_whole:
                self.made.partial = True
                return None
            what = f"no port {show(port)} of {self._instances[owner].file}" if port else f"{show(text)}, which has {len(ports)} {side}"
            expected = f"one of its {side}: {names(ports)}" if ports else f"a graph with {side} in its ports"
            self._problems.add(where, what, expected, near=(port, ports))
            return None
        return flat

    def _ports(self, level: _Level) -> Mapping[str, Mapping[str, str]]:
        shown: dict[str, dict[str, str]] = {"inputs": {}, "outputs": {}}
        written = level.tree.get("ports")
        for side in shown:
            ports = written.get(side) if isinstance(written, dict) else None
            for name, port in ports.items() if isinstance(ports, dict) else ():
                where: Where = (*level.path, "ports", side, name)
                value = self._filler.fill({"port": port} if isinstance(port, str) else port, where, level.known, level.folder)
                if self._problems.is_bad(where) or not isinstance(value, dict) or not isinstance(value.get("port"), str):
                    continue
                if not re.fullmatch(limits.ID_PATTERN, name):
                    self._problems.add(where, show(name), f"a port name that matches {limits.ID_PATTERN}", at_key=True)
                    continue
                end = self._ends(level, where, value["port"], side).get("")
                if end is None:
                    self._problems.add(where, show(value["port"]), "one port of one node")
                    continue
                shown[side][name] = end
                kind, payload = (str(value.get(key) or "") for key in ("kind", "payload"))
                self.made.ports.append(PortSpec(level.prefix + name, side, end, kind, payload, where))
        return shown


def _entries(level: _Level, key: str) -> Iterator[tuple[Where, Any]]:
    entries = level.tree.get(key)
    for index, entry in enumerate(entries if isinstance(entries, list) else ()):
        yield (*level.path, key, index), entry


def refuse_secrets(value: Any, where: Where, problems: Problems) -> None:
    """A secret is for what runs; what decides which graph runs is shown everywhere."""
    if isinstance(value, Secret):
        problems.add(where, "a secret", f"a value that may be shown: secrets are for {names(_MAY_BE_SECRET)}")
    elif isinstance(value, dict):
        for key, item in value.items():
            if key not in _MAY_BE_SECRET:
                refuse_secrets(item, (*where, key), problems)
    elif isinstance(value, list):
        for index, item in enumerate(value):
            refuse_secrets(item, (*where, index), problems)


def heads(flat: str, known: Mapping[str, Any]) -> list[str]:
    """What of `known` stands at the beginning of a dotted name, the longest first."""
    if not known:
        return []
    parts = flat.split(".")
    whole = (".".join(parts[:count]) for count in range(len(parts), 0, -1))
    return [head for head in whole if head in known]
