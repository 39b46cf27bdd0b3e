"""dora: a dataflow of Python nodes under `dora run`, payloads in the shared memory of dora's Zenoh sessions."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))
import work

NODES = Path(__file__).resolve().parent / "nodes.py"
FIRST, RECEIVED, SENT, STOP = "first.txt", "received.bin", "sent.txt", "stop"  # as in nodes.py, which needs dora to be imported


# The direct path drops a packet if Zenoh's queue stays full for a millisecond, which a busy machine makes it do: wait instead.
PATIENCE_US = 60_000_000
DROP = {"wait_before_drop": PATIENCE_US, "max_wait_before_drop_fragments": PATIENCE_US}
OVERLAY = {"transport": {"link": {"tx": {"queue": {"congestion_control": {"drop": DROP}}}}}}


def dataflow(job: work.Job, names: list[str], restart: bool = False) -> dict[str, Any]:
    """Sender, hops in a chain, receivers; JSON is YAML."""
    # Never full, as the sender waits for credits. With the policy "backpressure" packets would go through the daemon by TCP instead of
    # shared memory, which is right for the few and small credits.
    queue = {"queue_size": job.depth * (job.hops + 1) * 2}
    reliable = queue | {"queue_policy": "backpressure"}
    # Packets too small for shared memory are faster through the daemon flat out, faster on the direct path one by one.
    packet = reliable if job.nbytes < 4096 and not job.rate else queue
    nodes = []
    before = ""
    for name in names:
        role, number = re.fullmatch(r"([a-z]+)(\d*)", name).groups()  # type: ignore[union-attr]
        node: dict[str, Any] = {"id": name, "path": str(NODES), "args": f"{role} {number or 0}"}
        if role == "sender":
            node["outputs"] = ["packet"]
            credits = {f"credit{index}": f"receiver{index}/credit" for index in range(job.receivers)}
            node["inputs"] = {key: {"source": source} | reliable for key, source in credits.items()}
        else:
            node["inputs"] = {"packet": {"source": f"{before}/packet"} | packet}
            node["outputs"] = ["packet"] if role == "hop" else ["credit"]
        if role == "receiver" and restart:
            node |= {"restart_policy": "on-failure"}
        nodes.append(node)
        if role != "receiver":
            before = name
    return {"nodes": nodes}


def start(job: work.Job, names: list[str], restart: bool = False) -> None:
    Path("dataflow.yml").write_text(json.dumps(dataflow(job, names, restart), indent=1))
    Path("overlay.json5").write_text(json.dumps(OVERLAY))
    commands = Path(sys.executable).parent
    pool_bytes = int((job.depth * (job.hops + 1) + 4) * (job.nbytes + 4096) * 1.25)
    environment = os.environ | {
        "PATH": f"{commands}{os.pathsep}{os.environ['PATH']}",
        # Room for all packets on the way; by default it is 8 MiB, one 1080p frame.
        "DORA_NODE_SHM_POOL_SIZE": str(max(pool_bytes, 8 * 1024 * 1024)),
        # Nothing beyond loopback, where it listens by itself.
        "DORA_ZENOH_MULTICAST": "off",
        "DORA_ZENOH_CONFIG_OVERLAY": os.path.abspath("overlay.json5"),
    }
    subprocess.Popen(
        [str(commands / "dora"), "run", "--log-level", "warn", "dataflow.yml"],
        env=environment,
        stdin=subprocess.DEVNULL,
        stdout=sys.stderr,
    )


def first_packet(pid_before: int) -> tuple[int, int]:
    """(process, time) of the sink's first packet; the deadline of the job ends the wait."""
    while True:
        if os.path.exists(FIRST):
            pid, at_ns = map(int, Path(FIRST).read_text().split())
            if pid != pid_before:
                return pid, at_ns
        time.sleep(0.002)


def startup(job: work.Job) -> dict[str, Any]:
    names = ["sender", *(f"hop{index}" for index in range(job.nodes - 2)), "receiver0"]
    begin_ns = time.monotonic_ns()
    start(job, names)
    return {"seconds": round((first_packet(0)[1] - begin_ns) / 1e9, 4)}


def restart(job: work.Job) -> dict[str, Any]:
    start(job, ["sender", "receiver0"], restart=True)
    pid, _ = first_packet(0)
    seconds = []
    for _ in range(job.kills):
        time.sleep(2.0)
        begin_ns = time.monotonic_ns()
        os.kill(pid, signal.SIGKILL)
        pid, at_ns = first_packet(pid)
        seconds.append(round((at_ns - begin_ns) / 1e9, 4))
    time.sleep(1.0)
    Path(STOP).touch()
    while not os.path.exists(SENT):
        time.sleep(0.01)
    time.sleep(1.0)
    raw = Path(RECEIVED).read_bytes()
    received = {raw[at : at + 8] for at in range(0, len(raw), 8)}
    return {"seconds": seconds, "lost": int(Path(SENT).read_text()) - len(received)}


def special(job: work.Job) -> dict[str, Any]:
    return startup(job) if job.case == "startup" else restart(job)


PEER = work.Peer("dora", "dora-rs", {}, cases=("flow", "startup", "restart"), launch=start, special=special)

if __name__ == "__main__":
    work.main(__file__, PEER)
