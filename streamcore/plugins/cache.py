"""Manifests kept between two calls of streamctl, in `$XDG_CACHE_HOME/streamcore/manifests`: to check a spec again nothing is imported.

An entry counts only while every file that its plugin was imported from has the bytes that it had then. Anything wrong with the cache is
a miss: it makes a check faster, never different. Entries are renamed into place whole, so several processes may read and write at once.
"""

from __future__ import annotations

import os
import stat
import sys
from collections.abc import Mapping
from hashlib import sha256
from secrets import token_hex

import msgspec

from streamcore import __version__, limits
from streamcore.manifest import Manifest
from streamcore.plugins.location import location_of, top_of

_DIRECTORY = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_FILE = os.O_NOFOLLOW | os.O_CLOEXEC | os.O_NONBLOCK


class Key(msgspec.Struct, frozen=True):
    """What a manifest was made of, but for the content of files. `path`: PYTHONPATH, which decides where a child looks."""

    target: str
    location: str
    path: str
    python: str = sys.version
    streamcore: str = __version__


class Entry(msgspec.Struct, frozen=True):
    key: Key
    files: dict[str, str]  # path to sha256
    manifest: Manifest


def cache_folder(environ: Mapping[str, str]) -> str:
    """Where manifests are kept; "" if the user has no place for it."""
    place = environ.get("XDG_CACHE_HOME", "")
    if not os.path.isabs(place):  # the XDG rules: a relative one is to be ignored
        home = environ.get("HOME", "")
        place = os.path.join(home, ".cache") if os.path.isabs(home) else ""
    return os.path.join(place, "streamcore", "manifests") if place else ""


class Cache:
    """The manifests of one folder; none if `folder` is empty, cannot be used, or is not this user's alone."""

    def __init__(self, folder: str):
        self._folder = folder
        self._locations: dict[str, str] = {}
        self._hashes: dict[str, str] = {}

    def get(self, target: str) -> Entry | None:
        """What is kept of a target, if it still holds."""
        fd = self._open()
        if fd is None:
            return None
        try:
            key = self._key(target)
            entry = msgspec.json.decode(_read_own(_name(key), fd), type=Entry)
        except (OSError, ValueError, RecursionError):  # msgspec's errors are ValueErrors
            return None
        finally:
            os.close(fd)
        holds = entry.key == key and entry.files and all(self._hash(path) == digest for path, digest in entry.files.items())
        return entry if holds else None

    def put(self, target: str, manifest: Manifest, files: Mapping[str, str], location: str) -> None:
        """Keep what a child read, unless it looked elsewhere than this process would look, or its files cannot vouch for it."""
        key = self._key(target)
        if not files or not location or location != key.location:
            return
        fd = self._open(make=True)
        if fd is None:
            return
        temporary = f"{token_hex(8)}.new"
        try:
            raw = msgspec.json.encode(Entry(key, dict(files), manifest))
            with open(os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600, dir_fd=fd), "wb") as file:
                file.write(raw)
            os.rename(temporary, _name(key), src_dir_fd=fd, dst_dir_fd=fd)
            _bound(fd)
        except OSError:  # a full disk; it may have left the temporary file, which _bound removes one day
            return
        finally:
            os.close(fd)

    def _key(self, target: str) -> Key:
        top = top_of(target)
        if top not in self._locations:
            self._locations[top] = location_of(top)
        return Key(target, self._locations[top], os.environ.get("PYTHONPATH", ""))

    def _hash(self, path: str) -> str:
        if path not in self._hashes:
            try:
                with open(path, "rb") as file:
                    self._hashes[path] = sha256(file.read()).hexdigest()
            except (OSError, ValueError):
                self._hashes[path] = ""
        return self._hashes[path]

    def _open(self, make: bool = False) -> int | None:
        """The folder, if it is this user's and nobody else may write into it."""
        if not self._folder:
            return None
        try:
            if make:
                os.makedirs(os.path.dirname(self._folder), 0o700, exist_ok=True)
                if not os.path.isdir(self._folder):
                    os.mkdir(self._folder, 0o700)
            fd = os.open(self._folder, _DIRECTORY)
        except (OSError, ValueError):
            return None
        found = os.fstat(fd)
        if found.st_uid != os.geteuid() or stat.S_IMODE(found.st_mode) & 0o077:
            os.close(fd)
            return None
        return fd


def _name(key: Key) -> str:
    return f"{sha256(msgspec.json.encode(key)).hexdigest()}.json"


def _read_own(name: str, dir_fd: int) -> bytes:
    """A regular file of this user of a size that can be one of ours. Raises OSError or ValueError."""
    with open(os.open(name, os.O_RDONLY | _FILE, dir_fd=dir_fd), "rb") as file:
        found = os.fstat(file.fileno())
        if not stat.S_ISREG(found.st_mode) or found.st_uid != os.geteuid() or found.st_size > 2 * limits.MANIFEST_BYTES_MAX:
            raise ValueError("not an entry of this user")
        return file.read()


def _bound(fd: int) -> None:
    """Remove the oldest entries beyond MANIFESTS_MAX. Another process may do the same at this moment."""
    found = os.listdir(fd)
    if len(found) <= limits.MANIFESTS_MAX:
        return
    aged = sorted((os.stat(name, dir_fd=fd, follow_symlinks=False).st_mtime_ns, name) for name in found)
    for _, name in aged[: len(found) - limits.MANIFESTS_MAX]:
        os.unlink(name, dir_fd=fd)
