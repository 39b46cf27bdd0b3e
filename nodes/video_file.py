"""video.file: every frame of a video file, exactly once and in order, decoded into the ring."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from pathlib import Path

import cv2
import numpy as np

from streamcore import ConfigError, Port, Source, StreamPacket, array

FALLBACK_FPS = 25.0  # for files that do not say
FPS_MAX = 1000.0
# A container's frame count is exact in some formats and duration x rate in others (audio may be longer than video), so "clearly fewer" is:
SHORT_FRAMES, SHORT_SHARE = 3, 0.05
DAMAGED_MAX = 250  # frames in a row that cannot be decoded, before the rest of the file is given up


def refuse_unreadable(path: Path) -> None:
    """Raise ConfigError unless `path` is a file that this process may read and that holds something."""
    try:
        with open(path, "rb") as file:
            if os.fstat(file.fileno()).st_size == 0:
                raise ConfigError(f"video {path}: the file is empty")
    except FileNotFoundError:
        raise ConfigError(f"video {path}: no such file (working directory {Path.cwd()})") from None
    except IsADirectoryError:
        raise ConfigError(f"video {path}: is a directory, expected a file; for a folder of pictures use image.folder") from None
    except OSError as error:
        raise ConfigError(f"video {path}: cannot be read: {error.strerror}") from None


class Clip:
    """One pass over a file: `grab` moves to the next frame, `pts_ms` is its time, `capture` decodes it."""

    def __init__(self, path: Path):
        self.path = path
        self.capture = cv2.VideoCapture(str(path))
        if not self.capture.isOpened():
            raise ConfigError(f"video {path}: no video stream that OpenCV can decode (corrupt, cut off, or another kind of file)")
        fps = self.capture.get(cv2.CAP_PROP_FPS)
        self.fps = fps if 0 < fps <= FPS_MAX else FALLBACK_FPS
        promised = self.capture.get(cv2.CAP_PROP_FRAME_COUNT)
        self.promised = int(promised) if 0 < promised < 1 << 40 else 0  # 0: the container does not say
        self.grabbed = self.damaged = 0
        self.pts_ms = -1.0

    def grab(self) -> bool:
        """Move on to the next frame that can be decoded; False at the end of the file."""
        if not self.capture.grab() and not self._grab_behind_damage():
            return False
        self.grabbed += 1
        pts_ms = self.capture.get(cv2.CAP_PROP_POS_MSEC)
        # Streams without time stamps give 0 throughout: then the frame rate is the clock.
        self.pts_ms = pts_ms if pts_ms > self.pts_ms else self.pts_ms + 1e3 / self.fps
        return True

    def _grab_behind_damage(self) -> bool:
        """OpenCV reports a damaged frame like the end of the file. While frames are promised, there may be good ones behind it."""
        for failed in range(1, min(self.promised - self.grabbed, DAMAGED_MAX) + 1):
            if self.capture.grab():
                self.damaged += failed
                return True
        return False

    def damage(self) -> str:
        """At the end: what is wrong with the file, as a sentence, if frames were damaged or clearly fewer came than promised."""
        promise = f"{self.grabbed} frames could be decoded, its header promises {self.promised}"
        if self.damaged:
            return f"video {self.path}: {self.damaged} damaged frames; {promise}"
        promised_ms, reached_ms = self.promised * 1e3 / self.fps, self.pts_ms + 1e3 / self.fps
        if reached_ms >= promised_ms * (1 - SHORT_SHARE):  # it lasts as long as promised: the count was a guess
            return ""
        return f"video {self.path}: breaks off; {promise}" if self.promised - self.grabbed > SHORT_FRAMES else ""

    def close(self) -> None:
        self.capture.release()


class VideoFile(Source):
    """Read a video file frame by frame, any that OpenCV can decode; each frame is written straight into its slot of the ring.

    meta: `frame` (its number, counting on through loops; also the packet's position), `pts_ms` (the file's own time of the frame, going
    on through loops) and `fps`. With `pace: realtime` frames leave, and are stamped as captured, when their pts is due; with `none`
    they leave as fast as they are taken. After a restart it goes on behind the last completed frame, by decoding up to it: exact for
    every codec. Damaged frames are left out. A file that
    cannot be read or decoded fails the node at start; one that is damaged or breaks off fails it after its last good frame.
    """

    outputs = {"out": Port("frame", array("uint8", ndim=3), doc="BGR frames")}
    config = {
        "path": {"type": "string", "required": True, "empty": False, "meta": {"doc": "the file"}},
        "pace": {"allowed": ["realtime", "none"], "default": "realtime", "meta": {"doc": "by time stamps, or as fast as taken"}},
        "loop": {"type": "boolean", "default": False, "meta": {"doc": "begin again at the end, without end"}},
        "on_damage": {
            "allowed": ["fail", "warn"],
            "default": "fail",
            "meta": {"doc": "what damaged frames, or clearly fewer than the header promises, do after the last frame"},
        },
    }

    def setup(self) -> None:
        self.path = Path(self.config["path"]).expanduser()
        refuse_unreadable(self.path)
        self.clip = self._open()
        self.shape: tuple[int, ...] | None = None
        self.passed = 0  # frames of the loops before this one
        self.passed_ms = 0.0

    def _open(self) -> Clip:
        """A clip that stands on its first frame."""
        clip = Clip(self.path)
        if not clip.grab():
            raise ConfigError(f"video {self.path}: has no frame that can be decoded (its header promises {clip.promised})")
        return clip

    def run(self) -> Iterator[StreamPacket]:
        first = 0 if self.resume_position is None else self.resume_position + 1
        if not self._skip(first):
            return
        paced = self.config["pace"] == "realtime"
        start_ns, start_ms = time.monotonic_ns(), self.passed_ms + self.clip.pts_ms
        while not self.stopping:
            pts_ms = self.passed_ms + self.clip.pts_ms
            due_ns = start_ns + round((pts_ms - start_ms) * 1e6)
            frame = self._decode()
            if frame is not None:
                if paced and not self.wait_until(due_ns):
                    return
                number = self.passed + self.clip.grabbed - 1
                meta = {"frame": number, "pts_ms": round(pts_ms, 3), "fps": self.clip.fps}
                capture_ns = due_ns if paced else None
                yield StreamPacket.new(kind="frame", source_id=self.id, payload=frame, meta=meta, position=number, capture_ns=capture_ns)
            del frame  # or this frame's slot would still be ours while the next one is loaned
            if not self._next():
                return

    def _skip(self, first: int) -> bool:
        """Move on to frame `first`, which may lie some loops ahead; False if the stream ends before it."""
        while self.passed + self.clip.grabbed <= first:
            at_start = self.passed
            if not self._next() or self.stopping:
                return False
            if at_start == 0 < self.passed:  # the length is known now: whole loops need no decoding
                loops = first // self.passed - 1
                self.passed, self.passed_ms = self.passed * (loops + 1), self.passed_ms * (loops + 1)
        return True

    def _next(self) -> bool:
        """Grab the next frame, of the next loop if need be. Raises ConfigError at the end of a file that is damaged."""
        if self.clip.grab():
            return True
        damage = self.clip.damage()
        if damage and self.config["on_damage"] == "fail":
            raise ConfigError(f"{damage}; what was decoded has been passed on. To accept such files, set on_damage: warn")
        if damage:
            self.log.warning("%s", damage)
        if not self.config["loop"]:
            return False
        self.passed += self.clip.grabbed
        self.passed_ms += self.clip.pts_ms + 1e3 / self.clip.fps
        self.clip.close()
        self.clip = self._open()
        return True

    def _decode(self) -> np.ndarray | None:
        """The grabbed frame in a loan: decoded there if its size is the last one's, else copied. None if it is damaged."""
        loan = self.loan("out", self.shape) if self.shape is not None else None
        done, frame = self.clip.capture.retrieve(loan)
        if not done or frame is None:
            self.log.warning("video %s: frame %d cannot be decoded", self.path, self.clip.grabbed - 1)
            self.metrics.counter("undecodable").add()
            return None
        if loan is not None and frame.__array_interface__["data"][0] == loan.__array_interface__["data"][0] and frame.shape == loan.shape:
            return loan
        del loan
        bgr = frame if frame.ndim == 3 and frame.shape[2] == 3 else cv2.cvtColor(frame, cv2.COLOR_GRAY2BGR)
        self.shape = bgr.shape
        loan = self.loan("out", self.shape)
        np.copyto(loan, bgr)
        return loan

    def close(self) -> None:
        self.clip.close()
