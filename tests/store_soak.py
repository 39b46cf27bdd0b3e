"""Outages, kills and backlogs, through real runs: events, a durable queue, a server that is away, misbehaves, and comes back.

`tools/durable soak --events 1000000` prints what it did as JSON. Ten minutes without the server take ten seconds (`--factor 60`): the queue
fills, nodes and whole runs are killed, and go on. Then the server comes, refuses, loses answers, goes away again, and kills go on while the
backlog is replayed. At the end the server has to have each event once by its key, in order (with `--in-flight 1` strictly, else up to what
was under way when one failed), and the queue has to be empty.
"""

from __future__ import annotations

import argparse
import itertools
import json
import random
import shutil
import signal
import subprocess
import sys
import time
import urllib.request
from pathlib import Path

import psutil
from boxes import Box, new_box, wait_until
from store_kills import Broken

from streamcore.durable import upkeep
from streamcore.durable.files import DATA
from streamcore.errors import StoreError
from streamcore_bench.proc import node_name

RECEIVER = Path(__file__).resolve().parents[1] / "tools" / "receiver.py"
OUTAGE_S = 600.0
OVERLAP = 500  # a run that begins anew emits so many again that are stored: they are known by their ids
WORD_S = 1800.0
UNDER_WAY_MAX = 1024  # by so many an event that failed may be overtaken, if more than one may be under way
MISBEHAVIOUR = ("lose next=3", "fail 503 next=5", "fail 429 next=2 retry-after=0", "hang 0.2 next=1", "away 0.3")
SPEC = """
version: 2
name: soak
allow: [streamcore_bench]
drain_s: 60
params: {first: 0, count: 1000, in_flight: 0, url: "http://127.0.0.1:1/"}
nodes:
  - id: events
    plugin: "streamcore_bench.storing_nodes:Events"
    config: {count: "${count}", first: "${first}", nbytes: 200}
    restart: {max_restarts: 1000}
  - id: queue
    plugin: durable.queue
    config: {path: queue, max_bytes: 2GiB, id: payload.number, in_flight: "${in_flight}", retry_s: 0.05, retry_max_s: 0.5}
    restart: {max_restarts: 1000}
  - {id: backend, plugin: http.post, config: {url: "${url}", timeout_s: 2, backoff_s: 0.1, backoff_max_s: 1}, restart: {max_restarts: 1000}}
edges:
  - {from: events, to: queue}
  - {from: queue, to: backend}
"""


class Server:
    """tools/receiver on a port of its own, which it keeps."""

    def __init__(self, folder: Path):
        self.log = folder / "events.jsonl"
        command = [sys.executable, str(RECEIVER), "--log", str(self.log), "--dedupe"]
        self._process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
        assert self._process.stdout is not None
        self.url = self._process.stdout.readline().strip()

    def obey(self, rule: str) -> None:
        """As soon as it listens: it may have been told to be away for a moment."""

        def said() -> bool:
            try:
                urllib.request.urlopen(f"{self.url}control", rule.encode(), timeout=60).close()
            except OSError:
                return False
            return True

        wait_until(f"the server to take {rule!r}", said)

    def stats(self) -> dict[str, int]:
        with urllib.request.urlopen(f"{self.url}stats", timeout=60) as answer:
            found: dict[str, int] = json.load(answer)
        return found

    def end(self) -> None:
        self._process.terminate()
        self._process.wait(60)


