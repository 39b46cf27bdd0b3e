"""Directories that are ours alone: made with mode 0700, opened without following links, refused if anything about them is not so."""

from __future__ import annotations

import os
import stat
from pathlib import Path

from streamcore.errors import RunError

PRIVATE = 0o700


def open_private(path: Path, levels: int) -> int:
    """Make what is missing of the last `levels` parts of `path`, verify each, and return a descriptor of the last.

    What lies above them is the system's (/tmp, /run/user/UID) and may be a link.

    Raises:
      RunError: a level belongs to somebody else, has another mode, is a link or no directory, or cannot be made.
    """
    names = path.parts[-levels:]
    here = Path(*path.parts[:-levels])
    fd = os.open(here, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    for name in names:
        here = here / name
        try:
            below = open_level(fd, name, here)
        finally:
            os.close(fd)
        fd = below
    return fd


def open_level(parent_fd: int, name: str, path: Path) -> int:
    """The same for one directory in another that is already open; `path` is for the error."""
    try:
        os.mkdir(name, PRIVATE, dir_fd=parent_fd)
        made = True
    except FileExistsError:
        made = False
    except OSError as error:
        raise RunError(f"run directory {path}: cannot be made: {error.strerror}") from None
    try:
        fd = os.open(name, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=parent_fd)
    except OSError:
        found = kind_of(os.lstat(name, dir_fd=parent_fd))
        expected = f"a directory of uid {os.geteuid()} with mode 0700"
        raise RunError(f"run directory {path}: found {found}, expected {expected}; remove it") from None
    try:
        if made:
            os.fchmod(fd, PRIVATE)  # a parent with the setgid bit passes it on
        verify(os.fstat(fd), path)
    except (OSError, RunError):
        os.close(fd)
        raise
    return fd


def verify(found: os.stat_result, path: Path) -> None:
    """Raises RunError, with what was found and what was expected, unless it is a directory of this user with mode 0700."""
    mode = stat.S_IMODE(found.st_mode)
    if not stat.S_ISDIR(found.st_mode):
        raise RunError(f"run directory {path}: found {kind_of(found)}, expected a directory; remove it")
    if found.st_uid != os.geteuid():
        raise RunError(f"run directory {path}: owner found uid {found.st_uid}, expected {os.geteuid()}; set XDG_RUNTIME_DIR")
    if mode != PRIVATE:
        raise RunError(f"run directory {path}: mode found {mode:04o}, expected 0700; others may have put something there, remove it")


def kind_of(found: os.stat_result) -> str:
    if stat.S_ISLNK(found.st_mode):
        return "a symbolic link"
    return "a directory that cannot be opened" if stat.S_ISDIR(found.st_mode) else "a file"
