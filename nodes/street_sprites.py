"""What moves on the synthetic street: vehicles with turning wheels, people with a gait. Rendered once, four times enlarged."""

from __future__ import annotations

import math
from dataclasses import dataclass

import cv2
import numpy as np

from streamcore_nodes.street_canvas import Canvas, Color, Point, Sprite, mix, smooth

ENLARGE = 4
WHEEL_PHASES = 4
GAIT_PHASES = 12
MARGIN = 14.0  # design units around a sprite, room for its shadow

PAINTS: tuple[Color, ...] = (
    (56, 52, 188), (150, 86, 40), (222, 222, 220), (60, 58, 56), (150, 146, 140),
    (84, 132, 60), (58, 170, 222), (110, 62, 46), (92, 88, 150), (176, 150, 70),
)  # fmt: skip
GLASS: Color = (92, 74, 58)
TYRE: Color = (34, 32, 32)
SKINS: tuple[Color, ...] = ((160, 188, 226), (120, 156, 204), (84, 116, 166), (62, 82, 118))
CLOTHES: tuple[Color, ...] = (
    (70, 60, 170), (150, 98, 52), (82, 124, 70), (66, 160, 214), (70, 66, 64), (196, 196, 200), (128, 70, 110), (54, 92, 150),
)  # fmt: skip


@dataclass(frozen=True)
class Model:
    """A vehicle facing right. Points count from the rear end of the bumper on the ground, y upwards."""

    name: str
    length: float
    hull: tuple[Point, ...]
    windows: tuple[tuple[Point, ...], ...]
    wheels: tuple[float, ...]
    wheel_radius: float
    doors: tuple[float, ...]
    waist: float


MODELS = {
    "sedan": Model(
        "sedan", 170,
        ((3, 14), (1, 27), (6, 39), (34, 43), (58, 57), (82, 60), (104, 57), (128, 42), (156, 36), (168, 28), (169, 14),
         (140, 10), (30, 10)),
        (((45, 42), (61, 55), (82, 57), (82, 42)), ((86, 42), (86, 57), (102, 54), (119, 42))),
        (36, 134), 14, (84,), 38),
    "hatch": Model(
        "hatch", 146,
        ((3, 14), (1, 30), (8, 48), (24, 60), (56, 63), (82, 59), (106, 43), (132, 36), (144, 27), (145, 14), (118, 10), (28, 10)),
        (((16, 44), (27, 57), (54, 60), (54, 44)), ((58, 44), (58, 60), (79, 56), (97, 44))),
        (29, 116), 14, (56,), 40),
    "suv": Model(
        "suv", 164,
        ((3, 18), (1, 36), (6, 58), (22, 71), (70, 73), (98, 68), (118, 50), (150, 44), (162, 34), (163, 17), (134, 13), (30, 13)),
        (((14, 52), (24, 67), (54, 69), (54, 52)), ((58, 52), (58, 69), (94, 65), (109, 52))),
        (33, 130), 17, (56,), 47),
    "van": Model(
        "van", 196,
        ((3, 14), (1, 22), (1, 40), (2, 80), (4, 88), (9, 93), (18, 94), (112, 94), (128, 93), (142, 87), (168, 58), (186, 49), (193, 40),
         (195, 26), (193, 14), (186, 11), (176, 11), (22, 11), (12, 11)),
        (((128, 56), (128, 84), (140, 82), (162, 56)),),
        (38, 156), 16, (122,), 50),
    "bus": Model(
        "bus", 318,
        ((3, 13), (1, 22), (1, 40), (2, 96), (3, 106), (8, 113), (18, 114), (280, 114), (296, 113), (306, 106), (316, 60), (317, 40),
         (317, 22), (315, 14), (308, 11), (298, 11), (22, 11), (10, 11)),
        (*(((x, 56), (x, 98), (x + 41, 98), (x + 41, 56)) for x in range(16, 286, 45)), ((290, 50), (290, 98), (303, 98), (312, 56))),
        (66, 250), 19, (286,), 46),
}  # fmt: skip