class Soak:
    """One box, one queue, many runs."""

    def __init__(self, box: Box, server: Server, given: argparse.Namespace):
        self.box, self.server, self.given, self.chance = box, server, given, random.Random(given.seed)
        self.spec = box.write_spec(SPEC)
        self.queue = box.folder / "queue"
        self.kills = self.runs = 0
        self.up: subprocess.Popen[str] | None = None

    def start(self) -> None:
        first = max(0, self.stored() - OVERLAP)
        words = [f"first={first}", f"count={self.given.events}", f"in_flight={self.given.in_flight}", f"url={self.server.url}"]
        self.up = self.box.start("up", self.spec, *(part for word in words for part in ("--set", word)), "--report", "report.json")
        self.runs += 1

    def stored(self) -> int:
        """Events, each once."""
        if not (self.queue / DATA).exists():
            return 0
        try:
            return upkeep.look(self.queue).counters.appended
        except StoreError:  # it is being made
            return 0

    def kill_a_node(self) -> None:
        nodes = [process for process in self.box.processes() if node_name(process.pid)]
        if nodes:
            self._kill([self.chance.choice(nodes)])

    def kill_all(self) -> None:
        self._kill(self.box.processes())
        wait_until("every process of the run to be gone", lambda: not self.box.processes())
        self.start()

    def _kill(self, processes: list[psutil.Process]) -> None:
        for process in processes:
            try:
                process.send_signal(signal.SIGKILL)
            except psutil.NoSuchProcess:  # it has ended with another one
                continue
        self.kills += 1

    def disturb(self, seconds: float, misbehaviour: bool) -> None:
        """Kills in between, until the time is over or all is done."""
        end_s = time.monotonic() + seconds
        while time.monotonic() < end_s and self.up is not None and self.up.poll() is None:
            time.sleep(self.chance.uniform(0.3, 1.5) * self.given.calm)
            what = self.chance.random()
            if misbehaviour and what < 0.4:
                self.server.obey(self.chance.choice(MISBEHAVIOUR))
            elif what < 0.85:
                self.kill_a_node()
            else:
                self.kill_all()


def soak(box: Box, server: Server, given: argparse.Namespace) -> dict[str, object]:
    """Raises Broken."""
    began_s = time.monotonic()
    outage_s = OUTAGE_S / given.factor
    server.obey(f"away {outage_s}")
    run = Soak(box, server, given)
    run.start()
    wait_until("the first events to be stored", lambda: run.stored() > 0)
    run.disturb(outage_s, misbehaviour=False)
    waited = upkeep.look(run.queue).waiting
    wait_until("the server to be back", lambda: _is_there(server))
    run.disturb(given.disturbed, misbehaviour=True)
    server.obey("clear")
    assert run.up is not None
    if status := run.up.wait(WORD_S):
        raise Broken(f"the last run ended with status {status}\n{box.output(len(box.started) - 1)[-3000:]}")
    report = json.loads((box.folder / "report.json").read_text())
    facts, stats = upkeep.look(run.queue), server.stats()
    numbers = [json.loads(line)["body"]["number"] for line in server.log.read_text().splitlines()]
    if sorted(numbers) != list(range(given.events)):
        raise Broken(f"the server has {len(numbers)} events, {len(set(numbers))} different ones of {given.events}")
    late = max((highest - number for number, highest in zip(numbers, itertools.accumulate(numbers, max), strict=True)), default=0)
    if late > (0 if given.in_flight == 1 else UNDER_WAY_MAX):
        raise Broken(f"an event came {late} after it was its turn, with at most {given.in_flight or UNDER_WAY_MAX} under way")
    if facts.waiting or facts.dead or not report["account"]["balanced"]:
        raise Broken(f"{facts.waiting} wait, {facts.dead} are dead letters; the account: {report['account']}")
    seconds = round(time.monotonic() - began_s, 1)
    found = {
        "events": given.events,
        "late_by_at_most": late,
        "runs": run.runs,
        "kills": run.kills,
        "waited_after_outage": waited,
        "posts_repeated": stats["duplicates"],
    }
    return found | {"stored_again": facts.counters.duplicates, "seconds": seconds}


def _is_there(server: Server) -> bool:
    try:
        return bool(server.stats())
    except OSError:
        return False


def main(words: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--events", type=int, default=1_000_000, help="(default: %(default)s)")
    parser.add_argument("--factor", type=float, default=60, help="ten minutes become ten minutes divided by it (default: %(default)s)")
    parser.add_argument(
        "--disturbed", type=float, default=120, metavar="SECONDS", help="with kills and a bad server afterwards (default: %(default)s)"
    )
    parser.add_argument("--calm", type=float, default=1, help="longer pauses between disturbances (default: %(default)s)")
    parser.add_argument("--in-flight", type=int, default=0, help="of the queue; 1: strict order (default: %(default)s, as many as fit)")
    parser.add_argument("--seed", type=int, default=1)
    given = parser.parse_args(words)
    with new_box() as box:
        server = Server(box.folder)
        try:
            found = soak(box, server, given)
        except Broken as broken:
            kept = Path("soak-broken")
            shutil.copytree(box.folder, kept, dirs_exist_ok=True, ignore=shutil.ignore_patterns("run"))
            sys.stderr.write(f"seed {given.seed}: {broken}; its files are kept in {kept}\n")
            return 1
        finally:
            server.end()
    sys.stdout.write(json.dumps(found) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
