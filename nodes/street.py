"""synthetic.street: a street scene with cars and people, drawn live, the same for the same seed, and with the truth in meta.

Where everything is follows from the frame number alone, so any frame can be drawn without those before it.
"""

from __future__ import annotations

import math
import time
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np

from streamcore import Port, Source, StreamPacket, array
from streamcore_nodes import street_scenery, street_sprites
from streamcore_nodes.street_canvas import Sprite

NOISE_MEAN = 8  # the noise is stored as bytes around this value, and it is taken off again while blending
NOISE_SIGMA = 2.2
NOISE_ROOM = 64  # pixels by which the noise is larger than the frame; every frame takes another cut of it
LOOKS = 8  # different vehicles per lane


@dataclass(frozen=True)
class Track:
    """A line along which sprites of one kind move at one speed, so that they never meet. Lengths in design units (frame height 720)."""

    label: str
    ground_y: float
    scale: float
    speed: float  # units per second, negative to the left
    room: float  # length that the longest of them needs


CAR_TRACKS = (Track("car", 529.0, 0.88, -215.0, 350.0), Track("car", 622.0, 1.08, 280.0, 420.0))
PEOPLE_TRACKS = (
    Track("person", 455.0, 0.80, 46.0, 60.0),
    Track("person", 465.0, 0.84, -40.0, 60.0),
    Track("person", 692.0, 1.18, -62.0, 60.0),
    Track("person", 708.0, 1.26, 70.0, 60.0),
)
STEP = 62.0  # design units of a person's double step, at scale 1


class Traffic:
    """Who moves on one track. `where(seconds)` gives (left to right) what stands where."""

    def __init__(self, track: Track, count: int, span: float, scale: float, random: np.random.Generator):
        self.track, self.scale, self.count = track, scale, count
        self.length = max(span + 2 * track.room, count * track.room * 1.1)  # of the loop they run on; its ends are out of sight
        pitch = self.length / max(count, 1)
        self.starts = [i * pitch + random.uniform(0, max(pitch - track.room, 0)) for i in range(count)]
        self.picks = [int(random.integers(0, LOOKS)) for _ in range(count)]
        self.sprites = self._cast(random) if count else []

    def _cast(self, random: np.random.Generator) -> list[list[Sprite]]:
        right, size = self.track.speed > 0, self.track.scale * self.scale
        if self.track.label == "person":
            first = int(self.track.ground_y)
            return [street_sprites.person(street_sprites.look(random, first + i), size, right) for i in range(self.count)]
        models = list(street_sprites.MODELS)
        order = [models[i % len(models)] for i in (0, 1, 2, 0, 3, 2, 1, 4)]  # a bus now and then
        paints = random.permutation(len(street_sprites.PAINTS))
        return [street_sprites.vehicle(name, street_sprites.PAINTS[paints[i]], size, right) for i, name in enumerate(order)]

    def where(self, seconds: float) -> Iterator[tuple[str, Sprite, int, int]]:
        """(name, sprite, x, y) of everybody; x, y in pixels of the frame, maybe outside of it."""
        track = self.track
        for i, start in enumerate(self.starts):
            lap, along = divmod(start + track.speed * seconds, self.length)
            x = along - track.room
            if track.label == "person":
                phases = self.sprites[i]
                phase = int((start + abs(track.speed) * seconds) / (STEP * track.scale) * len(phases)) % len(phases)
            else:
                phases = self.sprites[(self.picks[i] + int(lap)) % len(self.sprites)]  # comes back as another car
                turn = x / (2 * math.pi / 5 * 14 * track.scale) * len(phases)
                phase = int(turn if track.speed > 0 else -turn) % len(phases)
            name = f"{track.label}-{int(track.ground_y)}-{i}-{int(lap)}"
            yield name, phases[phase], round(x * self.scale), round(track.ground_y * self.scale)


