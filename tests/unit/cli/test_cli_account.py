"""How `streamctl account` is laid out."""

from __future__ import annotations

import pytest

from streamcore.cli.account import EDGE_HEADS, page

FOUND = {
    "run": "gate",
    "state": "READY",
    "uptime_s": 12.5,
    "edges": [
        {"edge": "front-door-camera.out->motion-detector.in", "policy": "latest", "sent": 1_204_000, "completed": 1_203_000, "dropped": 999}
        | {"failed": 0, "in_flight": 1, "balanced": True, "redelivered": 3},
        {"edge": "a.out->b.in", "policy": "block", "sent": 9, "completed": 8, "dropped": 0}
        | {"failed": 0, "in_flight": 0, "balanced": False, "redelivered": 0},
    ],
    "sources": {"front-door-camera": 1_204_000},
    "sinks": {"b": 8},
}


@pytest.mark.parametrize("columns", [None, 200])
def test_where_there_is_room_every_column_is_shown(columns):
    lines = page(FOUND, columns)
    assert all(head in lines[1] for head in EDGE_HEADS)
    assert "front-door-camera.out->motion-detector.in" in lines[2]


def test_in_80_columns_the_equation_stays_and_the_last_line_says_what_does_not_balance():
    lines = page(FOUND, 80)
    assert max(map(len, lines)) <= 80
    assert lines[1].split() == ["EDGE", "SENT", "=", "COMPLETED", "+", "DROPPED", "+", "FAILED", "+", "IN", "FLIGHT"]
    assert lines[2].split()[1:] == ["1,204,000", "1,203,000", "999", "0", "1"]
    assert lines[-1] == "The account does not balance: a.out->b.in."


def test_a_run_without_edges_has_an_account_too():
    assert page({**FOUND, "edges": [], "sources": {}, "sinks": {}}, 20)[-1] == "The account balances on 0 edges."
