"""A file has changed when its content has, and not before."""

from __future__ import annotations

import os
from hashlib import sha256

import pytest

from streamcore.coordinator import file_watch
from streamcore.coordinator.file_watch import GONE, FileWatch


@pytest.fixture
def file(tmp_path):
    path = tmp_path / "a.yaml"
    path.write_text("one")
    return path


@pytest.fixture
def watch(file):
    made = FileWatch()
    made.follow({str(file): sha256(b"one").hexdigest()})
    return made


def test_another_content_is_a_change_until_it_is_accepted(watch, file):
    assert watch.look() == {}
    file.write_text("two")
    assert list(watch.look()) == list(watch.look()) == [str(file)]
    watch.accept([str(file)])
    assert watch.look() == {}


def test_the_same_content_in_another_file_is_none(watch, file):
    other = file.with_name("saved")
    other.write_text("one")
    os.replace(other, file)
    os.utime(file, (5, 5))
    assert watch.look() == {}


def test_a_file_that_is_gone_has_changed_and_so_has_one_that_comes(watch, file):
    file.unlink()
    assert watch.look() == {str(file): GONE}
    watch.accept([str(file)])
    assert watch.look() == {}
    file.write_text("one")
    assert list(watch.look()) == [str(file)]


def test_a_content_that_nobody_knows_is_a_change(file):
    watch = FileWatch()
    watch.follow({str(file): ""})
    assert list(watch.look()) == [str(file)]


def test_a_file_is_read_only_when_it_looks_different(watch, file, monkeypatch):
    watch.look()
    monkeypatch.setattr(file_watch, "_hash", lambda path: pytest.fail("it was read"))
    assert watch.look() == {}


def test_a_folder_changes_with_the_names_of_python_and_yaml_files(watch, file):
    # A plugin imports a module that is written next: nothing that is followed changes, and yet the import works from then on.
    watch.follow_too([str(file)])
    for name in ("4913", ".#a.py", "a.py~", "a.pyc"):
        file.with_name(name).touch()
    assert watch.look() == {}
    file.with_name("inner.yaml").touch()
    assert list(watch.look()) == [str(file.parent)]


def test_files_that_are_followed_too_are_as_they_are_and_there_is_an_end(watch, file, monkeypatch):
    other = file.with_name("inner.yaml")
    other.write_text("x")
    watch.follow_too([str(other), str(file)])
    assert watch.look() == {}
    other.write_text("y")
    assert list(watch.look()) == [str(other)]
    monkeypatch.setattr(file_watch, "FILES_MAX", 1)
    assert watch.follow({str(file): "", str(other): ""}) == 1
