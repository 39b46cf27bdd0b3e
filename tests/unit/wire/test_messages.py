"""What goes through sockets: every message survives the journey, and nothing that is not one gets further than its reader."""

from __future__ import annotations

import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from streamcore import limits
from streamcore.errors import MessageError
from streamcore.wire import messages
from streamcore.wire.messages import (
    CHECK_BYTES,
    COMPLETION,
    DATA,
    END,
    HEADER,
    RECEIPT,
    RECEIPTS_MAX,
    RECORD,
    UPTO,
    WAKE,
    WAKE_MESSAGE,
    WANT,
    data_many,
    data_one,
    end,
    read_data,
    read_end,
    read_header,
    read_receipt,
    receipt,
    sealed,
    unsealed,
)

MUTATIONS = 40_000

u32, u64 = st.integers(0, 2**32 - 1), st.integers(0, 2**64 - 1)
records = st.tuples(u64, u64, u32, u32, st.binary(max_size=60))
completions = st.tuples(u64, u32, st.integers(0, 2))


def read_any(raw: bytes) -> None:
    """Read a message as an inbox does, whatever it is."""
    header = read_header(raw)
    if header.type == DATA:
        read_data(raw, header.records)
    elif header.type == RECEIPT:
        read_receipt(raw, header.records)
    elif header.type == END:
        read_end(raw)


@given(u32, u32, st.sampled_from([0, WANT]), records)
def test_a_data_message_with_one_record_survives_the_journey(edge, incarnation, want, record):
    sequence, sent_ns, entry, flags, meta = record
    raw = data_one(edge, incarnation, want, sequence, sent_ns, entry, flags, meta)
    assert read_header(raw) == (DATA, want, 1, edge, incarnation)
    assert read_data(raw, 1) == [record]
    assert raw == data_many(edge, incarnation, want, [record])  # the short cut is the same message


@given(u32, u32, st.sampled_from([0, WANT]), st.lists(records, max_size=20))
def test_a_data_message_with_any_number_of_records_survives_the_journey(edge, incarnation, want, many):
    raw = data_many(edge, incarnation, want, many)
    assert read_header(raw) == (DATA, want, len(many), edge, incarnation)
    assert read_data(raw, len(many)) == many


@given(u32, u32, u64, st.lists(completions, max_size=50))
def test_a_receipt_survives_the_journey(edge, incarnation, taken_upto, many):
    raw = receipt(edge, incarnation, taken_upto, many)
    assert read_header(raw) == (RECEIPT, 0, len(many), edge, incarnation)
    assert read_receipt(raw, len(many)) == (taken_upto, many)


@given(u32, u32, u64)
def test_an_end_survives_the_journey(edge, incarnation, last):
    raw = end(edge, incarnation, last)
    assert read_header(raw) == (END, 0, 0, edge, incarnation)
    assert read_end(raw) == last


def test_a_wake_says_nothing_but_that():
    assert read_header(WAKE_MESSAGE) == (WAKE, 0, 0, 0, 0)
    assert len(WAKE_MESSAGE) == HEADER.size


def test_the_largest_messages_fit_an_inbox():
    # A longer one would be dropped by the inbox, and the connection with it.
    fullest = receipt(1, 1, 0, [(2**64 - 1, 2**32 - 1, 2)] * RECEIPTS_MAX)
    assert limits.MESSAGE_BYTES_MAX - COMPLETION.size < len(sealed(fullest, 1)) <= limits.MESSAGE_BYTES_MAX
    assert len(sealed(data_one(1, 1, 0, 0, 0, 0, 0, bytes(limits.META_BYTES_MAX)), 1)) <= limits.MESSAGE_BYTES_MAX
    fullest_batch = limits.BATCH_BYTES_MAX - 1 + RECORD.size + limits.META_BYTES  # the record that fills it may be as long as any
    assert HEADER.size + fullest_batch + CHECK_BYTES <= limits.MESSAGE_BYTES_MAX


GOOD = data_many(5, 2, WANT, [(7, 1, 3, 1, b"meta"), (8, 2, 4, 0, b"")])


