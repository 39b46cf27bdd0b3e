"""streamctl report: how a run went, from the file that `up --report` wrote."""

from __future__ import annotations

import os
from collections.abc import Iterator
from typing import TYPE_CHECKING

import click

from streamcore.cli.failures import CannotStart
from streamcore.cli.options import json_option, quiet_debug_option
from streamcore.cli.wording import plural, size, span, table
from streamcore.cli.writing import write_text

if TYPE_CHECKING:
    from streamcore.telemetry.report_shape import Report

BESIDE_FILE = ""  # --html without OUT
STDOUT = "-"
KEYS_SHOWN = 6
REPORT_BYTES_MAX = 1 << 28  # a hundred times that of 1,000 nodes: a device without an end is none

NODE_HEADS = ("NODE", "STATE", "CONSUMED", "PRODUCED", "FAILED", "RESTARTS", "BUSY", "WORK P50", "P95", "AGE P50", "P95", "MEMORY")
EDGE_HEADS = ("EDGE", "POLICY", "SENT", "= COMPLETED", "+ DROPPED", "+ FAILED", "+ IN FLIGHT", "WAIT P50", "P95")


@click.command(short_help="Show how a run went, as text or as an HTML page.")
@click.argument("file", type=click.Path(dir_okay=False))
@click.option(
    "--html",
    "html",
    metavar="[OUT]",
    is_flag=False,
    flag_value=BESIDE_FILE,
    default=None,
    type=click.Path(dir_okay=False, allow_dash=True),
    help="Write an HTML page with plots to OUT; without OUT to FILE with .html at its end; - is stdout. Put FILE before it.",
)
@json_option('Print the report in its present shape, {"version", "status", "nodes", ...}, whatever version wrote it.')
@quiet_debug_option
def report(file: str, html: str | None, as_json: bool) -> int:
    """Show how a run went, from FILE, the report that `streamctl up --report FILE` wrote.

    Without an option: status and duration, a table of nodes and one of edges, what was dropped, failed and lost, restarts and incidents,
    which node held the graph back, and whether the account balances. BUSY is the share of the run that a node was in its code, WORK one
    call of that code, AGE the time from the capture of a packet to the end of this node's work on it, WAIT that between sending and taking.

    With --html a page for a browser: the same, the graph as a picture, and throughput, latency, drops, waiting packets and memory over time
    for each node and edge. It is one file without scripts that loads nothing from anywhere: it can be mailed and printed.

    The file is a contract: docs/report.md explains it, docs/report.schema.json describes every key. Files of older versions can be read.

    \b
    Exit status:
      0  fine, whatever became of the run
      2  FILE cannot be read or is no run report, or OUT cannot be written

    \b
    Examples:
      streamctl up specs/demo.yaml --for 15s --report r.json
      streamctl report r.json
      streamctl report r.json --html
      streamctl report r.json --html - | ssh desk 'cat > r.html'
    """
    import msgspec

    if as_json and html is not None:
        raise click.UsageError("--json and --html are two forms of the same; give one of them")
    found = _read(file)
    if as_json:
        click.echo(msgspec.json.encode({"version": 1, **msgspec.to_builtins(found)}).decode())
    elif html is None:
        from streamcore.drawing.look import printable

        click.echo("\n".join(map(printable, _lines(found))))
    else:
        from streamcore.cli.report_page import page

        _write(page(found), html if html != BESIDE_FILE else f"{os.path.splitext(file)[0]}.html", file)
    return 0


def _read(path: str) -> Report:
    """Raises CannotStart: says what was found and what was expected."""
    import msgspec

    from streamcore.telemetry.report_shape import Report

    try:
        with open(path, "rb") as file:
            data = file.read(REPORT_BYTES_MAX + 1)
    except OSError as error:
        raise CannotStart(f"{path}: cannot be read: {error.strerror}") from None
    expected = "expected the report of a run, as `streamctl up SPEC --report FILE` writes it"
    if len(data) > REPORT_BYTES_MAX:
        raise CannotStart(f"{path}: found more than {size(REPORT_BYTES_MAX)}; {expected}")
    try:
        value = msgspec.json.decode(data)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise CannotStart(f"{path}: found {plural(len(data), 'byte')} that are no JSON ({error}); {expected}") from None
    try:
        return msgspec.convert(value, Report)
    except msgspec.ValidationError as error:
        raise CannotStart(f"{path}: found {_what(value)}; {expected}: {error}") from None


