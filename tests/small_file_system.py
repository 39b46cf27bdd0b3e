"""A disk that is soon full, for tests of what is to happen then."""

from __future__ import annotations

import os
import resource
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

SMALL_BYTES = 3 << 20


@contextmanager
def small_file_system(folder: Path) -> Iterator[Path]:
    """A file system of SMALL_BYTES at `folder`; where none may be mounted, a bound on the size of files."""
    folder.mkdir()
    if os.geteuid() == 0 and not subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={SMALL_BYTES}", "sc-test", folder]).returncode:
        try:
            yield folder
        finally:
            subprocess.run(["umount", folder], check=True)
        return
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (SMALL_BYTES, before[1]))
    try:
        yield folder
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
