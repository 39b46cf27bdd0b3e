"""`streamctl bench` as a user calls it: a short measurement, and Ctrl-C in the middle of one."""

from __future__ import annotations

import json
import os
import signal
from pathlib import Path

import pytest
from boxes import Box, wait_until


@pytest.fixture
def temporary(box: Box) -> Path:
    """Where the runs of a measurement have their folders."""
    folder = box.folder / "t"
    folder.mkdir()
    box.env["TMPDIR"] = str(folder)
    return folder


def test_one_hop_is_measured_and_written(box: Box, temporary: Path) -> None:
    done = box.run("bench", "run", "hop", "--sizes", "64B", "--peers", "none", "--repeat", "1", "--quick", "--json", "x.json")
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stderr == "", "in a pipe nothing but results is said"
    rows = json.loads((box.folder / "x.json").read_text())["rows"]
    assert {(row["point"], row["measure"]) for row in rows} >= {("64B, flat out", "rate"), ("64B, 500/s", "p50_us")}
    assert all(len(row["values"]) == 1 and row["values"][0] > 0 for row in rows)
    assert "64B, flat out" in done.stdout
    assert list(temporary.iterdir()) == []
    page = box.run("bench", "report", "x.json", "--html", "x.html")
    assert page.returncode == 0
    assert "<svg" in (box.folder / "x.html").read_text()


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_in_the_middle_leaves_nothing_and_what_was_measured_is_written(box: Box, temporary: Path, number: int) -> None:
    before = set(os.listdir("/dev/shm"))
    process = box.start("bench", "run", "hop", "--sizes", "64B", "--repeat", "50", "--json", "x.json")
    wait_until("a run of the measurement to be at work", lambda: list(temporary.glob("sb-*/*.begin")))
    process.send_signal(number)
    assert process.wait(30) == 128 + number, box.output()
    assert json.loads((box.folder / "x.json").read_text())["v"] == 1
    wait_until("every process to be gone", lambda: not processes_in(temporary))
    assert list(temporary.iterdir()) == []
    assert not {name for name in set(os.listdir("/dev/shm")) - before if "streamcore" in name}


def processes_in(folder: Path) -> list[int]:
    """Whatever runs with its run directory there."""
    wanted = os.fsencode(f"XDG_RUNTIME_DIR={folder}")
    found = []
    for pid in filter(str.isdigit, os.listdir("/proc")):
        try:
            if wanted in Path(f"/proc/{pid}/environ").read_bytes():
                found.append(int(pid))
        except OSError:
            continue  # it has ended, or is another user's
    return found
