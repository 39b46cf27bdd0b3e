"""The journal of a run: numbers without gaps, a bound, what was forgotten is said, no secrets; names that stay what they are."""

import json
import re
from pathlib import Path

import msgspec
import pytest

from streamcore.telemetry.journal import DETAIL_CHARS_MAX, EVENTS, KEPT_MAX, READ_BYTES_MAX, SEVERITIES, Journal

OPERATIONS = Path(__file__).resolve().parents[3] / "docs" / "operations.md"
TS = "2026-11-23T07:00:00.000000Z"
ABOUT = ("run", "node", "edge", "path")

# Programs of other people compare with these. One that is missing here is new; one that is missing there is a decision.
KNOWN = """
run_up info, run_ending info, run_killing warning, run_ended info, run_warning warning,
node_up info, node_ready info, node_draining info, node_done info, node_stalled warning, node_moving info, node_hung error,
node_restarting warning, node_failed error, node_held error, node_reloaded info, node_paused info, node_resumed info, not_reloaded warning,
edge_dropping warning, edge_flowing info, disk_filling warning, disk_freed info
"""


def filled(count, kept_max=KEPT_MAX, **more):
    journal = Journal(kept_max)
    for number in range(1, count + 1):
        journal.add("node_up", TS, number, node="a", **more)
    return journal


def numbers(reading):
    return [event["number"] for event in reading.events]


def test_the_names_and_severities_of_events_are_those_that_programs_know():
    assert [f"{name} {kind.severity}" for name, kind in EVENTS.items()] == re.split(r",\s+", KNOWN.strip())
    assert {kind.severity for kind in EVENTS.values()} == set(SEVERITIES)
    assert {kind.about for kind in EVENTS.values()} == set(ABOUT)


def test_the_documentation_has_the_same_table():
    expected = "".join(f"| `{name}` | {k.severity} | {k.about} | {k.value} | {k.meaning} |\n" for name, k in EVENTS.items())
    assert expected in OPERATIONS.read_text("utf-8"), f"docs/operations.md has another table; expected:\n{expected}"


def test_events_are_numbered_from_1_and_read_on_from_any_of_them():
    journal = filled(5)
    assert numbers(journal.read(0)) == [1, 2, 3, 4, 5]
    assert numbers(journal.read(3)) == [4, 5]
    assert journal.read(3)[1:] == (0, 5)
    assert journal.read(5) == ((), 0, 5)
    assert journal.read(9) == ((), 0, 9)  # of somebody who saw another run


def test_what_was_forgotten_is_counted():
    journal = filled(10, kept_max=4)
    assert numbers(journal.read(0)) == [7, 8, 9, 10]
    assert [journal.read(after).lost for after in (0, 3, 5, 6, 7, 10)] == [6, 3, 1, 0, 0, 0]


def test_one_reading_is_bounded_in_bytes_and_the_next_goes_on():
    journal = filled(1000, detail="\x00" * DETAIL_CHARS_MAX)  # six bytes each, in JSON
    seen, after = [], 0
    while (reading := journal.read(after)).events:
        assert len(msgspec.json.encode(reading.events)) <= READ_BYTES_MAX
        seen += numbers(reading)
        after = reading.next
    assert seen == list(range(1, 1001))


def test_an_event_larger_than_the_room_is_given_all_the_same():
    assert numbers(filled(3).read(0, bytes_max=1)) == [1]


def test_details_show_no_secret_and_are_cut():
    journal = Journal()
    journal.hide(["hunter2-hunter2"])
    event = journal.add("run_warning", TS, 1, detail="cannot log in with hunter2-hunter2 " + "x" * 1000, path="/data/hunter2-hunter2")
    assert "hunter2" not in json.dumps(msgspec.to_builtins(event))
    assert len(event.detail) == DETAIL_CHARS_MAX
    assert event.detail.endswith("...")


def test_a_name_that_is_not_in_the_table_is_refused():
    with pytest.raises(KeyError):
        Journal().add("node_exploded", TS, 1)
