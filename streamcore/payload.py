"""Payloads as numpy sees them: the types that may travel, whether a payload is what its port declares, how errors name it."""

from __future__ import annotations

from typing import Any

import numpy as np

from streamcore import limits
from streamcore.packet import FRAME_DTYPES, Array, JsonSchema, Profile

JSON_TYPES = frozenset({dict, list, tuple, str, int, float, bool, type(None)})  # the common ones, found by one look-up
BYTES_TYPES = frozenset({bytes, bytearray, memoryview})
DTYPES: dict[str, np.dtype[Any]] = {name: np.dtype(name) for name in FRAME_DTYPES}
DTYPE_NAMES: dict[np.dtype[Any], str] = {dtype: name for name, dtype in DTYPES.items()}


def payload_fits(profile: Profile, payload: Any) -> bool:
    """Is this payload of the declared profile? O(1): JSON values are checked for their outermost type only."""
    if isinstance(profile, Array):
        return (
            isinstance(payload, np.ndarray)
            and payload.dtype in DTYPE_NAMES
            and payload.ndim <= limits.NDIM_MAX
            and profile.ndim in (None, payload.ndim)
            and profile.dtype in (None, DTYPE_NAMES[payload.dtype])
            and (profile.shape is None or _shape_fits(profile.shape, payload.shape))
        )
    if isinstance(payload, np.ndarray):
        return profile == "any" and payload.dtype in DTYPE_NAMES and payload.ndim <= limits.NDIM_MAX
    if isinstance(payload, (bytes, bytearray, memoryview)):
        return profile in ("bytes", "any")
    is_json = profile in ("json", "any") or isinstance(profile, JsonSchema)
    return is_json and (payload is None or isinstance(payload, (dict, list, tuple, str, int, float, bool)))


def _shape_fits(pattern: tuple[int | str | None, ...], shape: tuple[int, ...]) -> bool:
    letters: dict[str, int] = {}
    for size, found in zip(pattern, shape, strict=True):
        if size is not None and found != (letters.setdefault(size, found) if isinstance(size, str) else size):
            return False
    return True


def describe_payload(payload: Any) -> str:
    """A payload as an error names it: type, dtype and shape, never its content."""
    if isinstance(payload, np.ndarray):
        return f"array of dtype {payload.dtype}, shape {payload.shape}"
    return f"{type(payload).__name__}"
