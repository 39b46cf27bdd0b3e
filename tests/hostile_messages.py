"""Hostile messages, made by seed: what strangers send, and what a process of the run could send that has gone wrong."""

from __future__ import annotations

import math
import random
from typing import Any

import numpy as np

from streamcore.packet import FRAME_DTYPES, Meta, encode_json, encode_meta
from streamcore.wire import messages
from streamcore.wire.messages import sealed

KEY = 0x9E3779B9
ENTRIES, SLOTS, SLOT_BYTES = 8, 8, 64 * 1024
EDGE_IN, EDGE_OUT = 0, 100
EDGES = (0, 1, 100, 101, 2**31, 2**32 - 1)
U32 = (0, 1, 7, 8, 9, 255, 2**16, 2**31 - 1, 2**31, 2**32 - 1)
U64 = (*U32, 2**32, 2**53 + 1, 2**62 - 2, 2**62 - 1, 2**62, 2**63 - 1, 2**63, 2**64 - 2, 2**64 - 1)
NUMBERS = (*U64, -1, -2, -60, -(2**31), -(2**63) + 1, -(2**63), SLOT_BYTES, SLOT_BYTES - 1, SLOT_BYTES - 60, SLOT_BYTES + 1, 60, 59, 61)
DTYPES = (*FRAME_DTYPES, "", "msgpack", "O", "object", "|O8", "V8", "U4", "complex64", "datetime64", "uint8 ", "\0", "<u1", "x" * 300)
ANYTHING = (None, True, -1, 2**64 - 1, 1.5, float("nan"), float("inf"), "", "x" * 500, b"i" * 16, [], [[]], {}, {"a": None}, [1, 2, 3])


def nested(depth: int) -> bytes:
    return b"\x91" * depth + b"\xc0"


