"""StreamPacket, what a port may carry, and how a payload is described in metadata. No I/O, and no numpy: the coordinator needs none."""

from __future__ import annotations

import json
import os
import re
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from hashlib import blake2b
from itertools import count
from typing import Any, Union

import msgspec

from streamcore import limits
from streamcore.clock import iso_utc
from streamcore.errors import MessageError, PayloadError

ID_BYTES = 16
# The only types an array may have, name to numpy's type string: a peer's word never reaches numpy's type parser, which would accept object
# pointers. The digits are the bytes of an element.
TYPE_STRINGS = {
    "bool": "|b1",
    "uint8": "|u1",
    "int8": "|i1",
    "uint16": "<u2",
    "int16": "<i2",
    "uint32": "<u4",
    "int32": "<i4",
    "uint64": "<u8",
    "int64": "<i8",
    "float16": "<f2",
    "float32": "<f4",
    "float64": "<f8",
}
FRAME_DTYPES = tuple(TYPE_STRINGS)


def make_ids(prefix: bytes) -> Callable[[], bytes]:
    """Gives packet ids: a prefix of 8 bytes and a number that rises."""
    numbers = count()
    return lambda: prefix + next(numbers).to_bytes(8, "little")


def draw_ids() -> None:
    """Ids of this process are those of no other one: not of its predecessor, nor of what was forked from the same server."""
    global next_id16
    next_id16 = make_ids(os.urandom(8))


next_id16: Callable[[], bytes]
draw_ids()
os.register_at_fork(after_in_child=draw_ids)


class Array(msgspec.Struct, frozen=True, tag="array"):
    """Payload profile of an ndarray: `dtype` a name of FRAME_DTYPES or None for any of them, `ndim` None for any up to 8.

    `shape` has an entry per axis: its size, None for any, or a capital letter; axes of one letter have one size. None: any shape.
    """

    dtype: str | None = None
    ndim: int | None = None
    shape: tuple[int | str | None, ...] | None = None

    def __str__(self) -> str:
        if self.shape is not None:
            axes = ", ".join(map(str, self.shape)) + ("," if len(self.shape) == 1 else "")
            return f"array({self.dtype or 'any dtype'}, shape=({axes}))"
        return f"array({self.dtype or 'any dtype'}, {'any ndim' if self.ndim is None else f'ndim={self.ndim}'})"


class JsonSchema(msgspec.Struct, frozen=True, tag="json_schema"):
    """Payload profile of a JSON value that keeps a JSON Schema; `text` is the schema as JSON, keys sorted."""

    text: str

    def __str__(self) -> str:
        title = json.loads(self.text).get("title")
        return f"json_schema '{title:.40}'" if isinstance(title, str) else "json_schema"


Profile = Union[Array, JsonSchema, str]  # a string is one of PROFILES
PROFILES = ("json", "bytes", "any")


def array(dtype: str | None = None, ndim: int | None = None, shape: Sequence[int | str | None] | None = None) -> Array:
    """Declare that a port carries ndarrays, e.g. `array("uint8", shape=(None, None, 3))` for BGR frames of (height, width, 3).

    Args:
      shape: per axis a size, None for any, or a capital letter: `("N", "N")` is square. ndim follows from it.
    Raises:
      ValueError: a dtype outside FRAME_DTYPES, ndim outside 0 to 8, or a shape that is none.
    """
    if dtype is not None and dtype not in TYPE_STRINGS:
        raise ValueError(f"dtype {dtype!r} cannot travel; one of {', '.join(FRAME_DTYPES)}")
    if shape is not None:
        shape = tuple(shape)
        for size in shape:
            if not (size is None or (type(size) is int and size >= 0) or (isinstance(size, str) and re.fullmatch("[A-Z]", size))):
                raise ValueError(f"shape entry {size!r} is not a size, None or a capital letter")
        if ndim not in (None, len(shape)):
            raise ValueError(f"ndim {ndim} with a shape of {len(shape)} axes")
        ndim = len(shape)
    if ndim is not None and not 0 <= ndim <= limits.NDIM_MAX:
        raise ValueError(f"ndim {ndim} is not 0 to {limits.NDIM_MAX}")
    return Array(dtype, ndim, shape)


