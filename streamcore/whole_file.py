"""A file that appears under its name when it is complete: nobody reads half of it, and what was there before stays until then."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import BinaryIO

_STREAMS = ("/dev/std", "/dev/fd/", "/proc/")  # whatever they lead to belongs to who has opened it


@contextmanager
def whole_file(path: str | Path) -> Iterator[BinaryIO]:
    """Open for writing. A device, a pipe or a terminal stays what it is and gets the bytes as they come; of a link the target is replaced.

    Raises:
      OSError: nothing is there that was not before.
    """
    if (os.path.exists(path) and not os.path.isfile(path)) or str(path).startswith(_STREAMS):
        with open(path, "wb") as file:
            yield file
        return
    target = os.path.realpath(path)
    part = f"{target}.{os.getpid()}.part"
    try:
        with open(part, "wb") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        os.replace(part, target)
    finally:
        with suppress(FileNotFoundError):
            os.unlink(part)
