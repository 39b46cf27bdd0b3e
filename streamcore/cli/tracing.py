"""streamctl trace: where the time of single packets went, hop by hop."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import click

from streamcore.cli.completing import complete_live_node, complete_live_run
from streamcore.cli.entry import ctrl_c_raises
from streamcore.cli.failures import NODE_FAILED
from streamcore.cli.options import duration, json_option, quiet_debug_option
from streamcore.cli.wording import milliseconds, plural, table

if TYPE_CHECKING:
    from streamcore.control.client import Client
    from streamcore.telemetry.traces import Trace

HEADS = ("", "NODE", "WAIT ms", "WORK ms", "QUEUED", "BLOCKED", "HELD", "")
LOOK_S = 2.0  # a node keeps at least so much: limits.SPANS_MAX spans of limits.TRACE_EVERY_NS each, of ten sources
BAR = 24


@click.command(short_help="Show where the time of single packets went, hop by hop.")
@click.argument("run", required=False, shell_complete=complete_live_run)
@click.option(
    "--slowest", "slowest_count", type=click.IntRange(1, 1000), metavar="N", help="The N packets that took longest.  [default: 5]"
)
@click.option(
    "--last", "last_count", type=click.IntRange(1, 1000), metavar="N", help="The N packets that came last, instead of the slowest."
)
@click.option("--for", "for_s", callback=duration, metavar="DURATION", help="Watch for so long, e.g. 30s, and not only the last moment.")
@click.option("--node", metavar="NODE", shell_complete=complete_live_node, help="Only packets that began at NODE or went through it.")
@json_option(
    'Print {"run", "seen", "traces": [{"source", "sequence", "ts", "end_to_end_ns", "hops": [{"node", "wait_ns", "work_ns", ...}]}]}.'
)
@quiet_debug_option
def trace(run: str | None, slowest_count: int | None, last_count: int | None, for_s: float | None, node: str | None, as_json: bool) -> int:
    """Show the way of single packets through RUN, or through the only live run, and where their time went.

    Of each node on the way, WAIT is the time until it took the packet (QUEUED), the time it waited for room in a full edge (BLOCKED), and
    the time it kept the packet after its work (HELD). WORK is the time inside node code; at a source, from capture to sending. WAIT and
    WORK of all hops together are the time from capture to the end of the last node's work. A packet that goes to several nodes is shown on
    its longest way; one that is still on its way, or was dropped by an edge, is not shown.

    Nothing is switched on for that: up to 50 packets a second of every source are traced all the time, of a camera all. Nodes keep the last
    thousand. With --for their packets are gathered meanwhile; Ctrl-C ends it early and shows what there is.

    \b
    Exit status:
      0  fine
      1  no packet was traced yet
      2  both --slowest and --last are given, or the run has no such node
      3  there is no such run

    \b
    Examples:
      streamctl trace --slowest 3
      streamctl trace --for 1min --node detect --json
    """
    from streamcore.control.client import connect
    from streamcore.telemetry.traces import slowest

    if slowest_count is not None and last_count is not None:
        raise click.UsageError("--slowest and --last say two different things; give one of them")
    with connect(run) as client:
        found, reply = _gather(client, for_s, node)
        name = client.info.run
    chosen = found[-last_count:] if last_count else slowest(found, slowest_count or 5)
    offset_ns = reply["wall_ns"] - reply["monotonic_ns"]
    if as_json:
        click.echo(json.dumps({"version": 1, "run": name, "seen": len(found), "traces": [_as_json(each, offset_ns) for each in chosen]}))
        return 0 if found else NODE_FAILED
    if not found:
        through = f" through '{node}'" if node else ""
        click.echo(f"streamctl: run '{name}': no packet was traced{through} yet; with --for 10s they are waited for", err=True)
        return NODE_FAILED
    which = "the last" if last_count else "the slowest"
    click.echo(f"run {name}: {which} {len(chosen)} of {plural(len(found), 'traced packet')}")
    for each in chosen:
        click.echo("\n" + "\n".join(_page(each, offset_ns)))
    return 0


def _gather(client: Client, for_s: float | None, node: str | None) -> tuple[list[Trace], dict[str, Any]]:
    """All complete traces, in the order of their beginning, and the last reply."""
    from streamcore.clock import Clock

    clock, known = Clock(), dict[tuple[str, int], Any]()
    end_ns = clock.monotonic_ns() + round((for_s or 0) * 1e9)
    reply: dict[str, Any] = {}
    try:
        with ctrl_c_raises():
            while True:
                reply = client.request("trace")
                if node is not None and node not in reply["roles"]:
                    raise click.BadParameter(
                        f"run '{client.info.run}' has no node '{node}'; it has {', '.join(reply['roles'])}", param_hint="--node"
                    )
                known.update({(each.source, each.began_ns): each for each in _traces(reply)})
                left_s = (end_ns - clock.monotonic_ns()) / 1e9
                if left_s <= 0 or not client.live():
                    break
                clock.sleep(min(LOOK_S, left_s))
    except KeyboardInterrupt:
        if not reply:
            raise
    found = sorted((each for each in known.values() if each.finished), key=lambda each: each.began_ns)
    return [each for each in found if node is None or any(hop.node == node for hop in each.hops)], reply


def _traces(reply: dict[str, Any]) -> list[Trace]:
    import msgspec

    from streamcore.shm.status import Span
    from streamcore.telemetry.traces import join

    spans = msgspec.convert(reply["spans"], dict[str, list[Span]])
    return join(spans, {int(number): (name, feeder) for number, (name, feeder) in reply["edges"].items()})


def _as_json(found: Trace, offset_ns: int) -> dict[str, Any]:
    import msgspec

    from streamcore.clock import iso_utc

    shown: dict[str, Any] = msgspec.to_builtins(found)
    return {"ts": iso_utc(found.began_ns + offset_ns), **shown}


def _page(found: Trace, offset_ns: int) -> list[str]:
    from streamcore.clock import iso_utc

    ending = f"fails in {found.last}" if found.failed else f"ends at {found.last}"
    head = f"{found.source} #{found.sequence}, {iso_utc(found.began_ns + offset_ns)}: {milliseconds(found.end_to_end_ns)} ms, {ending}"
    rows = []
    for number, hop in enumerate(found.hops):
        parts = (hop.wait_ns, hop.work_ns, hop.queued_ns, hop.blocked_ns, hop.held_ns)
        waits, works = (round(BAR * part / max(1, found.end_to_end_ns)) for part in parts[:2])
        rows.append((number or "", hop.node, *map(milliseconds, parts), "." * waits + "#" * works))
    sums = [
        sum(values)
        for values in zip(*((hop.wait_ns, hop.work_ns, hop.queued_ns, hop.blocked_ns, hop.held_ns) for hop in found.hops), strict=True)
    ]
    rows.append(("", "all", *map(milliseconds, sums), ""))
    return [head, *table(HEADS, rows, right=range(2, 7))]
