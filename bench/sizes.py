"""Sizes and lists of numbers as people write them on the command line: 64B, 4KiB, 1080p, 1280x720, flat."""

from __future__ import annotations

import re
from dataclasses import dataclass

from streamcore_bench.shared_work import MIN_BYTES

CHANNELS = 3
PICTURES = {"vga": (640, 480), "720p": (1280, 720), "1080p": (1920, 1080), "4k": (3840, 2160)}
_UNITS = {"b": 1, "kib": 1 << 10, "mib": 1 << 20, "kb": 1000, "mb": 1_000_000}
_NUMBER = re.compile(r"(\d+(?:\.\d+)?)\s*([a-z]+)")
_PIXELS = re.compile(r"(\d+)x(\d+)")


@dataclass(frozen=True)
class Size:
    """Bytes of one packet, and the name that its points have."""

    name: str
    nbytes: int


def parse_size(text: str) -> Size:
    """A picture has three bytes per pixel. Raises ValueError that says what was found and what is expected."""
    word = text.strip().lower()
    if word in PICTURES:
        width, height = PICTURES[word]
        return Size({"vga": "VGA", "4k": "4K"}.get(word, word), width * height * CHANNELS)
    if match := _PIXELS.fullmatch(word):
        nbytes = int(match[1]) * int(match[2]) * CHANNELS
    elif (match := _NUMBER.fullmatch(word)) and match[2] in _UNITS:
        nbytes = round(float(match[1]) * _UNITS[match[2]])
    else:
        raise ValueError(f"{text!r} is no size; expected e.g. 64B, 4KiB, 2.5MiB, {', '.join(PICTURES)}, 1280x720")
    if not MIN_BYTES <= nbytes <= 1 << 30:
        raise ValueError(f"{text!r} is {nbytes:,} bytes; expected {MIN_BYTES} B (the stamp that every packet carries) to 1 GiB")
    return Size(text.strip(), nbytes)


def parse_sizes(text: str) -> tuple[Size, ...]:
    return tuple(parse_size(word) for word in _words(text))


def parse_rates(text: str) -> tuple[float, ...]:
    """Packets per second; `flat` is 0: as fast as they are taken."""
    found = []
    for word in _words(text):
        try:
            rate = 0.0 if word.lower() == "flat" else float(word)
        except ValueError:
            rate = -1.0
        if not 0 <= rate <= 1e6:
            raise ValueError(f"{word!r} is no rate; expected flat, or packets per second, e.g. 60")
        found.append(rate)
    return tuple(found)


def parse_counts(text: str, least: int, most: int) -> tuple[int, ...]:
    found = []
    for word in _words(text):
        if not word.isdecimal() or not least <= int(word) <= most:
            raise ValueError(f"found {word!r}, expected whole numbers from {least} to {most}, e.g. 1,3")
        found.append(int(word))
    return tuple(found)


def _words(text: str) -> list[str]:
    words = [word.strip() for word in text.split(",") if word.strip()]
    if not words:
        raise ValueError("found nothing, expected at least one value")
    return words
