"""A run report as an HTML page: one file, no script, nothing from outside."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace

from streamcore.cli.wording import plural, span
from streamcore.drawing import flow, plot
from streamcore.drawing.look import HUES, document, safe
from streamcore.drawing.plot import DROPS, FAILURES, MAIN, SECOND, Event, Frame, Plot, Series
from streamcore.drawing.scale import BYTES, COUNT, NS, RATE, SHARE, amount, short
from streamcore.telemetry.report_shape import Edge, EdgeCourse, Node, NodeCourse, Report, Timeline

OPEN_MAX = 12  # of more nodes or edges, only those with news are unfolded
MANY_COLUMNS, FEW_COLUMNS = 48, 20  # with tooltips in each plot; few where there are many plots
STYLE = """
body { max-width: 1360px; } h1 { font-size: 26px; margin: 0 .5em 0 0; display: inline-block; } h2 { font-size: 19px; margin: 1.8em 0 .5em; }
h3 { font-size: 14px; margin: 0; display: inline; } p { margin: .4em 0; } .scroll { overflow: auto; max-height: 88vh; }
.badge { display: inline-block; padding: 1px 10px; border-radius: 10px; color: var(--paper); background: var(--good); font-weight: 600;
  vertical-align: 5px; } .badge.degraded {
  background: var(--warn); } .badge.error { background: var(--bad); }
.tiles { display: flex; flex-wrap: wrap; gap: 10px; margin: 1em 0; }
.tile { background: var(--card); border-radius: 6px; padding: 8px 16px; }
.tile b { display: block; font-size: 20px; font-weight: 600; line-height: 1.3; font-variant-numeric: tabular-nums; }
.tile.bad b { color: var(--bad); } .tile.warn b { color: var(--warn); } .tile span { font-size: 12px; color: var(--minor); }
.said { border-left: 4px solid var(--other); padding: 4px 12px; margin: .8em 0; } .said.slow { border-color: var(--warn); }
.said.failed { border-color: var(--bad); } .dot { display: inline-block; width: 9px; height: 9px; border-radius: 50%; margin-right: 7px;
  background: var(--hue); } .number.bad { color: var(--bad); font-weight: 600; } td.bad { color: var(--bad); }
th, td { vertical-align: top; white-space: nowrap; }
td.text { white-space: normal; overflow-wrap: anywhere; min-width: 24em; }
details.course { margin: .9em 0; } details.course > summary { margin-bottom: 6px; }
.plots { display: grid; grid-template-columns: repeat(auto-fill, minmax(min(245px, 100%), 1fr)); gap: 8px; }
footer { margin-top: 2.5em; border-top: 1px solid var(--line); padding-top: .6em; font-size: 13px; }
@media print { body { max-width: none; margin: 0; padding: 0; font-size: 11px; } .scroll { max-height: none; overflow: visible; }
  h1 { font-size: 20px; } h2 { font-size: 14px; break-after: avoid; } h3 { font-size: 11px; } .tile b { font-size: 14px; }
  .tile { padding: 4px 10px; } table { font-size: 8.5px; } th, td { white-space: normal; padding: 2px 6px 2px 0; }
  td.number { white-space: nowrap; } td.text { min-width: 10em; } .plots { grid-template-columns: repeat(4, 1fr); }
  details.course > summary { break-after: avoid; } .plot, .tile, .badge { print-color-adjust: exact; break-inside: avoid; } }