class Scene:
    """Draws frame n of the street into an array."""

    def __init__(self, width: int, height: int, fps: float, seed: int, cars: int, people: int):
        self.width, self.height, self.fps = width, height, fps
        self.backdrop = street_scenery.paint(width, height, seed)
        random = np.random.default_rng([seed, 2])
        noise = random.normal(NOISE_MEAN, NOISE_SIGMA, (height + NOISE_ROOM, width + NOISE_ROOM, 3))
        self.noise = noise.round().clip(0, 255).astype(np.uint8)
        self.cuts = random.integers(0, NOISE_ROOM, (997, 2))
        scale, span = height / street_scenery.HEIGHT, width * street_scenery.HEIGHT / height
        shares = [(track, (cars + i) // 2) for i, track in enumerate(CAR_TRACKS)]
        shares += [(track, (people + 3 - i) // 4) for i, track in enumerate(PEOPLE_TRACKS)]
        shares.sort(key=lambda share: share[0].ground_y)  # what stands further down is nearer and is drawn over the rest
        self.traffic = [Traffic(track, count, span, scale, random) for track, count in shares]

    def draw(self, number: int, frame: np.ndarray) -> list[dict[str, Any]]:
        """Overwrite all of `frame` with frame `number`; return the truth: the box of everybody who can be seen, cut at the frame's edge."""
        seconds = number / self.fps
        np.copyto(frame, self.backdrop)
        truth: list[dict[str, Any]] = []
        for traffic in self.traffic:
            for name, sprite, x, y in traffic.where(seconds):
                sprite.blend(frame, x, y)
                left, top = max(x + sprite.box[0], 0), max(y + sprite.box[1], 0)
                right, bottom = min(x + sprite.box[0] + sprite.box[2], self.width), min(y + sprite.box[1] + sprite.box[3], self.height)
                if right - left >= 4 and bottom - top >= 4:
                    truth.append({"id": name, "label": traffic.track.label, "x": left, "y": top, "w": right - left, "h": bottom - top})
        light = 1.0 + 0.025 * math.sin(2 * math.pi * seconds / 24) + 0.006 * math.sin(2 * math.pi * seconds / 5.3)
        down, right = (int(cut) for cut in self.cuts[number % len(self.cuts)])
        noise = self.noise[down : down + self.height, right : right + self.width]
        cv2.addWeighted(frame, light, noise, 1.0, -NOISE_MEAN, dst=frame)
        return truth


class Street(Source):
    """Draw a synthetic street: cars of several kinds in two directions, people walking, sensor noise, slowly changing light.

    The same seed gives the same frames, on any machine with the same OpenCV. A frame takes a few milliseconds.
    Each packet's meta holds `frame`, `pts_ms`, `fps` and `truth`: a list of {id, label (car or person), x, y, w, h}; boxes are cut at
    the frame's edge, and what stands behind something else has its whole box. Position is the frame number.
    """

    outputs = {"out": Port("frame", array("uint8", ndim=3), doc="BGR frames, drawn in place")}
    config = {
        "width": {"type": "integer", "min": 160, "max": 7680, "default": 1280, "meta": {"doc": "pixels"}},
        "height": {"type": "integer", "min": 120, "max": 4320, "default": 720, "meta": {"doc": "pixels"}},
        "fps": {"type": "number", "min": 0.1, "max": 1000, "default": 30, "meta": {"doc": "frames per second of stream time"}},
        "seed": {"type": "integer", "min": 0, "default": 7, "meta": {"doc": "another number, another street"}},
        "frames": {"type": "integer", "min": 0, "default": 0, "meta": {"doc": "how many; 0 never ends"}},
        "pace": {"allowed": ["realtime", "none"], "default": "realtime", "meta": {"doc": "realtime: at fps; none: as fast as taken"}},
        "cars": {"type": "integer", "min": 0, "max": 40, "default": 8, "meta": {"doc": "on the whole loop; about half are in sight"}},
        "people": {"type": "integer", "min": 0, "max": 40, "default": 8, "meta": {"doc": "on the whole loop; most are in sight"}},
    }

    def setup(self) -> None:
        keys = ("width", "height", "fps", "seed", "cars", "people")
        self.scene = Scene(**{key: self.config[key] for key in keys})

    def run(self) -> Iterator[StreamPacket]:
        fps, frames = float(self.config["fps"]), self.config["frames"]
        paced = self.config["pace"] == "realtime"
        number = 0 if self.resume_position is None else self.resume_position + 1
        start_ns, first = time.monotonic_ns(), number
        while not self.stopping and (frames == 0 or number < frames):
            due_ns = start_ns + round((number - first) * 1e9 / fps)
            if paced and not self.wait_until(due_ns):
                return
            out = self.loan("out", (self.scene.height, self.scene.width, 3))
            truth = self.scene.draw(number, out)
            meta = {"frame": number, "pts_ms": number * 1e3 / fps, "fps": fps, "truth": truth}
            capture_ns = due_ns if paced else None
            yield StreamPacket.new(kind="frame", source_id=self.id, payload=out, meta=meta, position=number, capture_ns=capture_ns)
            del out  # or this frame's slot would still be ours while the next one is loaned
            number += 1
