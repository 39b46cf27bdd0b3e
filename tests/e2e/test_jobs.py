"""Jobs as a person runs them: they succeed, fail, hang, ignore what they are told, leave children behind; nothing is left of any."""

from __future__ import annotations

import json
import os
import signal
import subprocess
from pathlib import Path
from typing import Any

import pytest
from boxes import SPECS, Box, wait_until

# What ends only if it is told to; `ready` is there once it listens.
OBEDIENT = "trap 'echo told to end; exit 7' TERM; touch ready; while :; do sleep 100 & wait; done"
STUBBORN = "trap '' TERM; touch ready; while :; do sleep 100; done"
FUNCTIONS = """
import pathlib, signal, time

def patient(config, stopping):
    pathlib.Path("ready").touch()
    assert stopping.wait(60)
    print("told to end", config, flush=True)

def deaf():
    pathlib.Path("ready").touch()
    while True:
        time.sleep(0.01)

def fails():
    raise ValueError("no such day")
"""


def write(box: Box, script: str, **keys: Any) -> Path:
    """A spec of a job that runs a script; JSON is YAML."""
    return box.write_spec(json.dumps({"version": 1, "name": "work", "job": {"command": ["sh", "-c", script]}, **keys}))


def call(box: Box, name: str, **keys: Any) -> Path:
    (box.folder / "e2e_jobs.py").write_text(FUNCTIONS)
    job = {"entry": f"e2e_jobs:{name}"}
    return box.write_spec(json.dumps({"version": 1, "name": "work", "allow": ["e2e_jobs"], "job": job, **keys}))


def started(box: Box, spec: Path) -> subprocess.Popen[str]:
    """`up`, once the job is at work."""
    process = box.start("up", spec, "--report", "report.json")
    wait_until("the job to be at work", lambda: (box.folder / "ready").exists() or process.poll() is not None)
    assert process.poll() is None, box.output()
    return process


def ended(box: Box, process: subprocess.Popen[str], status: int = 0) -> str:
    """Its output, once it has ended with this status and nothing of it is left."""
    assert process.wait(30) == status, box.output()
    box.assert_nothing_left()
    return box.output()


def log_of(box: Box) -> str:
    return (box.runtime / "streamcore" / "work" / "logs" / "job.log").read_text()


def test_the_example_runs_as_it_says(box: Box) -> None:
    assert box.run("validate", SPECS / "job.yaml").returncode == 0
    done = box.run("up", SPECS / "job.yaml", "--set", "count=2", "--set", "pause_s=0.1")
    assert done.returncode == 0, done.stderr
    assert "count 1 of 2" in done.stdout
    graph = box.run("convert", SPECS / "job.yaml", "-o", "graph.yaml")
    assert graph.returncode == 0, graph.stderr
    assert box.run("convert", SPECS / "job.yaml", "-o", "graph.yaml").returncode == 2, "nothing is overwritten"
    again = box.run("up", "graph.yaml", "--set", "count=2", "--set", "pause_s=0.1")
    assert "count 2 of 2" in again.stdout
    box.assert_nothing_left()


def test_a_job_that_ends_well_ends_its_run_and_is_not_run_again(box: Box) -> None:
    spec = write(box, "echo once >> runs; echo done $STREAMCORE_JOB_CONFIG", restart="always")
    done = box.run("up", spec)
    assert done.returncode == 0, done.stdout + done.stderr
    assert (box.folder / "runs").read_text() == "once\n"
    assert "done {}" in box.run("logs", "job", "--run", "work").stdout
    box.assert_nothing_left()


def test_a_job_that_fails_says_with_what_and_what_it_said_last(box: Box) -> None:
    done = box.run("up", write(box, "echo the disk is full >&2; exit 1", restart="never"))
    assert done.returncode == 1
    assert "the command ended with 1" in done.stderr
    assert "Traceback" not in done.stderr + log_of(box)
    shown = box.run("incidents", "show", "job.1", "--run", "work", "--json")
    facts = json.loads(shown.stdout)
    assert facts["cause"] == "the command ended with 1"
    assert any("the disk is full" in line for line in facts["log"])
    box.assert_nothing_left()


def test_a_job_that_fails_is_tried_again_and_may_then_succeed(box: Box) -> None:
    script = "echo try >> tries; [ $(wc -l < tries) = 3 ] || kill -SEGV $$"
    done = box.run("up", write(box, script, restart={"backoff_s": 0.05}))
    assert done.returncode == 0, done.stdout + done.stderr
    assert (box.folder / "tries").read_text().count("try") == 3
    assert "the command was killed by SIGSEGV; restarted" in done.stderr
    box.assert_nothing_left()


def test_down_does_not_begin_a_job_once_more_that_waits_for_its_next_try(box: Box) -> None:
    process = box.start("up", write(box, "echo x >> runs; exit 1", restart={"backoff_s": 600, "backoff_max_s": 600}))
    wait_until("the first try to be over", lambda: "restarted in" in box.output())
    assert box.run("down", "work").returncode == 0
    ended(box, process)
    assert (box.folder / "runs").read_text() == "x\n"


@pytest.mark.parametrize("end", ["down", "SIGINT"])
def test_a_job_without_end_is_told_to_end_and_that_is_no_failure(end: str, box: Box) -> None:
    process = started(box, write(box, OBEDIENT, progress_s=3600))
    node = box.wait_running("work")["nodes"][0]
    assert (node["id"], node["state"], node["restarts"]) == ("job", "READY", 0)
    assert "job.py" in box.run("stack", "job").stdout
    if end == "down":
        assert box.run("down", "work").returncode == 0
    else:
        process.send_signal(signal.SIGINT)
    ended(box, process)
    assert "told to end" in log_of(box)
    assert "was asked to end, and ended with 7" in log_of(box)