"""


def page(report: Report) -> str:
    timeline = report.timeline if isinstance(report.timeline, Timeline) else None
    parts = [*_head(report), *_graph(report), *_events(timeline), *_nodes(report), *_edges(report), *_course(report, timeline)]
    return document(f"{report.run}: how the run went", STYLE + plot.STYLE + flow.STYLE, [*parts, *_foot(report)])


def _head(report: Report) -> Iterator[str]:
    yield f'<header><h1>{safe(report.run)}</h1><span class="badge {report.status}">{report.status}</span>'
    facts = f"{report.ts[:19].replace('T', ' ')} UTC; graph {report.graph}, {report.graph_version}; ended: {report.ended}"
    yield f'<p class="minor">{safe(facts)}</p></header>'
    dropped, failed = (report.metrics.get(f"packets.{name}_total", 0) for name in ("dropped", "failed"))
    lost, restarts = sum(report.account.lost.values()), sum(node.restarts for node in report.nodes.values())
    tiles = (
        ("duration", span(report.duration_s), ""),
        ("packets from sources", f"{report.metrics.get('packets.source_emitted_total', 0):,.0f}", ""),
        ("dropped by policy", f"{dropped:,.0f}", "warn" if dropped else ""),
        ("failed", f"{failed:,.0f}", "bad" if failed else ""),
        ("lost at the end", f"{lost:,}", "bad" if lost else ""),
        ("restarts", f"{restarts:,}", "warn" if restarts else ""),
        ("the account", "balances" if report.account.balanced else "does not balance", "" if report.account.balanced else "bad"),
    )
    yield '<div class="tiles">' + "".join(f'<div class="tile {kind}"><b>{text}</b><span>{name}</span></div>' for name, text, kind in tiles)
    yield "</div>"
    yield from (f'<p class="said failed">{safe(failure)}</p>' for failure in report.failures)
    yield f'<p class="said{" slow" if report.slow_node else ""}">{safe(report.bottleneck)}</p>'


def _graph(report: Report) -> Iterator[str]:
    """Rates are those of the whole run."""
    seconds = report.duration_s or 1.0
    slow = report.slow_node
    nodes = []
    for name, node in report.nodes.items():
        rate, busy = max(node.consumed, node.produced) / seconds, report.busy(name)
        said = f"{name} ({node.plugin}), {node.role}, {node.state}: {node.consumed:,} consumed, {node.produced:,} produced, busy {busy:.0%}"
        words = f"{short(rate)}/s, busy {busy:.0%}"
        nodes.append(flow.FlowNode(name, node.plugin, words, said, busy, name == slow, node.state == "FAILED" or node.failed > 0))
    edges = []
    for name, edge in report.edges.items():
        loss = [f"{count:,} {what}" for what, count in (("dropped", edge.dropped), ("failed", edge.failed)) if count]
        said = (
            f"{name}, {edge.policy} {edge.depth}: {edge.sent:,} sent, {edge.completed:,} completed, wait p95 {amount(NS, edge.wait.p95_ns)}"
        )
        edges.append(flow.FlowEdge(edge.from_node, edge.to_node, f"{short(edge.sent / seconds)}/s", said, ", ".join(loss)))
    yield "<h2>The graph</h2>"
    yield f'<div class="scroll">{flow.draw(nodes, edges, f"The graph {report.graph} with what went over its edges")}</div>'


def _events(timeline: Timeline | None) -> Iterator[str]:
    if timeline is None or not timeline.marks:
        return
    more = f', <span class="minor">{timeline.marks_left_out:,} more in between left out</span>' if timeline.marks_left_out else ""
    yield f"<h2>What happened</h2><p>{plural(len(timeline.marks), 'event')}{more}</p>"
    rows = (
        (_cell(f"{mark.at_s:,.2f} s", "number"), _cell(mark.node), _cell(mark.what), _cell(mark.text, "text")) for mark in timeline.marks
    )
    yield from _table((("at", "number"), ("node", ""), ("what", ""), ("cause, or reason and file", "")), rows)


def _table(heads: Iterable[tuple[str, str]], rows: Iterable[Iterable[str]]) -> Iterator[str]:
    """`heads`: text and class. Rows are cells that are HTML already."""
    yield '<div class="scroll"><table><tr>' + "".join(f'<th scope="col" class="{kind}">{safe(text)}</th>' for text, kind in heads) + "</tr>"
    yield from (f"<tr>{''.join(row)}</tr>" for row in rows)
    yield "</table></div>"


def _cell(text: object, kind: str = "") -> str:
    return f'<td class="{kind}">{safe(text)}</td>' if kind else f"<td>{safe(text)}</td>"


def _count(number: int, *, bad: bool = False) -> str:
    return _cell(f"{number:,}", "number bad" if bad and number else "number")


def _numbers(*names: str) -> list[tuple[str, str]]:
    return [(name, "number") for name in names]


def _nodes(report: Report) -> Iterator[str]:
    yield "<h2>Nodes</h2>"
    heads = [("node", ""), ("plugin", ""), ("state", ""), *_numbers("consumed", "produced", "failed", "restarts", "busy")]
    heads += _numbers("work p50", "p95", "age p50", "p95")
    causes = [("last failure or restart", "")] if any(node.cause for node in report.nodes.values()) else []
    yield from _table([*heads, *causes], (_node_row(report, number, name) for number, name in enumerate(report.nodes)))
    yield '<p class="minor">work: one call of the code of the node. age: from the capture of a packet to the end of work on it.</p>'


def _node_row(report: Report, number: int, name: str) -> list[str]:
    node = report.nodes[name]
    row = [f"<td>{_dot(number)}{safe(name)}</td>", _cell(node.plugin), _cell(node.state, "bad" if node.state == "FAILED" else "")]
    row += [_count(node.consumed), _count(node.produced), _count(node.failed, bad=True), _count(node.restarts)]
    row.append(_cell(f"{report.busy(name):.0%}", "number"))
    times = (node.work.p50_ns, node.work.p95_ns, node.end_to_end.p50_ns, node.end_to_end.p95_ns)
    return [*row, *(_cell(amount(NS, ns), "number") for ns in times), *([_cell(node.cause, "text")] if node.cause else [])]


def _dot(number: int) -> str:
    return f'<span class="dot" style="--hue: var(--hue{number % HUES})"></span>'


def _edges(report: Report) -> Iterator[str]:
    if not report.edges:
        return
    yield "<h2>Edges</h2>"
    heads = [("edge", ""), ("policy", ""), *_numbers("depth", "sent", "= completed", "+ dropped", "+ failed", "+ in flight")]
    yield from _table([*heads, *_numbers("redelivered", "MB", "wait p50", "p95")], (_edge_row(*item) for item in report.edges.items()))
    wrong = ", ".join(report.account.unbalanced)
    yield f'<p class="said failed">The account does not balance on {safe(wrong)}: an error in streamcore.</p>' if wrong else ""


def _edge_row(name: str, edge: Edge) -> list[str]:
    counts = [_count(edge.depth), _count(edge.sent), _count(edge.completed), _count(edge.dropped, bad=True), _count(edge.failed, bad=True)]
    counts += [_count(edge.in_flight, bad=True), _count(edge.redelivered), _cell(f"{edge.bytes / 1e6:,.1f}", "number")]
    return [_cell(name), _cell(edge.policy), *counts, *(_cell(amount(NS, ns), "number") for ns in (edge.wait.p50_ns, edge.wait.p95_ns))]


# --- over time


def _course(report: Report, timeline: Timeline | None) -> Iterator[str]:
    yield "<h2>Over time</h2>"
    if timeline is None:
        yield "<p>This report has no timeline: it was written by an older version of streamcore, or of a run for which none was kept.</p>"
        return
    if not timeline.begin_s:
        yield "<p>The run ended before there was anything to measure.</p>"
        return
    each_s = max(end - begin for begin, end in zip(timeline.begin_s, timeline.end_s, strict=True))
    yield f'<p class="minor">{plural(len(timeline.begin_s), "point")} of up to {each_s:,.1f} s each; point at a plot for its numbers. '
    yield "\N{BLACK DOWN-POINTING TRIANGLE} marks a restart, a failure or an incident.</p>"
    many = len(timeline.nodes) > OPEN_MAX
    frame = Frame(timeline.begin_s, timeline.end_s, FEW_COLUMNS if many else MANY_COLUMNS)
    news = {mark.node for mark in timeline.marks} | ({report.slow_node} if report.slow_node else set())
    for number, (name, course) in enumerate(timeline.nodes.items()):
        node, marks = report.nodes.get(name), [Event(mark.at_s, mark.what, mark.text) for mark in timeline.marks if mark.node == name]
        drawn = (plot.draw(one, frame, name, number % HUES, marks) for one in _node_plots(course))
        said = f'{_dot(number)}<h3>{safe(name)}</h3> <span class="minor">{safe(_said(node)) if node else ""}</span>'
        yield from _fold(said, drawn, unfolded=not many or name in news)
    if timeline.edges:
        yield "<h2>Edges over time</h2>"
    order = {name: number for number, name in enumerate(timeline.nodes)}
    many = len(timeline.edges) > OPEN_MAX
    for name, way in timeline.edges.items():
        edge = report.edges.get(name)
        hue = order.get(edge.from_node, 0) % HUES if edge else 0
        said = f'{_dot(hue)}<h3>{safe(name)}</h3> <span class="minor">{safe(f"{edge.policy}, depth {edge.depth}") if edge else ""}</span>'
        drawn = (plot.draw(one, frame, name, hue) for one in _edge_plots(way, edge))
        yield from _fold(said, drawn, unfolded=not many or any(way.dropped_per_s) or any(way.failed_per_s))


def _said(node: Node) -> str:
    return f"{node.plugin}, {node.role}" + (f", {plural(node.restarts, 'restart')}" if node.restarts else "")


def _fold(said: str, plots: Iterable[str], *, unfolded: bool) -> Iterator[str]:
    yield f'<details class="course"{" open" if unfolded else ""}><summary>{said}</summary><div class="plots">'
    yield from plots
    yield "</div></details>"


def _node_plots(course: NodeCourse) -> Iterator[Plot]:
    flows = [Series("consumed", course.consumed_per_s, MAIN), Series("produced", course.produced_per_s, SECOND)]
    moving = [series for series in flows if any(series.values)]
    if moving:
        yield Plot("Throughput", RATE, [replace(moving[0], drawn=MAIN)] if len(moving) == 1 else moving)
    if _measured(course.end_to_end_p95_ns):
        yield _latency("Age of packets", course.end_to_end_p50_ns, course.end_to_end_p95_ns)
    if _measured(course.work_p95_ns):
        yield _latency("Work per call", course.work_p50_ns, course.work_p95_ns)
    yield Plot("Busy", SHARE, [Series("in its code", course.busy)])
    if _measured(course.rss_bytes):
        yield Plot("Memory", BYTES, [Series("resident", course.rss_bytes)])


def _edge_plots(course: EdgeCourse, edge: Edge | None) -> Iterator[Plot]:
    losses = ((Series("dropped", course.dropped_per_s, DROPS)), (Series("failed", course.failed_per_s, FAILURES)))
    yield Plot("Flow", RATE, [Series("sent", course.sent_per_s), *(series for series in losses if any(series.values))])
    limit = (float(edge.depth), f"depth {edge.depth}") if edge else None
    yield Plot("Waiting packets", COUNT, [Series("most seen", course.waiting_max)], limit=limit)
    if _measured(course.wait_p95_ns):
        yield _latency("Wait", course.wait_p50_ns, course.wait_p95_ns)


def _latency(name: str, p50: Sequence[float | None], p95: Sequence[float | None]) -> Plot:
    return Plot(name, NS, [Series("p50", p50, MAIN), Series("p95", p95, SECOND)], band=True)


def _measured(values: Sequence[float | None]) -> bool:
    return any(value is not None for value in values)


def _foot(report: Report) -> Iterator[str]:
    versions = ", ".join(f"{name} {version}" for name, version in report.versions.items())
    yield f'<footer class="minor"><p>{safe(report.engine)}; {safe(versions)}</p></footer>'
