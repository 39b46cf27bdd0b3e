"""Dead letters from outside: found by the beginning of their ids, removed whole, waited for."""

from __future__ import annotations

import pytest

from streamcore import StreamPacket
from streamcore.clock import ManualClock
from streamcore.control import dead_letters
from streamcore.control.dead_letters import NoSuchLetter
from streamcore.graph.model import Poisoned
from streamcore.node import dead_letter

IDS = ("aaaa1" + "0" * 27, "aaaa2" + "0" * 27, "bbbb3" + "0" * 27)


@pytest.fixture
def run_dir(tmp_path):
    """A run with three dead letters: bytes, JSON and bytes, stored in this order."""
    for number, (packet_id, payload) in enumerate(zip(IDS, (b"xyz", {"n": 1}, b""), strict=True)):
        packet = StreamPacket.new(kind="frame", source_id="camera", payload=payload)
        packet.id16 = bytes.fromhex(packet_id)
        dead_letter.write(tmp_path, "motion", packet, Poisoned(0, number, 2), clock=ManualClock(number * 10**9))
    return tmp_path


def test_they_are_listed_oldest_first_without_what_is_none(run_dir):
    folder = run_dir / dead_letter.FOLDER
    (folder / "notes.json").write_text("{}")
    (folder / f"{'c' * 32}.json").write_text((folder / f"{IDS[0]}.json").read_text())  # a record under another name
    assert [letter.packet_id for letter in dead_letters.known(run_dir)] == list(IDS)
    assert dead_letters.known(run_dir / "nowhere") == []


def test_the_beginning_of_an_id_is_enough_if_it_tells_it_apart(run_dir):
    found = dead_letters.find(run_dir, ["bbbb", "AAAA1", "bbbb"])
    assert [letter.packet_id for letter in found] == [IDS[2], IDS[0]], "each once, in the order of the words"


@pytest.mark.parametrize(
    ("word", "said"),
    [("aaaa", "2 ids begin so"), ("dddd", "has none with this id; it has 3"), ("aaa", "4 to 32 hex digits"), ("../../x", "hex digits")],
)
def test_an_id_that_names_none_or_several_is_refused_with_what_there_is(word, said, run_dir):
    with pytest.raises(NoSuchLetter, match=said):
        dead_letters.find(run_dir, ["bbbb", word])


def test_a_dropped_letter_is_gone_whole_and_the_others_stay(run_dir):
    first, second, _ = dead_letters.known(run_dir)
    assert dead_letters.payload_path(run_dir, first).read_bytes() == b"xyz"
    assert dead_letters.payload_path(run_dir, second) is None
    dead_letters.drop(run_dir, first)
    dead_letters.drop(run_dir, first)  # somebody else was faster
    names = sorted(path.name for path in (run_dir / dead_letter.FOLDER).iterdir())
    assert names == [f"{IDS[1]}.json", f"{IDS[2]}.bin", f"{IDS[2]}.json"]


def test_waiting_ends_when_all_are_marked_or_the_time_is_up(run_dir):
    clock, letters = ManualClock(), dead_letters.known(run_dir)
    dead_letter.mark_redriven(dead_letters.path_of(run_dir, letters[0]), "ok", clock)
    after = dead_letters.wait_redriven(run_dir, letters, 1.0, clock)
    assert [(letter.redriven, letter.outcome) for letter in after] == [(1, "ok"), (0, ""), (0, "")]
    assert 1.0 < clock.now_ns / 1e9 < 2.0
    before_ns = clock.now_ns
    assert dead_letters.wait_redriven(run_dir, letters[:1], 1.0, clock)[0].redriven == 1
    assert clock.now_ns == before_ns, "no waiting for what has happened"
