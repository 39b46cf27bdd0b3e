"""How an inspection of processes is shown: in columns, as a tree, and each fact in words."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import TYPE_CHECKING, NamedTuple

from streamcore.cli.wording import plural, short, size, span

if TYPE_CHECKING:
    from streamcore.supervisor.inspection import Facts, Numbers, Tree


class Column(NamedTuple):
    """`fields` of Numbers under one head, a slash between them."""

    head: str
    form: Callable[[float], str]
    fields: tuple[str, ...]

    def cell(self, numbers: Numbers | None, partial: Sequence[str] = ()) -> str:
        """A plus says that the sum leaves out a process that could not be read."""
        values = [getattr(numbers, field, None) for field in self.fields]
        known = [self.form(value) for value in values if value is not None]
        if len(known) < len(values):
            return "-"
        return "/".join(known) + ("+" if set(partial) & set(self.fields) else "")


def percent(share: float) -> str:
    return f"{share:.0f}%"


CPU = Column("CPU", percent, ("cpu_percent",))
CPU_TIME = Column("CPU TIME", span, ("cpu_s",))
MEMORY = tuple(Column(name, size, (f"{name.lower()}_bytes",)) for name in ("RSS", "USS", "PSS"))
COUNTS = (Column("THREADS", short, ("threads",)), Column("FDS", short, ("fds",)))
ACTIVITY = (
    Column("READ", size, ("read_bytes",)),
    Column("WRITTEN", size, ("written_bytes",)),
    Column("SWITCHES", short, ("switches_voluntary", "switches_involuntary")),
    Column("FAULTS", short, ("faults_minor", "faults_major")),
)
GPU = (Column("GPU", percent, ("gpu_percent",)), Column("GPU MEM", size, ("gpu_memory_bytes",)))


def all_columns(seen: Iterable[Numbers]) -> tuple[Column, ...]:
    """Those of GPUs only where one works for a process."""
    on_gpu = any(numbers.gpu_memory_bytes is not None or numbers.gpu_percent is not None for numbers in seen)
    return (CPU, CPU_TIME, *MEMORY, *COUNTS, *ACTIVITY, *(GPU if on_gpu else ()))


def numbered(cpus: Sequence[int] | None) -> str:
    """CPUs as the kernel writes them: 0-3,6."""
    parts: list[list[int]] = []
    for cpu in sorted(cpus or ()):
        if parts and parts[-1][-1] == cpu - 1:
            parts[-1][1:] = [cpu]
        else:
            parts.append([cpu])
    return ",".join("-".join(map(str, part)) for part in parts) or "-"


def indented(tree: Tree) -> Iterator[tuple[str, Facts]]:
    """Each process after the one that has started it, and two spaces further in."""
    depths: dict[int, int] = {}
    for facts in tree.processes:
        # What was left by a parent that has ended stands below the first one, which leads its session.
        depths[facts.pid] = depths.get(facts.parent, 0) + 1 if depths else 0
        yield "  " * depths[facts.pid], facts


def described(facts: Facts) -> list[str]:
    """Every fact of one process: a line that names it, and one for each kind."""

    def known(text: str, *values: object) -> str:
        return "not known" if None in values else text

    def one(column: Column) -> str:
        return column.cell(facts).replace("/", " / ")

    most = "no limit" if facts.fds_max is None else f"{facts.fds_max:,}"
    bounds = [f"at most {size(facts.memory_max_bytes)}"] if facts.memory_max_bytes is not None else []
    bounds += [f"at most {facts.cpu_max:g} CPUs"] if facts.cpu_max is not None else []
    rss, uss, pss = map(one, MEMORY)
    read, written, switches, faults = map(one, ACTIVITY)
    rows = {
        "command": " ".join(facts.command) if facts.command else "not known",
        "cpu": f"{one(CPU)} of a core, {one(CPU_TIME)} in all; nice {facts.nice}, on CPUs {numbered(facts.affinity)}",
        "memory": f"{rss} resident (RSS), {uss} its own (USS), {pss} with its part of what is shared (PSS)",
        "threads": one(COUNTS[0]),
        "descriptors": known(f"{one(COUNTS[1])} of {most}", facts.fds),
        "disks": known(f"{read} read, {written} written", facts.read_bytes, facts.written_bytes),
        "switches": known(f"{switches} (it waited / its time was up)", facts.switches_voluntary),
        "page faults": f"{faults} (first touched / had to be read)",
        "cgroup": known(", ".join([facts.cgroup or "", *bounds]), facts.cgroup),
    }
    if facts.gpu_memory_bytes is not None or facts.gpu_percent is not None:
        rows["gpu"] = f"{one(GPU[1])}, {one(GPU[0])} of a device"
    user = f"user {facts.user}, " if facts.user else ""
    head = f"process {facts.pid} {facts.name}  {facts.state}, {user}{span(facts.age_s)} old, started by {facts.parent}"
    return [head, *(f"  {name:<12} {text}" for name, text in rows.items())]


def tree_lines(tree: Tree) -> list[str]:
    """`described` of each of its processes, and of their sums what one asks for first."""
    lines = [line for facts in tree.processes for line in described(facts)]
    if len(tree.processes) > 1:
        sums = "  ".join(f"{column.head} {column.cell(tree.total, tree.partial)}" for column in (CPU, CPU_TIME, *MEMORY, *COUNTS))
        lines.append(f"{plural(len(tree.processes), 'process', 'processes')} in all  {sums}")
    return lines
