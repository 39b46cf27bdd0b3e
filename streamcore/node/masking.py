"""Secrets of a node's config kept out of what its process writes: its log, what it prints, what it reports.

What a C library writes to the descriptor itself is not seen here; incident files mask that as well.
"""

from __future__ import annotations

import sys
from typing import Any, TextIO

from streamcore.secret import Masker


class _MaskedStream:
    """A text stream that masks whole writes; a secret split over two writes is not found."""

    def __init__(self, inner: TextIO, masker: Masker):
        self._inner, self._masker = inner, masker

    def write(self, text: str) -> int:
        self._inner.write(self._masker.mask(text))
        return len(text)

    def writelines(self, lines: Any) -> None:
        for line in lines:
            self.write(line)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._inner, name)


def mask_output(masker: Masker) -> None:
    """From now on sys.stdout and sys.stderr show no secret."""
    if masker:
        streams: Any = _MaskedStream(sys.stdout, masker), _MaskedStream(sys.stderr, masker)
        sys.stdout, sys.stderr = streams
