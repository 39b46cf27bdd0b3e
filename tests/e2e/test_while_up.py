"""What one sees of a run from outside while it is up."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from boxes import ENDLESS, Box


def mappings(pid: int) -> dict[str, set[str]]:
    """Ring name to the permissions with which a process maps it."""
    found: dict[str, set[str]] = {}
    for line in Path(f"/proc/{pid}/maps").read_text().splitlines():
        fields = line.split(maxsplit=5)
        if len(fields) == 6 and "memfd:streamcore:" in fields[5]:
            found.setdefault(fields[5].split("memfd:streamcore:")[1].split()[0], set()).add(fields[1])
    return found


def test_consumers_map_their_input_rings_read_only(box: Box) -> None:
    box.start("up", box.write_spec(ENDLESS))
    pids = {node["id"]: node["pid"] for node in (box.wait_running())["nodes"]}
    rings = {name: mappings(pid) for name, pid in pids.items()}
    assert rings["camera"]["camera.out"] == {"rw-s"}
    for consumer in ("pass", "sink"):  # the sink reads the camera's frames as well: they are forwarded to it
        assert rings[consumer]["camera.out"] == {"r--s"}
    assert rings["sink"]["pass.out"] == {"r--s"}


def test_nothing_is_put_into_dev_shm(box: Box) -> None:
    before = set(os.listdir("/dev/shm"))
    box.start("up", box.write_spec(ENDLESS))
    box.wait_running()
    assert set(os.listdir("/dev/shm")) <= before


@pytest.mark.skipif(os.getuid() != 0 or not shutil.which("unshare"), reason="mounting needs root and unshare")
def test_a_run_works_with_a_dev_shm_of_1_mib(box: Box) -> None:
    script = 'mount -t tmpfs -o size=1m tmpfs /dev/shm && exec "$0" -m streamcore up "$1" --for 1s --report r.json'
    command = ["unshare", "--mount", "sh", "-c", script, sys.executable, str(box.write_spec(ENDLESS))]
    done = subprocess.run(command, capture_output=True, text=True, env=box.env, cwd=box.folder, timeout=60)
    if "unshare" in done.stderr:
        pytest.skip(f"no mount namespaces here: {done.stderr.strip()}")
    assert done.returncode == 0, done.stdout + done.stderr


def test_logs_ps_and_stats_answer_while_the_run_is_up(box: Box) -> None:
    box.start("up", box.write_spec(ENDLESS))
    running = box.wait_running()
    assert running["run"] == "endless"
    assert box.run("ps", "endless").stdout.count("\n") >= 4
    assert box.run("logs", "camera").returncode == 0
    assert box.run("logs", "no-such-node").returncode != 0


def test_ps_down_and_logs_without_a_run_end_with_3(box: Box) -> None:
    for verb in (("ps", "nobody"), ("down", "nobody"), ("logs", "--run", "nobody")):
        done = box.run(*verb)
        assert done.returncode == 3, (verb, done.stdout, done.stderr)
        assert "Traceback" not in done.stderr
