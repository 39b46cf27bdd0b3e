"""Pages, pictures and reports, in files of the user's choice."""

from __future__ import annotations

import os

from streamcore.cli.failures import CannotStart
from streamcore.whole_file import whole_file


def not_over(path: str, source: str) -> None:
    """Raises CannotStart if what is made from `source` would be written over it."""
    if os.path.exists(path) and os.path.exists(source) and os.path.samefile(path, source):
        raise CannotStart(f"{path}: is the file that this was to be made from; name another one to write to")


def write_text(path: str, text: str, source: str) -> None:
    """Whole or not at all, and not over `source`, the file that it was made from. Raises CannotStart."""
    not_over(path, source)
    try:
        with whole_file(path) as file:
            file.write(text.encode())
    except OSError as error:
        raise CannotStart(f"{path}: cannot be written: {error.strerror}") from None