@pytest.mark.parametrize(
    ("raw", "why"),
    [
        (b"", "message of 0 bytes"),
        (GOOD[:15], "message of 15 bytes"),
        (HEADER.pack(0, 0, 0, 1, 1, 0), "type 0"),
        (HEADER.pack(5, 0, 0, 1, 1, 0), "type 5"),
        (HEADER.pack(DATA, 2, 0, 1, 1, 0), "flags 2"),
        (HEADER.pack(DATA, 0, 0, 1, 1, 9), "none of ours"),
        (GOOD[:20], "ends inside record 0 of 2"),
        (GOOD[:-1], "ends inside record 1 of 2"),
        (GOOD + b"x", "1 bytes after its last record"),
        (HEADER.pack(DATA, 0, 1, 1, 1, 0) + RECORD.pack(1, 1, 1, 9, 0) + b"short", "9 bytes of metadata announced, 5 are there"),
        (HEADER.pack(DATA, 0, 1, 1, 1, 0) + RECORD.pack(1, 1, 1, 2**32 - 1, 0), "metadata announced"),
        (HEADER.pack(DATA, 0, 65535, 1, 1, 0), "ends inside record 0 of 65535"),
        (HEADER.pack(RECEIPT, 0, 1, 1, 1, 0) + UPTO.pack(0), "24 bytes for 1 completions"),
        (HEADER.pack(RECEIPT, 0, 0, 1, 1, 0), "16 bytes for 0 completions"),
        (HEADER.pack(RECEIPT, 0, 1, 1, 1, 0) + UPTO.pack(0) + COMPLETION.pack(1, 1, 6), "unknown outcome"),
        (HEADER.pack(END, 0, 0, 1, 1, 0), "END of 16 bytes"),
        (HEADER.pack(END, 0, 0, 1, 1, 0) + bytes(9), "END of 25 bytes"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_what_is_no_message_of_ours_is_refused_with_what_was_found(raw, why):
    with pytest.raises(MessageError, match=why):
        read_any(raw)


def test_mutated_messages_are_refused_or_still_well_formed_never_anything_else():
    chance, refused = random.Random(7), 0
    seeds = [
        GOOD,
        receipt(5, 2, 90, [(n, n % 8, n % 3) for n in range(12)]),
        end(5, 2, 99),
        data_one(5, 2, 0, 1, 2, 3, 1, b"\x93" * 40),
        WAKE_MESSAGE,
    ]
    for number in range(MUTATIONS):
        raw = bytearray(seeds[number % len(seeds)])
        for _ in range(1 + number % 3):
            raw[int(chance.random() * len(raw))] = int(chance.random() * 256)
        if number % 4 == 0:
            del raw[int(chance.random() * len(raw)) :]
        elif number % 4 == 1:
            raw += chance.randbytes(number % 50)
        try:
            read_any(bytes(raw))
        except MessageError:
            refused += 1
    assert MUTATIONS // 4 < refused < MUTATIONS


@given(st.binary(max_size=200), u32)
def test_a_sealed_message_is_opened_with_its_key_and_with_no_other(message, key):
    raw = sealed(message, key)
    assert unsealed(raw, key) == message
    assert len(raw) == len(message) + CHECK_BYTES
    for other in (key ^ 1, key ^ 1 << 31, (key + 1) % 2**32, ~key % 2**32):
        with pytest.raises(MessageError, match="none of this run"):
            unsealed(raw, other)


@given(st.binary(max_size=60), u32)
def test_a_sealed_message_of_which_any_bit_is_changed_or_any_byte_is_missing_is_refused(message, key):
    raw = sealed(message, key)
    changed = [bytes(b ^ (1 << bit if at == place else 0) for at, b in enumerate(raw)) for place in range(len(raw)) for bit in range(8)]
    cut = [raw[:at] for at in range(len(raw))] + [raw[at:] for at in range(1, len(raw) + 1)]
    for mutant in changed + [mutant for mutant in cut if mutant != raw]:
        with pytest.raises(MessageError):
            read_header(unsealed(mutant, key))  # under one key of all, nothing at all has the right checksum


def test_every_outcome_has_a_name():
    assert [messages.OUTCOMES[code] for code in range(messages.LOST + 1)] == ["ok", "dropped", "refused", "away", "failed", "failed"]
