"""Segments: sealed, private, without a name, and refused when they are not what was planned."""

from __future__ import annotations

import fcntl
import mmap
import os
import stat
import subprocess
import sys

import pytest

from streamcore.errors import LayoutError
from streamcore.shm import segment

NBYTES = 64 * 4096


def test_a_segment_is_private_zeroed_and_of_exactly_its_size(make_segment):
    fd = make_segment(NBYTES)
    found = os.fstat(fd)
    assert stat.S_IMODE(found.st_mode) == 0o600  # another user could open it through /proc/PID/fd otherwise
    assert found.st_size == NBYTES
    assert os.pread(fd, NBYTES, 0) == bytes(NBYTES)


def test_a_segment_is_not_inherited_unless_it_is_passed_on(make_segment):
    # An ffmpeg child that kept a ring would keep its memory after the run.
    fd = make_segment(NBYTES)
    readonly = segment.reopen_readonly(fd)
    try:
        program = "import os,sys; sys.exit(any(os.path.exists(f'/proc/self/fd/{n}') for n in map(int, sys.argv[1:])))"
        assert subprocess.run([sys.executable, "-c", program, str(fd), str(readonly)], close_fds=False, timeout=20).returncode == 0
    finally:
        os.close(readonly)


@pytest.mark.parametrize("nbytes", [0, NBYTES - 4096, NBYTES + 4096])
def test_a_segment_can_neither_shrink_nor_grow(make_segment, nbytes):
    # A reader of a truncated segment would die by SIGBUS.
    fd = make_segment(NBYTES)
    with pytest.raises(PermissionError):
        os.ftruncate(fd, nbytes)
    with pytest.raises(PermissionError):
        os.ftruncate(segment_through_proc := os.open(f"/proc/self/fd/{fd}", os.O_RDWR), nbytes)
    os.close(segment_through_proc)


def test_the_seals_of_a_segment_cannot_be_changed(make_segment):
    fd = make_segment(NBYTES)
    assert fcntl.fcntl(fd, fcntl.F_GET_SEALS) == fcntl.F_SEAL_SHRINK | fcntl.F_SEAL_GROW | fcntl.F_SEAL_SEAL
    with pytest.raises(PermissionError):
        fcntl.fcntl(fd, fcntl.F_ADD_SEALS, fcntl.F_SEAL_WRITE)


def test_a_readonly_descriptor_shows_the_same_memory_and_cannot_be_mapped_for_writing(make_segment):
    fd = make_segment(NBYTES)
    readonly = segment.reopen_readonly(fd)
    try:
        with pytest.raises(PermissionError):
            mmap.mmap(readonly, NBYTES, prot=mmap.PROT_READ | mmap.PROT_WRITE)
        with pytest.raises(PermissionError):
            segment.attach(readonly, NBYTES, writable=True, what="x")
        with pytest.raises(OSError, match="Bad file descriptor"):
            os.pwrite(readonly, b"x", 0)
        os.pwrite(fd, b"hello", 4096)
        with segment.attach(readonly, NBYTES, writable=False, what="x") as memory:
            assert memory[4096:4101] == b"hello"
            with pytest.raises(TypeError):
                memory[0] = 1
    finally:
        os.close(readonly)


def test_a_mapping_for_reading_cannot_be_made_writable_later(make_segment):
    import ctypes

    import numpy as np

    readonly = segment.reopen_readonly(make_segment(NBYTES))
    try:
        memory = segment.attach(readonly, NBYTES, writable=False, what="x")
        address = np.frombuffer(memory, np.uint8).__array_interface__["data"][0]
        libc = ctypes.CDLL(None, use_errno=True)
        assert libc.mprotect(ctypes.c_void_p(address), 4096, mmap.PROT_READ | mmap.PROT_WRITE) == -1
    finally:
        os.close(readonly)


@pytest.mark.parametrize("nbytes", [NBYTES - 4096, NBYTES + 4096, NBYTES - 1])
def test_a_segment_of_another_size_is_refused_with_found_and_expected(make_segment, nbytes):
    with pytest.raises(LayoutError, match=rf"camera\.out: found {NBYTES} bytes, expected {nbytes}"):
        segment.attach(make_segment(NBYTES), nbytes, writable=False, what="camera.out")


@pytest.mark.parametrize("kind", ["unsealed memfd", "plain file"])
def test_memory_that_could_shrink_under_its_readers_is_refused(tmp_path, open_fds, kind):
    open_fds.append(os.memfd_create("x") if kind == "unsealed memfd" else os.open(tmp_path / "f", os.O_RDWR | os.O_CREAT))
    os.ftruncate(open_fds[0], NBYTES)
    with pytest.raises(LayoutError, match="no seal against shrinking"):
        segment.attach(open_fds[0], NBYTES, writable=False, what="x")


def test_memory_is_what_was_touched_not_what_was_asked_for(make_segment):
    fd = make_segment(1 << 40)  # far more than any box has
    assert segment.allocated_bytes(fd) == 0
    with segment.attach(fd, 1 << 40, writable=True, what="x") as memory:
        memory[0] = memory[5 << 30] = 1
    assert segment.allocated_bytes(fd) == 2 * 4096


def test_a_segment_has_no_name_in_the_file_system(make_segment):
    before = set(os.listdir("/dev/shm"))
    assert os.readlink(f"/proc/self/fd/{make_segment(NBYTES)}").endswith("(deleted)")
    assert set(os.listdir("/dev/shm")) <= before


def test_inherited_descriptors_are_kept_from_children(make_segment):
    fd = make_segment(NBYTES)
    os.set_inheritable(fd, True)
    segment.keep_from_children([fd])
    assert not os.get_inheritable(fd)
