"""streamctl tap: the packets that leave at a port of a live run, as they pass."""

from __future__ import annotations

import os
import shutil
import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from math import isnan
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING, Any

import click

from streamcore.cli.completing import complete_live_node
from streamcore.cli.entry import CAUGHT
from streamcore.cli.failures import NODE_FAILED
from streamcore.cli.options import json_option, quiet_debug_option, run_option
from streamcore.cli.tap_lines import as_json, line
from streamcore.cli.tap_pictures import FORMS, Saver, half_blocks, is_array, is_picture, kitty, offers_kitty
from streamcore.cli.wording import plural

if TYPE_CHECKING:
    from streamcore.control.tapping import Tap, Tapped
    from streamcore.durable.record import Record

NICE = 10  # who looks takes what the graph leaves of the cores: writing PNG or MCAP keeps one of them busy
VIEW_NS = 100_000_000  # between two pictures in a terminal, which takes some milliseconds to draw one
EVERY_S_MAX = 1e9  # in nanoseconds it fits 64 bits


def _number(ctx: click.Context, param: click.Parameter, value: float | None) -> float | None:
    """NaN is in every range: no comparison says that it is not."""
    if value is not None and isnan(value):
        raise click.BadParameter("nan is no number of seconds", ctx, param)
    return value


@click.command(short_help="Watch the packets of a port, save or show its frames.")
@click.argument("port", shell_complete=complete_live_node)
@click.option("--count", "-n", type=click.IntRange(min=1), help="End after so many packets.")
@click.option(
    "--every",
    "every_s",
    metavar="S",
    type=click.FloatRange(0, EVERY_S_MAX),
    callback=_number,
    help="At most one packet in S seconds; 0: no limit.",
)
@click.option("--save", "folder", metavar="DIR", type=click.Path(file_okay=False, path_type=Path), help="Write payloads to files in DIR.")
@click.option("--format", "form", type=click.Choice(FORMS), default="png", show_default=True, help="Of the pictures that --save writes.")
@click.option("--view", is_flag=True, help="Show frames in the terminal.")
@click.option("--record", metavar="FILE", type=click.Path(dir_okay=False, path_type=Path), help="Write all of it to FILE, as MCAP.")
@run_option
@json_option('Print an object per packet: {"port", "sequence", "packet_id", "kind", "source_id", "ts", "age_ms", "meta", "payload", ...}.')
@quiet_debug_option
def tap(
    port: str,
    count: int | None,
    every_s: float | None,
    folder: Path | None,
    form: str,
    view: bool,
    record: Path | None,
    run: str | None,
    as_json: bool,
) -> int:
    """Print the packets that leave at PORT, as they pass, until Ctrl-C. PORT is NODE.port, or NODE where it has only one output port.

    A line has the sequence of the packet on its port, its age since capture, kind, source, what its payload is (of JSON the beginning), and
    its meta. "dropped" stands in place of the sequence of a packet that no edge took.

    The run goes on as if nobody looked. A tap is an edge of its own that takes what is fresh and lets the rest pass: it has one frame under
    way at most, in a slot that no other edge counts on, and the account does not know of it. Unless --every says otherwise it takes up to
    30 frames and 250 other packets per second; the others are counted as passed unseen. A tap that is stopped while it copies is let go
    after a second, and attached again when it goes on. If the node is restarted the tap waits for it, and goes on with what its next
    process gives. Any number of ports can be tapped, each up to four times.

    \b
    --save    frames that are pictures become PNG, or JPEG with --format jpeg; what PNG cannot hold becomes .npy, bytes .bin, JSON .json.
              Names are PORT-SOURCE-SEQUENCE; a file that is there is never written over. A PNG has the very pixels of the frame.
    --view    half blocks in 24-bit colours, or pictures where the terminal knows kitty's protocol
    --record  for Foxglove and Rerun; needs `pip install streamcore[mcap]`. FILE appears when the tap ends, and must not be there before.

    \b
    Exit status:
      0  Ctrl-C, or all that --count asked for; without --count also the end of the stream or of the run
      1  the stream or the run ended before that, the node failed for good, it has four taps already, or a file cannot be written
      2  there is no such port; the message says which there are. Or --view without a terminal, or --record without the package mcap
      3  there is no such run
    """
    from streamcore.control.client import connect
    from streamcore.control.ports import find
    from streamcore.control.tapping import Tap

    if view and (as_json or not sys.stdout.isatty()):
        raise click.BadParameter("needs a terminal, and no --json", param_hint="--view")
    _check_record(record)
    os.nice(NICE)
    with connect(run) as client, _stop_signals() as stop_fd:
        info = client.request("info")
        found = find(info["plan"], port)
        saver = Saver(folder, found.full_name, form) if folder is not None else None
        frames = saver is not None or view or record is not None
        every_ns = VIEW_NS if every_s is None and view else None if every_s is None else round(every_s * 1e9)
        shown = Shown(found.full_name, saver, view=view, as_json=as_json)
        with Tap(client, found, info["run_id"], frames=frames, every_ns=every_ns, stop_fd=stop_fd, on_wait=_on_wait) as tapping:
            return shown.watch(tapping, count, record)


