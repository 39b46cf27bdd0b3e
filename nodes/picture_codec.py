"""Arrays as bytes: raw, png or jpeg. OpenCV is imported only for the last two."""

from __future__ import annotations

from typing import Any

import numpy as np

from streamcore import PayloadError

CODECS = ("raw", "png", "jpeg")


def encode_picture(array: np.ndarray[Any, Any], codec: str, quality: int) -> bytes:
    """Raises PayloadError for an array that is no picture of this codec."""
    if codec == "raw":
        return np.ascontiguousarray(array).tobytes()
    depths = ("uint8", "uint16") if codec == "png" else ("uint8",)
    channels = (1, 3, 4) if codec == "png" else (1, 3)
    if str(array.dtype) not in depths or not (array.ndim == 2 or (array.ndim == 3 and array.shape[2] in channels)):
        found = f"{array.dtype} {'x'.join(map(str, array.shape))}"
        raise PayloadError(f"codec {codec}: found {found}, expected {' or '.join(depths)} with {', '.join(map(str, channels))} channels")
    import cv2

    options = [cv2.IMWRITE_JPEG_QUALITY, quality] if codec == "jpeg" else [cv2.IMWRITE_PNG_COMPRESSION, 1]
    done, encoded = cv2.imencode(".jpg" if codec == "jpeg" else ".png", np.ascontiguousarray(array), options)
    if not done:
        raise PayloadError(f"codec {codec}: OpenCV could not encode a picture of {'x'.join(map(str, array.shape))}")
    return bytes(encoded)


def decode_picture(raw: bytes, codec: str, dtype: str, shape: tuple[int, ...]) -> np.ndarray[Any, Any]:
    """The array as it was, but for what jpeg has changed. Raises PayloadError."""
    if codec == "raw":
        return np.frombuffer(raw, dtype).reshape(shape)
    import cv2

    array = cv2.imdecode(np.frombuffer(raw, np.uint8), cv2.IMREAD_UNCHANGED)
    if array is None or array.size != np.prod(shape):
        raise PayloadError(f"codec {codec}: {len(raw)} bytes are not the picture of {'x'.join(map(str, shape))} that was stored")
    return array.reshape(shape)
