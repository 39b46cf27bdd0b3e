"""How pages and pictures look: colours of both schemes, the frame of a page, and text that cannot be anything but text."""

from __future__ import annotations

from collections.abc import Iterable
from html import escape

HUES = 8  # colours for things that are told apart; more things begin again with the first
_LIGHT = ("#1f6feb", "#c2500a", "#1a7f37", "#8250df", "#0a7a8a", "#bf3989", "#8a6100", "#57606a")
_DARK = ("#58a6ff", "#f0883e", "#56d364", "#bc8cff", "#39c5cf", "#f778ba", "#d9a927", "#a8b3bf")

_LIGHT_SCHEME = {"paper": "#ffffff", "card": "#f6f8fa", "text": "#1f2328", "minor": "#59636e", "line": "#d1d9e0", "other": "#9ba4ae"}
_LIGHT_SCHEME |= {"ours": "#0969da", "good": "#1a7f37", "warn": "#9a6700", "bad": "#cf222e"}
_DARK_SCHEME = {"paper": "#0d1117", "card": "#151b23", "text": "#e6edf3", "minor": "#9198a1", "line": "#3d444d", "other": "#6b7681"}
_DARK_SCHEME |= {"ours": "#4493f8", "good": "#3fb950", "warn": "#d29922", "bad": "#f85149"}


def _variables(scheme: dict[str, str], hues: Iterable[str]) -> str:
    named = {**scheme, **{f"hue{number}": hue for number, hue in enumerate(hues)}}
    return " ".join(f"--{name}: {colour};" for name, colour in named.items())


COLOURS = f"""
:root {{ color-scheme: light dark; {_variables(_LIGHT_SCHEME, _LIGHT)} }}
@media (prefers-color-scheme: dark) {{ :root {{ {_variables(_DARK_SCHEME, _DARK)} }} }}
@media print {{ :root {{ color-scheme: light; {_variables(_LIGHT_SCHEME, _LIGHT)} }} }}
"""
PAGE = """
* { box-sizing: border-box; }
body { font: 15px/1.5 system-ui, sans-serif; max-width: 860px; margin: 2em auto; padding: 0 1em;
  background: var(--paper); color: var(--text); }
table { border-collapse: collapse; font-size: 13px; margin: .5em 0 1.5em; } th, td { padding: 3px 10px 3px 0; text-align: left; }
th { font-weight: 600; border-bottom: 1px solid var(--other); }
td.number, th.number { text-align: right; font-variant-numeric: tabular-nums; }
svg { max-width: 100%; height: auto; display: block; } .minor { color: var(--minor); } summary { cursor: pointer; }
"""
# A browser refuses what a page of ours cannot contain, should a text ever get out of its place.
_POLICY = "default-src 'none'; style-src 'unsafe-inline'"


def document(title: str, style: str, parts: Iterable[str]) -> str:
    """A page of its own. `style`: what it needs besides COLOURS and PAGE. `parts`: HTML of its body."""
    head = (
        '<!DOCTYPE html>\n<html lang="en"><head><meta charset="utf-8"><meta name="viewport" content="width=device-width, initial-scale=1">'
        f'<meta http-equiv="Content-Security-Policy" content="{_POLICY}"><title>{safe(title)}</title>'
        f"<style>{COLOURS}{PAGE}{style}</style></head><body>"
    )
    return "\n".join([head, *parts, "</body></html>"]) + "\n"


def printable(text: object) -> str:
    """Without what steers a terminal or turns the direction of writing; a line break is one space."""
    return "".join(char if char.isprintable() else " " if char in "\n\t" else "\N{REPLACEMENT CHARACTER}" for char in str(text))


def safe(text: object) -> str:
    """Any text, as HTML or SVG text or the value of an attribute."""
    return escape(printable(text), quote=True)


def shortened(text: str, chars: int) -> str:
    """At most so many characters: the middle goes, since ids often differ at their ends."""
    if len(text) <= chars:
        return text
    tail = (chars - 1) // 2
    return f"{text[: chars - 1 - tail]}\N{HORIZONTAL ELLIPSIS}{text[len(text) - tail :]}"
