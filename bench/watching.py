"""What it costs to look at a run: packets per second with everything on, beside the same run that nobody looks at."""

from __future__ import annotations

import fcntl
import os
import pty
import re
import signal
import struct
import subprocess
import sys
import termios
import threading
import time
import urllib.request
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, nullcontext
from pathlib import Path

from streamcore.control.client import Client
from streamcore.control.rundir import live_info
from streamcore_bench import flows
from streamcore_bench.flows import Flow
from streamcore_bench.lives import until_up, write
from streamcore_bench.points import Found, Options, Point
from streamcore_bench.programs import Failed, Program, Stop, folder, streamctl
from streamcore_bench.results import OURS
from streamcore_bench.sizes import parse_size

UNSEEN = "unseen"  # the same run without histograms and traces, without HTTP and without `top`
TURNS = 3  # of seen, unseen, unseen, seen
SETTLE_S, TURN_S = 0.3, 2.0
SCRAPE_S = 1.0
DEADLINE_S = 60.0
PACKETS = 10**9  # more than any run lasts


def points(options: Options) -> list[Point]:
    sizes = options.sizes or tuple(map(parse_size, ("64B", "1080p")))
    return [
        Point(f"{size.name}, flat out", ("rate",), ours=lambda stop, more, nbytes=size.nbytes: watched(stop, more, nbytes))
        for size in sizes
    ]


def watched(stop: Stop, options: Options, nbytes: int) -> Found:
    """`streamcore`: histograms and traces, /metrics read every second, `top` in a terminal of 80x24.

    Both runs are up all the time and take turns within seconds, while the other one is paused: what the machine does meanwhile changes its
    rates more than anybody who looks.
    """
    with _run(stop, nbytes, seen=True) as seen, _run(stop, nbytes, seen=False) as unseen:
        for _ in range(TURNS):
            for run in (seen, unseen, unseen, seen):
                run.measure(stop, options.seconds(TURN_S))
        return {OURS: {"rate": seen.rate}, UNSEEN: {"rate": unseen.rate}}


class _Run:
    """A run that carries packets only while it is measured; `look` begins and ends what looks at it."""

    def __init__(self, client: Client, look: Callable[[bool], None]):
        self._client, self._look = client, look
        self._packets, self._ns = 0, 0
        client.request("pause")

    def measure(self, stop: Stop, seconds: float) -> None:
        self._look(True)
        self._client.request("resume")
        stop.sleep(SETTLE_S)
        began, began_ns = self._taken(), time.monotonic_ns()
        stop.sleep(seconds)
        self._packets += self._taken() - began
        self._ns += time.monotonic_ns() - began_ns
        self._client.request("pause")
        self._look(False)

    def _taken(self) -> int:
        return sum(edge["completed"] for edge in self._client.request("account")["edges"])

    @property
    def rate(self) -> float:
        """Packets per second that the sink has taken."""
        return self._packets * 1e9 / self._ns


@contextmanager
def _run(stop: Stop, nbytes: int, *, seen: bool) -> Iterator[_Run]:
    with folder() as place:
        spec = flows.spec_of(Flow(nbytes), PACKETS, place)
        spec["nodes"][-1] = {"id": spec["nodes"][-1]["id"], "plugin": "debug.null"}
        words, env = (["--http", "0"], {}) if seen else ([], {"STREAMCORE_TIMINGS": "0"})
        with streamctl(stop, place, "up", write(place, spec), *words, env=env) as program:
            until_up(stop, program)
            info = live_info(place / "streamcore" / "bench")
            if info is None:
                raise Failed("the run has ended before it was measured")
            with Client(info) as client, _looked_at(place, program) if seen else nullcontext(lambda on: None) as look:
                yield _Run(client, look)


@contextmanager
def _looked_at(place: Path, program: Program) -> Iterator[Callable[[bool], None]]:
    """What looks at the run, and stands still until it is told to."""
    match = re.search(r"http://[0-9.]+:\d+", program.stdout)
    if match is None:
        raise Failed(f"the run does not say where it is served\n{program.tail()}")
    at_work, over = threading.Event(), threading.Event()
    errors: list[str] = []
    scraper = threading.Thread(target=_scrape, args=(f"{match[0]}/metrics", at_work, over, errors))
    with _top({**os.environ, "XDG_RUNTIME_DIR": str(place)}) as top:

        def look(on: bool) -> None:
            (at_work.set if on else at_work.clear)()
            top.send_signal(signal.SIGCONT if on else signal.SIGSTOP)

        scraper.start()
        try:
            yield look
            if top.poll() is not None:
                raise Failed(f"`streamctl top` has ended with status {top.returncode}")
        finally:
            over.set()
            scraper.join()
            top.send_signal(signal.SIGCONT)
    if errors:
        raise Failed(f"/metrics: {errors[0]}")


def _scrape(url: str, at_work: threading.Event, over: threading.Event, errors: list[str]) -> None:
    while not over.wait(SCRAPE_S):
        if not at_work.is_set():
            continue
        try:
            with urllib.request.urlopen(url, timeout=5) as answer:
                if b"streamcore_edge_sent_packets_total" not in answer.read():
                    raise ValueError("the answer names no edge")
        except (OSError, ValueError) as error:
            errors.append(str(error))
            return


@contextmanager
def _top(env: Mapping[str, str]) -> Iterator[subprocess.Popen[bytes]]:
    """`streamctl top` in a terminal, whose output somebody reads."""
    ours, its = pty.openpty()
    fcntl.ioctl(its, termios.TIOCSWINSZ, struct.pack("HHHH", 24, 80, 0, 0))
    command = [sys.executable, "-m", "streamcore", "top", "bench"]
    top = subprocess.Popen(command, stdin=its, stdout=its, stderr=its, env={**env, "TERM": "xterm-256color"}, start_new_session=True)
    os.close(its)
    reader = threading.Thread(target=_drain, args=(ours,))
    reader.start()
    try:
        yield top
    finally:
        top.terminate()
        top.wait(DEADLINE_S)
        reader.join()
        os.close(ours)


def _drain(fd: int) -> None:
    try:
        while os.read(fd, 65536):
            pass
    except OSError:  # the other end is closed
        pass