def test_a_job_that_ignores_it_has_drain_s_and_is_killed(box: Box) -> None:
    process = started(box, write(box, STUBBORN, drain_s=0.5))
    assert box.run("down", "work").returncode == 0
    assert "not drained within 0.5 s" in ended(box, process)
    report = json.loads((box.folder / "report.json").read_text())
    assert report["nodes"]["job"]["exit"] == "killed by SIGKILL"


def test_the_second_ctrl_c_kills_it_at_once(box: Box) -> None:
    process = started(box, write(box, STUBBORN, drain_s=600))
    process.send_signal(signal.SIGINT)
    wait_until("the first to be answered", lambda: "draining" in box.output())
    wait_until("the second to be told from it", lambda: process.send_signal(signal.SIGINT) or process.poll() is not None)
    ended(box, process)


def test_children_that_outlive_a_job_do_not_outlive_its_run(box: Box) -> None:
    script = "sleep 1000 & setsid sleep 1000 & setsid sh -c 'trap \"\" TERM HUP; sleep 1000; sleep 1000' & exit {}"
    for status in (0, 5):
        done = box.run("up", write(box, script.format(status), restart="never"))
        assert done.returncode == bool(status), done.stderr
        box.assert_nothing_left()


def test_nothing_is_left_of_a_job_whose_coordinator_is_killed(box: Box) -> None:
    process = started(box, write(box, STUBBORN))
    process.kill()
    ended(box, process, -signal.SIGKILL)


def test_a_job_whose_node_process_is_killed_is_run_again_and_leaves_no_twin(box: Box) -> None:
    process = started(box, write(box, "echo $$ >> pids; " + OBEDIENT, restart={"backoff_s": 0.05}))
    os.kill(box.wait_running("work")["nodes"][0]["pid"], signal.SIGKILL)
    pids = wait_until("a second try", lambda: (p := (box.folder / "pids").read_text().split())[1:] and p)
    wait_until("the first command to be gone", lambda: not Path(f"/proc/{pids[0]}").exists())
    assert box.run("down", "work").returncode == 0
    ended(box, process)


def test_all_of_much_output_stands_in_the_log(box: Box) -> None:
    done = box.run("up", write(box, "seq 400000; echo the end"))
    assert done.returncode == 0, done.stderr[-1000:]
    lines = [line for line in log_of(box).splitlines() if line.isdecimal()]
    first_wrong = next(((found, number) for number, found in enumerate(lines, 1) if found != str(number)), None)
    assert (len(lines), first_wrong) == (400000, None)
    box.assert_nothing_left()


def test_a_program_that_is_missing_is_found_before_or_at_the_start_and_not_tried_again(box: Box) -> None:
    spec = box.write_spec("version: 1\nname: work\njob: {command: [no-such-tool-of-mine]}\n")
    done = box.run("up", spec)
    assert (done.returncode, "spec.yaml:3:17  job.command[0]" in done.stderr) == (2, True), done.stderr
    done = box.run("up", box.write_spec("version: 1\nname: work\njob: {command: [./gone.sh]}\n"))
    assert done.returncode == 1
    assert "found './gone.sh', expected a program: there is no such file" in done.stderr
    assert log_of(box).count("ERROR") == 1
    box.assert_nothing_left()


def test_a_restart_on_request_runs_the_job_again_even_if_it_does_not_listen(box: Box) -> None:
    process = started(box, write(box, "echo x >> runs; " + STUBBORN, drain_s=0.5, restart={"backoff_s": 0.05}))
    assert box.run("restart", "job").returncode == 0, box.output()
    wait_until("a second try", lambda: (box.folder / "runs").read_text() == "x\nx\n")
    box.wait_running("work")
    assert "has not ended within 0.5 s, as it was asked to (restart on request)" in box.output()
    assert box.run("down", "work", "--now").returncode == 0
    ended(box, process)


def test_a_function_is_told_to_end(box: Box) -> None:
    process = started(box, call(box, "patient"))
    assert "e2e_jobs.py" in box.run("stack", "job").stdout
    (box.folder / "ready").unlink()
    assert "incarnation 2" in box.run("restart", "job").stdout, "the first has ended as it was asked to"
    wait_until("the second to be at work", (box.folder / "ready").exists)
    assert box.run("down", "work").returncode == 0
    ended(box, process)
    assert log_of(box).count("told to end {}") == 2


def test_a_function_that_does_not_ask_has_drain_s_and_is_killed(box: Box) -> None:
    process = started(box, call(box, "deaf", drain_s=0.5))
    assert box.run("down", "work").returncode == 0
    ended(box, process)


def test_what_a_function_raises_stands_in_the_log_with_its_traceback(box: Box) -> None:
    done = box.run("up", call(box, "fails", restart="never"))
    assert done.returncode == 1
    assert "ValueError: no such day" in done.stderr
    assert 'e2e_jobs.py", line' in log_of(box)
    box.assert_nothing_left()


def test_a_job_that_takes_longer_than_its_bound_is_a_hang(box: Box) -> None:
    done = box.run("up", write(box, "sleep 1000", progress_s=0.5, restart="never"))
    assert done.returncode == 1
    assert "run() has not ended for" in done.stderr
    assert json.loads(box.run("incidents", "show", "job.1", "--run", "work", "--json").stdout)["reason"] == "hang"
    box.assert_nothing_left()
