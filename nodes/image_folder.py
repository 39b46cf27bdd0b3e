"""image.folder: the pictures of a folder as a stream, in the order in which a person counts."""

from __future__ import annotations

import re
import time
from collections.abc import Iterator
from pathlib import Path

import cv2
import numpy as np

from streamcore import ConfigError, Port, Source, StreamPacket, array

PATTERNS = ["*.jpg", "*.jpeg", "*.png", "*.bmp", "*.tif", "*.tiff", "*.webp", "*.pgm", "*.ppm"]


def natural_key(name: str) -> list[tuple[int, int, str]]:
    """Sorts frame2 before frame10, and capital letters with small ones."""
    parts = re.split(r"(\d+)", name.casefold())
    return [(0, int(part), "") if part.isdecimal() else (1, 0, part) for part in parts if part]


def read_picture(path: Path) -> np.ndarray:
    """A BGR picture. Raises ConfigError with path and reason."""
    try:
        raw = path.read_bytes()
    except OSError as error:
        raise ConfigError(f"picture {path}: cannot be read: {error.strerror}") from None
    picture = cv2.imdecode(np.frombuffer(raw, np.uint8), cv2.IMREAD_COLOR) if raw else None
    if picture is None:
        raise ConfigError(f"picture {path}: {len(raw)} bytes that OpenCV cannot decode (corrupt, cut off, or not a picture)")
    return picture


class ImageFolder(Source):
    """Emit the pictures of a folder as BGR frames, sorted by name with numbers in their natural order.

    The list is read once, at start. meta: `frame` (its number, counting on through loops; also the position), `file`, and with `fps`
    also `pts_ms` and `fps`. Pictures may differ in size.
    """

    outputs = {"out": Port("frame", array("uint8", ndim=3), doc="BGR frames")}
    config = {
        "path": {"type": "string", "required": True, "empty": False, "meta": {"doc": "the folder"}},
        "patterns": {
            "type": "list",
            "minlength": 1,
            "schema": {"type": "string", "empty": False},
            "default": PATTERNS,
            "meta": {"doc": "names to take, in small or capital letters; `**/*.png` looks into sub-folders"},
        },
        "fps": {"type": "number", "min": 0, "max": 1000, "default": 0, "meta": {"doc": "pictures per second; 0: as fast as taken"}},
        "loop": {"type": "boolean", "default": False, "meta": {"doc": "begin again at the end, without end"}},
        "on_bad": {"allowed": ["fail", "skip"], "default": "fail", "meta": {"doc": "what a picture that cannot be read does"}},
    }

    def setup(self) -> None:
        folder = Path(self.config["path"]).expanduser()
        if not folder.is_dir():
            reason = "is not a folder" if folder.exists() else f"no such folder (working directory {Path.cwd()})"
            raise ConfigError(f"image.folder {folder}: {reason}")
        patterns = self.config["patterns"]
        try:
            found = {path for pattern in patterns for case in {pattern, pattern.upper()} for path in folder.glob(case) if path.is_file()}
        except (OSError, ValueError, NotImplementedError) as error:
            raise ConfigError(f"image.folder {folder}: cannot be listed with {', '.join(patterns)}: {error}") from None
        self.files = sorted(found, key=lambda path: (natural_key(str(path.relative_to(folder))), path.name))
        if not self.files:
            raise ConfigError(f"image.folder {folder}: no file matches {', '.join(patterns)}")
        self.folder = folder

    def run(self) -> Iterator[StreamPacket]:
        fps, count = float(self.config["fps"]), len(self.files)
        first = number = 0 if self.resume_position is None else self.resume_position + 1
        start_ns = time.monotonic_ns()
        bad_in_a_row = 0
        while not self.stopping and (self.config["loop"] or number < count):
            if fps and not self.wait_until(start_ns + round((number - first) * 1e9 / fps)):
                return
            path = self.files[number % count]
            picture = self._read(path)
            bad_in_a_row = 0 if picture is not None else bad_in_a_row + 1
            if bad_in_a_row == count:
                raise ConfigError(f"image.folder {self.folder}: none of its {count} pictures can be read any more")
            if picture is not None:
                meta = {"frame": number, "file": str(path.relative_to(self.folder))}
                if fps:
                    meta |= {"pts_ms": number * 1e3 / fps, "fps": fps}
                yield StreamPacket.new(kind="frame", source_id=self.id, payload=picture, meta=meta, position=number)
            number += 1

    def _read(self, path: Path) -> np.ndarray | None:
        try:
            return read_picture(path)
        except ConfigError as error:
            if self.config["on_bad"] == "fail":
                raise
            self.log.warning("%s; left out", error)
            self.metrics.counter("unreadable").add()
            return None