def json_schema(schema: Mapping[str, Any]) -> JsonSchema:
    """Declare that a port carries JSON values that keep this JSON Schema (draft 4, 6 or 7; `$ref` only within it).

    Packets are checked by fastjsonschema: `pip install 'streamcore[schema]'`. Declaring and connecting such ports needs nothing.

    Raises:
      ValueError: not a mapping, or not JSON.
    """
    if not isinstance(schema, Mapping):
        raise ValueError(f"a JSON Schema of type {type(schema).__name__}, expected a mapping")
    try:
        return JsonSchema(json.dumps(schema, sort_keys=True, allow_nan=False))
    except (TypeError, ValueError, RecursionError) as error:
        raise ValueError(f"a JSON Schema that is not JSON: {error}") from None


def profile_differs(wanted: Profile, offered: Profile) -> str:
    """In what a port that produces `offered` differs from what one that takes `wanted` needs; "" if they may be connected.

    Checked per packet instead: `any` on either side, a size that only one side states, a schema that only one side has.
    """
    if "any" in (wanted, offered):
        return ""
    if isinstance(wanted, Array) and isinstance(offered, Array):
        return _arrays_differ(wanted, offered)
    if isinstance(wanted, JsonSchema) and isinstance(offered, JsonSchema):
        at = _schemas_differ(json.loads(wanted.text), json.loads(offered.text))
        return f"schemas, first at {at}" if at else ""
    found, expected = carrier_of(offered), carrier_of(wanted)
    return "" if found == expected else f"{found} and {expected}"


def profile_accepts(wanted: Profile, offered: Profile) -> bool:
    """May a port that produces `offered` feed a port that takes `wanted`?"""
    return not profile_differs(wanted, offered)


def carrier_of(profile: Profile) -> str:
    """array, json, bytes or any: a profile without what it says more."""
    return "array" if isinstance(profile, Array) else "json" if isinstance(profile, JsonSchema) else profile


def _arrays_differ(wanted: Array, offered: Array) -> str:
    if wanted.dtype not in (None, offered.dtype):
        return f"dtype {offered.dtype or 'any'} and {wanted.dtype}"
    if wanted.ndim not in (None, offered.ndim):
        return f"ndim {'any' if offered.ndim is None else offered.ndim} and {wanted.ndim}"
    if wanted.shape is None or offered.shape is None:
        return ""
    one_size = list(range(len(wanted.shape)))  # axes with the same number here have the same size
    for pattern in (offered.shape, wanted.shape):
        for axis, size in enumerate(pattern):
            if isinstance(size, str):
                old, new = one_size[axis], one_size[pattern.index(size)]
                one_size = [new if number == old else number for number in one_size]
    known: dict[int, int] = {}
    for axis, number in enumerate(one_size):
        for size in (offered.shape[axis], wanted.shape[axis]):
            if isinstance(size, int) and known.setdefault(number, size) != size:
                return f"axis {axis} cannot be both {known[number]} and {size} long"
    return ""


def _schemas_differ(wanted: Any, offered: Any, at: str = "its top") -> str:
    """The path of the first place where two schemas are not the same; "" if there is none."""
    inside = "" if at == "its top" else f"{at}."
    if isinstance(wanted, dict) and isinstance(offered, dict):
        for key in sorted({*wanted, *offered}):
            if key not in wanted or key not in offered:
                return f"{inside}{key}"
            if found := _schemas_differ(wanted[key], offered[key], f"{inside}{key}"):
                return found
        return ""
    return "" if wanted == offered and type(wanted) is type(offered) else at


