"""Logs of nodes that print without end, into a disk that has no room, while somebody reads them."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import pytest
from boxes import Box, new_box, wait_until
from small_file_system import SMALL_BYTES, small_file_system

from streamcore import limits

NODES = '''
import os, subprocess, time
from streamcore import Port, Source, StreamPacket


class Talk(Source):
    """Prints or logs one line per packet. Stands still after the first of every `step` until there is a file `go` or `go0`, `go1` ..."""

    outputs = {"out": Port("n", "json")}
    config = {
        "how": {"type": "string"}, "count": {"type": "integer"}, "line_bytes": {"type": "integer"},
        "step": {"type": "integer"},
    }

    def run(self):
        how, tail, step = self.config["how"], "." * self.config["line_bytes"], self.config["step"]
        for n in range(self.config["count"]):
            while n % step == 1 and not os.path.exists("go") and not os.path.exists(f"go{n // step}") and not self.stopping:
                self.wait_until(time.monotonic_ns() + 10_000_000)
            if how == "child":
                subprocess.run(["echo", f"line {n} {tail}"], check=False)
            elif how == "log":
                self.log.info("line %d %s", n, tail)
            else:
                print(f"line {n} {tail}")
            yield StreamPacket.new(kind="n", source_id="talk", payload=n)
'''
SPEC = """
version: 2
name: talk
allow: [talk_nodes]
nodes:
  - {{id: talk, plugin: "talk_nodes:Talk", config: {{how: {how}, count: {count}, line_bytes: {line_bytes}, step: {step}}}}}
  - {{id: sink, plugin: debug.null}}
edges:
  - {{from: talk, to: sink}}
