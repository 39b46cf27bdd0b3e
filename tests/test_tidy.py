"""The project's rules of style, checked: who may import whom, third party per room, clocks, prints, sizes, names, layouts."""

from __future__ import annotations

import ast
import importlib
import re
import struct
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
PYTHON_DIRS = ("streamcore", "nodes", "bench", "tests")

# Room: layer, and third-party packages. A room imports from lower layers and from itself. `node.api` is what authors subclass: pure
# classes, which the plugin registry has to know; the rest of node/ is the host.
ROOMS: dict[str, tuple[float, set[str]]] = {
    "errors": (0, set()),
    "limits": (0, set()),
    "clock": (0, set()),
    "interpreter": (0, set()),
    "whole_file": (0, set()),
    "secret": (0.2, set()),
    "native": (0.5, set()),
    "packet": (1, {"msgspec"}),
    "payload": (1.5, {"numpy"}),
    "schema_check": (1, {"fastjsonschema"}),
    "node.api": (1.5, {"numpy"}),
    "shm": (2, {"numpy", "msgspec"}),
    "wire": (2, {"msgspec"}),
    "spec": (2, {"yaml", "cerberus"}),
    "manifest": (1.7, {"msgspec"}),
    "plugins": (2.5, {"cerberus", "msgspec"}),
    "graph": (3, {"msgspec", "cerberus"}),
    "drawing": (0.5, set()),
    "durable": (3, {"lmdb", "mcap", "msgspec"}),
    "node": (4, {"numpy", "msgspec"}),
    "telemetry": (4, {"msgspec"}),
    "telemetry.otel_sink": (4.5, {"opentelemetry"}),
    "testing": (5, {"numpy"}),
    "authoring": (5.5, {"numpy", "msgspec"}),
    "supervisor": (5, {"psutil", "msgspec"}),
    "control": (5, {"zmq", "msgspec"}),
    "coordinator": (6, {"msgspec"}),
    "cli": (7, {"click", "rich", "msgspec", "cv2", "numpy"}),
    "__main__": (8, set()),
}
NODES_MAY_USE = {"numpy", "cv2"}
BENCH_IN = re.compile(r"streamcore/cli/bench\w*\.py")  # the only place that knows of the benchmarks, which are no part of the runtime

# Longer than 400 lines or 60 lines, with the present size and why. A size here must equal the real one: it may shrink, never grow.
LONG_MODULES: dict[str, tuple[int, str]] = {}
LONG_FUNCTIONS: dict[str, tuple[int, str]] = {}

WALL_CLOCK = {"time.time", "time.time_ns", "time.sleep", "time.ctime", "time.localtime", "time.gmtime"}
WALL_CLOCK |= {f"datetime.{kind}" for kind in ("datetime.now", "datetime.utcnow", "datetime.today", "date.today")}
MAY_READ_WALL_CLOCK = {"streamcore/clock.py": WALL_CLOCK, "streamcore/packet.py": {"time.time_ns"}}
EXITS = {"sys.exit", "os._exit", "exit", "quit", "SystemExit", "builtins.SystemExit"}
MAY_EXIT = {
    "streamcore/interpreter.py": {"os._exit"},
    "streamcore/plugins/child.py": {"os._exit"},
    "streamcore/node/": EXITS,
    "streamcore/__main__.py": EXITS,
}
MAY_PRINT = {"nodes/witness.py"}  # debug.print prints: that is what it is for
LOGS = {"debug", "info", "warning", "error", "exception", "critical", "log"}
BAD_NAMES = {"utils", "util", "helpers", "helper", "manager", "base", "common", "misc"}
DURATIONS = {"timeout", "interval", "delay", "duration", "period", "elapsed", "age"}


@dataclass(frozen=True)
class Module:
    """One Python file: `path` relative to the project, with slashes."""

    path: str
    text: str

    @cached_property
    def tree(self) -> ast.Module:
        return ast.parse(self.text, self.path)

    @cached_property
    def nodes(self) -> list[ast.AST]:
        return list(ast.walk(self.tree))

    @cached_property
    def functions(self) -> list[ast.FunctionDef | ast.AsyncFunctionDef]:
        return [node for node in self.nodes if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef))]

    @cached_property
    def imports(self) -> list[tuple[int, str]]:
        """(line, dotted name) of everything imported; `from a import b` gives a.b."""
        found: list[tuple[int, str]] = []
        for node in self.nodes:
            if isinstance(node, ast.Import):
                found += [(node.lineno, alias.name) for alias in node.names]
            elif isinstance(node, ast.ImportFrom):
                found += [(node.lineno, f"{'.' * node.level}{node.module or ''}.{alias.name}") for alias in node.names]
        return found

    @cached_property
    def caught(self) -> set[ast.AST]:
        """Every node of the `kind` in `except kind`."""
        kinds = [node.type for node in self.nodes if isinstance(node, ast.ExceptHandler) and node.type]
        return {inner for kind in kinds for inner in ast.walk(kind)}

    @cached_property
    def names(self) -> list[tuple[int, str]]:
        """(line, dotted name) of every name or attribute that is read, with import aliases resolved; not what `except` names."""
        known: dict[str, str] = {}
        for node in self.nodes:
            if isinstance(node, ast.Import):
                known.update(
                    {
                        alias.asname or alias.name.partition(".")[0]: alias.name if alias.asname else alias.name.partition(".")[0]
                        for alias in node.names
                    }
                )
            elif isinstance(node, ast.ImportFrom):
                known.update({alias.asname or alias.name: f"{node.module}.{alias.name}" for alias in node.names})
        found = []
        for node in self.nodes:
            if isinstance(node, (ast.Attribute, ast.Name)) and isinstance(node.ctx, ast.Load) and node not in self.caught:
                head, dot, rest = ast.unparse(node).partition(".")
                found.append((node.lineno, known.get(head, head) + dot + rest))
        return found