def carries_arrays(profile: Profile) -> bool:
    return isinstance(profile, Array) or profile == "any"


class SlotRef(msgspec.Struct, array_like=True, forbid_unknown_fields=True, tag=False):
    """Where a payload lies. `offset` counts from the start of the slot; `strides` empty means C-contiguous.

    `dtype` empty means plain bytes, `msgpack` a JSON value too large for the metadata. The reader that knows the ring checks bounds.
    """

    ring: int
    slot: int
    offset: int
    nbytes: int
    dtype: str
    shape: tuple[int, ...]
    strides: tuple[int, ...]


class Meta(msgspec.Struct, array_like=True, forbid_unknown_fields=True):
    """What a DATA record and a ring entry say of a packet, as msgpack. Either `ref` or `value` carries the payload."""

    id16: bytes
    kind: str
    source_id: str
    wall_ns: int
    capture_ns: int
    ref: SlotRef | None = None
    value: Any = None
    meta: dict[str, Any] | None = None
    position: int | None = None
    trace: list[tuple[str, int]] | None = None


_encode = msgspec.msgpack.Encoder().encode
_decode = msgspec.msgpack.Decoder(Meta).decode
encode_json = msgspec.msgpack.Encoder().encode
decode_json = msgspec.msgpack.Decoder().decode


def encode_meta(meta: Meta) -> bytes:
    """Raises PayloadError for what decode_meta would refuse: the fault is found where it was made (SYNC: decode_meta)."""
    own = meta.meta
    try:
        raw = _encode(meta)
        plain = (
            type(meta.kind) is str is type(meta.source_id)
            and type(meta.wall_ns) is int is type(meta.capture_ns)
            and type(meta.id16) is bytes
            and (meta.position is None or type(meta.position) is int)
            and (own is None or (type(own) is dict and "".join(own) is not None))  # raises TypeError unless all keys are text
            and meta.trace is None
            and len(meta.id16) == ID_BYTES
            and len(meta.kind) <= limits.KIND_CHARS_MAX
            and len(meta.source_id) <= limits.SOURCE_ID_CHARS_MAX
        )
    except (TypeError, ValueError, OverflowError, RecursionError) as error:
        raise PayloadError(f"payload or meta is not JSON: {error}") from None
    if not plain:  # a subclass perhaps, or a trace: only reading tells
        _check_readable(meta, raw)
    return raw


def _check_readable(meta: Meta, raw: bytes) -> None:
    """Raises PayloadError, with what was found and what is expected."""
    if meta.meta is not None and not (isinstance(meta.meta, dict) and all(type(key) is str for key in meta.meta)):
        raise PayloadError(f"found meta {type(meta.meta).__name__}, expected a mapping with text as keys, or None")
    try:
        decode_meta(raw)
    except MessageError as error:
        names = f"kind of at most {limits.KIND_CHARS_MAX} and source_id of at most {limits.SOURCE_ID_CHARS_MAX} characters"
        raise PayloadError(f"found a packet that nobody could read ({error}), expected {names}, times and position as integers") from None


def decode_meta(raw: bytes | memoryview) -> Meta:
    """Decode and check the sizes that msgpack does not bound. Raises MessageError (SYNC: encode_meta)."""
    try:
        meta = _decode(raw)
    except (msgspec.DecodeError, ValueError, RecursionError) as error:
        raise MessageError(f"metadata refused: {error}") from None
    if len(meta.id16) != ID_BYTES or len(meta.kind) > limits.KIND_CHARS_MAX or len(meta.source_id) > limits.SOURCE_ID_CHARS_MAX:
        raise MessageError("metadata refused: packet id, kind or source id has the wrong length")
    return meta


def source_id16(node: str, port: str, position: int) -> bytes:
    """The packet id of a source's packet with a position: the same after a restart."""
    return blake2b(b"%s\0%s\0%d" % (node.encode(), port.encode(), position), digest_size=ID_BYTES).digest()


