"""core.health: each event a packet, wanted ones only, with ids that no other run has; what was forgotten is said."""

from __future__ import annotations

import logging
from typing import Any

import pytest

from streamcore.testing import LIFE, RUN_ID, run_node
from streamcore_nodes.core_health import CoreHealth

EDGE = "model.out->count.in"


def event(number: int, name: str = "node_up", **more: Any) -> dict[str, Any]:
    return {**LIFE[0], "number": number, "event": name, "node": "", "lost": 0, "run": "gate", **more}


def given(*events: dict[str, Any], resume_position: int | None = None, **config: Any) -> Any:
    """What it makes of these events, told two at a time."""
    node = CoreHealth()
    node.next_events = lambda after: [one for one in events if one["number"] > after][:2]  # type: ignore[method-assign]
    return run_node(node, config=config, resume_position=resume_position)


def numbers(packets: Any) -> list[int]:
    return [packet.payload["number"] for packet in packets]


STORY = (
    event(1, node="model"),
    event(2, node="count"),
    event(3, "run_up"),
    event(4, "edge_dropping", edge=EDGE, severity="warning"),
    event(5, "node_failed", node="count", severity="error"),
    event(6, "disk_filling", path="/data", severity="warning"),
)


def test_each_event_is_a_packet_of_its_time() -> None:
    out = given(*STORY)
    assert numbers(out) == [1, 2, 3, 4, 5, 6]
    first = out[0]
    assert (first.kind, first.source_id, first.payload) == ("health", "gate", STORY[0])
    assert (first.ts, first.capture_ns) == (STORY[0]["ts"], STORY[0]["monotonic_ns"])


@pytest.mark.parametrize(
    ("config", "wanted"),
    [
        ({"level": "warning"}, [4, 5, 6]),
        ({"level": "error"}, [5]),
        ({"nodes": ["model"]}, [1, 4]),
        ({"nodes": ["count"], "level": "error"}, [5]),
        ({"nodes": ["model", "count"]}, [1, 2, 4, 5]),
    ],
    ids=str,
)
def test_only_what_is_asked_for_is_given(config: dict[str, Any], wanted: list[int]) -> None:
    assert numbers(given(*STORY, **config)) == wanted


def test_it_goes_on_behind_the_last_that_arrived_with_the_same_ids() -> None:
    whole = given(*STORY)
    rest = given(*STORY, resume_position=whole[3].position)
    assert [packet.packet_id for packet in rest] == [packet.packet_id for packet in whole[4:]]


def test_no_other_run_has_the_same_ids(monkeypatch: pytest.MonkeyPatch) -> None:
    # A queue or a server that drops what it knows would drop today's events for those of yesterday.
    before = {packet.packet_id for packet in given(*STORY)}
    monkeypatch.setattr("streamcore.testing.RUN_ID", f"not {RUN_ID}")
    assert before.isdisjoint(packet.packet_id for packet in given(*STORY))


def test_what_was_forgotten_is_told_by_the_next_packet_though_others_are_left_out() -> None:
    out = given(event(5, lost=4), event(6, severity="error"), event(9, severity="error", lost=2), level="error")
    assert [(packet.payload["number"], packet.payload["lost"]) for packet in out] == [(6, 4), (9, 2)]


def test_a_node_that_the_run_does_not_have_is_said_once_it_is_up(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING):
        given(*STORY, nodes=["model", "modle"])
    assert [record.getMessage() for record in caplog.records] == ["nodes: found modle, expected nodes of this run"]