def _what(value: object) -> str:
    """JSON of another shape, in a few words."""
    if not isinstance(value, dict):
        return f"JSON that is no object but {type(value).__name__}"
    keys = ", ".join(repr(key[:40]) for key in list(value)[:KEYS_SHOWN])
    more = ", ..." if len(value) > KEYS_SHOWN else ""
    return f"an object with the keys {keys}{more}" if value else "an object without keys"


def _write(text: str, out: str, file: str) -> None:
    if out == STDOUT:
        click.echo(text, nl=False)
        return
    write_text(out, text, file)
    click.echo(f"{out}: written")


def _lines(report: Report) -> Iterator[str]:
    metrics = report.metrics
    yield f"run {report.run}  status {report.status}  {span(report.duration_s)}, ended: {report.ended}"
    yield f"{report.ts[:19].replace('T', ' ')} UTC  graph {report.graph} {report.graph_version}  {report.engine}"
    yield ""
    yield from table(NODE_HEADS, (_node(report, name) for name in report.nodes), right=range(2, len(NODE_HEADS)))
    if report.edges:
        yield ""
        yield from table(EDGE_HEADS, (_edge(report, name) for name in report.edges), right=range(2, len(EDGE_HEADS)))
    yield ""
    counts = ", ".join(f"{metrics.get(f'packets.{name}_total', 0):,.0f} {name}" for name in ("dropped", "failed"))
    yield f"{plural(int(metrics.get('packets.source_emitted_total', 0)), 'packet')} from sources, {counts}."
    yield from (f"Failed for good: {failure}" for failure in report.failures)
    yield from _happened(report)
    for edge, packets in report.account.lost.items():
        yield f"Lost, still under way when the run ended: {edge} {packets:,}"
    yield report.bottleneck
    wrong = ", ".join(report.account.unbalanced)
    yield f"The account does not balance on {wrong}." if wrong else f"The account balances on {plural(len(report.edges), 'edge')}."


def _node(report: Report, name: str) -> tuple[str, ...]:
    from streamcore.drawing.scale import NS, amount
    from streamcore.telemetry.report_shape import Timeline

    node = report.nodes[name]
    counts = (f"{count:,}" for count in (node.consumed, node.produced, node.failed, node.restarts))
    times = (node.work.p50_ns, node.work.p95_ns, node.end_to_end.p50_ns, node.end_to_end.p95_ns)
    course = report.timeline.nodes.get(name) if isinstance(report.timeline, Timeline) else None
    rss_bytes = max((found for found in course.rss_bytes if found is not None), default=None) if course else None
    memory = "\N{EN DASH}" if rss_bytes is None else size(rss_bytes)
    return (name, node.state, *counts, f"{report.busy(name):.0%}", *(amount(NS, ns) for ns in times), memory)


def _edge(report: Report, name: str) -> tuple[str, ...]:
    from streamcore.drawing.scale import NS, amount

    edge = report.edges[name]
    counts = (f"{count:,}" for count in (edge.sent, edge.completed, edge.dropped, edge.failed, edge.in_flight))
    return (name, f"{edge.policy} {edge.depth}", *counts, amount(NS, edge.wait.p50_ns), amount(NS, edge.wait.p95_ns))


def _happened(report: Report) -> Iterator[str]:
    """Restarts with their times where there is a timeline, and the files about them."""
    from streamcore.telemetry.report_shape import Timeline

    if isinstance(report.timeline, Timeline):
        yield from (f"At {mark.at_s:,.1f} s {mark.node}: {mark.what}: {mark.text}" for mark in report.timeline.marks)
    else:
        yield "No timeline: the report was written by an older version, or none was kept."
        for name, node in report.nodes.items():
            yield from (f"{name}: incident {path}" for path in node.incidents)
            if node.restarts:
                yield f"{name}: {plural(node.restarts, 'restart')}, the last because: {node.cause}"
