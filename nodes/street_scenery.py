"""The still part of the synthetic street: sky, houses, trees, pavements and the road, painted once per size and seed."""

from __future__ import annotations

import cv2
import numpy as np

from streamcore_nodes.street_canvas import Canvas, Color, mix, smooth

HEIGHT = 720.0  # design units of a frame's height; the width follows from its shape

GROUND_Y = 432.0  # foot of the houses
KERB_FAR_Y, ROAD_Y, ROAD_END_Y, PAVEMENT_Y = 470.0, 477.0, 642.0, 652.0
CENTRE_Y = 553.0

WALLS: tuple[Color, ...] = (
    (150, 178, 208), (122, 140, 186), (186, 196, 204), (148, 160, 150), (112, 124, 170), (172, 186, 214), (164, 150, 138),
)  # fmt: skip
AWNINGS: tuple[Color, ...] = ((66, 72, 170), (110, 96, 48), (74, 118, 64), (60, 132, 196), (120, 70, 92))
LEAVES: tuple[Color, ...] = ((58, 112, 70), (66, 128, 92), (52, 98, 74))


def paint(width: int, height: int, seed: int) -> np.ndarray:
    """The empty street as a BGR image of width x height pixels."""
    scale = height / HEIGHT
    enlarge = 2 if height <= 1080 else 1
    canvas = Canvas(width / scale, HEIGHT, scale * enlarge)
    span = width / scale
    random = np.random.default_rng([seed, 1])
    _sky(canvas, span, random)
    _skyline(canvas, span, random)
    _houses(canvas, span, random)
    _ground(canvas, span)
    _trees_and_lamps(canvas, span, random)
    image = cv2.resize(canvas.image, (width, height), interpolation=cv2.INTER_AREA)
    return _grain(image, scale, random)


def _sky(canvas: Canvas, span: float, random: np.random.Generator) -> None:
    rows = np.linspace(0, HEIGHT / 400, canvas.image.shape[0])[:, None].clip(0, 1)
    top, horizon = np.array((206, 156, 98.0)), np.array((232, 222, 206.0))
    canvas.image[:] = (top + (horizon - top) * rows**0.8)[:, None, :].astype(np.uint8)
    clouds = Canvas(span, 330, canvas.scale / 4, channels=1)
    for _ in range(max(3, int(span / 210))):
        x, y, size = random.uniform(0, span), random.uniform(20, 170), random.uniform(26, 52)
        for _ in range(9):
            puff_x, puff_y = x + random.normal(0, size), y + random.normal(0, size * 0.16)
            clouds.ellipse(puff_x, puff_y, size * random.uniform(0.4, 0.8), size * 0.28, (205,))
    blur = cv2.GaussianBlur(clouds.image, (0, 0), max(1.0, 7 * clouds.scale))
    rows_px = canvas.at(0, 330)[1]
    share = cv2.resize(blur, (canvas.image.shape[1], rows_px))[:, :, None].astype(np.float32) / 255
    part = canvas.image[:rows_px]
    part[:] = (part + (np.array((250, 247, 244), np.float32) - part) * share).astype(np.uint8)


def _skyline(canvas: Canvas, span: float, random: np.random.Generator) -> None:
    x = -20.0
    while x < span:
        width, top = random.uniform(36, 84), random.uniform(190, 300)
        canvas.rectangle(x, top, width, GROUND_Y - top, mix((214, 200, 184), (196, 176, 158), random.uniform(0, 1)))
        x += width * random.uniform(0.7, 1.1)


def _houses(canvas: Canvas, span: float, random: np.random.Generator) -> None:
    x, last = -random.uniform(0, 60), -1
    while x < span:
        width, storeys = random.uniform(128, 210), int(random.integers(3, 6))
        pick = int(random.integers(0, len(WALLS)))
        pick = (pick + 1) % len(WALLS) if pick == last else pick
        _house(canvas, x, width, storeys, WALLS[pick], random)
        x, last = x + width, pick


