"""What `up` shows: lines in a pipe, a table on a terminal, the block of a failed node, the summary."""

from __future__ import annotations

import io

import pytest
from rich.console import Console

from streamcore.cli.endings import failure_block, summary
from streamcore.cli.follow import LogLine
from streamcore.cli.lines import Lines
from streamcore.cli.live import Screen, rows
from streamcore.clock import ManualClock
from streamcore.coordinator.observer import Failure
from streamcore.graph.model import NodePlan, Plan
from streamcore.telemetry.snapshot import EdgeRow, NodeRow, Snapshot

STAMP = "2026-11-23T07:00:00.123Z"


def node_plan(node_id: str, role: str) -> NodePlan:
    return NodePlan(node_id, f"test.{role}", f"tests:{role}", role, {}, {}, (), (), ())


PLAN = Plan("trial", "trial", "abc", (node_plan("cam", "source"), node_plan("end", "sink")), (), (), ("end", "cam"), 0, drain_s=10.0)


def snapshot(taken: int, *, dropped: int = 0, waiting: int = 0, state: str = "READY") -> Snapshot:
    cam = NodeRow("cam", "test.source", "source", 41, state, 1, produced=taken, emitted=taken, work_ns=taken * 1_000_000)
    end = NodeRow("end", "test.sink", "sink", 42, state, 1, consumed=taken, failed=3)
    edge = EdgeRow("cam.out->end.in", "cam", "end", "latest", 1, 2, sent=taken, dropped=dropped, waiting=waiting)
    return Snapshot((cam, end), (edge,))


def failure(**changes) -> Failure:
    facts = {"node": "end", "plugin": "test.sink", "where": "setup", "cause": "ConfigError: no such file: a.mp4", "fault": "spec"}
    return Failure(**{**facts, **changes})


@pytest.fixture
def lines(tmp_path):
    shown = Lines(PLAN, tmp_path, debug=False)
    yield shown
    shown.close()


@pytest.fixture
def screen(tmp_path):
    console = Console(file=io.StringIO(), force_terminal=True, width=100, color_system=None)
    shown = Screen(PLAN, tmp_path, debug=False, clock=ManualClock(), console=console)
    shown.snapshot = lambda: snapshot(0)
    yield shown
    shown.close()


def test_the_life_of_a_run_is_plain_lines_in_a_pipe(lines, capsys):
    lines.node_changed("cam", "PLANNED", "STARTING", "pid 41")
    lines.node_changed("cam", "STARTING", "READY", "")
    lines.up()
    lines.stopping("SIGINT")
    lines.node_changed("cam", "KILLING", "EXITED", "exited with 0")
    out, error = capsys.readouterr()
    assert out.splitlines() == [
        "cam: starting (pid 41)",
        "cam: ready",
        "run trial is up: 2 nodes, 0 edges; streamctl down trial ends it",
        "SIGINT: draining, up to 10 s; Ctrl-C again kills",
    ]
    assert error == ""


def test_a_run_that_ends_before_it_was_up_has_nothing_to_drain(lines, capsys):
    lines.stopping("SIGINT")
    assert capsys.readouterr().out == "SIGINT: ending before it was up; Ctrl-C again kills\n"


def test_warnings_and_kills_go_to_stderr(lines, capsys):
    lines.warning("shared memory at 80 %")
    lines.killing("not drained within 10 s")
    out, error = capsys.readouterr()
    assert (out, error.splitlines()) == ("", ["warning: shared memory at 80 %", "not drained within 10 s: killing what is left"])


def test_what_nodes_print_and_warn_appears_with_their_name_at_the_latest_at_the_end(tmp_path, capsys):
    shown = Lines(PLAN, tmp_path, debug=False)
    (tmp_path / "end.log").write_text(f"{STAMP} INFO quiet\n{STAMP} WARNING slow\n  printed\nunfinished")
    (tmp_path / "_coordinator.log").write_text("end | slow\n")  # our own output, when detached: it must not come round again
    shown.close()
    assert capsys.readouterr().out.splitlines() == ["end | WARNING slow", "end |   printed", "end | unfinished"]


def test_on_up_is_told_once_the_run_is_up(tmp_path):
    told = []
    shown = Lines(PLAN, tmp_path, debug=False, on_up=lambda: told.append("up"))
    assert told == []
    shown.up()
    shown.close()
    assert told == ["up"]


def test_a_failed_node_is_one_block_without_a_traceback(lines, tmp_path, capsys):
    log = tmp_path / "end.log"
    said = [f"{STAMP} INFO opening", f"{STAMP} ERROR failed in setup: ConfigError: no such file: a.mp4"]
    log.write_text("\n".join([*said, "    Traceback (most recent call last):", "    X: y", ""]))
    lines.failed(failure(log_path=str(log)))
    lines.close()
    out, error = capsys.readouterr()
    assert error.splitlines() == [
        "node 'end' failed in setup",
        "    plugin  test.sink",
        "    cause   ConfigError: no such file: a.mp4",
        "    fault   spec: the spec, or what it names, has to be mended",
        f"    log     {log}, which ends:",
        f"        | {STAMP} INFO opening",
    ]
    assert out == "", "what stands in the block is not told twice"


