"""Nodes that fail again and again, by class: given up with a cause, or, where one packet is to blame, without it."""

from __future__ import annotations

import json
import signal

import pytest
from boxes import Box
from fault_kit import PATIENCE_S, Ledger, Run, frames, node, spec

pytestmark = [pytest.mark.slow, pytest.mark.timeout(300)]
FEW = "restart: {max_restarts: 3, window_s: 60, backoff_s: 0.01, backoff_max_s: 0.05}"


def chain(plugin: str, config: str = "", more: str = FEW, rate: float = 500, count: int = 300) -> str:
    settings = f", config: {{{config}}}" if config else ""
    middle = f'  - {{id: mid, plugin: "{plugin}"{settings}, {more}}}'
    nodes = [node("src", "synthetic.frames", frames(rate, count)), middle, node("sink", "debug.hash", "path: sink.jsonl")]
    return spec(nodes, [("src", "mid"), ("mid", "sink")])


@pytest.mark.parametrize(
    ("plugin", "config", "more", "restarts", "cause", "fault"),
    [
        ("fault_import:Forward", "", FEW, 0, "this module has been replaced meanwhile", "plugin"),
        ("fault_nodes:HarmInSetup", "how: config", FEW, 0, "harm is configured", "spec"),
        ("fault_nodes:HarmInSetup", "how: exit", FEW, 3, "exited with 3", "plugin"),
        ("fault_nodes:HarmInSetup", "how: raise", FEW, 3, "harm was asked for", "plugin"),
        ("fault_nodes:HarmInSetup", "how: segfault", FEW, 3, "SIGSEGV", "plugin"),
        ("fault_nodes:HarmInSetup", "how: memory", FEW, 3, "MemoryError: Unable to allocate", "box"),
        ("fault_nodes:HarmInSetup", "how: native", f"startup_s: 1, {FEW}", 3, "not ready after 1 s", "plugin"),
    ],
    ids=["import", "config", "exit", "exception", "segfault", "memory", "startup deadline"],
)
def test_a_node_that_never_gets_ready_is_given_up_with_its_cause(plugin, config, more, restarts, cause, fault, box: Box):
    run = Run(box, "loop", chain(plugin, config, more))
    assert run.process.wait(PATIENCE_S) == 1, run.output
    assert cause in run.output and f"fault   {fault}: " in run.output
    report = json.loads(run.report_path.read_text())
    assert report["nodes"]["mid"]["restarts"] == restarts
    assert report["status"] == "error"
    run.nothing_left()


def test_an_exception_under_on_error_stop_ends_the_node_after_what_came_before_was_delivered(box: Box):
    run = Run(box, "strict", chain("fault_nodes:Harm", "how: raise, at: [120], once: false", f"on_error: stop, {FEW}"))
    assert run.process.wait(PATIENCE_S) == 1, run.output
    run.nothing_left()
    assert "harm was asked for" in run.output
    report = json.loads(run.report_path.read_text())
    assert report["nodes"]["mid"]["restarts"] == 0 and report["account"]["balanced"]
    assert Ledger(box.folder / "sink.jsonl").check(repeats_max=0, sources=["src"], expected=120)["arrived"] == 120


@pytest.mark.parametrize("how", ["exit", "segfault"])
def test_one_frame_that_kills_is_put_aside_and_all_others_arrive(how, box: Box):
    run = Run(box, "poison", chain("fault_nodes:Harm", f"how: {how}, at: [120], once: false"))
    assert run.process.wait(PATIENCE_S) == 0, run.output
    run.nothing_left()
    report = json.loads(run.report_path.read_text())
    lines = Ledger(box.folder / "sink.jsonl").lines()
    assert sorted({line["frame"] for line in lines}) == [n for n in range(300) if n != 120]
    assert report["account"]["balanced"] and report["nodes"]["mid"]["restarts"] == 2
    (letter,) = (box.runtime / "streamcore" / "poison" / "dead-letters").glob("*.json")
    stored = json.loads(letter.read_text())
    assert stored["meta"]["frame"] == 120 and stored["deaths"] == 2 and stored["report"]["reason"] == "crash"


def test_a_node_that_dies_of_every_first_frame_is_given_up(box: Box):
    every = ", ".join(map(str, range(300)))
    run = Run(box, "first", chain("fault_nodes:Harm", f"how: exit, at: [{every}], once: false"))
    assert run.process.wait(PATIENCE_S) == 1, run.output
    run.nothing_left()
    assert "exited with 3" in run.output
    assert not Ledger(box.folder / "sink.jsonl").lines()


def test_a_node_that_is_given_up_in_isolation_lets_the_others_go_on(box: Box):
    isolated = FEW.replace("}", ", on_give_up: isolate}")
    nodes = [
        node("src", "synthetic.frames", frames(300, 400)),
        f'  - {{id: bad, plugin: "fault_nodes:HarmInSetup", config: {{how: exit}}, {isolated}}}',
        node("good", "flow.forward"),
        node("sink", "debug.hash", "path: sink.jsonl"),
        node("other", "debug.null"),
    ]
    run = Run(box, "isolate", spec(nodes, [("src", "bad"), ("src", "good"), ("good", "sink"), ("bad", "other")]))
    run.process.wait(PATIENCE_S)
    run.nothing_left()
    Ledger(box.folder / "sink.jsonl").check(repeats_max=0, sources=["src"], expected=400)


def test_a_storm_of_kills_over_one_slow_packet_does_not_make_it_poison(box: Box):
    # Ten `kill -9` in a row over the same packet: the packet is not to blame, and must not be put aside.
    nodes = [
        node("src", "synthetic.frames", frames(0, 6)),
        node("slow", "debug.slow", "work_ms: 1000", "poison_limit: 2"),
        node("sink", "debug.hash", "path: sink.jsonl"),
    ]
    run = Run(box, "slow", spec(nodes, [("src", "slow"), ("slow", "sink")]))
    run.wait_up()
    run.hurt(signal.SIGKILL, {"slow": 10}, pause_s=0.05)
    run.end(how="end of stream")
    Ledger(box.folder / "sink.jsonl").check(repeats_max=0, sources=["src"], expected=6)
