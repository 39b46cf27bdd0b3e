"""What was measured: rows of values, and the JSON file that holds them (docs/benchmarks.md has its format)."""

from __future__ import annotations

import json
import os
import platform
import statistics
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Annotated, Any, Literal

import msgspec

from streamcore.whole_file import whole_file

VERSION = 1
FILE_BYTES_MAX = 16 << 20  # all cases and peers, 5 rounds each, take 300 KB
OURS = "streamcore"
MEMCPY = "memcpy"  # the limit of whoever writes a fresh frame, measured between the runs
APPEND = "append"  # the limit of whoever has to have it on the disk: a plain file, written at its end and synced


@dataclass(frozen=True)
class Measure:
    """What a number is: `words` say how a better and a worse value is called."""

    name: str
    title: str
    unit: str
    better: str = "lower"
    words: tuple[str, str] = ("faster", "slower")


LESS = ("less", "more")
MEASURES = {
    measure.name: measure
    for measure in (
        Measure("rate", "packets per second", "1/s", "higher"),
        Measure("delivered", "packets per second out of a backlog", "1/s", "higher"),
        Measure("group", "records per commit", "records", "higher", ("more", "fewer")),
        Measure("p50_us", "latency, median", "us"),
        Measure("p99_us", "latency, 99 %", "us"),
        Measure("cpu_us", "CPU per packet, all processes", "us", words=LESS),
        Measure("cpu_per_1000_s", "CPU per 1000 packets, all processes", "s", words=LESS),
        Measure("cpu_percent", "CPU of the whole run, of one core", "%", words=LESS),
        Measure("lost", "packets lost", "packets", words=LESS),
        Measure("uss_mib", "private memory", "MiB", words=LESS),
        Measure("pss_mib", "memory, of shared pages its part", "MiB", words=LESS),
        Measure("own_mib", "memory without frames", "MiB", words=LESS),
        Measure("threads", "threads", "threads", words=LESS),
        Measure("seconds", "time", "s"),
        Measure("first_ms", "from ready to the first packet", "ms"),
        Measure("ready_s", "from the command to ready", "s"),
        Measure("anon_mib", "memory that is no file's", "MiB", words=LESS),
        Measure("age_p50_ms", "age of the frame when work begins, median", "ms"),
        Measure("age_p99_ms", "age of the frame when work begins, 99 %", "ms"),
    )
}


Value = Annotated[float, msgspec.Meta(ge=0, le=1e15)]


@dataclass
class Row:
    """All values of one measure of one program at one point."""

    case: str
    point: str
    who: str
    measure: str
    unit: str
    better: Literal["higher", "lower"]
    values: list[Value] = field(default_factory=list)

    @property
    def key(self) -> tuple[str, str, str, str]:
        return self.case, self.point, self.who, self.measure

    @property
    def median(self) -> float:
        return statistics.median(self.values)


@dataclass(frozen=True)
class Machine:
    """What the numbers depend on."""

    cpu: str
    cores: int
    memory_bytes: int
    kernel: str
    python: str
    load_before: float


@dataclass(frozen=True)
class _File:
    """What is in the JSON."""

    v: int
    date: str
    machine: Machine
    versions: dict[str, str]
    repeat: int
    rows: list[Row]


class Results:
    """Everything of one call of `streamctl bench run`, in the order in which it was measured."""

    def __init__(self, date: str, machine: Machine, repeat: int, versions: dict[str, str] | None = None) -> None:
        self.date, self.machine, self.repeat = date, machine, repeat
        self.versions = versions or {}
        self._rows: dict[tuple[str, str, str, str], Row] = {}

    @property
    def rows(self) -> list[Row]:
        return list(self._rows.values())

    def add(self, case: str, point: str, who: str, found: dict[str, float]) -> None:
        for name, value in found.items():
            measure = MEASURES[name]
            row = Row(case, point, who, name, measure.unit, measure.better)
            self._rows.setdefault(row.key, row).values.append(value)

    def row(self, case: str, point: str, who: str, measure: str) -> Row | None:
        return self._rows.get((case, point, who, measure))

    def as_json(self) -> dict[str, Any]:
        return asdict(_File(VERSION, self.date, self.machine, self.versions, self.repeat, self.rows))

    def write(self, path: str) -> None:
        """Whole or not at all. Raises OSError."""
        with whole_file(path) as file:
            file.write((json.dumps(self.as_json(), indent=1) + "\n").encode())


def read(path: str) -> Results:
    """Raises OSError, or ValueError that says what is wrong with the file."""
    with open(path, "rb") as file:
        raw = file.read(FILE_BYTES_MAX + 1)
    if len(raw) > FILE_BYTES_MAX:
        raise ValueError(f"{path}: more than {FILE_BYTES_MAX} bytes, expected a file of results")
    try:
        found = msgspec.json.decode(raw)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise ValueError(f"{path} is no JSON: {error}") from None
    if not isinstance(found, dict) or found.get("v") != VERSION:
        version = found.get("v") if isinstance(found, dict) else type(found).__name__
        raise ValueError(f"{path}: found version {version!r}, expected {VERSION}, as `streamctl bench run --json` writes it")
    try:
        given = msgspec.convert(found, _File)
    except msgspec.ValidationError as error:
        raise ValueError(f"{path}: {error}") from None
    results = Results(given.date, given.machine, given.repeat, given.versions)
    for row in given.rows:
        if not row.values:
            raise ValueError(f"{path}: the row {row.key} has no values")
        if row.measure not in MEASURES:
            raise ValueError(f"{path}: found measure {row.measure!r}, expected one of: {', '.join(MEASURES)}")
        results._rows[row.key] = row
    return results


def machine() -> Machine:
    """This one, now."""
    return Machine(
        cpu=_field("/proc/cpuinfo", "model name") or platform.machine(),
        cores=len(os.sched_getaffinity(0)),
        memory_bytes=int((_field("/proc/meminfo", "MemTotal") or "0").split()[0]) * 1024,
        kernel=platform.release(),
        python=platform.python_version(),
        load_before=round(os.getloadavg()[0], 2),
    )


def _field(path: str, name: str) -> str:
    lines = Path(path).read_text().splitlines()
    return next((line.partition(":")[2].strip() for line in lines if line.startswith(name)), "")