class Forge:
    """Makes messages; what it makes next depends on its seed and on how often it was asked."""

    def __init__(self, seed: int):
        self.rng = random.Random(seed)
        self.sequence = 0

    def pick(self, pool: Any) -> Any:
        return pool[int(self.rng.random() * len(pool))]

    def stranger(self) -> bytes:
        """Bytes that no process of this run has sealed."""
        rng, kind = self.rng, int(self.rng.random() * 8)
        raw = sealed(self.genuine(), KEY)
        if kind == 0:
            return rng.randbytes(int(rng.random() * 200))
        if kind == 1:  # made with the public encoders, without the key
            return self.genuine()
        if kind == 2:
            return sealed(self.genuine(), KEY ^ 1 << int(rng.random() * 32))
        if kind == 3:
            return raw[: int(rng.random() * len(raw))]
        if kind == 4:
            return raw + rng.randbytes(1 + int(rng.random() * 8))
        if kind == 5:  # the checksum of another message
            return raw[:-4] + self.pick(U32).to_bytes(4, "little")
        return bytes(self.changed(raw))

    def changed(self, raw: bytes) -> bytearray:
        """One to three bytes are others; never none."""
        rng, mutant = self.rng, bytearray(raw)
        for _ in range(1 + int(rng.random() * 3)):
            mutant[int(rng.random() * len(mutant))] ^= 1 + int(rng.random() * 255)
        if mutant == raw:
            mutant[0] ^= 1
        return mutant

    def genuine(self) -> bytes:
        """As the processes of the run make them, with numbers that exist."""
        kind, n = int(self.rng.random() * 5), self.sequence
        if kind == 0:
            return messages.receipt(EDGE_OUT, 1, n % 9, [(n % 9, n % ENTRIES, n % 4)] * (n % 4))
        if kind == 1:
            return messages.end(EDGE_IN, 1, n)
        if kind == 2:
            return messages.data_many(EDGE_IN, 1, messages.WANT, [(n, 1, n % ENTRIES, 0, b"\xc0")] * (n % 3))
        if kind == 3:
            return messages.WAKE_MESSAGE
        return messages.data_one(EDGE_IN, 1, 0, n, 1, n % ENTRIES, 0, encode_meta(Meta(b"i" * 16, "n", "s", 1, 2, value=n)))

    def astray(self) -> bytes:
        """The structure of a message with numbers from the edge of what fits, or with changed bytes; to be sealed."""
        rng, pick = self.rng, self.pick
        kind = int(rng.random() * 8)
        edge = EDGE_IN if rng.random() < 0.8 else pick(EDGES)
        incarnation = 1 if rng.random() < 0.9 else pick(U32)
        if kind < 3:
            records = [
                (pick(U64), pick(U64), pick(U32), pick(U32), rng.randbytes(int(rng.random() * 20))) for _ in range(int(rng.random() * 4))
            ]
            return messages.data_many(edge, incarnation, int(rng.random() * 2), records)
        if kind < 5:
            edge = EDGE_OUT if rng.random() < 0.9 else pick(EDGES)
            completions = [(pick(U64), pick(U32), pick((0, 1, 2, 3, 3, 4, 2**32 - 1))) for _ in range(int(rng.random() * 4))]
            if rng.random() < 0.5:
                completions = [(number, (number * 3) % ENTRIES if rng.random() < 0.5 else number, 0) for number in range(5)]
            return messages.receipt(edge, incarnation, pick(U64), completions)
        if kind == 5:
            return messages.HEADER.pack(
                *(pick((0, 1, 2, 3, 4, 5, 255)) for _ in range(2)), pick((0, 1, 65535)), edge, incarnation, pick((0, 1))
            )
        if kind == 6:
            return messages.end(edge, incarnation, pick(U64))
        return bytes(self.changed(self.genuine()))

    def metadata(self) -> bytes:
        """Of a record that the table vouches for."""
        rng, pick = self.rng, self.pick
        kind = int(rng.random() * 10)
        if kind < 5:
            return encode_json([b"i" * 16, "k", "s", 1, 2, self.reference(), None, None, None, None])
        if kind == 5:
            raw = bytearray(encode_json([b"i" * 16, "k", "s", 1, 2, self.reference(), {"a": [1, 2.5]}, {"b": 1}, 3, [("n", 4)]]))
            at = 18 + int(rng.random() * (len(raw) - 18))
            raw[at] = int(rng.random() * 256)
            return bytes(raw)
        if kind == 6:
            return b"\x97\xc4\x10" + b"i" * 16 + b"\xa1k\xa1s\x01\x02\xc0" + nested(pick((1, 500, 990, 5000)))
        if kind == 7:
            return b"\x95\xc4\x10" + b"i" * 16 + b"\xa2" + rng.randbytes(2) + b"\xa1s\x01\x02"
        if kind == 8:
            return rng.randbytes(int(rng.random() * 60))
        fields = [b"i" * 16, "k", "s", 1, 2, None, None, None, None, None]
        fields[int(rng.random() * 10)] = pick(ANYTHING)
        return encode_json(fields)

    def reference(self) -> list[Any]:
        """Somewhere in a ring, or beside it: one to three things are not as they should be."""
        rng, pick = self.rng, self.pick
        if rng.random() < 0.3:
            shape, strides = [4, 5, 3], [-15, 3, 1]
        else:
            shape, strides = [pick((1, 2, 4, 60)) for _ in range(int(rng.random() * 3))], []
        dtype = pick(FRAME_DTYPES) if rng.random() < 0.7 else pick(("", "uint8", "msgpack"))
        offset = int(rng.random() * 3) * 60 if rng.random() < 0.7 else SLOT_BYTES - int(rng.random() * 100)
        found: list[Any] = [0, int(rng.random() * SLOTS), offset, 0, dtype, shape, strides]
        for _ in range(int(rng.random() * 4)):
            at = int(rng.random() * 7)
            if at == 4:
                found[4] = pick(DTYPES)
            elif at < 4:
                found[at] = pick(NUMBERS)
            else:
                found[at] = (
                    [pick(NUMBERS) for _ in range(pick((0, 1, 2, 3, 8, 9)))]
                    if rng.random() < 0.5
                    else [*found[at], pick((0, 1, -1, 2**40))]
                )
        if rng.random() < 0.9:  # else nearly everything would end at the first check
            itemsize = np.dtype(found[4]).itemsize if found[4] in FRAME_DTYPES else 1
            found[3] = itemsize * math.prod(n for n in found[5])
            if not -(2**63) <= found[3] < 2**64:
                found[3] = 0
        return found
