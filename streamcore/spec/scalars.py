"""What a plain YAML scalar means: the core schema of YAML 1.2, and sizes.

`yes`, `no`, `on`, `off` and `12:30` are text, and `017` is seventeen: YAML 1.1 made them booleans, 750 and fifteen.
Numbers that JSON cannot carry between processes are refused instead of silently changed.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterable
from typing import Any

from streamcore import limits

_NULL = re.compile(r"null|Null|NULL|~|")
_TRUE = re.compile(r"true|True|TRUE")
_FALSE = re.compile(r"false|False|FALSE")
_INT = re.compile(r"[-+]?[0-9]+|0o[0-7]+|0x[0-9a-fA-F]+")
_FLOAT = re.compile(r"[-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)([eE][-+]?[0-9]+)?")
_NOT_FINITE = re.compile(r"[-+]?\.(inf|Inf|INF)|\.(nan|NaN|NAN)")
_SIZE = re.compile(r"([0-9]{1,18}(?:\.[0-9]{1,18})?) ?(B|KiB|MiB|GiB|TiB)")
_INT_CHARS_MAX = 40  # before conversion, which is quadratic; 64 bits take at most 22, in octal 24
INT_MIN, INT_MAX = -(2**63), 2**64 - 1
_UNITS = {"B": 1, "KiB": limits.KIB, "MiB": limits.MIB, "GiB": limits.GIB, "TiB": 1024 * limits.GIB}


def core_scalar(text: str) -> Any:
    """The value of a plain scalar: None, bool, int, float or str.

    Raises:
      ValueError: not a finite number, or an integer outside 64 bits; the text says what is expected.
    """
    if _NULL.fullmatch(text):
        return None
    if _TRUE.fullmatch(text):
        return True
    if _FALSE.fullmatch(text):
        return False
    if _INT.fullmatch(text):
        number = int(text, 0 if text[:2] in ("0o", "0x") else 10) if len(text) <= _INT_CHARS_MAX else INT_MAX + 1
        if not INT_MIN <= number <= INT_MAX:
            raise ValueError("an integer of at most 64 bits; put it in quotes if it is text")
        return number
    if _FLOAT.fullmatch(text):
        value = float(text)
        if math.isfinite(value):
            return value
    elif not _NOT_FINITE.fullmatch(text):
        return text
    raise ValueError("a finite number; put it in quotes if it is text")


def parse_size(text: str) -> int | None:
    """Bytes of `512MiB`, `1.5GiB`, `64 KiB` or `100B`; None if it is not a size. Fractions of a byte are dropped."""
    match = _SIZE.fullmatch(text)
    if match is None:
        return None
    number, unit = match.groups()
    whole, _, fraction = number.partition(".")
    scale = _UNITS[unit]
    return int(whole) * scale + (int(fraction) * scale // 10 ** len(fraction) if fraction else 0)


def size_text(nbytes: int) -> str:
    """Bytes as a person writes them: 512MiB, 1.5GiB, 4097B."""
    for unit in ("TiB", "GiB", "MiB", "KiB"):
        if nbytes >= _UNITS[unit]:
            return f"{round(nbytes / _UNITS[unit], 2):g}{unit}"
    return f"{nbytes}B"


def numbers_text(numbers: Iterable[int]) -> str:
    """Whole numbers as a spec lists CPUs: 0-3,6."""
    runs: list[list[int]] = []
    for number in sorted(numbers):
        if runs and number == runs[-1][1] + 1:
            runs[-1][1] = number
        else:
            runs.append([number, number])
    return ",".join(f"{first}-{last}" if last > first else f"{first}" for first, last in runs)
