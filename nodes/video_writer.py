"""video.writer: frames into a video file that is playable once it bears its final name.

OpenCV writes the index of an MP4 when the file is closed, so one whose writer was killed cannot be played. Frames therefore go to
`NAME.part.EXT`, which is renamed when it is closed and has been checked. AVI and MKV files play up to the kill, less what was
buffered (some ten frames): a part of theirs that an earlier process left behind is kept as `NAME.cut-N.EXT`.
"""

from __future__ import annotations

import os
from itertools import count
from pathlib import Path

import cv2
import numpy as np

from streamcore import ConfigError, PayloadError, Port, Sink, StreamPacket, array
from streamcore_nodes.stream_time import stream_time_s

FALLBACK_FPS = 30.0
PLAYABLE_IN_PARTS = (".avi", ".mkv")
GAP_S_MAX = 10.0  # a longer gap in stream time is a pause or another stream, not to be filled with standing pictures
PROBE_SIDE = 64


class VideoWriter(Sink):
    """Write frames to a video file; MP4 (codec mp4v) by default, the container follows from the path's ending.

    All frames must have the size of the first. The file has a constant rate: `fps`, else the `fps` of the first frame's meta, else 30.
    With `keep_time` frames are repeated where frames are missing (by `pts_ms` of meta), so that the video lasts as long as the stream
    did; none is ever left out. The file appears under its name at the end of the stream and replaces an older one. Until then it is
    NAME.part.EXT; after a kill that part cannot be played if it is an MP4. Choose .mkv or .avi if that matters.
    """

    inputs = {"in": Port("frame", array("uint8", ndim=3), doc="BGR or grey frames")}
    config = {
        "path": {"type": "string", "required": True, "empty": False, "meta": {"doc": "the file; its folder is made"}},
        "fps": {"type": "number", "min": 0, "max": 1000, "default": 0, "meta": {"doc": "rate of the file; 0: the stream's own"}},
        "codec": {"type": "string", "minlength": 4, "maxlength": 4, "default": "mp4v", "meta": {"doc": "four letters, e.g. mp4v or MJPG"}},
        "keep_time": {"type": "boolean", "default": True, "meta": {"doc": "repeat frames where the stream has gaps"}},
    }

    def setup(self) -> None:
        self.path = Path(self.config["path"]).expanduser()
        self.part = self.path.with_name(f"{self.path.stem}.part{self.path.suffix}")
        self.writer: cv2.VideoWriter | None = None
        self.size = (0, 0)
        self.fps = self.first_s = 0.0
        self.written = 0
        if not self.path.suffix:
            raise ConfigError(f"video.writer {self.path}: found no file ending, expected one that names the container, e.g. .mp4")
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            if self.path.is_dir():
                raise ConfigError(f"video.writer {self.path}: is a directory, expected a file")
            self._save_older_part()
            self.part.touch()
        except OSError as error:
            raise ConfigError(f"video.writer {self.path}: cannot be written: {error.strerror}") from None
        try:
            self._open(PROBE_SIDE, PROBE_SIDE, FALLBACK_FPS).release()
        finally:
            self.part.unlink(missing_ok=True)

    def _save_older_part(self) -> None:
        """What a killed process wrote: kept if it can be played."""
        if not self.part.exists():
            return
        if self.path.suffix.lower() not in PLAYABLE_IN_PARTS:
            self.log.warning("%s was left by a killed process and cannot be played; it is overwritten", self.part)
            return
        for number in count(1):
            kept = self.path.with_name(f"{self.path.stem}.cut-{number}{self.path.suffix}")
            if not kept.exists():
                os.replace(self.part, kept)
                self.log.warning("%s, left by a killed process, is kept as %s", self.part, kept)
                return

    def _open(self, width: int, height: int, fps: float) -> cv2.VideoWriter:
        writer = cv2.VideoWriter(str(self.part), cv2.VideoWriter.fourcc(*self.config["codec"]), fps, (width, height))
        if not writer.isOpened():
            codec, ending = self.config["codec"], self.path.suffix
            raise ConfigError(f"video.writer {self.path}: OpenCV cannot write codec {codec!r} into {ending} here; try mp4v")
        return writer

    def process(self, packet: StreamPacket) -> None:
        frame = packet.payload
        height, width, channels = frame.shape
        if channels not in (1, 3):
            raise PayloadError(f"{self.id}: found a frame of {channels} channels, expected 1 or 3")
        if self.writer is None:
            self._begin(packet, width, height)
        if (width, height) != self.size:
            found, expected = f"{width}x{height}", f"{self.size[0]}x{self.size[1]}"
            raise PayloadError(f"{self.id}: found a frame of {found}, expected {expected} as at the start; put vision.resize before it")
        picture = cv2.cvtColor(frame, cv2.COLOR_GRAY2BGR) if channels == 1 else np.ascontiguousarray(frame)
        for _ in range(self._times(packet)):
            self.writer.write(picture)  # type: ignore[union-attr]  # _begin has set it
            self.written += 1

    def _begin(self, packet: StreamPacket, width: int, height: int) -> None:
        told = (packet.meta or {}).get("fps")
        self.fps = float(self.config["fps"] or (told if isinstance(told, (int, float)) and 0 < told <= 1000 else FALLBACK_FPS))
        self.writer = self._open(width, height, self.fps)
        self.size = (width, height)
        self.first_s = stream_time_s(packet)

    def _times(self, packet: StreamPacket) -> int:
        """How often this frame is written: as often as it takes to catch up with stream time, but at least once."""
        if not self.config["keep_time"] or "pts_ms" not in (packet.meta or {}):
            return 1
        behind = round((stream_time_s(packet) - self.first_s) * self.fps) - self.written
        if abs(behind) > GAP_S_MAX * self.fps:  # another stream, or a pause: time starts anew here
            self.first_s = stream_time_s(packet) - self.written / self.fps
            return 1
        return max(1, behind + 1)

    def close(self) -> None:
        if self.writer is None:
            self.log.warning("video.writer %s: no frame came, so there is no file", self.path)
            return
        self.writer.release()
        self._check()
        os.replace(self.part, self.path)
        self.log.info("%s: %d frames at %g fps", self.path, self.written, self.fps)

    def _check(self) -> None:
        """OpenCV does not report a full disk: look whether the file holds what was written."""
        capture = cv2.VideoCapture(str(self.part))
        found = capture.get(cv2.CAP_PROP_FRAME_COUNT) if capture.isOpened() else -1
        capture.release()
        indexed = self.path.suffix.lower() in (".mp4", ".mov", ".m4v")  # elsewhere the count is an estimate
        if found < 0 or (indexed and found != self.written):
            raise OSError(f"video.writer {self.part}: found {max(0, found):g} frames in it, expected {self.written}; is the disk full?")