def test_a_restart_is_one_line_with_the_cause_and_the_incident(lines, capsys):
    lines.restarting(failure(cause="killed by SIGSEGV", incident="/run/incidents/end.1.json"), 0.08)
    lines.close()
    assert capsys.readouterr().err == "end: killed by SIGSEGV; restarted in 0.1 s; incident /run/incidents/end.1.json\n"


def test_a_node_that_failed_for_good_names_its_incident():
    block = failure_block(failure(incident="/run/incidents/end.6.json"), [], debug=False)
    assert "    details /run/incidents/end.6.json" in block
    assert not any("details" in line for line in failure_block(failure(), [], debug=False))


def test_a_paused_node_is_shown_as_one():
    paused = snapshot(1)
    paused.nodes[1].paused = True
    assert [row.state for row in rows(paused, paused, 1.0)] == ["READY", "PAUSED"]


def test_a_traceback_is_shown_with_debug_from_the_log_or_else_from_the_report():
    in_log = [LogLine("end", "Traceback (most recent call last):"), LogLine("end", "X: y")]
    told = failure(traceback="Traceback (most recent call last):\nX: y", log_path="end.log")
    assert "\n".join(failure_block(told, in_log, debug=True)).count("Traceback") == 1
    assert "\n".join(failure_block(told, [], debug=True)).count("Traceback") == 1
    assert "Traceback" not in "\n".join(failure_block(told, [], debug=False))


def test_a_node_that_was_killed_is_described_by_its_exit():
    block = failure_block(failure(where="exit", cause="killed by SIGSEGV", exit="killed by SIGSEGV", fault="plugin"), [], debug=False)
    assert block[0] == "node 'end' failed"
    assert sum("killed by SIGSEGV" in line for line in block) == 1


def test_rates_come_from_two_snapshots_and_the_time_between():
    cam, end = rows(snapshot(160, dropped=7, waiting=1), snapshot(100), 2.0)
    assert cam == ("cam", "READY", "41", "-", "30.0", "3%", "-", "-", "0")
    assert end == ("end", "READY", "42", "30.0", "-", "0%", "1", "7", "3")


def test_the_first_snapshot_has_no_rates_yet():
    assert [row.taken for row in rows(snapshot(100), snapshot(100), 0.0)] == ["-", "0.0"]


def test_a_terminal_shows_every_node_with_state_and_pid(screen):
    screen.node_changed("cam", "PLANNED", "STARTING", "pid 41")
    screen.up()
    screen.snapshot = lambda: snapshot(60, state="DRAINING")
    screen._clock.advance(2.0)
    screen.tick()
    text = screen._console.file.getvalue()
    assert "run trial, 2.0 s" in text
    assert all(word in text for word in ("cam", "end", "41", "42", "ready", "draining", "in/s", "dropped"))


def test_markup_in_what_a_node_prints_is_only_text(screen, tmp_path):
    # Brackets are common in prints: as markup they would vanish, or raise an error in the coordinator.
    (tmp_path / "cam.log").write_text("[red]x[/nonsense] [1, 2]\n")
    screen.node_changed("cam", "PLANNED", "STARTING", "")
    screen.tick()
    assert "cam | [red]x[/nonsense] [1, 2]" in screen._console.file.getvalue()


def test_the_screen_may_close_without_ever_having_been_drawn(screen):
    screen.close()
    assert screen._console.file.getvalue() == ""


REPORT = {
    "run": "trial",
    "duration_s": 15.2,
    "ended": "end of stream",
    "status": "ok",
    "metrics": {"packets.source_emitted_total": 450, "packets.dropped_total": 3, "packets.failed_total": 0},
    "edges": {"cam.out->end.in": {"failed": 0, "completion": "hop"}},
    "account": {"lost": {}, "unbalanced": []},
    "bottleneck": "No node holds the graph back.",
    "bottleneck_detail": {"advice": "Nothing has to be done."},
}


def test_the_summary_tells_time_packets_and_where_the_report_lies():
    assert summary(REPORT, "r.json") == [
        "run trial ended after 15.2 s (end of stream), status ok: 450 packets from sources, 3 dropped, 0 failed",
        "No node holds the graph back.",
        "Nothing has to be done.",
        "report: r.json",
    ]


def test_the_summary_names_what_was_lost_edge_by_edge():
    lost = {
        **REPORT,
        "account": {"lost": {"cam.out->end.in": 4}, "unbalanced": []},
        "edges": {"cam.out->end.in": {"failed": 2, "completion": "hop"}},
    }
    text = "\n".join(summary(lost, None))
    assert "lost, still under way when the run ended: cam.out->end.in 4" in text
    assert "2 failed" in text, "what waited for a dead node failed on its edge alone"


def test_the_summary_names_the_edge_that_does_not_balance():
    wrong = {**REPORT, "account": {"lost": {}, "unbalanced": ["cam.out->end.in"]}}
    assert "the account does not balance, an error in streamcore: cam.out->end.in" in summary(wrong, None)