def _check_record(path: Path | None) -> None:
    """Before anything is attached."""
    if path is None:
        return
    from streamcore.durable.recording_export import require_mcap

    require_mcap()
    if path.exists():
        raise click.BadParameter(f"{path} is there already; it is not written over", param_hint="--record")
    if not path.absolute().parent.is_dir():
        raise click.BadParameter(f"there is no folder {path.absolute().parent}", param_hint="--record")


def _on_wait(what: str) -> None:
    click.echo(f"{what}; waiting for it", err=True)


class Shown:
    """What becomes of the packets of one tap: a line, a file, a picture, a record."""

    def __init__(self, port: str, saver: Saver | None, *, view: bool, as_json: bool):
        self._port, self._saver, self._view, self._as_json = port, saver, view, as_json
        self._count = self._passed = 0
        self._ending: Any = None  # why no more will come

    def watch(self, tapping: Tap, count: int | None, record: Path | None) -> int:
        """Until the end of it; the exit status."""
        records = self._each(tapping, count)
        if record is None:
            for _ in records:
                pass
        else:
            from streamcore.durable.recording_export import save

            try:
                save(records, record, "mcap")
            except OSError as error:
                raise click.FileError(str(record), error.strerror or str(error)) from None
        self._say_end(record)
        short = count is not None and self._count < count
        return NODE_FAILED if self._ending is not None and (self._ending.failed or short) else 0

    def _each(self, tapping: Tap, count: int | None) -> Iterator[Record]:
        """Shows every packet, and gives it as a record. Ends, and does not raise, with the stream: what is recorded must be finished."""
        from streamcore.control.tapping import PortEnded

        while count is None or self._count < count:
            try:
                tapped = tapping.take()
            except PortEnded as ended:
                self._ending = ended
                return
            if tapped is None:
                return
            self._count += 1
            self._passed = tapped.passed
            self._show(tapped)
            yield _record(tapped, self._port)

    def _show(self, tapped: Tapped) -> None:
        saved = self._saver.save(tapped) if self._saver is not None and tapped.seen else None
        if self._as_json:
            click.echo(as_json(tapped, self._port, saved))
            return
        size = shutil.get_terminal_size() if sys.stdout.isatty() else None
        text = line(tapped, size.columns if size is not None and saved is None else 0, saved)
        if self._view and size is not None and is_array(tapped.payload) and is_picture(tapped.payload):
            draw = kitty if offers_kitty() else half_blocks
            clear = "\x1b[H\x1b[2J" if self._count == 1 else "\x1b[H"
            click.echo(f"{clear}{draw(tapped.payload, size.columns, size.lines - 2)}\n\x1b[2K{text}", color=True)
        else:
            click.echo(text)

    def _say_end(self, record: Path | None) -> None:
        if self._ending is not None:
            click.echo(f"streamctl: {self._ending}", err=True)
        files = f", {plural(self._saver.count, 'file')} saved" if self._saver is not None else ""
        told = f", {record} written" if record is not None else ""
        click.echo(f"{self._port}: {plural(self._count, 'packet')} shown, {self._passed:,} passed unseen{files}{told}", err=True)


def _record(tapped: Tapped, port: str) -> Record:
    """As the recordings of durable.record are, so that the same tools read both."""
    from streamcore.clock import Clock
    from streamcore.durable.record import Head, Record, pack_json

    meta, payload = tapped.meta, tapped.payload
    codec, dtype, shape = "json", "", tuple[int, ...]()
    if is_array(payload):
        codec, dtype, shape, raw = "raw", payload.dtype.name, payload.shape, payload.tobytes()
    elif isinstance(payload, bytes):
        codec, raw = "bytes", payload
    else:
        raw = pack_json(payload)
    head = Head(meta.kind, meta.source_id, codec, port, meta.meta, meta.position, dtype, shape)
    return Record(max(0, tapped.sequence), Clock.wall_ns(), meta.wall_ns, meta.id16, head, raw)


@contextmanager
def _stop_signals() -> Iterator[int]:
    """A descriptor that is readable once SIGINT, SIGTERM or SIGHUP has come: the orderly end. A second one ends it at once."""
    fd = os.eventfd(0, os.EFD_CLOEXEC | os.EFD_NONBLOCK)
    before = {number: signal.getsignal(number) for number in CAUGHT}

    def stop(number: int, frame: FrameType | None) -> None:
        for caught, handler in before.items():
            signal.signal(caught, handler)
        os.eventfd_write(fd, 1)

    for number, handler in before.items():
        if handler != signal.SIG_IGN:  # `nohup`
            signal.signal(number, stop)
    try:
        yield fd
    finally:
        for number, handler in before.items():
            with suppress(TypeError):  # a handler that Python does not know
                signal.signal(number, handler)
        os.close(fd)
