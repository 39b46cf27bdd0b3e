"""Bytes of a keyboard as keys: named ones come as sequences that begin with Esc, which is a key itself."""

from __future__ import annotations

import pytest

from streamcore.cli.terminal import keys_of


@pytest.mark.parametrize(
    ("typed", "keys"),
    [
        ("qx", ["q", "x"]),
        ("\x1b[A\x1b[B", ["up", "down"]),
        ("\x1bOA\x1bOB", ["up", "down"]),
        ("\x1b[5~\x1b[6~\x1b[1~\x1b[4~\x1b[H\x1b[F", ["pgup", "pgdn", "home", "end", "home", "end"]),
        ("\t\r\n\x7f\b", ["tab", "enter", "enter", "backspace", "backspace"]),
        ("\x1b[1;5A\x1b[24~\x1bOPj", ["j"]),  # keys that nobody here knows
        ("\x1b", ["esc"]),
        ("\x1bq", ["esc", "q"]),
        ("\x1b\x1b", ["esc", "esc"]),
        ("\x1b[", []),
        ("\x1b[12", []),
        ("é", ["é"]),
    ],
    ids=repr,
)
def test_what_is_typed_is_read_as_keys(typed, keys):
    assert keys_of(typed, complete=True) == (keys, "")


@pytest.mark.parametrize("beginning", ["\x1b", "\x1b[", "\x1b[5", "\x1bO"])
def test_a_sequence_that_is_cut_off_waits_for_its_rest(beginning):
    # Over a slow line the bytes of one key come one by one.
    assert keys_of("q" + beginning, complete=False) == (["q"], beginning)
