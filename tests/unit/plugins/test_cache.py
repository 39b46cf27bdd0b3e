"""Anything wrong with the cache is a miss: it makes a check faster, never different."""

from __future__ import annotations

import os
from hashlib import sha256

import pytest

from streamcore import limits
from streamcore.manifest import Manifest
from streamcore.plugins import cache as cache_module
from streamcore.plugins.cache import Cache, cache_folder
from streamcore.plugins.location import location_of

TARGET = "sp_mine:Camera"
MANIFEST = Manifest(TARGET, TARGET, "source", "", {}, {}, {}, 0, 1)


@pytest.fixture
def kept(package, cache, folder):
    """An entry that holds; its file."""
    path = package("sp_mine")
    cache.put(TARGET, MANIFEST, {str(path): sha256(path.read_bytes()).hexdigest()}, location_of("sp_mine"))
    (entry,) = folder.iterdir()
    return entry


def again(folder) -> Manifest | None:
    entry = Cache(str(folder)).get(TARGET)
    return entry.manifest if entry else None


def test_what_is_kept_comes_back_and_is_nobody_elses_to_read(kept, folder):
    assert again(folder) == MANIFEST
    assert (folder.stat().st_mode & 0o777, kept.stat().st_mode & 0o777) == (0o700, 0o600)


@pytest.mark.parametrize("raw", [b"", b"{", b"null", b"[]", b'{"key": 5}', b"\xff\xfe", b"[" * 100_000, b"x" * 10_000_000])
def test_an_entry_that_is_broken_is_a_miss(kept, folder, raw):
    kept.write_bytes(raw)
    assert again(folder) is None


def test_an_entry_cut_anywhere_is_a_miss(kept, folder):
    whole = kept.read_bytes()
    for length in range(0, len(whole), 7):
        kept.write_bytes(whole[:length])
        assert again(folder) is None


def test_an_entry_of_another_key_is_a_miss(kept, folder, monkeypatch):
    monkeypatch.setenv("PYTHONPATH", f"{os.environ['PYTHONPATH']}:/elsewhere")
    assert again(folder) is None
    monkeypatch.undo()
    kept.write_bytes(kept.read_bytes().replace(b"sp_mine:Camera", b"sp_mine:Camerb", 1))
    assert again(folder) is None


def test_a_file_that_is_gone_is_a_miss(kept, folder, package):
    package("sp_mine").unlink()
    assert again(folder) is None


def test_a_link_a_pipe_or_a_folder_in_place_of_an_entry_is_a_miss(kept, folder, tmp_path):
    kept.rename(tmp_path / "elsewhere")
    for make in (lambda: kept.symlink_to(tmp_path / "elsewhere"), lambda: os.mkfifo(kept), kept.mkdir):
        make()
        assert again(folder) is None
        kept.rmdir() if kept.is_dir() and not kept.is_symlink() else kept.unlink()


def test_what_belongs_to_somebody_else_is_a_miss_and_not_written_to(kept, folder, monkeypatch):
    monkeypatch.setattr(os, "geteuid", lambda: 12345)
    assert again(folder) is None
    before = kept.stat().st_mtime_ns
    Cache(str(folder)).put(TARGET, MANIFEST, {"a": "b"}, location_of("sp_mine"))
    assert [path.stat().st_mtime_ns for path in folder.iterdir()] == [before]


def test_a_foreign_entry_in_a_folder_of_ours_is_a_miss(kept, folder, monkeypatch):
    real = os.fstat

    def foreign(fd: int):
        found = list(real(fd))
        if os.readlink(f"/proc/self/fd/{fd}").endswith(".json"):
            found[4] = 12345
        return os.stat_result(found)

    monkeypatch.setattr(cache_module.os, "fstat", foreign)
    assert again(folder) is None


def test_a_folder_that_others_may_write_to_is_not_used(kept, folder):
    folder.chmod(0o770)
    assert again(folder) is None


def test_a_place_that_cannot_be_made_is_no_cache(tmp_path):
    (tmp_path / "file").touch()
    for place in ("", str(tmp_path / "file" / "manifests"), "/proc/nothing/manifests", "a\0b"):
        cache = Cache(place)
        cache.put(TARGET, MANIFEST, {"a": "b"}, location_of("sp_mine") or "x")
        assert cache.get(TARGET) is None


def test_what_another_place_was_read_from_is_not_kept(package, cache, folder):
    path = package("sp_mine")
    cache.put(TARGET, MANIFEST, {str(path): "0"}, "/elsewhere/sp_mine.py")
    cache.put(TARGET, MANIFEST, {}, location_of("sp_mine"))
    assert not folder.exists()


def test_the_number_of_entries_is_bounded_and_the_oldest_go(package, cache, folder, monkeypatch):
    monkeypatch.setattr(limits, "MANIFESTS_MAX", 3)
    path = package("sp_mine")
    for number in range(6):
        cache.put(f"sp_mine:C{number}", MANIFEST, {str(path): sha256(path.read_bytes()).hexdigest()}, location_of("sp_mine"))
    assert len(list(folder.iterdir())) == 3
    assert cache.get("sp_mine:C5").manifest == MANIFEST


@pytest.mark.parametrize(
    ("environ", "folder"),
    [
        ({"XDG_CACHE_HOME": "/c", "HOME": "/h"}, "/c/streamcore/manifests"),
        ({"XDG_CACHE_HOME": "c", "HOME": "/h"}, "/h/.cache/streamcore/manifests"),
        ({"HOME": "/h"}, "/h/.cache/streamcore/manifests"),
        ({"HOME": ""}, ""),
        ({}, ""),
    ],
)
def test_the_place_is_the_users_cache(environ, folder):
    assert cache_folder(environ) == folder
