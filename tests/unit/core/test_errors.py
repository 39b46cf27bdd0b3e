"""Errors say where, found and expected; the class says whose fault it is and whether a retry can help."""

from __future__ import annotations

import inspect

import pytest

from streamcore import errors
from streamcore.errors import (
    DeliveryFailed,
    DestinationAway,
    PayloadError,
    PayloadTooLarge,
    Problem,
    RingFull,
    SpecError,
    StoreLocked,
    StreamcoreError,
)

ALL = [value for value in vars(errors).values() if inspect.isclass(value) and issubclass(value, StreamcoreError)]
FAULTS = {"spec", "plugin", "box", "streamcore"}


@pytest.mark.parametrize("kind", ALL, ids=lambda kind: kind.__name__)
def test_every_error_says_whose_fault_it_is_and_whether_to_retry(kind):
    assert kind.fault in FAULTS
    assert isinstance(kind.retry, bool)
    assert kind.__doc__


def test_only_what_somebody_else_holds_may_be_tried_again():
    assert [kind for kind in ALL if kind.retry] == [DestinationAway, DeliveryFailed, RingFull, StoreLocked]


def test_a_problem_reads_as_file_line_column_found_expected_hint():
    problem = Problem("a.yaml", 22, 13, "edges[1].policy", "'drop_oldset'", "one of: block, drop_new", "did you mean 'drop_oldest'?")
    assert str(problem).splitlines() == [
        "a.yaml:22:13  edges[1].policy",
        "    found     'drop_oldset'",
        "    expected  one of: block, drop_new",
        "    did you mean 'drop_oldest'?",
    ]
    assert problem.as_json()["line"] == 22


@pytest.mark.parametrize(("count", "tail"), [(1, "1 problem in a.yaml"), (2, "2 problems in a.yaml"), (0, "0 problems in the spec")])
def test_a_spec_error_lists_all_its_problems_and_says_that_nothing_was_started(count, tail):
    text = str(SpecError([Problem("a.yaml", n, 1, f"nodes[{n}]", "x", "y") for n in range(count)]))
    assert text.splitlines()[-1] == f"{tail}; nothing was started."
    assert all(f"nodes[{n}]" in text for n in range(count))


def test_a_payload_too_large_names_port_bytes_and_the_spec_key_to_raise():
    error = PayloadTooLarge("camera.out", 5_000_000, 4096)
    assert isinstance(error, PayloadError)
    assert (error.port, error.found_bytes, error.slot_bytes) == ("camera.out", 5_000_000, 4096)
    for part in ("camera.out", "5000000", "4096", "slot_bytes: 5000000", "node 'camera'"):
        assert part in str(error)


def test_a_full_ring_names_who_holds_its_slots():
    assert "camera.out->motion.in keeps 7" in str(RingFull("camera.out", [("camera.out->motion.in", 7)]))
    assert "the node itself" in str(RingFull("camera.out", []))
