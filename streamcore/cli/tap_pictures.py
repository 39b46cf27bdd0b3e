"""Frames of a tap as files and as pictures in a terminal. OpenCV and numpy are imported when the first one comes."""

from __future__ import annotations

import base64
import io
import json
import os
import re
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from streamcore.errors import ConfigError, StreamcoreError

if TYPE_CHECKING:
    from streamcore.control.tapping import Tapped

FORMS = ("png", "jpeg")
SAME_NAME_MAX = 10_000  # files of one name, told apart by a number: beyond that somebody saves one packet over and over
NAME_CHARS_MAX = 80  # of a source in a file name
KITTY_PIXELS_MAX = 800  # longest side; a terminal shows hardly more, and every byte of it passes a pipe
KITTY_CHUNK = 4096  # the protocol allows no more


class CannotSave(StreamcoreError):
    """The disk is full, or the folder cannot be written."""

    fault = "box"


def is_array(payload: Any) -> bool:
    return hasattr(payload, "dtype")


def is_picture(array: Any) -> bool:
    """Grey, BGR or BGRA of 8 or 16 bits, as OpenCV writes them."""
    channels = array.shape[2] if array.ndim == 3 else 1
    return array.ndim in (2, 3) and channels in (1, 3, 4) and array.size > 0 and array.dtype.name in ("uint8", "uint16")


def encoded(payload: Any, form: str) -> tuple[str, bytes]:
    """The ending of the file, and what is in it. A picture that JPEG cannot hold without loss of depth or alpha is a PNG."""
    if isinstance(payload, (bytes, memoryview)):
        return "bin", bytes(payload)
    if not is_array(payload):
        return "json", json.dumps(payload, ensure_ascii=False).encode("utf-8", "surrogatepass")
    if is_picture(payload):
        import cv2

        jpeg = form == "jpeg" and payload.dtype.name == "uint8" and (payload.ndim == 2 or payload.shape[2] != 4)
        try:
            done, raw = cv2.imencode(".jpg" if jpeg else ".png", payload)
        except cv2.error:  # larger than the format allows
            done = False
        if done:
            return "jpg" if jpeg else "png", raw.tobytes()
    import numpy as np

    file = io.BytesIO()
    np.save(file, payload, allow_pickle=False)
    return "npy", file.getvalue()


class Saver:
    """Writes packets to a folder, each to a file of its own; never over another one."""

    def __init__(self, folder: Path, port: str, form: str):
        """Raises ConfigError if there is no such folder and it cannot be made."""
        self._folder, self._port, self._form = folder, port, form
        self.count = 0
        try:
            folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise ConfigError(f"{folder}: cannot be made: {error.strerror}") from None

    def save(self, tapped: Tapped) -> Path:
        """PORT-SOURCE-SEQUENCE.png, with a number behind it if there is one already. Raises CannotSave."""
        ending, raw = encoded(tapped.payload, self._form)
        source = re.sub(r"[^A-Za-z0-9._-]", "_", tapped.meta.source_id)[:NAME_CHARS_MAX]
        which = f"{tapped.sequence:08}" if tapped.sequence >= 0 else tapped.meta.id16.hex()  # no edge took it, so it has no number
        path = self._write(f"{self._port}-{source}-{which}", ending, raw)
        self.count += 1
        return path

    def _write(self, stem: str, ending: str, raw: bytes) -> Path:
        for number in range(1, SAME_NAME_MAX):
            path = self._folder / (f"{stem}.{ending}" if number == 1 else f"{stem}-{number}.{ending}")
            made = False
            try:
                with open(path, "xb") as file:
                    made = True
                    file.write(raw)
                return path
            except FileExistsError:
                continue
            except OSError as error:
                if made:
                    path.unlink(missing_ok=True)
                raise CannotSave(f"{path}: {error.strerror}") from None
        raise CannotSave(f"{self._folder / stem}: there are {SAME_NAME_MAX} files of this name")


# --- in a terminal


def offers_kitty(environ: Mapping[str, str] = os.environ) -> bool:
    """Does the terminal take pictures in kitty's protocol, as far as it says of itself. Multiplexers do not pass them on."""
    known = environ.get("TERM") == "xterm-kitty" or environ.get("TERM_PROGRAM", "").lower() in ("ghostty", "wezterm")
    return known and not environ.get("TMUX")


def _as_bgr(array: Any) -> Any:
    """8 bits and three channels, for showing."""
    import cv2

    if array.dtype.name == "uint16":
        array = (array >> 8).astype("uint8")
    channels = array.shape[2] if array.ndim == 3 else 1
    if channels == 3:
        return array
    return cv2.cvtColor(array, cv2.COLOR_BGRA2BGR if channels == 4 else cv2.COLOR_GRAY2BGR)


def _fitted(array: Any, columns: int, rows: int) -> Any:
    """Scaled, never up, to at most so many pixels, in its own proportions."""
    import cv2

    height, width = array.shape[:2]
    scale = min(columns / width, rows / height, 1.0)
    size = max(1, round(width * scale)), max(1, round(height * scale))
    return cv2.resize(array, size, interpolation=cv2.INTER_AREA)


def half_blocks(array: Any, columns: int, lines: int) -> str:
    """A picture as text: two pixels in a character, above each other, in 24-bit colours. Every line ends with a reset."""
    small = _fitted(_as_bgr(array), columns, 2 * lines)
    if small.shape[0] % 2:
        small = small[:-1] if small.shape[0] > 1 else small.repeat(2, axis=0)
    text = []
    for upper, lower in zip(small[::2].tolist(), small[1::2].tolist(), strict=True):
        line, before = [], None
        for (b, g, r), (b2, g2, r2) in zip(upper, lower, strict=True):
            colours = (r, g, b, r2, g2, b2)
            line.append("▀" if colours == before else f"\x1b[38;2;{r};{g};{b};48;2;{r2};{g2};{b2}m▀")
            before = colours
        text.append("".join(line) + "\x1b[0m")
    return "\n".join(text)


def kitty(array: Any, columns: int, lines: int) -> str:
    """A picture in kitty's protocol, as high as `lines` lines or as wide as `columns` columns."""
    import cv2

    small = _fitted(_as_bgr(array), KITTY_PIXELS_MAX, KITTY_PIXELS_MAX)
    height, width = small.shape[:2]
    across = min(columns, max(1, round(2 * lines * width / height)))  # a character is about twice as high as wide
    raw = base64.b64encode(cv2.imencode(".png", small)[1].tobytes()).decode()
    chunks = [raw[at : at + KITTY_CHUNK] for at in range(0, len(raw), KITTY_CHUNK)]
    text = []
    for number, chunk in enumerate(chunks):
        head = f"a=T,f=100,q=2,c={across}," if number == 0 else ""
        text.append(f"\x1b_G{head}m={int(number < len(chunks) - 1)};{chunk}\x1b\\")
    return "".join(text)
