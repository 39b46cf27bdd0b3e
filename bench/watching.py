"""What it costs to look at a run: packets per second with everything on, beside the same run that nobody looks at."""

from __future__ import annotations

import fcntl
import os
import pty
import re
import struct
import subprocess
import sys
import termios
import threading
import time
import urllib.request
from collections.abc import Iterator, Mapping
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
SETTLE_S, MEASURED_S = 3.0, 8.0
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
    """`streamcore`: histograms and traces, /metrics read every second, `top` in a terminal of 80x24."""
    return {
        OURS: {"rate": _rate(stop, options, nbytes, seen=True)},
        UNSEEN: {"rate": _rate(stop, options, nbytes, seen=False)},
    }


def _rate(stop: Stop, options: Options, nbytes: int, *, seen: bool) -> float:
    """Packets per second that the sink takes, from two looks at its counter."""
    with folder() as place:
        spec = flows.spec_of(Flow(nbytes), PACKETS, place)
        spec["nodes"][-1] = {"id": spec["nodes"][-1]["id"], "plugin": "debug.null"}
        words, env = (["--http", "0"], {}) if seen else ([], {"STREAMCORE_TIMINGS": "0"})
        with streamctl(stop, place, "up", write(place, spec), *words, env=env) as program:
            until_up(stop, program)
            with _looked_at(place, program) if seen else nullcontext():
                stop.sleep(options.seconds(SETTLE_S))
                began, began_ns = _taken(place), time.monotonic_ns()
                stop.sleep(options.seconds(MEASURED_S))
                return (_taken(place) - began) * 1e9 / (time.monotonic_ns() - began_ns)


def _taken(place: Path) -> int:
    info = live_info(place / "streamcore" / "bench")
    if info is None:
        raise Failed("the run has ended while it was measured")
    with Client(info) as client:
        reply = client.request("account")
    return sum(edge["completed"] for edge in reply["edges"])


@contextmanager
def _looked_at(place: Path, program: Program) -> Iterator[None]:
    match = re.search(r"http://[0-9.]+:\d+", program.stdout)
    if match is None:
        raise Failed(f"the run does not say where it is served\n{program.tail()}")
    over = threading.Event()
    errors: list[str] = []
    scraper = threading.Thread(target=_scrape, args=(f"{match[0]}/metrics", over, errors))
    with _top({**os.environ, "XDG_RUNTIME_DIR": str(place)}) as top:
        scraper.start()
        try:
            yield
            if top.poll() is not None:
                raise Failed(f"`streamctl top` has ended with status {top.returncode}")
        finally:
            over.set()
            scraper.join()
    if errors:
        raise Failed(f"/metrics: {errors[0]}")


def _scrape(url: str, over: threading.Event, errors: list[str]) -> None:
    while not over.wait(SCRAPE_S):
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
