"""events.build: one event per thing and place, with an id that a repeat gets again."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from streamcore import ConfigError, PayloadError, StreamPacket
from streamcore.testing import Outputs, run_node
from streamcore_nodes.events import Build


@pytest.fixture
def seen(json_packet: Callable[..., StreamPacket]) -> Callable[..., StreamPacket]:
    """Detections in an 800x800 frame, so that a cell of the default 8x8 is 100 pixels; frames are 40 ms apart."""

    def make(number: int, *boxes: dict[str, Any], source_id: str = "cam") -> StreamPacket:
        return json_packet({"frame": number, "size": [800, 800], "boxes": list(boxes)}, number, source_id, "detections")

    return make


def box(x: float, y: float, label: str = "motion", score: float = 0.9, **more: Any) -> dict[str, Any]:
    """A box of 20x20 around (x, y)."""
    return {"x": x - 10, "y": y - 10, "w": 20, "h": 20, "label": label, "score": score, **more}


def told(out: Outputs) -> list[tuple[int, list[int]]]:
    return [(packet.payload["frame"], packet.payload["zone"]) for packet in out]


def test_an_event_says_what_where_and_when(seen: Any) -> None:
    given = seen(3, box(150, 250, area=5))
    (event,) = run_node(Build, [given], {"event": "moved"})
    body = event.payload
    assert (event.kind, event.source_id, event.meta) == ("event", "cam", {"frame": 3, "pts_ms": 120.0})
    assert body.pop("event_id") and body.pop("ts") == given.ts
    assert body == {
        "idempotency_key": "cam/motion/3/1-2",
        "event": "moved",
        "source_id": "cam",
        "frame": 3,
        "pts_ms": 120.0,
        "label": "motion",
        "score": 0.9,
        "zone": [1, 2],
        "box": {"x": 140, "y": 240, "w": 20, "h": 20},
        "size": [800, 800],
    }


def test_ids_are_repeated_by_a_second_run_and_differ_between_events(seen: Any) -> None:
    # A node that is restarted makes the events of unfinished packets again; who stores events tells them by these ids.
    packets = [seen(n, box(50, 50), box(450, 450, "car"), source_id=name) for n in (1, 2) for name in ("a", "b")]
    once, again = (run_node(Build, packets, {"cooldown_s": 0}) for _ in range(2))
    ids = [packet.payload["event_id"] for packet in once]
    assert ids == [packet.payload["event_id"] for packet in again]
    assert len(set(ids)) == len({packet.payload["idempotency_key"] for packet in once}) == 8
    assert len({packet.packet_id for packet in once}) == 8


def test_a_place_is_quiet_for_the_cool_down_in_stream_time(seen: Any) -> None:
    packets = [seen(n, box(50, 50)) for n in range(0, 60, 5)]  # one each 0.2 s
    assert told(run_node(Build, packets, {"cooldown_s": 1})) == [(0, [0, 0]), (25, [0, 0]), (50, [0, 0])]
    assert run_node(Build, packets, {"cooldown_s": 1}).metrics == {"suppressed": 9}
    assert len(run_node(Build, packets, {"cooldown_s": 0})) == 12


def test_places_labels_and_sources_cool_down_on_their_own(seen: Any) -> None:
    packets = [
        seen(0, box(50, 50)),
        seen(1, box(150, 50)),
        seen(2, box(50, 50, "car")),
        seen(3, box(50, 50), source_id="other"),
        seen(4, box(60, 60)),
    ]
    assert [frame for frame, _ in told(run_node(Build, packets))] == [0, 1, 2, 3]


def test_of_two_boxes_in_one_place_the_better_makes_the_event(seen: Any) -> None:
    (event,) = run_node(Build, [seen(0, box(50, 50, score=0.3), box(60, 60, score=0.8), box(40, 40, score=0.5))])
    assert event.payload["score"] == 0.8


def test_score_and_labels_choose(seen: Any) -> None:
    packets = [seen(0, box(50, 50, "car", 0.9), box(150, 50, "car", 0.2), box(250, 50, "person", 0.9))]
    assert [zone for _, zone in told(run_node(Build, packets, {"min_score": 0.5}))] == [[0, 0], [2, 0]]
    assert [zone for _, zone in told(run_node(Build, packets, {"labels": ["car"]}))] == [[0, 0], [1, 0]]


def test_a_box_without_a_score_counts_as_sure(seen: Any) -> None:
    unsure = {key: value for key, value in box(50, 50).items() if key != "score"}
    (event,) = run_node(Build, [seen(0, unsure)], {"min_score": 0.9})
    assert event.payload["score"] is None


def test_time_that_runs_backwards_begins_a_new_stream(seen: Any) -> None:
    # A file that was begun again must not be silent until it has caught up.
    assert [frame for frame, _ in told(run_node(Build, [seen(1000, box(50, 50)), seen(0, box(50, 50))], {"cooldown_s": 5}))] == [1000, 0]


def test_boxes_at_or_beyond_the_edge_belong_to_the_last_place(seen: Any) -> None:
    out = run_node(Build, [seen(0, box(800, 800), box(-40, 900, "car"))])
    assert [zone for _, zone in told(out)] == [[7, 7], [0, 7]]


def test_without_pts_the_capture_time_counts(json_packet: Callable[..., StreamPacket]) -> None:
    packets = [json_packet({"size": [8, 8], "boxes": [box(1, 1)]}, n) for n in (0, 10, 60)]
    for packet in packets:
        packet.meta = {"frame": packet.capture_ns // 40_000_000}
    assert [frame for frame, _ in told(run_node(Build, packets, {"cooldown_s": 1}))] == [0, 60]


def test_no_boxes_make_no_events(seen: Any) -> None:
    assert run_node(Build, [seen(0), seen(1)]) == []


@pytest.mark.parametrize(
    "payload",
    [
        None,
        [],
        {"boxes": []},
        {"size": [0, 5], "boxes": []},
        {"size": [5, 5], "boxes": [{"x": 1}]},
        {"size": [5, 5], "boxes": [{**box(1, 1), "x": "a"}]},
    ],
)
def test_detections_of_another_shape_fail(json_packet: Callable[..., StreamPacket], payload: Any) -> None:
    with pytest.raises(PayloadError, match="detections of cam: expected"):
        run_node(Build, [json_packet(payload)])


@pytest.mark.parametrize("config", [{"cooldown_s": -1}, {"min_score": 2}, {"cells": 0}, {"labels": "car"}, {"event": ""}])
def test_bad_config_is_refused(config: dict[str, object]) -> None:
    with pytest.raises(ConfigError, match=next(iter(config))):
        run_node(Build, config=config)
