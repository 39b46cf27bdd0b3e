"""Drawing for the synthetic street: a canvas in design units, and sprites that are blended onto frames.

Everything is drawn enlarged and scaled down once, so that edges are smooth; per frame only finished sprites are blended.
"""

from __future__ import annotations

from collections.abc import Sequence

import cv2
import numpy as np

Color = tuple[int, ...]
Point = tuple[float, float]

SHIFT = 4  # OpenCV takes fixed-point coordinates: 1/16 pixel
FULL = 255


class Canvas:
    """An image that is addressed in design units (a frame is 720 of them high), with `scale` pixels per unit.

    With four channels the image is premultiplied BGRA: an anti-aliased edge of an opaque colour on a transparent ground is right as it is.
    """

    def __init__(self, width: float, height: float, scale: float, channels: int = 3, origin: Point = (0.0, 0.0)):
        self.scale, self.origin = scale, origin
        self.image = np.zeros((max(1, round(height * scale)), max(1, round(width * scale)), channels), np.uint8)

    def at(self, x: float, y: float) -> tuple[int, int]:
        """Whole pixels of a point."""
        return round((x + self.origin[0]) * self.scale), round((y + self.origin[1]) * self.scale)

    def _fixed(self, points: Sequence[Point]) -> np.ndarray:
        raw = (np.asarray(points, np.float64) + self.origin) * self.scale * (1 << SHIFT)
        return np.round(raw).astype(np.int32)

    def _ink(self, color: Color) -> Color:
        return (*color, FULL) if self.image.shape[2] == 4 and len(color) == 3 else color

    def polygon(self, points: Sequence[Point], color: Color) -> None:
        cv2.fillPoly(self.image, [self._fixed(points)], self._ink(color), cv2.LINE_AA, SHIFT)

    def rectangle(self, x: float, y: float, width: float, height: float, color: Color) -> None:
        self.polygon([(x, y), (x + width, y), (x + width, y + height), (x, y + height)], color)

    def ellipse(self, x: float, y: float, radius_x: float, radius_y: float, color: Color) -> None:
        angle = np.linspace(0, 2 * np.pi, 40, endpoint=False)
        self.polygon(list(zip(x + radius_x * np.cos(angle), y + radius_y * np.sin(angle), strict=True)), color)

    def line(self, points: Sequence[Point], color: Color, width: float) -> None:
        thickness = max(1, round(width * self.scale))
        cv2.polylines(self.image, [self._fixed(points)], False, self._ink(color), thickness, cv2.LINE_AA, SHIFT)

    def reduced(self, factor: int) -> np.ndarray:
        """The image, `factor` times smaller."""
        height, width = self.image.shape[:2]
        return cv2.resize(self.image, (max(1, width // factor), max(1, height // factor)), interpolation=cv2.INTER_AREA)


def smooth(points: Sequence[Point], steps: int = 8) -> list[Point]:
    """A closed curve through `points`; its tangents are as short as the nearer neighbour asks, so that it never overshoots a corner."""
    knots = np.asarray(points, np.float64)
    before, after = np.roll(knots, 1, 0), np.roll(knots, -1, 0)
    back, ahead = np.hypot(*(knots - before).T), np.hypot(*(after - knots).T)
    tangent = (after - before) * (np.minimum(back, ahead) / (back + ahead))[:, None]
    arriving = np.roll(tangent, -1, 0)
    curve = [
        (2 * t**3 - 3 * t**2 + 1) * knots + (t**3 - 2 * t**2 + t) * tangent + (3 * t**2 - 2 * t**3) * after + (t**3 - t**2) * arriving
        for t in np.linspace(0, 1, steps, endpoint=False)
    ]
    return [(float(x), float(y)) for x, y in np.stack(curve, 1).reshape(-1, 2)]


def mix(color: Color, other: Color, share: float) -> Color:
    """`share` of `other` in `color`."""
    return tuple(round(a + (b - a) * share) for a, b in zip(color, other, strict=True))


class Sprite:
    """A picture with soft edges. `anchor` is the pixel that stands on the ground at the place given to `blend`.

    `box` is (left, top, width, height) of the solid part relative to the anchor, without the shadow: the ground truth.
    """

    def __init__(self, premultiplied: np.ndarray, anchor: tuple[int, int], shadow: np.ndarray | None = None):
        solid = np.flatnonzero(premultiplied[:, :, 3].max(axis=0) > 96)
        rows = np.flatnonzero(premultiplied[:, :, 3].max(axis=1) > 96)
        self.anchor = anchor
        self.box = (int(solid[0]) - anchor[0], int(rows[0]) - anchor[1], int(solid[-1] - solid[0]) + 1, int(rows[-1] - rows[0]) + 1)
        if shadow is not None:  # under the picture: only where that is transparent
            rest = (FULL - premultiplied[:, :, 3:].astype(np.uint16)) * shadow[:, :, None] // FULL
            premultiplied = premultiplied.copy()
            premultiplied[:, :, 3] += rest[:, :, 0].astype(np.uint8)
        self.ink = np.ascontiguousarray(premultiplied[:, :, :3])
        self.clear = np.ascontiguousarray(np.repeat(FULL - premultiplied[:, :, 3:], 3, axis=2))

    def blend(self, frame: np.ndarray, x: int, y: int) -> None:
        """Draw with the anchor at (x, y); parts outside of the frame are cut off."""
        left, top = x - self.anchor[0], y - self.anchor[1]
        height, width = self.ink.shape[:2]
        x0, y0 = max(left, 0), max(top, 0)
        x1, y1 = min(left + width, frame.shape[1]), min(top + height, frame.shape[0])
        if x0 >= x1 or y0 >= y1:
            return
        part = frame[y0:y1, x0:x1]
        cut = np.s_[y0 - top : y1 - top, x0 - left : x1 - left]
        cv2.multiply(part, self.clear[cut], dst=part, scale=1 / FULL)
        cv2.add(part, self.ink[cut], dst=part)
