"""The leaves that store to a status page, durations and spans: the same words as from Python."""

from __future__ import annotations

import random
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from leaves import assert_nothing_is_left, number, outcome, u32, u64

from streamcore.shm.histogram import BLOCK_WORDS, BUCKETS, COUNTS, HIGH, LOW, SUM, lower_ns

WORDS = BLOCK_WORDS + 20
FIELDS = 10

edges_of_buckets = st.builds(lambda bucket, off: max(0, lower_ns(bucket) + off), st.integers(0, BUCKETS), st.integers(-1, 1))


def page() -> memoryview:
    return memoryview(bytearray(8 * WORDS)).cast("Q")


@given(
    st.lists(
        st.tuples(st.one_of(st.integers(-3, 22), number), st.one_of(edges_of_buckets, u64, u32, st.integers(-5, 2000), number)), max_size=8
    ),
    st.tuples(*[st.one_of(st.just(0), st.integers(0, BUCKETS + 1), u64)] * 4),
)
def test_durations_are_counted(forms, durations, before):
    plain, memory = page(), page()
    for words in (plain, memory):  # what a predecessor, or nobody in his senses, has left there
        words[SUM], words[LOW], words[HIGH], words[COUNTS] = before
    words = forms.leaves["words"](memory)
    for at, ns in durations:
        assert outcome(forms.leaves["note"], words, at, ns) == outcome(forms.python["note"], plain, at, ns)
        assert memory == plain, (at, ns)


@pytest.mark.parametrize("seed", range(5))
def test_the_buckets_in_use_grow_both_ways(forms, seed):
    rng, plain, memory = random.Random(seed), page(), page()
    words = forms.leaves["words"](memory)
    for _ in range(40):
        ns = lower_ns(rng.randrange(BUCKETS))
        forms.leaves["note"](words, 5, ns)
        forms.python["note"](plain, 5, ns)
        assert memory == plain


def test_each_bucket_is_found(forms):
    plain, memory = page(), page()
    words = forms.leaves["words"](memory)
    for bucket in range(BUCKETS + 1):
        for ns in (lower_ns(bucket), lower_ns(bucket + 1) - 1):
            forms.leaves["note"](words, 5, ns)
            forms.python["note"](plain, 5, ns)
    assert memory == plain and sum(memory[5 + COUNTS : 5 + BLOCK_WORDS]) == 2 * (BUCKETS + 1)


@given(
    st.one_of(st.integers(-3, 30), st.integers(WORDS - 20, WORDS + 3), number),
    st.one_of(u64, number),
    st.one_of(st.lists(u64, max_size=20), st.lists(number, max_size=20)),
)
def test_a_span_is_stored(forms, at, stamp, fields):
    plain, memory = page(), page()
    python = outcome(forms.python["put_span"], plain, at, stamp, *fields)
    assert outcome(forms.leaves["put_span"], forms.leaves["words"](memory), at, stamp, *fields) == python
    assert memory == plain


def test_a_page_that_is_only_read_stays_as_it_is(forms):
    for name, args in (("note", (0, 5)), ("put_span", (0, 5, 6))):
        raw = bytes(8 * WORDS)
        kind, _ = outcome(forms.leaves[name], forms.leaves["words"](memoryview(raw).cast("Q")), *args)
        assert kind is TypeError and not any(raw)


@pytest.mark.parametrize("count", [1, FIELDS, FIELDS + 1, BLOCK_WORDS - 1])
def test_a_page_that_is_too_small_is_not_written_beyond(forms, count):
    for name, args in (("note", (0, 5)), ("note", (0, 1 << 62)), ("put_span", (0, 5, *range(FIELDS)))):
        plain, memory = (memoryview(bytearray(8 * count)).cast("Q") for _ in range(2))
        python = outcome(forms.python[name], plain, *args)
        assert outcome(forms.leaves[name], forms.leaves["words"](memory), *args) == python
        assert memory == plain


def test_what_is_plain_is_not_left_to_python(forms):
    words = forms.leaves["words"](page())
    forms.asked.clear()
    for ns in (0, 5_000, 1 << 40, 2**64 - 1):
        forms.leaves["note"](words, WORDS - BLOCK_WORDS, ns)
    forms.leaves["put_span"](words, WORDS - 1 - FIELDS, 2**62, *range(FIELDS))
    assert not forms.asked and words[WORDS - 1] == FIELDS - 1


def test_they_leave_nothing_behind(forms):
    words, large = forms.leaves["words"](page()), 2**63
    odd: tuple[Any, ...] = (None, -1, 2**70, "x")

    def once() -> None:
        forms.leaves["note"](words, 0, large)
        forms.leaves["put_span"](words, 0, large, large, *range(9))
        for value in odd:
            outcome(forms.leaves["note"], words, 0, value)
            outcome(forms.leaves["put_span"], words, 0, 1, value)

    assert_nothing_is_left(once, (words, large, *odd))