def derived_id16(parent: bytes, salt: bytes) -> bytes:
    """The packet id of an output: a hash of the parent's id with `salt`, which names node, port and index."""
    return blake2b(parent + salt, digest_size=ID_BYTES).digest()


class StreamPacket(msgspec.Struct, eq=False, weakref=True):
    """One unit of data on an edge: identity, kind, payload and meta.

    `payload` is a read-only ndarray view into the producer's memory, bytes, or a JSON value. Keep a packet, or any view of its payload,
    as long as you like: its memory is not reused before. Make packets with `StreamPacket.new` (sources) or `packet.derive` (nodes).

    Attributes:
      kind: what it is, e.g. "frame", "detections".       source_id: which source it began at.
      meta: JSON mapping or None.                          wall_ns: capture time, UTC, for people; `ts` is the same as ISO-8601.
      capture_ns: capture time on the monotonic clock.     position: where a source may resume, or None.
      sequence: of the edge it came by.                    redelivered: True if it may have been delivered before.
      port: the output port it is meant for; "" is the node's only one.
      trace: (node, monotonic ns of the commit) per hop; only some packets carry it, of a slow stream all.
    """

    kind: str
    source_id: str
    payload: Any = None
    meta: dict[str, Any] | None = None
    id16: bytes = b""
    wall_ns: int = 0
    capture_ns: int = 0
    position: int | None = None
    redelivered: bool = False
    sequence: int = -1
    port: str = ""
    in_port: str = ""
    trace: list[tuple[str, int]] | None = None
    parent: Any = None  # the host's record of the input that this is or was derived from; None for a packet that began here
    lease: Any = None  # keeps the input that it is, or was derived from, from being completed; None for a packet that began here

    @classmethod
    def new(
        cls,
        *,
        kind: str,
        source_id: str,
        payload: Any = None,
        meta: dict[str, Any] | None = None,
        position: int | None = None,
        port: str = "",
        wall_ns: int | None = None,
        capture_ns: int | None = None,
    ) -> StreamPacket:
        """A source's packet, captured now unless `wall_ns` and `capture_ns` say otherwise."""
        return cls(
            kind,
            source_id,
            payload,
            meta,
            next_id16(),
            time.time_ns() if wall_ns is None else wall_ns,
            time.monotonic_ns() if capture_ns is None else capture_ns,
            position,
            port=port,
        )

    def derive(
        self, *, payload: Any, kind: str = "", meta: dict[str, Any] | None = None, port: str = "", source_id: str = ""
    ) -> StreamPacket:
        """An output made from this input: same source, capture time and trace; a new id that a repeat would get again.

        `kind` and `meta` default to this packet's; a port that declares a kind gives its own. A payload that is this packet's payload, or a
        view of it, is forwarded as a reference; a loan is committed in place; anything else is copied once. Whoever keeps the output keeps
        the input: what was not emitted when the process dies is delivered and derived again.
        """
        return StreamPacket(
            kind or self.kind,
            source_id or self.source_id,
            payload,
            self.meta if meta is None else meta,
            self.id16 if self.parent is not None else next_id16(),
            self.wall_ns,
            self.capture_ns,
            port=port,
            trace=self.trace,
            redelivered=self.redelivered,
            parent=self.parent,
            lease=self.lease,
        )

    @property
    def packet_id(self) -> str:
        """32 hex digits."""
        return self.id16.hex()

    @property
    def from_port(self) -> str:
        """The output port that it came by, or that what it was derived from came by, e.g. camera.out; "" if it came by no edge."""
        plan = getattr(getattr(self.parent, "inlet", None), "plan", None)
        return f"{plan.from_node}.{plan.from_port}" if plan is not None else ""

    @property
    def ts(self) -> str:
        return iso_utc(self.wall_ns)


Emitted = Union[StreamPacket, Iterable[StreamPacket], None]
