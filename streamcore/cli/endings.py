"""What `up` says when something ended: the block of a node that failed, and the summary of a run."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from streamcore.cli.follow import TRACEBACK, LogLine
from streamcore.cli.wording import plural, span

if TYPE_CHECKING:
    from streamcore.coordinator.observer import Failure

WHOSE = {
    "spec": "the spec, or what it names, has to be mended",
    "plugin": "the plugin has to be mended",
    "box": "this machine refused something",
    "streamcore": "an error in streamcore itself",
}


def failure_block(failure: Failure, log_end: Sequence[LogLine], *, debug: bool) -> list[str]:
    """A failed node in a few lines: what, why, whose fault, where the log is and how it ends. A traceback only with `debug`."""
    from_outside = failure.where in ("", "exit")
    lines = [f"node '{failure.node}' failed" + ("" if from_outside else f" in {failure.where}")]
    lines += [f"    plugin  {failure.plugin}", f"    cause   {failure.cause}"]
    if failure.exit and from_outside and failure.exit not in failure.cause:
        lines.append(f"    exit    {failure.exit}")
    if failure.fault in WHOSE:
        lines.append(f"    fault   {failure.fault}: {WHOSE[failure.fault]}")
    if failure.incident:
        lines.append(f"    details {failure.incident}")
    if failure.log_path:
        news = [str(line) for line in log_end if not (line.level == "ERROR" and failure.cause in line.text)]
        lines.append(f"    log     {failure.log_path}" + (", which ends:" if news else ""))
        lines += [f"        | {line}" for line in news]
    if debug and failure.traceback and not any(TRACEBACK in line.text for line in log_end):
        lines += ["    traceback", *(f"        | {line}" for line in failure.traceback.rstrip().splitlines())]
    return lines


def summary(report: dict[str, Any], report_path: str | None) -> list[str]:
    """How a run went, from its report: time, packets, what was lost, what held it back."""
    metrics = report["metrics"]
    # A packet that failed in a node failed on its edge too; but those that waited for a dead node failed on the edge alone.
    # What was to be delivered and was not its producer, a durable queue, has kept.
    on_edges = sum(edge["failed"] for edge in report["edges"].values() if edge["completion"] != "delivered")
    failed = max(int(metrics["packets.failed_total"]), on_edges)
    counts = [
        f"{plural(int(metrics['packets.source_emitted_total']), 'packet')} from sources",
        f"{int(metrics['packets.dropped_total']):,} dropped",
        f"{failed:,} failed",
    ]
    emitted = metrics["packets.source_emitted_total"] or report["edges"]
    said = f": {', '.join(counts)}" if emitted else ""  # of a job there is nothing to count
    lines = [f"run {report['run']} ended after {span(report['duration_s'])} ({report['ended']}), status {report['status']}{said}"]
    lost = report["account"]["lost"]
    if lost:
        lines.append("lost, still under way when the run ended: " + ", ".join(f"{edge} {packets:,}" for edge, packets in lost.items()))
    if report["account"]["unbalanced"]:
        lines.append(f"the account does not balance, an error in streamcore: {', '.join(report['account']['unbalanced'])}")
    if emitted:
        lines += [report["bottleneck"], *filter(None, [report["bottleneck_detail"]["advice"]])]
    if report_path:
        lines.append(f"report: {report_path}")
    return lines