def vehicle(name: str, paint: Color, scale: float, faces_right: bool) -> list[Sprite]:
    """A vehicle's sprites, one per phase of its wheels."""
    model = MODELS[name]
    tall = max(y for _, y in model.hull) + 8
    canvas = Canvas(model.length + 2 * MARGIN, tall + MARGIN, scale * ENLARGE, channels=4, origin=(MARGIN, 0))
    _body(canvas, model, paint, tall)
    shadow = _shadow(canvas, (6, model.length - 4), tall, scale)
    anchor_y = canvas.at(0, tall)[1] // ENLARGE
    sprites = []
    for phase in range(WHEEL_PHASES):
        turned = Canvas(model.length + 2 * MARGIN, tall + MARGIN, scale * ENLARGE, channels=4, origin=(MARGIN, 0))
        turned.image[:] = canvas.image
        for x in model.wheels:
            _wheel(turned, x, tall - model.wheel_radius, model.wheel_radius, 2 * math.pi / 5 * phase / WHEEL_PHASES)
        picture = turned.reduced(ENLARGE)
        if not faces_right:
            picture = np.ascontiguousarray(picture[:, ::-1])
        sprites.append(Sprite(picture, (picture.shape[1] // 2, anchor_y), shadow if faces_right else shadow[:, ::-1]))
    return sprites


def _body(canvas: Canvas, model: Model, paint: Color, tall: float) -> None:
    def up(points: tuple[Point, ...]) -> list[Point]:
        return [(x, tall - y) for x, y in points]

    canvas.polygon(smooth(up(model.hull)), paint)
    _shade(canvas, tall)
    canvas.line([(4, tall - model.waist * 0.62), (model.length - 4, tall - model.waist * 0.62)], mix(paint, (255, 255, 255), 0.22), 1.2)
    canvas.rectangle(8, tall - 17, model.length - 16, 5, mix(paint, (26, 26, 28), 0.72))
    for window in model.windows:
        points = up(window)
        canvas.polygon(points, GLASS)
        (low, high), (high_end, low_end) = points[:2], points[2:]
        gleam = [_between(low, low_end, 0.26), _between(high, high_end, 0.46), _between(high, high_end, 0.66), _between(low, low_end, 0.46)]
        canvas.polygon(gleam, mix(GLASS, (255, 244, 230), 0.28))
        canvas.line([*points, points[0]], mix(paint, (24, 24, 26), 0.6), 1.3)
    for x in model.doors:
        canvas.line([(x, tall - model.waist - 2), (x, tall - 17)], mix(paint, (20, 20, 22), 0.4), 1.1)
        canvas.rectangle(x - 14, tall - model.waist + 3, 8, 2.2, mix(paint, (20, 20, 22), 0.5))
    front = model.length - 3
    canvas.polygon(smooth(up(((front - 7, 26), (front, 25), (front, 31), (front - 8, 33)))), (226, 248, 255))
    canvas.polygon(up(((2, 25), (7, 26), (8, 35), (3, 34))), (52, 44, 206))
    for x in model.wheels:  # the wheel arch
        canvas.ellipse(x, tall - model.wheel_radius - 0.5, model.wheel_radius + 3.2, model.wheel_radius + 3.2, (26, 25, 26))


def _between(first: Point, last: Point, share: float) -> Point:
    return first[0] + (last[0] - first[0]) * share, first[1] + (last[1] - first[1]) * share


def _shade(canvas: Canvas, tall: float) -> None:
    """Daylight from above: the upper flanks lighter, the sill darker."""
    rows = np.arange(canvas.image.shape[0]) / canvas.scale
    light = np.interp(rows, (tall - 70, tall - 40, tall - 24, tall - 10), (1.10, 1.06, 0.92, 0.70))
    ink = canvas.image[:, :, :3] * light[:, None, None]
    canvas.image[:, :, :3] = np.minimum(ink, canvas.image[:, :, 3:]).astype(np.uint8)  # premultiplied: ink never exceeds alpha


def _wheel(canvas: Canvas, x: float, y: float, radius: float, angle: float) -> None:
    canvas.ellipse(x, y, radius, radius, TYRE)
    canvas.ellipse(x, y, radius * 0.62, radius * 0.62, (164, 162, 160))
    canvas.ellipse(x, y, radius * 0.52, radius * 0.52, (88, 86, 86))
    for spoke in range(5):
        turn = angle + spoke * 2 * math.pi / 5
        canvas.line([(x, y), (x + radius * 0.56 * math.cos(turn), y + radius * 0.56 * math.sin(turn))], (186, 184, 182), radius * 0.15)
    canvas.ellipse(x, y, radius * 0.16, radius * 0.16, (206, 204, 202))


def _shadow(canvas: Canvas, ends: tuple[float, float], ground: float, scale: float) -> np.ndarray:
    """A soft shade on the ground below, as alpha of black, in final pixels."""
    height, width = canvas.image.shape[0] // ENLARGE, canvas.image.shape[1] // ENLARGE
    shade = Canvas(width / scale, height / scale, scale, channels=1, origin=canvas.origin)
    shade.ellipse((ends[0] + ends[1]) / 2, ground + 1, (ends[1] - ends[0]) / 2 + 4, 6, (150,))
    return cv2.resize(cv2.GaussianBlur(shade.image, (0, 0), max(0.8, 2.6 * scale)), (width, height))


@dataclass(frozen=True)
class Look:
    """How one person is dressed and built."""

    skin: Color
    hair: Color
    top: Color
    legs: Color
    bag: bool
    stride: float  # largest angle of the thigh, radians


def look(random: np.random.Generator, number: int) -> Look:
    """Neighbours by `number` wear different colours."""

    def pick(colors: tuple[Color, ...]) -> Color:
        return colors[int(random.integers(0, len(colors)))]

    hair = ((30, 34, 44), (40, 62, 92), (96, 150, 190), (120, 122, 126))
    trousers = ((88, 62, 44), (52, 50, 50), (92, 106, 120), (60, 70, 84))
    top = CLOTHES[(number * 3 + 1) % len(CLOTHES)]
    return Look(pick(SKINS), pick(hair), top, pick(trousers), bool(random.uniform() < 0.4), float(random.uniform(0.42, 0.58)))


def person(dress: Look, scale: float, faces_right: bool) -> list[Sprite]:
    """A walking person's sprites, one per phase of the gait. 84 design units tall at scale 1."""
    tall, wide = 88.0, 50.0
    sprites = []
    for phase in range(GAIT_PHASES):
        canvas = Canvas(wide + 2 * MARGIN, tall + MARGIN, scale * ENLARGE, channels=4, origin=(MARGIN + wide / 2, 0))
        _figure(canvas, dress, 2 * math.pi * phase / GAIT_PHASES, tall)
        picture = canvas.reduced(ENLARGE)
        if not faces_right:
            picture = np.ascontiguousarray(picture[:, ::-1])
        shadow = _shadow(canvas, (-10, 12), tall, scale)
        sprites.append(Sprite(picture, (picture.shape[1] // 2, canvas.at(0, tall)[1] // ENLARGE), shadow))
    return sprites


def _figure(canvas: Canvas, dress: Look, phase: float, ground: float) -> None:
    swing = math.sin(phase) * dress.stride
    hip_y = ground - 41 + 1.6 * abs(math.sin(phase))  # the body is highest when the legs pass each other
    shoulder_y = hip_y - 24
    far, near = 0.30, 0.0  # the limbs on the far side lie in the shade
    _arm(canvas, dress, -swing * -0.9, shoulder_y, far)
    _leg(canvas, dress, -swing, math.cos(phase + math.pi), hip_y, far)
    _leg(canvas, dress, swing, math.cos(phase), hip_y, near)
    torso = [(-7, hip_y + 2), (-8.2, shoulder_y + 6), (-5, shoulder_y - 2), (4, shoulder_y - 2.5), (8, shoulder_y + 5), (7, hip_y + 2)]
    canvas.polygon(smooth(torso), dress.top)
    canvas.polygon(smooth([(-7, hip_y + 2), (-8.2, shoulder_y + 6), (-4, shoulder_y), (-3, hip_y + 2)]), mix(dress.top, (20, 20, 24), 0.22))
    if dress.bag:
        canvas.polygon(smooth([(-14, hip_y - 4), (-14, shoulder_y + 3), (-7, shoulder_y + 1), (-7, hip_y - 3)]), (62, 74, 110))
    canvas.rectangle(-2.4, shoulder_y - 7, 5, 7, mix(dress.skin, (30, 30, 50), 0.2))
    canvas.ellipse(0.6, shoulder_y - 12, 6.0, 7.4, dress.skin)
    hair = [(-6.4, -9), (-6.4, -17), (0, -20.5), (6.2, -17), (5.4, -14.5), (-1, -14)]
    canvas.polygon(smooth([(x, shoulder_y + y) for x, y in hair]), dress.hair)
    _arm(canvas, dress, -swing * 0.9, shoulder_y, near)


def _leg(canvas: Canvas, dress: Look, angle: float, lift: float, hip_y: float, shade: float) -> None:
    """`lift` above 0: the leg swings forward with a bent knee."""
    bend = 0.18 + 0.75 * max(0.0, lift)
    knee = (20.5 * math.sin(angle), hip_y + 20.5 * math.cos(angle))
    shin = angle - bend
    foot = (knee[0] + 20 * math.sin(shin), knee[1] + 20 * math.cos(shin))
    cloth, shoe = mix(dress.legs, (16, 16, 18), shade), mix((50, 48, 52), (16, 16, 18), shade)
    canvas.line([(0, hip_y), knee], cloth, 8.0)
    canvas.line([knee, foot], cloth, 6.4)
    canvas.line([(foot[0] - 1, foot[1]), (foot[0] + 5.4, foot[1] + 0.8)], shoe, 4.6)


def _arm(canvas: Canvas, dress: Look, angle: float, shoulder_y: float, shade: float) -> None:
    elbow = (14 * math.sin(angle), shoulder_y + 3 + 14 * math.cos(angle))
    fore = angle + 0.45
    hand = (elbow[0] + 12 * math.sin(fore), elbow[1] + 12 * math.cos(fore))
    sleeve = mix(mix(dress.top, (16, 16, 20), 0.12), (16, 16, 18), shade)
    canvas.line([(0, shoulder_y + 3), elbow], sleeve, 5.6)
    canvas.line([elbow, hand], sleeve, 4.8)
    canvas.ellipse(hand[0], hand[1], 2.7, 2.7, mix(dress.skin, (16, 16, 18), shade))
