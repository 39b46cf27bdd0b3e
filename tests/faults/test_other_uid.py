"""Another user of the box can neither see a run, nor talk to it, nor open its memory; not even where somebody opened its directory."""

from __future__ import annotations

import json
import os
import subprocess
import sys

import pytest
from boxes import Box
from fault_kit import Ledger, Run, frames, node, spec

pytestmark = [
    pytest.mark.slow,
    pytest.mark.timeout(120),
    pytest.mark.skipif(os.geteuid() != 0, reason="only root can become another user"),
]
NOBODY = 65534
SPEC = spec(
    [node("src", "synthetic.frames", frames(200)), node("mid", "flow.forward"), node("sink", "debug.hash", "path: sink.jsonl")],
    [("src", "mid"), ("mid", "sink")],
)
TRY = """
import json, os, socket, sys
os.setgroups([]); os.setgid({nobody}); os.setuid({nobody})
run_dir, pid = sys.argv[1], sys.argv[2]

def trying(what, *args):
    try:
        what(*args)
        return "done"
    except OSError as error:
        return type(error).__name__

def connect(path):
    with socket.socket(socket.AF_UNIX) as peer:
        peer.connect(path)

def open_rings():
    opened = []
    for fd in range(256):
        try:
            opened.append(os.open(f"/proc/{{pid}}/fd/{{fd}}", os.O_RDONLY))
        except FileNotFoundError:
            continue
    return opened

print(json.dumps({{
    "list": trying(os.listdir, run_dir),
    "read": trying(open, run_dir + "/coordinator.pid"),
    "log": trying(open, run_dir + "/logs/src.log"),
    "control": trying(connect, run_dir + "/control"),
    "inbox": trying(connect, run_dir + "/mid.1"),
    "rings": trying(open_rings),
    "list of rings": trying(os.listdir, f"/proc/{{pid}}/fd"),
    "memory": trying(open, f"/proc/{{pid}}/mem", "rb"),
    "environment": trying(open, f"/proc/{{pid}}/environ", "rb"),
    "signal": trying(os.kill, int(pid), 9),
}}))
"""
KNOCK = """
import os, socket, sys
os.setgroups([]); os.setgid({nobody}); os.setuid({nobody})
with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as connection:
    connection.connect(sys.argv[1])
    try:
        for _ in range(50):
            connection.send(b"words of a stranger")
        connection.settimeout(10)
        print(len(connection.recv(1)))
    except ConnectionError:
        print(0)
"""
SPEAK = """
import os, sys, time
import zmq
context = zmq.Context()
push = context.socket(zmq.PUSH)
os.setgroups([]); os.setgid({nobody}); os.setuid({nobody})
push.setsockopt(zmq.LINGER, 300)
push.connect("ipc://" + sys.argv[1])
for _ in range(50):
    push.send(b"words of a stranger")
time.sleep(0.5)
push.close()
context.term()
"""


def as_nobody(code: str, *args: object) -> str:
    command = [sys.executable, "-c", code.format(nobody=NOBODY), *map(str, args)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=30)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_another_user_can_do_nothing_with_a_run(box: Box):
    box.folder.chmod(0o755)
    run = Run(box, "private", SPEC)
    run.wait_up()
    run_dir = box.runtime / "streamcore" / "private"
    for name, row in run.nodes().items():
        found = json.loads(as_nobody(TRY, run_dir, row["pid"]))
        assert set(found.values()) == {"PermissionError"}, (name, found)
    run.end()
    Ledger(box.folder / "sink.jsonl").check(repeats_max=0, sources=["src"])


def test_a_stranger_is_not_heard_even_where_directory_and_socket_were_opened(box: Box):
    # The socket itself asks who is at the other end.
    run = Run(box, "open", SPEC)
    run.wait_up()
    run_dir = box.runtime / "streamcore" / "open"
    for path in (box.folder, box.runtime, run_dir.parent, run_dir):
        path.chmod(0o755)
    for path in (run_dir / "mid.1", run_dir / "control"):
        path.chmod(0o777)
    assert as_nobody(KNOCK, run_dir / "mid.1").split() == ["0"], "he was not turned away"
    as_nobody(SPEAK, run_dir / "control")
    assert {row["refused"] for row in run.nodes().values()} == {0}, "his messages came in"
    for path in (run_dir, run_dir.parent, box.runtime):
        path.chmod(0o700)
    run.end()
    Ledger(box.folder / "sink.jsonl").check(repeats_max=0, sources=["src"])
