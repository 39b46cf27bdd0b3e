"""Files that appear when they are complete, and what is no file: as root, a device that was renamed over is gone for the whole box."""

from __future__ import annotations

import os
import stat
import threading

import pytest

from streamcore.whole_file import whole_file


def test_it_appears_when_it_is_complete_and_replaces_what_was_there(tmp_path):
    path = tmp_path / "r.json"
    path.write_text("old")
    with whole_file(path) as file:
        file.write(b"new")
        file.flush()
        assert path.read_text() == "old"
    assert (path.read_text(), os.listdir(tmp_path)) == ("new", ["r.json"])


def write_half(path):
    with whole_file(path) as file:
        file.write(b"half of it")
        raise RuntimeError


def test_what_fails_half_way_leaves_what_was_there(tmp_path):
    path = tmp_path / "r.json"
    path.write_text("old")
    with pytest.raises(RuntimeError):
        write_half(path)
    assert (path.read_text(), os.listdir(tmp_path)) == ("old", ["r.json"])


def test_of_a_link_the_target_is_replaced(tmp_path):
    (tmp_path / "elsewhere").mkdir()
    link = tmp_path / "r.json"
    link.symlink_to(tmp_path / "elsewhere" / "real.json")
    for text in (b"made", b"replaced"):
        with whole_file(link) as file:
            file.write(text)
        assert link.is_symlink() and (tmp_path / "elsewhere" / "real.json").read_bytes() == text


def test_a_pipe_gets_the_bytes_and_stays_a_pipe(tmp_path):
    path = tmp_path / "pipe"
    os.mkfifo(path)
    heard = []
    reader = threading.Thread(target=lambda: heard.append(path.read_bytes()))
    reader.start()
    with whole_file(path) as file:
        file.write(b"all of it")
    reader.join(30)
    assert heard == [b"all of it"] and stat.S_ISFIFO(os.stat(path).st_mode)


@pytest.mark.skipif(os.getuid() != 0, reason="only root can make a device")
def test_a_device_stays_a_device(tmp_path):
    path = tmp_path / "null"
    try:
        os.mknod(path, 0o666 | stat.S_IFCHR, os.makedev(1, 3))
        with whole_file(path) as file:
            file.write(b"gone")
    except PermissionError:
        pytest.skip("no devices may be made or used here")
    assert stat.S_ISCHR(os.stat(path).st_mode) and os.listdir(tmp_path) == ["null"]


def test_standard_output_gets_the_bytes(tmp_path, capfd):
    with whole_file("/dev/stdout") as file:
        file.write(b"said\n")
    assert capfd.readouterr().out == "said\n"


def test_a_folder_is_refused(tmp_path):
    with pytest.raises(IsADirectoryError), whole_file(tmp_path):
        pass
    with pytest.raises(FileNotFoundError), whole_file(tmp_path / "none" / "r.json"):
        pass
