"""Results as one HTML page: charts, tables, and what a reader has to know. Nothing from outside, no script."""

from __future__ import annotations

from html import escape

from streamcore.drawing.look import document
from streamcore_bench.cases import CASES
from streamcore_bench.charts import STYLE, chart, charts
from streamcore_bench.results import MEASURES, OURS, Results, Row
from streamcore_bench.tables import LIMITS, against, number, sections

INTRODUCTION = """
streamcore moves packets, such as camera frames, between processes of one machine. This page shows how fast, how soon and at what cost,
and the same for other programs that do this. Each program does the same work: a sender copies fresh bytes into the memory of a message
and stamps number and time, a receiver in another process reads both and checks them. Latency is from before that copy to after that read.
"""
READING = """
A bar is the median of several runs, the thin line its smallest and largest value. The programs took turns, so that whatever else the
machine did fell on all of them. A dashed bar is a limit: <b>memcpy</b> is a loop that only copies frames, measured between the runs;
<b>ideal</b> is a transport that takes no time. A ratio is the median of those of the rounds; above 1 means that streamcore's number is the
larger one. Where it differs from 1 by less than the rounds differ among each other, there is no verdict.
"""


def page(results: Results) -> str:
    drawn = charts(results)
    parts = ["<h1>streamcore, measured</h1>", f"<p>{INTRODUCTION}</p><p>{READING}</p>", _machine(results)]
    for case, rows in sections(results).items():
        known = CASES.get(case)
        parts.append(f"<h2>{escape(case)}</h2><p>{escape(known.what if known else 'a spec of the user')}.</p>")
        parts += [chart(case, measure, drawn[case, measure]) for measure in dict.fromkeys(row.measure for row in rows)]
        parts.append(f"<details><summary>All numbers</summary>{_table(results, rows)}</details>")
    return document(f"streamcore, measured {results.date[:10]}", STYLE, parts)


def _machine(results: Results) -> str:
    found = results.machine
    versions = ", ".join(f"{name} {version.removeprefix(name).strip()}" for name, version in results.versions.items())
    text = (
        f"{results.date[:16].replace('T', ' ')} UTC; {found.cpu}, {found.cores} cores, {found.memory_bytes / 2**30:.0f} GiB, "
        f"Linux {found.kernel}, Python {found.python}, load before {found.load_before}; {results.repeat} rounds; {versions}"
    )
    return f'<p class="minor">{escape(text)}</p>'


def _table(results: Results, rows: list[Row]) -> str:
    heads = ("point", "measure", "program", "median", "smallest to largest", "streamcore / it", "streamcore is")
    lines = ["<table><tr>" + "".join(f"<th>{head}</th>" for head in heads) + "</tr>"]
    for row in rows:
        verdict = against(results.row(row.case, row.point, OURS, row.measure), row)
        ratio = f"{verdict.ratio:.2f}" if verdict and verdict.ratio is not None else ""
        text = verdict.text if verdict and row.who not in LIMITS else ""
        measure = f"{MEASURES[row.measure].title}, {row.unit}"
        cells = [f"<td>{escape(cell)}</td>" for cell in (row.point, measure, row.who)]
        cells.append(f'<td class="number">{number(row.median)}</td>')
        cells.append(f'<td class="number">{number(min(row.values))} to {number(max(row.values))}</td><td class="number">{ratio}</td>')
        lines.append(f"<tr>{''.join(cells)}<td>{escape(text)}</td></tr>")
    return "\n".join([*lines, "</table>"])
