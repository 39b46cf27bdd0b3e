"""Values of a Python program as a spec has them: a path is text there, a tuple a list, and a number of numpy a number."""

from __future__ import annotations

import os
from collections.abc import Mapping
from enum import Enum
from math import isfinite
from numbers import Integral, Real
from pathlib import Path
from typing import Any

from streamcore import limits
from streamcore.secret import Secret, SecretRef
from streamcore.spec.model import Where
from streamcore.spec.scalars import INT_MAX, INT_MIN

Wrong = list[tuple[Where, str, str]]  # where, found, expected

EXPECTED = "text, a path, a number, true, false, None, a list, a mapping or a SecretRef"


def plain(value: Any, where: Where, wrong: Wrong) -> Any:
    """The value without types of its own. What a spec cannot hold is None, and noted in `wrong`."""
    if value is None or isinstance(value, (bool, Secret)):
        return value
    if isinstance(value, SecretRef):
        return _secret(value, where, wrong)
    if len(where) > limits.SPEC_NESTING_MAX:
        return _refused(where, wrong, f"nesting deeper than {limits.SPEC_NESTING_MAX}", f"at most {limits.SPEC_NESTING_MAX} levels")
    if isinstance(value, Enum):
        return plain(value.value, where, wrong)
    if isinstance(value, os.PathLike):
        value = os.fspath(value)
    if isinstance(value, str):
        return _text(value, where, wrong)
    if isinstance(value, Mapping):
        return _mapping(value, where, wrong)
    if isinstance(value, (list, tuple)):
        return [plain(item, (*where, index), wrong) for index, item in enumerate(value)]
    if isinstance(value, Integral):
        return int(value) if INT_MIN <= int(value) <= INT_MAX else _refused(where, wrong, "a larger integer", "one of at most 64 bits")
    if isinstance(value, Real):
        return float(value) if isfinite(value) else _refused(where, wrong, str(value), "a finite number")
    return _refused(where, wrong, f"a value of the type {type(value).__name__}", EXPECTED)


def _refused(where: Where, wrong: Wrong, found: str, expected: str) -> Any:
    """Gives what stands for the value: None."""
    wrong.append((where, found, expected))
    return None


def _secret(ref: SecretRef, where: Where, wrong: Wrong) -> Any:
    try:
        return ref.resolve(os.environ, Path())
    except LookupError as error:
        return _refused(where, wrong, *error.args)


def _text(value: str, where: Where, wrong: Wrong) -> Any:
    text = str.__str__(value)
    try:
        text.encode()
    except UnicodeEncodeError:
        return _refused(where, wrong, "text with half a surrogate pair", "text that is Unicode")
    return text


def _mapping(value: Mapping[Any, Any], where: Where, wrong: Wrong) -> dict[str, Any]:
    made: dict[str, Any] = {}
    for key, item in value.items():
        name = _text(key, where, wrong) if isinstance(key, str) else _refused(where, wrong, f"a key {key!r:.40}", "keys that are text")
        if name is not None:
            made[name] = plain(item, (*where, name), wrong)
    return made