"""


class Talking:
    """A run of SPEC, which stands still until `go`."""

    def __init__(self, box: Box, how: str = "print", count: int = 1000, line_bytes: int = 100, step: int = 10**9, detach: bool = False):
        self.box, self.count = box, count
        (box.folder / "talk_nodes.py").write_text(NODES)
        spec = box.write_spec(SPEC.format(how=how, count=count, line_bytes=line_bytes, step=step))
        self.up = box.start("up", spec, "--report", "report.json", *(["--detach"] if detach else []))
        self.logs = box.runtime / "streamcore" / "talk" / "logs"
        self.log = self.logs / "talk.log"
        wait_until("the first line to be in the log", lambda: (self.log.exists() and "line 0" in self.text()) or self.up.poll())
        assert not self.up.poll(), box.output()

    def text(self) -> str:
        return self.log.read_bytes().decode()

    def occupied(self) -> int:
        return self.log.stat().st_blocks * 512

    def go(self, step: int | str = "") -> None:
        """On with one step, or with all of them."""
        (self.box.folder / f"go{step}").touch()

    def report(self) -> dict:
        """Of the run, which has ended and has lost nothing."""
        assert self.up.wait(60) == 0, self.box.output()
        path = self.box.folder / "report.json"
        wait_until("the report", path.exists)
        found = json.loads(path.read_text())
        assert found["status"] == "ok", found
        assert found["account"]["balanced"]
        assert found["nodes"]["sink"]["consumed"] == self.count
        assert found["nodes"]["talk"]["restarts"] == 0
        return found


def follow(box: Box, *words: str) -> tuple[subprocess.Popen, Path]:
    """`streamctl logs -f` once it shows something, and the file of what it shows."""
    output = box.folder / "followed"
    with output.open("w") as file:
        command = [sys.executable, "-m", "streamcore", "logs", "--run", "talk", "-f", *words]
        process = subprocess.Popen(command, stdout=file, stderr=subprocess.STDOUT, env=box.env, cwd=box.folder)
    box.started.append(process)
    wait_until("the follower to show a line", lambda: output.stat().st_size or process.poll() is not None)
    return process, output


def test_a_log_stays_bounded_and_a_follower_reads_every_line_of_it_once(box: Box) -> None:
    # In steps that are smaller than what is kept: whoever falls behind by more than that is told what it has missed.
    talking = Talking(box, count=12_000, line_bytes=4000, step=1000)
    follower, output = follow(box, "talk")
    for step in range(12):
        talking.go(step)
        last = f"line {min(1000 * step + 1000, 11_999)} "
        wait_until(f"{last}to be shown", partial(shows, output, last))
    assert talking.report()["warnings"] == []
    assert talking.log.stat().st_size > 2 * limits.LOG_BYTES, "nothing was dropped: this test says nothing"
    assert talking.occupied() <= limits.LOG_BYTES
    assert follower.wait(60) == 0, "it ends with the run"
    assert [int(number) for number in re.findall(r"^line (\d+) ", output.read_text(), re.MULTILINE)] == list(range(12_000))
    lines = box.run("logs", "--run", "talk", "talk", "--since", "1h").stdout.splitlines()
    kept = [int(line.split()[1]) for line in lines if line.startswith("line")]
    assert kept == list(range(kept[0], 12_000))
    assert limits.LOG_KEPT_BYTES < 4010 * (len(kept) + 1) <= limits.LOG_BYTES


def shows(path: Path, text: str) -> bool:
    """Near its end."""
    with path.open("rb") as file:
        file.seek(max(0, path.stat().st_size - 20_000))
        return text in file.read().decode()


@pytest.fixture
def small_box() -> Iterator[Box]:
    """Its run directories lie on a disk that holds SMALL_BYTES."""
    with new_box() as made:
        made.runtime.rmdir()
        with small_file_system(made.runtime):
            if not os.path.ismount(made.runtime):
                pytest.skip("needs the right to mount a small file system: a bound on files would bound shared memory too")
            made.runtime.chmod(0o700)
            try:
                yield made
            finally:
                made.kill_all()


@pytest.mark.parametrize("how", ["print", "log", "child"])
def test_a_disk_that_is_full_ends_no_run_and_is_told_once(small_box: Box, how: str) -> None:
    count, line_bytes = (100, 100_000) if how == "child" else (3000, 3000)
    talking = Talking(small_box, how, count, line_bytes)
    talking.go()
    report = talking.report()
    assert talking.log.stat().st_size <= SMALL_BYTES < count * line_bytes
    output = small_box.output()
    if how == "child":  # it meets the error on its own
        assert report["warnings"] == []
        return
    assert report["warnings"] == [
        "the log of 'talk' cannot be written: No space left on device; the run goes on, what its nodes print meanwhile is lost"
    ]
    assert output.count("cannot be written") == 1, output
    assert "Traceback" not in output


def test_the_log_of_a_detached_run_on_the_same_disk_ends_it_neither(small_box: Box) -> None:
    talking = Talking(small_box, "print", 3000, 3000, detach=True)
    assert talking.up.wait(60) == 0, small_box.output()
    talking.go()
    assert len(talking.report()["warnings"]) in (1, 2)


def test_a_log_says_what_it_lacks_as_soon_as_the_disk_has_room_again(small_box: Box) -> None:
    talking = Talking(small_box, "print", 1000, 300, step=500)
    fill(small_box.runtime / "filler", 4096)
    fill(talking.log, 1)  # what is left of its last block
    talking.go(0)
    wait_until("it to be told", lambda: "cannot be written" in small_box.output())
    (small_box.runtime / "filler").unlink()
    talking.go()
    talking.report()
    done = small_box.run("logs", "--run", "talk", "--level", "warning", "--json")
    assert re.fullmatch(r"\d+ bytes of this log could not be written: No space left on device", json.loads(done.stdout)["text"]), done
    assert "line 999 " in talking.text()


def fill(path: Path, step: int) -> None:
    """Append until the disk has no room for one more step."""
    with path.open("ab", buffering=0) as file:
        try:
            while True:
                file.write(b"\n" * step)
        except OSError:
            return


def test_ctrl_c_is_the_way_to_end_follow(box: Box) -> None:
    talking = Talking(box)
    follower, _ = follow(box, "talk", "--json")
    follower.send_signal(signal.SIGINT)
    assert follower.wait(60) == 0
    talking.go()
    talking.report()


def test_follow_ends_when_nobody_reads_it(box: Box) -> None:
    # The reader has seen enough, and the node prints nothing more that could fail to be written.
    talking = Talking(box)
    command = [sys.executable, "-m", "streamcore", "logs", "--run", "talk", "-f"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=box.env, cwd=box.folder) as follower:
        assert follower.stdout is not None and follower.stderr is not None
        while "line 0 " not in follower.stdout.readline():
            pass
        follower.stdout.close()
        assert follower.wait(60) == 0
        assert follower.stderr.read() == ""
    talking.go()
    talking.report()
