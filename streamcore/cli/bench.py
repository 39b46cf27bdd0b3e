"""streamctl bench: measure streamcore on this machine, alone and beside other programs."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Callable
from typing import Any

import click

from streamcore.cli.failures import FINE, NODE_FAILED
from streamcore.cli.options import duration, json_option, quiet_debug_option
from streamcore.cli.writing import write_text

ALL, NONE = "all", "none"


@click.group(short_help="Measure streamcore on this machine, alone and beside other programs.")
def bench() -> None:
    """Measure streamcore on this machine, alone and beside other programs that move packets between processes.

    \b
    Examples:
      streamctl bench list
      streamctl bench run hop --sizes 1080p,64B --peers none
      streamctl bench run hop cpu --peers iceoryx2,ezmsg --json today.json
      streamctl bench compare before.json today.json
      streamctl bench report today.json --html today.html
    """


@bench.command("list", short_help="List the cases and the peers.")
@json_option('Print {"cases": [{"name", "what", "defaults", "points"}], "peers": {NAME: whether its environment exists}}.')
@quiet_debug_option
def list_(as_json: bool) -> int:
    """List what can be measured, at which points if nothing else is asked for, and beside which peers.

    A peer's environment is made when it is first used, in the user's cache directory.

    \b
    Exit status:
      0  fine
    """
    from streamcore_bench.cases import CASES
    from streamcore_bench.points import Options
    from streamcore_bench.tables import table
    from streamcore_bench.whole import known_peers

    peers = known_peers()
    found = [(case, [point.name for point in case.points(Options())]) for case in CASES.values()]
    if as_json:
        rows = [{"name": case.name, "what": case.what, "defaults": case.defaults, "points": points} for case, points in found]
        click.echo(json.dumps({"version": 1, "cases": rows, "peers": peers}, indent=2))
        return FINE
    lines = [(case.name, str(len(points)), case.what, case.defaults) for case, points in found]
    click.echo("\n".join(table(("CASE", "POINTS", "WHAT", "DEFAULTS"), lines, right=(1,))))
    click.echo("\n" + "\n".join(table(("PEER", "ENVIRONMENT"), _peer_rows(peers))))
    return FINE


def _peer_rows(peers: dict[str, bool]) -> list[tuple[str, str]]:
    return [(name, "present" if exists else "made when it is first used") for name, exists in peers.items()]


def _listed(parse: str, *bounds: int) -> Callable[[click.Context, click.Parameter, str | None], Any]:
    """Callback of an option that takes a list: `parse` is a function of the module `sizes`."""

    def callback(ctx: click.Context, param: click.Parameter, text: str | None) -> Any:
        from streamcore_bench import sizes

        try:
            return None if text is None else getattr(sizes, parse)(text, *bounds)
        except ValueError as error:
            raise click.BadParameter(str(error), ctx, param) from None

    return callback


@bench.command("run", short_help="Measure.")
@click.argument("cases", metavar="[CASE]...", nargs=-1)
@click.option("--peers", default=NONE, show_default=True, metavar="NAMES", help="Beside these programs: NAME,NAME or all or none.")
@click.option("--repeat", type=click.IntRange(1, 1000), default=5, show_default=True, help="Measured rounds, after one that is not.")
@click.option("--json", "json_path", type=click.Path(dir_okay=False), metavar="FILE", help="Write all values.")
@click.option(
    "--sizes", "--size", callback=_listed("parse_sizes"), metavar="SIZES", help="Of a packet: 64B,4KiB,VGA,1080p,4K,100KiB,1280x720."
)
@click.option("--rate", "rates", callback=_listed("parse_rates"), metavar="RATES", help="Packets per second, or flat: flat,500.")
@click.option("--fanout", callback=_listed("parse_counts", 1, 32), metavar="N,N", help="Sinks.")
@click.option("--hops", callback=_listed("parse_counts", 0, 32), metavar="N,N", help="Nodes between source and sink.")
@click.option("--spec", type=click.Path(exists=True, dir_okay=False), metavar="FILE", help="A spec of yours instead of a case.")
@click.option("--for", "for_s", callback=duration, default="10s", show_default=True, metavar="DURATION", help="With --spec: run so long.")
@click.option("--quick", is_flag=True, help="Measure for a quarter of the time: for a first look.")
@quiet_debug_option
def run(
    cases: tuple[str, ...],
    peers: str,
    repeat: int,
    json_path: str | None,
    sizes: Any,
    rates: Any,
    fanout: Any,
    hops: Any,
    spec: str | None,
    for_s: float,
    quick: bool,
) -> int:
    """Measure CASEs (all of them if none is given) and print medians, spread and ratios.

    First what is missing is made: an environment for each peer, and streamcore's compiled inner loop where its sources and a C compiler
    are there, unless STREAMCORE_NATIVE says what to use. That takes a minute or two, once.

    Every program in turn does one run, then all again: what else the machine does falls on all of them. Each sends the same fresh bytes
    from one process to another and checks them there. Where frames are copied flat out, a loop that only copies is measured in between: the
    limit. A verdict is refused where the medians differ by less than the values of one program do. On a terminal a line shows what is at
    work. Ctrl-C ends it in order: what was measured is printed, and written if --json is given; nothing is left.

    \b
    Exit status:
      0  fine; a peer that cannot do a case, or fails, changes nothing
      1  our own side failed at a point
      2  the command line is wrong
      130, 143, 129  ended by Ctrl-C (SIGINT), SIGTERM or SIGHUP

    \b
    Examples:
      streamctl bench run hop --sizes 1080p,64B --peers iceoryx2,ezmsg,dora --json x.json
      streamctl bench run hop --size 100KiB --rate flat,200 --peers all
      streamctl bench run chain fanout --hops 1,5 --fanout 2 --quick
      streamctl bench run --spec pipeline.yaml --for 20s --repeat 3
    """
    from streamcore import native
    from streamcore.clock import Clock, iso_utc
    from streamcore_bench import own_spec, whole
    from streamcore_bench.points import Options
    from streamcore_bench.tables import report

    if json_path is not None and not os.access(os.path.dirname(json_path) or ".", os.W_OK):
        raise click.BadParameter(f"cannot write into {os.path.dirname(json_path) or '.'}", param_hint="--json")
    names, wanted = _chosen_cases(cases, spec), _chosen_peers(peers)
    more = own_spec.points(spec, for_s) if spec else []
    date = iso_utc(Clock().wall_ns())
    outcome = whole.run(names, wanted, repeat, Options(sizes, rates, fanout, hops, quick), date, _say, _show, more)
    click.echo(report(outcome.results, wanted))
    if not native.finder.decide():
        click.echo("Measured in pure Python: small packets are about half as fast as with the inner loop compiled.")
    if json_path is not None:
        outcome.results.write(json_path)
    if outcome.stopped:
        return 128 + int(outcome.stopped)
    return NODE_FAILED if outcome.failed else FINE


def _chosen_cases(words: tuple[str, ...], spec: str | None) -> list[str]:
    from streamcore_bench.cases import CASES

    wrong = [name for name in words if name not in CASES]
    if wrong:
        raise click.BadParameter(f"found {', '.join(wrong)}, expected some of: {', '.join(CASES)}", param_hint="CASE")
    return list(words or (() if spec else CASES))


def _chosen_peers(words: str) -> list[str]:
    from streamcore_bench.environments import names

    known = list(names())
    if words in (ALL, NONE):
        return known if words == ALL else []
    chosen = list(dict.fromkeys(word.strip() for word in words.split(",") if word.strip()))
    wrong = [name for name in chosen if name not in known]
    if wrong:
        raise click.BadParameter(f"found {', '.join(wrong)}, expected all, none, or some of: {', '.join(known)}", param_hint="--peers")
    return chosen


def _say(text: str) -> None:
    _show("")
    click.echo(f"streamctl: {text}", err=True)


def _show(text: str) -> None:
    """The line that shows what is at work; a pipe has none."""
    if sys.stderr.isatty():
        click.echo(f"\r\x1b[K{text[:150]}", nl=False, err=True)


@bench.command("compare", short_help="Compare two files of results.")
@click.argument("before", metavar="A", type=click.Path(exists=True, dir_okay=False))
@click.argument("after", metavar="B", type=click.Path(exists=True, dir_okay=False))
@quiet_debug_option
def compare(before: str, after: str) -> int:
    """Compare the results of two calls of `streamctl bench run --json`, row by row: both medians, their ratio, and what B is against A.

    There is no verdict where the medians differ by less than the larger of the two spreads: the interquartile range of four or more
    values, else largest minus smallest.

    \b
    Exit status:
      0  fine, whatever the verdicts
      2  a file is missing, or holds no results
    """
    from streamcore_bench.tables import comparison

    click.echo(comparison(_read(before), _read(after)))
    return FINE


@bench.command("report", short_help="Draw a file of results.")
@click.argument("results", metavar="FILE", type=click.Path(exists=True, dir_okay=False))
@click.option("--html", type=click.Path(dir_okay=False), metavar="OUT", help="Write one page that needs nothing else.")
@click.option("--svg", type=click.Path(file_okay=False), metavar="DIR", help="Write the charts, a file per case and measure.")
@quiet_debug_option
def report(results: str, html: str | None, svg: str | None) -> int:
    """Draw the results of `streamctl bench run --json` as bar charts.

    The page explains what was measured, in light and dark; it needs no network and no script.

    \b
    Exit status:
      0  fine
      2  FILE is missing or holds no results, or neither --html nor --svg is given

    \b
    Examples:
      streamctl bench report today.json --html today.html
      streamctl bench report today.json --svg docs/img
    """
    from streamcore_bench import charts, page

    if html is None and svg is None:
        raise click.UsageError("give --html OUT or --svg DIR, or both")
    found = _read(results)
    if html is not None:
        write_text(html, page.page(found), results)
        click.echo(html)
    for path in charts.write_all(found, svg) if svg is not None else ():
        click.echo(path)
    return FINE


def _read(path: str) -> Any:
    from streamcore_bench import results

    try:
        return results.read(path)
    except ValueError as error:
        raise click.BadParameter(str(error)) from None
