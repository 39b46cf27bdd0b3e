"""What is answered over HTTP of a run as it is seen, and of one whose loop does not answer."""

import json

import pytest
from fake_runs import ORDERLY, chain

from streamcore.clock import ManualClock
from streamcore.coordinator import pages
from streamcore.coordinator.pages import Glance, Pages
from streamcore.telemetry.health import Moment
from streamcore.telemetry.snapshot import EdgeRow, NodeRow, Snapshot

PLAN = chain(ORDERLY, ORDERLY)


def glance(state="READY", phase="READY"):
    nodes = (NodeRow("a", "fake.a", "source", state="READY"), NodeRow("b", "fake.b", "sink", state=state, cause="killed by SIGSEGV"))
    taken = Snapshot(nodes, (EdgeRow("a.out->b.in", "a", "b", "block", 2, 4),))
    return Glance(PLAN, phase, 0.0, Moment(taken, None, 10**9, 0, phase == "READY", phase == "DRAINING"))


def of(found):
    return Pages(lambda: found, ManualClock())


@pytest.mark.parametrize("path", ["/metrics", "/health", "/readyz", "/healthz", "/"])
def test_a_loop_that_does_not_answer_is_not_healthy(path):
    assert (of(None).page(path).status, of(None).page(path).body) == (503, pages.NO_ANSWER.encode())


@pytest.mark.parametrize(
    ("state", "phase", "ready", "health", "verdict"),
    [
        ("READY", "READY", 200, 200, "ok"),
        ("BACKOFF", "READY", 503, 200, "degraded"),
        ("STARTING", "STARTING", 503, 503, "starting"),
        ("FAILED", "READY", 503, 503, "failed"),
        ("READY", "DRAINING", 503, 200, "ok"),
    ],
)
def test_status_and_words_follow_the_verdict(state, phase, ready, health, verdict):
    run = of(glance(state, phase))
    assert [run.page(path).status for path in ("/readyz", "/health", "/healthz", "/metrics", "/")] == [ready, health, 200, 200, 200]
    said = json.loads(run.page("/health").body)
    assert (said["verdict"], said["nodes"]["b"]["verdict"], said["state"]) == (verdict, verdict, phase)
    if state in ("BACKOFF", "FAILED"):
        assert f"b is {state}" in run.page("/readyz").body.decode()


def test_an_unknown_page_says_which_there_are_and_asks_nobody():
    page = Pages(lambda: pytest.fail("asked"), ManualClock()).page("/nothing")
    assert (page.status, b"/metrics" in page.body) == (404, True)


def test_a_flood_of_requests_looks_at_the_run_ten_times_a_second():
    clock, looks = ManualClock(), []
    run = Pages(lambda: looks.append(1) or glance(), clock)
    for _ in range(1_000):
        run.page("/health")
        clock.advance(0.001)
    assert 8 <= len(looks) <= 11