def _house(canvas: Canvas, x: float, width: float, storeys: int, wall: Color, random: np.random.Generator) -> None:
    storey, shop = 48.0, 62.0
    top = GROUND_Y - shop - storeys * storey
    dark, light = mix(wall, (40, 40, 50), 0.28), mix(wall, (250, 250, 250), 0.35)
    canvas.rectangle(x, top, width, GROUND_Y - top, wall)
    canvas.rectangle(x, top, 5, GROUND_Y - top, mix(wall, (40, 40, 50), 0.12))
    canvas.rectangle(x - 3, top - 9, width + 6, 9, light)
    canvas.rectangle(x, top, width, 3, dark)
    columns = max(2, int(width // 44))
    pitch = width / columns
    for row in range(storeys):
        y = top + row * storey + 11
        for column in range(columns):
            _window(canvas, x + column * pitch + pitch / 2 - 10, y, random, light, dark)
        canvas.rectangle(x, top + (row + 1) * storey - 1.5, width, 1.5, mix(wall, dark, 0.5))
    _shop(canvas, x, width, GROUND_Y - shop, random, dark)


def _window(canvas: Canvas, x: float, y: float, random: np.random.Generator, light: Color, dark: Color) -> None:
    glass = mix((120, 96, 74), (196, 172, 146), random.uniform(0, 1)) if random.uniform() < 0.85 else (150, 206, 236)
    canvas.rectangle(x - 2.5, y - 2.5, 25, 33, light)
    canvas.rectangle(x, y, 20, 28, glass)
    canvas.polygon([(x, y + 16), (x + 12, y), (x + 20, y), (x, y + 26)], mix(glass, (255, 255, 255), 0.18))
    canvas.line([(x + 10, y), (x + 10, y + 28)], light, 1.4)
    canvas.line([(x, y + 11), (x + 20, y + 11)], light, 1.4)
    canvas.rectangle(x - 4, y + 30, 28, 3, dark)


def _shop(canvas: Canvas, x: float, width: float, y: float, random: np.random.Generator, dark: Color) -> None:
    awning = AWNINGS[int(random.integers(0, len(AWNINGS)))]
    canvas.rectangle(x, y, width, GROUND_Y - y, mix(dark, (70, 70, 76), 0.4))
    canvas.rectangle(x + 8, y + 20, width - 50, 36, mix((132, 110, 88), (180, 200, 212), random.uniform(0, 0.7)))
    canvas.polygon([(x + 14, y + 56), (x + 40, y + 20), (x + 58, y + 20), (x + 32, y + 56)], (196, 190, 180))
    canvas.rectangle(x + width - 36, y + 18, 26, GROUND_Y - y - 18, mix(awning, (40, 40, 40), 0.45))
    canvas.rectangle(x + width - 32, y + 23, 18, 22, (150, 132, 112))
    stripes = max(4, int(width // 20))
    pitch = (width - 8) / stripes
    for stripe in range(stripes):
        left = x + 4 + stripe * pitch
        color = awning if stripe % 2 == 0 else (232, 234, 236)
        canvas.polygon([(left, y + 4), (left + pitch, y + 4), (left + pitch, y + 17), (left, y + 17)], color)
        canvas.ellipse(left + pitch / 2, y + 17, pitch / 2, 4, color)
    canvas.rectangle(x + 4, y + 2, width - 8, 3, mix(awning, (30, 30, 30), 0.3))


def _ground(canvas: Canvas, span: float) -> None:
    canvas.rectangle(0, GROUND_Y, span, HEIGHT - GROUND_Y, (176, 182, 186))
    canvas.rectangle(0, GROUND_Y, span, 7, (138, 142, 148))
    for x in np.arange(-60, span, 34):
        canvas.line([(x, GROUND_Y + 7), (x - 12, KERB_FAR_Y)], (160, 165, 169), 1)
    canvas.line([(0, GROUND_Y + 22), (span, GROUND_Y + 22)], (160, 165, 169), 1)
    canvas.rectangle(0, KERB_FAR_Y, span, ROAD_Y - KERB_FAR_Y, (198, 202, 204))
    canvas.rectangle(0, ROAD_Y, span, ROAD_END_Y - ROAD_Y, (88, 86, 84))
    canvas.rectangle(0, ROAD_Y, span, 5, (70, 69, 68))
    for y, share in ((508, 0.5), (532, 1.0), (584, 0.6), (614, 1.0)):  # tyre tracks, a little darker
        canvas.rectangle(0, y, span, 13, mix((88, 86, 84), (80, 78, 76), share))
    crossing = span * 0.735
    for x in np.arange(20, span, 96):
        if crossing - 84 < x < crossing + 82:
            continue
        canvas.polygon([(x, CENTRE_Y - 2.5), (x + 52, CENTRE_Y - 2.5), (x + 51, CENTRE_Y + 2.5), (x - 1, CENTRE_Y + 2.5)], (222, 226, 228))
    canvas.rectangle(0, ROAD_Y + 8, span, 2.5, (198, 202, 204))
    canvas.rectangle(0, ROAD_END_Y - 10, span, 4, (212, 216, 218))
    _crossing(canvas, crossing)
    canvas.rectangle(0, ROAD_END_Y, span, PAVEMENT_Y - ROAD_END_Y, (206, 210, 212))
    canvas.rectangle(0, ROAD_END_Y, span, 2, (120, 124, 128))
    canvas.rectangle(0, PAVEMENT_Y, span, HEIGHT - PAVEMENT_Y, (166, 173, 178))
    for x in np.arange(-80, span + 80, 62):
        canvas.line([(x, PAVEMENT_Y), (x - 26, HEIGHT)], (146, 153, 158), 1.3)
    for joint in (PAVEMENT_Y, PAVEMENT_Y + 22, PAVEMENT_Y + 50):
        canvas.line([(0, joint), (span, joint)], (146, 153, 158), 1.3)


def _crossing(canvas: Canvas, x: float) -> None:
    """A zebra crossing: bars along the driving direction, wider towards the viewer."""
    y, bar = ROAD_Y + 14, 8.0
    while y < ROAD_END_Y - 16:
        lean = (y - ROAD_Y) * 0.12
        canvas.polygon([(x - lean, y), (x + 66 - lean * 0.4, y), (x + 66 - lean * 0.4, y + bar), (x - lean, y + bar)], (214, 218, 220))
        y, bar = y + bar * 1.95, bar * 1.09


def _trees_and_lamps(canvas: Canvas, span: float, random: np.random.Generator) -> None:
    x = random.uniform(70, 130)
    while x < span:
        _tree(canvas, x, random)
        _lamp(canvas, x + 118)
        x += random.uniform(225, 265)


def _tree(canvas: Canvas, x: float, random: np.random.Generator) -> None:
    foot = GROUND_Y + 24
    canvas.ellipse(x, foot, 17, 4, (112, 126, 134))
    canvas.polygon([(x - 5, foot), (x - 3.2, foot - 84), (x + 3.2, foot - 84), (x + 5, foot)], (58, 74, 92))
    leaf = LEAVES[int(random.integers(0, len(LEAVES)))]
    for layer, shade in enumerate((0.32, 0.12, 0.0)):
        for _ in range(11):
            dx, dy = random.normal(0, 17, 2).clip(-27, 27) * (1, 0.8)
            size = random.uniform(13, 20)
            canvas.ellipse(x + dx + layer * -3, foot - 108 + dy - layer * 7, size, size * 0.85, mix(leaf, (24, 50, 34), shade))
    for _ in range(26):
        dx, dy = random.normal(0, 16, 2).clip(-24, 24) * (1, 0.75)
        canvas.ellipse(x + dx - 6, foot - 120 + dy, 4.2, 3.2, mix(leaf, (140, 206, 170), random.uniform(0.15, 0.4)))


def _lamp(canvas: Canvas, x: float) -> None:
    foot, top = GROUND_Y + 28, GROUND_Y - 132
    canvas.polygon([(x - 3, foot), (x - 1.6, top), (x + 1.6, top), (x + 3, foot)], (62, 60, 58))
    canvas.rectangle(x - 4.5, foot - 12, 9, 12, (62, 60, 58))
    canvas.line([(x, top + 6), (x + 12, top - 5), (x + 26, top - 6)], (62, 60, 58), 2.4)
    canvas.polygon(smooth([(x + 20, top - 8), (x + 42, top - 7), (x + 40, top - 2), (x + 22, top - 3)]), (78, 76, 74))
    canvas.ellipse(x + 32, top - 2, 8, 1.8, (214, 236, 244))


def _grain(image: np.ndarray, scale: float, random: np.random.Generator) -> np.ndarray:
    """Asphalt and stone are not flat: fixed noise below the houses, and a soft vignette over all."""
    height, width = image.shape[:2]
    first = round(GROUND_Y * scale)
    grain = cv2.GaussianBlur(random.normal(0, 11, (height - first, width)).astype(np.float32), (0, 0), max(0.6, 0.9 * scale))
    patches = cv2.resize(random.normal(0, 3.4, (8, 40)).astype(np.float32), (width, height - first), interpolation=cv2.INTER_CUBIC)
    work = image.astype(np.float32)
    work[first:] += (grain + patches)[:, :, None]
    down = np.abs(np.linspace(-1, 1, height, dtype=np.float32))[:, None]
    across = np.abs(np.linspace(-1, 1, width, dtype=np.float32))[None, :]
    work *= (1 - 0.10 * (down**2 + across**2) / 2)[:, :, None]
    return work.clip(0, 255).astype(np.uint8)