def room_of(dotted: str) -> str | None:
    """The room that a module of streamcore, or a name in one, belongs to; None for the package itself."""
    parts = dotted.split(".")[1:]
    for length in (2, 1):
        if ".".join(parts[:length]) in ROOMS:
            return ".".join(parts[:length])
    return None


def dotted_of(path: str) -> str:
    return path.removesuffix(".py").removesuffix("/__init__").replace("/", ".")


def no_import_from_above(module: Module) -> Iterator[str]:
    if not module.path.startswith("streamcore/") or module.path == "streamcore/__init__.py":
        return
    room = room_of(dotted_of(module.path))
    if room is None:
        yield f"{module.path}:1: is in no room of ROOMS"
        return
    for line, name in module.imports:
        if name.startswith("."):
            yield f"{module.path}:{line}: relative import {name}, expected an absolute one"
        if not name.startswith("streamcore."):
            continue
        other = room_of(name)
        if other is None and name.count(".") == 1 and not (ROOT / "streamcore" / name.partition(".")[2]).with_suffix(".py").exists():
            continue  # a name of the package itself, such as __version__
        if other is None or (other != room and ROOMS[other][0] >= ROOMS[room][0]):
            yield f"{module.path}:{line}: room {room} imports {name}, which is not in a lower layer"


def only_its_third_party(module: Module) -> Iterator[str]:
    if module.path.startswith("streamcore/"):
        room = room_of(dotted_of(module.path))
        allowed = ROOMS[room][1] if room else set()
    elif module.path.startswith("nodes/"):
        allowed = NODES_MAY_USE
    else:
        return
    ours = {"streamcore", "streamcore_nodes"} | ({"streamcore_bench"} if BENCH_IN.fullmatch(module.path) else set())
    for line, name in module.imports:
        top = name.partition(".")[0]
        if top and top not in allowed | ours | set(sys.stdlib_module_names):
            yield f"{module.path}:{line}: imports {top}, allowed here: {', '.join(sorted(allowed)) or 'none'}"


def nodes_use_the_public_api(module: Module) -> Iterator[str]:
    if not module.path.startswith("nodes/"):
        return
    public = {f"streamcore.{name}" for name in importlib.import_module("streamcore").__all__}
    for line, name in module.imports:
        if name.startswith("streamcore.") and name not in public:
            yield f"{module.path}:{line}: imports {name}; a node uses what `streamcore` itself exports"


def docstring_first(module: Module) -> Iterator[str]:
    if not ast.get_docstring(module.tree):
        yield f"{module.path}:1: no docstring that says what the module is for"


def no_silent_broad_except(module: Module) -> Iterator[str]:
    broad = {"Exception", "BaseException"}
    lines = module.text.splitlines()
    for node in module.nodes:
        if isinstance(node, ast.Call) and ast.unparse(node.func).endswith("suppress") and broad & {ast.unparse(arg) for arg in node.args}:
            yield f"{module.path}:{node.lineno}: suppresses every exception"
        if not isinstance(node, ast.ExceptHandler):
            continue
        caught = (
            {ast.unparse(kind) for kind in (node.type.elts if isinstance(node.type, ast.Tuple) else [node.type])} if node.type else broad
        )
        if not broad & caught:
            continue
        if isinstance(node.body[-1], ast.Raise) and node.body[-1].exc is None:
            continue  # cleans up and lets everything pass
        inside = [inner for statement in node.body for inner in ast.walk(statement)]
        used = any(isinstance(inner, ast.Name) and inner.id == node.name for inner in inside)
        logs = any(isinstance(inner, ast.Attribute) and inner.attr in LOGS for inner in inside)
        if not (used or logs or any(isinstance(inner, ast.Raise) for inner in inside)):
            yield f"{module.path}:{node.lineno}: a broad except that neither logs, re-raises nor uses what it caught"
        if not any("#" in line for line in lines[max(node.lineno - 2, 0) : node.body[0].lineno]):
            yield f"{module.path}:{node.lineno}: a broad except without a comment that says whose code it guards against"


