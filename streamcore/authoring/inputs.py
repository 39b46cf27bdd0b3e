"""What a node is fed when it is checked: made from what its ports declare, always the same."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np

from streamcore.node.api import Port
from streamcore.packet import Array, Profile
from streamcore.payload import DTYPES

SHAPES = {0: (), 1: (64,), 2: (48, 64), 3: (48, 64, 3)}  # by ndim; a frame that OpenCV takes, and large enough for a crop of it
ODD_JSON: tuple[Any, ...] = (None, {}, [], "text", -1, {"n": None}, [[[]]])
ODD_BYTES = (b"", b"\xff", b"\x00" * 3)


def ordinary(port: Port, number: int, given: Any = None) -> Any:
    """The payload of the packet `number` of a stream that the node should be able to handle. `given`: the author's own JSON value."""
    if isinstance(port.profile, Array):
        return _picture(port.profile, number)
    if given is not None:
        return given
    if port.profile == "any":
        return _picture(Array(), number)
    return {"n": number} if port.profile == "json" else b"packet %d" % number


def meta_of(number: int) -> dict[str, Any]:
    """What the standard sources put into the meta of a frame."""
    return {"frame": number, "pts_ms": number * 40.0, "fps": 25.0}


def odd(port: Port) -> Iterator[Any]:
    """Payloads that the port's declaration allows and that no author thinks of. A node may fail the packet, never itself."""
    profile = port.profile
    if isinstance(profile, Array) or profile == "any":
        yield from _odd_arrays(profile)
    if profile in ("json", "any"):
        yield from ODD_JSON
    if profile in ("bytes", "any"):
        yield from ODD_BYTES


def needs_word(port: Port, given: Mapping[str, Any], name: str) -> bool:
    """Can only the author say what a sensible payload of this port is."""
    return port.profile in ("json", "any") and name not in given


def _picture(profile: Array, number: int) -> np.ndarray[Any, Any]:
    """A gradient with a bright square that moves."""
    ndim = 3 if profile.ndim is None else profile.ndim
    shape = SHAPES.get(ndim, (4,) * ndim)
    dtype = DTYPES[profile.dtype or "uint8"]
    picture = (np.arange(int(np.prod(shape))).reshape(shape) % 97).astype(dtype)
    if ndim in (2, 3):
        left = 4 * number % 48
        picture[16:28, left : left + 12] = dtype.type(1 if dtype == np.bool_ else 120)
    return picture


def _odd_arrays(profile: Profile) -> Iterator[np.ndarray[Any, Any]]:
    """Empty, of one element, of the largest values, and with axes of unequal length."""
    ndim = profile.ndim if isinstance(profile, Array) and profile.ndim is not None else 3
    dtype = DTYPES[profile.dtype or "uint8"] if isinstance(profile, Array) else DTYPES["uint8"]
    if ndim:
        yield np.zeros((0,) * ndim, dtype)
    yield np.zeros((1,) * ndim, dtype)
    most = np.inf if dtype.kind == "f" else True if dtype.kind == "b" else np.iinfo(dtype).max
    yield np.full((3, 5, 4, 2, 1, 1, 1, 1)[:ndim], most, dtype)
