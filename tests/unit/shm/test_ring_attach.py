"""A ring is attached only if its header says what the plan says; every difference is named."""

from __future__ import annotations

import os

import pytest

from streamcore.errors import LayoutError
from streamcore.shm import segment
from streamcore.shm.layout import HEADER, MAGIC, VERSION
from streamcore.shm.ring import attach_ring, format_ring, ring_bytes

RUN_ID = "0123456789abcdef" * 2
FIELDS = ("magic", "version", "ring", "entry_count", "slot_count", "meta_bytes", "slot_bytes", "run_id", "port")
OTHER = {"run_id": b"\0" * 16, "port": b"camera.aux"}


def test_a_ring_that_matches_its_plan_is_attached(make_ring, shape):
    memory = attach_ring(make_ring(shape), shape, RUN_ID, writable=True)
    values = dict(zip(FIELDS, HEADER.unpack_from(memory), strict=True))
    assert (values["magic"], values["version"], values["ring"]) == (MAGIC, VERSION, shape.id)
    assert values["port"].rstrip(b"\0") == b"camera.out"
    assert values["run_id"] == bytes.fromhex(RUN_ID)


@pytest.mark.parametrize("field", FIELDS)
def test_a_header_with_one_wrong_field_is_refused_with_found_and_expected(make_ring, shape, field):
    fd = make_ring(shape)
    values = dict(zip(FIELDS, HEADER.unpack(os.pread(fd, HEADER.size, 0)), strict=True))
    right = values[field]
    wrong = values[field] = OTHER.get(field, values[field] + 1 if isinstance(values[field], int) else None)
    os.pwrite(fd, HEADER.pack(*values.values()), 0)
    with pytest.raises(LayoutError) as caught:
        attach_ring(fd, shape, RUN_ID, writable=False)
    text = str(caught.value)
    assert text.startswith(f"ring camera.out: {field} found ")
    assert str(wrong).rstrip("'") in text
    assert f"expected {right!r}" in text


def test_a_segment_without_a_header_is_refused(make_segment, shape):
    # The magic is stored last, so a coordinator that died while formatting leaves none.
    with pytest.raises(LayoutError, match="magic found 0"):
        attach_ring(make_segment(ring_bytes(shape)), shape, RUN_ID, writable=True)


def test_a_segment_of_another_plan_is_refused_by_its_size(make_ring, shape):
    with pytest.raises(LayoutError, match=r"segment camera\.out: found \d+ bytes, expected \d+"):
        attach_ring(make_ring(shape), shape.but(slot_count=4), RUN_ID, writable=True)


def test_a_ring_of_another_run_is_refused(make_ring, shape):
    with pytest.raises(LayoutError, match="run_id"):
        attach_ring(make_ring(shape), shape, "f" * 32, writable=False)


def test_what_a_consumer_is_given_cannot_be_attached_for_writing(make_ring, shape):
    readonly = segment.reopen_readonly(make_ring(shape))
    try:
        attach_ring(readonly, shape, RUN_ID, writable=False).close()
        with pytest.raises(PermissionError):
            attach_ring(readonly, shape, RUN_ID, writable=True)
        with pytest.raises(PermissionError):
            format_ring(readonly, shape, RUN_ID)
    finally:
        os.close(readonly)