def no_print_or_exit(module: Module) -> Iterator[str]:
    if not module.path.startswith(("streamcore/", "nodes/")) or module.path.startswith("streamcore/cli/"):
        return
    allowed = set().union(*(names for prefix, names in MAY_EXIT.items() if module.path.startswith(prefix)))
    if module.path in MAY_PRINT:
        allowed.add("print")
    for line, name in module.names:
        if name in EXITS | {"print"} and name not in allowed:
            yield f"{module.path}:{line}: {name} outside cli/"


def no_wall_clock(module: Module) -> Iterator[str]:
    if not module.path.startswith(("streamcore/", "nodes/")):
        return
    allowed = MAY_READ_WALL_CLOCK.get(module.path, set())
    for line, name in module.names:
        if name in WALL_CLOCK and name not in allowed:
            yield f"{module.path}:{line}: {name}; take a Clock (monotonic_ns for durations, its wall_ns for time stamps)"


def durations_name_their_unit(module: Module) -> Iterator[str]:
    for node in module.nodes:
        names: list[str] = []
        if isinstance(node, ast.arg):
            names = [node.arg]
        elif isinstance(node, ast.Assign):
            names = [ast.unparse(target) for target in node.targets]
        elif isinstance(node, ast.AnnAssign):
            names = [ast.unparse(node.target)]
        for name in names:
            if name.rpartition(".")[2].rpartition("_")[2].lower() in DURATIONS:
                yield f"{module.path}:{node.lineno}: {name} has no unit; put it last: {name}_s, {name}_ms, {name}_ns"


def no_module_that_says_nothing(module: Module) -> Iterator[str]:
    if not module.path.startswith(("streamcore/", "nodes/", "bench/")):
        return
    for part in dotted_of(module.path).split(".")[1:]:
        if part in BAD_NAMES:
            yield f"{module.path}:1: a module named {part} says nothing of its idea"
        elif not part.startswith("__") and part in sys.stdlib_module_names:
            yield f"{module.path}:1: {part} is named like a module of the standard library"


def not_too_long(module: Module) -> Iterator[str]:
    sizes = {module.path: (len(module.text.splitlines()), 400, LONG_MODULES)}
    for function in module.functions:
        assert function.end_lineno is not None
        sizes[f"{module.path}::{function.name}"] = (function.end_lineno - function.lineno + 1, 60, LONG_FUNCTIONS)
    for what, (lines, most, listed) in sizes.items():
        allowed = listed.get(what, (most, ""))[0]
        if lines > allowed:
            yield f"{what}: {lines} lines, at most {allowed}; split it"


RULES = (
    no_import_from_above,
    only_its_third_party,
    nodes_use_the_public_api,
    docstring_first,
    no_silent_broad_except,
    no_print_or_exit,
    no_wall_clock,
    durations_name_their_unit,
    no_module_that_says_nothing,
    not_too_long,
)

# For every rule at least one file that it has to refuse: a rule that never bites is no rule.
REFUSED = [
    (no_import_from_above, "streamcore/shm/x.py", "from streamcore.wire import inbox"),
    (no_import_from_above, "streamcore/spec/x.py", "def f():\n    import streamcore.graph.plan"),
    (no_import_from_above, "streamcore/plugins/x.py", "from streamcore.node import host"),
    (no_import_from_above, "streamcore/packet.py", "from .node import api"),
    (no_import_from_above, "streamcore/attic.py", "x = 1"),
    (only_its_third_party, "streamcore/graph/x.py", "import zmq"),
    (only_its_third_party, "nodes/x.py", "import requests"),
    (only_its_third_party, "streamcore/cli/up.py", "from streamcore_bench import cases"),
    (nodes_use_the_public_api, "nodes/x.py", "from streamcore.shm.ring import RingWriter"),
    (docstring_first, "streamcore/x.py", "import os"),
    (no_silent_broad_except, "streamcore/x.py", "try:\n    f()\nexcept Exception:  # why\n    pass"),
    (no_silent_broad_except, "streamcore/x.py", "try:\n    f()\nexcept:  # why\n    x = 1"),
    (no_silent_broad_except, "streamcore/x.py", "try:\n    f()\nexcept (OSError, BaseException):\n    raise OSError"),
    (no_silent_broad_except, "streamcore/x.py", "with contextlib.suppress(Exception):\n    f()"),
    (no_print_or_exit, "streamcore/spec/x.py", "print(1)"),
    (no_print_or_exit, "streamcore/spec/x.py", "from sys import exit as leave\nleave(1)"),
    (no_print_or_exit, "nodes/x.py", "raise SystemExit"),
    (no_wall_clock, "streamcore/wire/x.py", "import time as t\nt.sleep(1)"),
    (no_wall_clock, "streamcore/wire/x.py", "from time import time\nx = time()"),
    (no_wall_clock, "streamcore/packet.py", "import time\nf = time.sleep"),
    (no_wall_clock, "nodes/x.py", "from datetime import datetime\ndatetime.now()"),
    (durations_name_their_unit, "streamcore/x.py", "def f(timeout=1): ..."),
    (durations_name_their_unit, "streamcore/x.py", "class A:\n    poll_interval: float = 1"),
    (durations_name_their_unit, "streamcore/x.py", "self.delay = 1"),
    (no_module_that_says_nothing, "streamcore/wire/utils.py", ""),
    (no_module_that_says_nothing, "streamcore/queue.py", ""),
    (not_too_long, "streamcore/x.py", "def f():\n" + "    x = 1\n" * 60),
    (not_too_long, "streamcore/x.py", "x = 1\n" * 401),
]


