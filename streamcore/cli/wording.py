"""Numbers, sizes, durations and tables as people read them."""

from __future__ import annotations

from collections.abc import Iterable, Sequence


def plural(count: int, one: str, many: str = "") -> str:
    """1 node, 2 nodes; `many` for what does not end with s."""
    return f"{count:,} {one if count == 1 else many or one + 's'}"


def size(nbytes: float) -> str:
    """Bytes with a binary unit: 512 B, 8.0 KiB, 1.5 GiB."""
    for unit in ("B", "KiB", "MiB", "GiB"):
        if abs(nbytes) < 1024:
            return f"{nbytes:.0f} B" if unit == "B" else f"{nbytes:.1f} {unit}"
        nbytes /= 1024
    return f"{nbytes:.1f} TiB"


def span(seconds: float) -> str:
    """A duration with the two largest units that matter: 0.8 s, 12.3 s, 3 min 05 s, 1 h 02 min, 2 d 3 h."""
    if seconds < 60:
        return f"{seconds:.1f} s"
    minutes, rest_s = divmod(round(seconds), 60)
    if minutes < 60:
        return f"{minutes} min {rest_s:02} s"
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes:02} min" if hours < 24 else f"{hours // 24} d {hours % 24} h"


def rate(per_second: float) -> str:
    """Packets per second: 29.9, 1,204."""
    return f"{per_second:,.0f}" if per_second >= 100 else f"{per_second:.1f}"


def milliseconds(ns: float) -> str:
    """A duration with three digits that matter: 0.012, 3.41, 84.2, 1,204."""
    ms = ns / 1e6
    digits = 3 if ms < 0.1 else 2 if ms < 10 else 1 if ms < 100 else 0
    return f"{ms:,.{digits}f}"


def short(count: float) -> str:
    """A count in at most six characters: 1,204, 98.1k, 12.3M."""
    if count < 10_000:
        return f"{count:,.0f}"
    steps = 1 if count < 999_950 else 2 if count < 999_950_000 else 3
    return f"{count / 1000**steps:.1f}{' kMG'[steps]}"


def per_second(value: float) -> str:
    """In at most six characters: 0, 0.3, 29.9, 1,204, 98.1k."""
    return "0" if value < 0.05 else f"{value:.1f}" if value < 99.95 else short(value)


def brief(ns: float | None) -> str:
    """A duration in at most six characters: 850us, 1.25ms, 40.0ms, 125ms, 1.25s, 12.5s, 125s, 62min."""
    if ns is None:
        return "-"
    for unit, unit_ns, above in (("us", 1e3, 1e6), ("ms", 1e6, 1e9), ("s", 1e9, 6e11)):
        if ns < above * 0.9995:
            value = ns / unit_ns
            digits = 0 if unit == "us" or value >= 99.95 else 1 if value >= 9.995 else 2
            return f"{value:.{digits}f}{unit}"
    return f"{ns / 60e9:.0f}min"


def fit(name: str, most: int) -> str:
    """A name in at most so many characters: of one that is longer both ends, which tell names apart."""
    if len(name) <= most:
        return name
    kept = max(most - 1, 2)
    return name[: kept - kept // 2] + "…" + name[len(name) - kept // 2 :]


def table(heads: Sequence[str], rows: Iterable[Sequence[object]], right: Iterable[int] = ()) -> list[str]:
    """Plain aligned columns, two spaces apart, for pipes and terminals alike; the columns in `right` are aligned right."""
    cells = [[str(cell) for cell in row] for row in rows]
    widths = [max(map(len, column)) for column in zip(heads, *cells, strict=True)]
    to_right = set(right)
    lines = []
    for row in (list(heads), *cells):
        padded = (
            cell.rjust(width) if n in to_right else cell.ljust(width) for n, (cell, width) in enumerate(zip(row, widths, strict=True))
        )
        lines.append("  ".join(padded).rstrip())
    return lines
