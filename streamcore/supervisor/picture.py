"""A frame as a small PNG picture, made without any library: the coordinator imports neither numpy's encoders nor cv2.

Rows are read one by one and thinned out, so a 4K frame costs some ten milliseconds and no copy of it is made.
"""

from __future__ import annotations

import struct
import zlib
from collections.abc import Callable

SIDE_PIXELS_MAX = 480  # enough to see what was special about a frame; as PNG some 200 KiB

ReadBytes = Callable[[int, int], bytes]  # offset from the payload's first byte, count


def can_show(dtype: str, shape: tuple[int, ...], strides: tuple[int, ...]) -> bool:
    """Frames as cameras give them: uint8, gray (height, width) or BGR (height, width, 3), also a crop of one."""
    if dtype != "uint8" or 0 in shape or len(shape) not in (2, 3) or (len(shape) == 3 and shape[2] != 3):
        return False
    whole_pixels = not strides or (strides[0] > 0 and strides[1:] in ((1,), (3, 1)))
    return whole_pixels and max(shape[:2]) <= 1 << 16


def png(shape: tuple[int, ...], strides: tuple[int, ...], read: ReadBytes) -> bytes:
    """Encode a frame for which `can_show` holds; bytes that cannot be read are black."""
    height, width = shape[:2]
    depth = 3 if len(shape) == 3 else 1
    step = -(-max(height, width) // SIDE_PIXELS_MAX)
    row_stride, row_bytes = (strides[0] if strides else width * depth), width * depth
    rows = bytearray()
    for y in range(0, height, step):
        row = read(y * row_stride, row_bytes).ljust(row_bytes, b"\0")
        rows += b"\0" + _thinned(row, depth, step)  # 0: the row is stored unfiltered
    across, down = -(-width // step), -(-height // step)
    head = struct.pack(">IIBBBBB", across, down, 8, 2 if depth == 3 else 0, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + _chunk(b"IHDR", head) + _chunk(b"IDAT", zlib.compress(bytes(rows), 1)) + _chunk(b"IEND", b"")


def _thinned(row: bytes, depth: int, step: int) -> bytes:
    """Every step-th pixel, BGR turned into RGB."""
    if depth == 1:
        return row[::step]
    blue, green, red = (row[channel :: 3 * step] for channel in range(3))
    out = bytearray(3 * len(red))
    out[0::3], out[1::3], out[2::3] = red, green, blue
    return bytes(out)


def _chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))