def modules() -> list[Module]:
    paths = [path for name in PYTHON_DIRS for path in sorted((ROOT / name).rglob("*.py"))]
    return [Module(path.relative_to(ROOT).as_posix(), path.read_text("utf-8")) for path in paths]


MODULES = modules()


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule.__name__)
def test_the_project_keeps_the_rule(rule):
    problems = [problem for module in MODULES for problem in rule(module)]
    assert not problems, "\n" + "\n".join(problems)


@pytest.mark.parametrize(
    ("rule", "path", "text"), REFUSED, ids=[f"{rule.__name__}-{number}" for number, (rule, _, _) in enumerate(REFUSED)]
)
def test_the_rule_refuses_what_it_is_there_to_refuse(rule, path, text):
    assert list(rule(Module(path, text)))


def test_the_lists_of_long_things_hold_exactly_what_is_long():
    # An entry that is larger than the real thing would let it grow back.
    sizes = {module.path: len(module.text.splitlines()) for module in MODULES}
    for module in MODULES:
        sizes |= {f"{module.path}::{f.name}": (f.end_lineno or 0) - f.lineno + 1 for f in module.functions}
    stale = {what: (size, sizes.get(what)) for what, (size, _) in (LONG_MODULES | LONG_FUNCTIONS).items() if sizes.get(what) != size}
    assert not stale, f"listed and real sizes differ; shrink or remove the entries: {stale}"
    needless = [what for listed, most in ((LONG_MODULES, 400), (LONG_FUNCTIONS, 60)) for what, (size, _) in listed.items() if size <= most]
    assert not needless, f"no longer long, remove from the list: {needless}"


LAYOUT_ROW = re.compile(r"^ +(\+ )?(\d+) +(\d+) +(u8|u16|u32|u64|i64|f64|\d+s) +(\w+)\b", re.MULTILINE)
CODES = {"u8": "B", "u16": "H", "u32": "I", "u64": "Q", "i64": "q", "f64": "d"}


def layouts(module: Module) -> list[str]:
    """The struct formats that the layout tables of a docstring describe; a gap or a wrong size gives a format that fits nothing."""
    formats: list[str] = []
    offset, relative = -1, None
    for plus, at, size, kind, _ in LAYOUT_ROW.findall(ast.get_docstring(module.tree, clean=False) or ""):
        if int(at) == 0 or plus != relative:
            formats, offset, relative = [*formats, "<"], 0, plus
        code = CODES.get(kind, kind)
        formats[-1] += code if (int(at), int(size)) == (offset, struct.calcsize("<" + code)) else "?"
        offset += int(size)
    return formats


def test_the_layout_in_a_docstring_is_the_layout_in_the_code():
    tables = [(module, layout) for module in MODULES for layout in layouts(module) if module.path.startswith("streamcore/")]
    assert tables, "no layout table found at all: has its form changed?"
    for module, layout in tables:
        code = importlib.import_module(dotted_of(module.path))
        # Native formats of ours are those of the table: the code asserts their size and byte order.
        declared = {"<" + value.format[1:] for value in vars(code).values() if isinstance(value, struct.Struct)}
        assert layout in declared, f"{module.path}: the docstring describes {layout}, the code declares {sorted(declared)}"


def test_every_layout_docstring_names_the_version_in_the_code():
    named = {module.path: re.search(r"\bversion (\d+)\b", (ast.get_docstring(module.tree) or "").partition("\n")[0]) for module in MODULES}
    checked = 0
    for path, match in named.items():
        version = getattr(importlib.import_module(dotted_of(path)), "VERSION", None) if match and path.startswith("streamcore/") else None
        if match and version is not None:
            assert int(match[1]) == version, f"{path}: the docstring says version {match[1]}, VERSION is {version}"
            checked += 1
    assert checked
