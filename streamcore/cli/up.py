"""streamctl up: start a run and supervise it until it ends."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import click

from streamcore.cli.failures import NODE_FAILED, CannotStart
from streamcore.cli.options import debug_option, duration, exposed, http_address, otel_base, spec_options

if TYPE_CHECKING:
    from streamcore.cli.lines import Lines
    from streamcore.control.web import Address
    from streamcore.coordinator.coordinator import RunResult
    from streamcore.coordinator.options import Options
    from streamcore.coordinator.reload import Reloading
    from streamcore.coordinator.service_manager import ServiceManager
    from streamcore.graph.model import Plan
    from streamcore.supervisor.detach import Announcer
    from streamcore.supervisor.forking import ForkServer


@click.command(short_help="Start a pipeline and supervise it until it ends.")
@spec_options
@click.option(
    "--for", "for_s", callback=duration, metavar="DURATION", help="End the run after this time, e.g. 10s, 2m, 1h30m, as `down` does."
)
@click.option(
    "--report", type=click.Path(dir_okay=False), metavar="FILE", help="Write the run report, a JSON object, when the run has ended."
)
@click.option("--name", metavar="NAME", help="Name of the run. Default: the name of the spec.")
@click.option(
    "--http",
    "http",
    callback=http_address,
    metavar="[HOST:]PORT",
    help="Serve /metrics and /health there; port 0: any that is free. HOST is 127.0.0.1 by default. Comes before the spec's `http`.",
)
@click.option(
    "--http-exposed",
    is_flag=True,
    is_eager=True,
    expose_value=False,
    callback=exposed,
    help="HOST may be beyond loopback: whoever reaches it can read the numbers of the run.",
)
@click.option(
    "--otel",
    callback=otel_base,
    metavar="ENDPOINT",
    help="Export traces of packets to this OpenTelemetry collector (OTLP over HTTP), e.g. http://127.0.0.1:4318. "
    "Default: OTEL_EXPORTER_OTLP_ENDPOINT, if it is set.",
)
@click.option("--detach", is_flag=True, help="Return when the run is up, and leave it in the background.")
@click.option("--reload", is_flag=True, help="Watch SPEC, what it includes and its plugins' files; restart a node when it has changed.")
@debug_option
def up(
    spec: str,
    sets: dict[str, str],
    allow: tuple[str, ...],
    folders: tuple[str, ...],
    for_s: float | None,
    report: str | None,
    name: str | None,
    http: Address | None,
    otel: str | None,
    detach: bool,
    reload: bool,
    debug: bool,
) -> int:
    """Start the pipeline that SPEC describes and supervise it until it ends or Ctrl-C.

    SPEC is a graph of nodes (version: 2), or one program or function that runs as a job (version: 1). If it has a problem, all its problems
    are printed and nothing is started.

    Every node is a process. The run ends when its sources have ended and everything is processed, after --for, by `streamctl down`, or by
    Ctrl-C: then the sources stop and what is under way is processed, for the spec's `drain_s` (10 s) at most. A second Ctrl-C kills. If a
    node fails for good, the others drain and the run ends. In each case no process, socket or shared memory is left.

    On a terminal a table shows every node; in a pipe each event is a line. Warnings of nodes, and what they print, appear as
    `node | text`; everything that they log is shown by `streamctl logs`.

    With --reload a node whose config or plugin file has changed gets a new process between two packets; the others go on. What is broken is
    said and changes nothing; nodes and edges stay those of the run. A node that fails for good waits until it is mended.

    With --http, or `http` in SPEC, programs can look at the run: /metrics for Prometheus, /health with a verdict for each node, /readyz,
    /healthz. Nothing listens otherwise. Started by systemd with Type=notify it says when it is ready, and to the watchdog that it lives.

    With --otel each traced packet becomes a trace, with a span per node, split in wait and work; it needs `pip install 'streamcore[otel]'`.
    A collector that is away or slow holds nothing up. Headers, timeout and the like come from the standard variables OTEL_EXPORTER_OTLP_...

    \b
    Exit status:
      0  ended, or stopped on request
      1  a node failed for good
      2  SPEC or the command line is wrong, or a run of that name is up; nothing was started
      130, 143, 129  Ctrl-C (SIGINT), SIGTERM or SIGHUP came while SPEC was still being checked; nothing was started

    \b
    Examples:
      streamctl up specs/demo.yaml --for 15s
      streamctl up specs/video_file.yaml --set video=/data/a.mp4 --report r.json
      streamctl up cameras.yaml --name gate --detach --http 9100
      streamctl up front-door.yaml --allow my_nodes --reload
    """
    announcer, manager = _starters()
    _check(report, spec, detach=detach, reload=reload)
    if detach:
        run = _prepare(spec, sets, allow, folders, name).run
        return _in_background(run, _words(spec, sets, allow, folders, for_s, report, name, http, otel, debug))
    with _fork_server() as fork_server:
        reloading = _reloading(spec, sets, allow, folders, name) if reload else None
        plan = reloading.basis.plan if reloading else _prepare(spec, sets, allow, folders, name)
        options = _options(plan, spec, for_s, debug, reloading, report, http, otel, manager)
        result = _supervise(plan, announcer, options, fork_server)
    return _conclude(result, report, announcer)


def _starters() -> tuple[Announcer, ServiceManager]:
    """Who has started us and waits for our word. First of all, so that nothing started from here inherits it."""
    from streamcore.coordinator.service_manager import ServiceManager
    from streamcore.supervisor.detach import Announcer

    return Announcer(), ServiceManager.take()


@contextmanager
def _fork_server() -> Iterator[ForkServer | None]:
    """What nodes will be forked from, started before anything is known of them: its imports take place beside our own. Gone at the end."""
    from streamcore.cli.entry import first_call
    from streamcore.supervisor import forking

    if os.environ.get(forking.SWITCH) == "0":
        yield None
        return
    try:
        server = forking.ForkServer()
    except OSError:  # the box is full. Whether it has room for a run will be seen
        yield None
        return
    first_call(server.close)
    try:
        yield server
    finally:
        first_call(None)
        server.close()


def _options(
    plan: Plan,
    spec: str,
    for_s: float | None,
    debug: bool,
    reloading: Reloading | None,
    report: str | None,
    http: Address | None,
    otel: str | None,
    manager: ServiceManager,
) -> Options:
    from streamcore.control.web import Address
    from streamcore.coordinator.options import Options
    from streamcore.telemetry.otel import asked

    if http is None and plan.http is not None:
        http = Address(plan.http.host, plan.http.port, plan.http.exposed)
    path, timeline = os.path.abspath(spec), report is not None
    traces = asked(otel, os.environ)
    return Options(path, for_s, plan.shm_limit, debug, reloading=reloading, timeline=timeline, http=http, otel=traces, manager=manager)


def _check(report: str | None, spec: str, *, detach: bool, reload: bool) -> None:
    """A report that could not be written would be found out only after the run."""
    if report is not None:
        from streamcore.cli.writing import not_over

        if not os.access(os.path.dirname(report) or ".", os.W_OK):
            raise click.BadParameter(f"cannot write into {os.path.dirname(report) or '.'}", param_hint="--report")
        not_over(report, spec)
    if detach and reload:
        raise click.UsageError("--reload says on the terminal what has come of each change; with --detach nobody would see it")


def _prepare(spec: str, sets: dict[str, str], allow: tuple[str, ...], folders: tuple[str, ...], name: str | None) -> Plan:
    """Raises SpecError with all problems."""
    from streamcore.control.rundir import roots
    from streamcore.graph.check import prepare
    from streamcore.supervisor import box

    return prepare(spec, sets, allow, name, roots()[0], folders=folders, cpus=box.cpus())


def _reloading(spec: str, sets: dict[str, str], allow: tuple[str, ...], folders: tuple[str, ...], name: str | None) -> Reloading:
    """As _prepare, and how to do it again."""
    from streamcore.control.rundir import roots
    from streamcore.coordinator.reload import Reloading
    from streamcore.graph.basis import lay

    load = partial(lay, spec, sets, allow, name, roots()[0], folders=folders)
    return Reloading(load(), load)


def _supervise(plan: Plan, announcer: Announcer, options: Options, fork_server: ForkServer | None) -> RunResult:
    from streamcore.cli.entry import over
    from streamcore.control.rundir import RunDir
    from streamcore.coordinator.coordinator import Coordinator
    from streamcore.errors import BudgetError, RunError
    from streamcore.node.output import keep_printing
    from streamcore.supervisor.loop import Signals

    signals = Signals()  # before anything is made: what comes from here on ends the run in order
    try:
        run_dir = RunDir.take(plan.run)
        shown = _display(plan, run_dir.path / "logs", announcer, debug=options.debug)
        coordinator = Coordinator(plan, run_dir, shown, options, signals=signals, fork_server=fork_server)
        shown.snapshot = coordinator.snapshot
        lost = "the output of `streamctl up` cannot be written: {}; the run goes on"
        keep_printing().tell(lambda why: coordinator.warnings.append(lost.format(why)))
        try:
            return coordinator.run()
        finally:
            shown.close()
    except (RunError, BudgetError) as error:
        raise CannotStart(f"{error}\nnothing was started.") from error
    finally:
        over()  # a second Ctrl-C that comes a moment too late must not hit whoever writes the report
        signals.close()
        options.manager.close()


def _display(plan: Plan, logs: Path, announcer: Announcer, *, debug: bool) -> Lines:
    from streamcore.cli.lines import Lines
    from streamcore.clock import Clock

    def announce() -> None:
        announcer.announce(
            0, f"run {plan.run} is up in the background (pid {os.getpid()}); see `streamctl ps`, `streamctl logs`, `streamctl down`"
        )

    if sys.stdout.isatty() and os.environ.get("TERM", "dumb") != "dumb":
        from streamcore.cli.live import Screen

        return Screen(plan, logs, debug=debug, on_up=announce, clock=Clock())
    return Lines(plan, logs, debug=debug, on_up=announce)


def _conclude(result: RunResult, report: str | None, announcer: Announcer) -> int:
    """Say how the run went and write its report. Returns the exit status."""
    from streamcore.cli.endings import summary
    from streamcore.cli.lines import say
    from streamcore.telemetry.report import write_report

    status = result.status
    if report is not None:
        try:
            write_report(report, result.report)
        except OSError as error:
            say(f"streamctl: report {report}: {error.strerror}", err=True)
            report, status = None, NODE_FAILED
    text = "\n".join(summary(result.report, report))
    say(text)
    announcer.announce(status, "\n".join([*(f"{failure.node}: {failure.cause}" for failure in result.failures), text]))
    return status


def _words(
    spec: str,
    sets: dict[str, str],
    allow: tuple[str, ...],
    folders: tuple[str, ...],
    for_s: float | None,
    report: str | None,
    name: str | None,
    address: Address | None,
    otel: str | None,
    debug: bool,
) -> list[str]:
    """The command line of the same run in the foreground."""
    words = [word for key, value in sets.items() for word in ("--set", f"{key}={value}")]
    words += [word for package in allow for word in ("--allow", package)]
    words += [word for folder in folders for word in ("--include-from", folder)]
    words += [] if for_s is None else ["--for", f"{round(for_s * 1000)}ms"]
    words += [word for option, value in (("--report", report), ("--name", name)) if value is not None for word in (option, value)]
    words += [] if otel is None else ["--otel", otel]
    words += ["--http", str(address), *(["--http-exposed"] if address.exposed else [])] if address else []
    return ["up", *words, *(["--debug"] if debug else []), "--", spec]


def _in_background(run: str, words: list[str]) -> int:
    """Start the same command in a session of its own and wait until it is up or has failed."""
    from streamcore.control import private, rundir
    from streamcore.interpreter import command_of
    from streamcore.supervisor.detach import spawn_detached

    path = rundir.path_of(run)
    live = rundir.live_info(path)
    if live:
        raise CannotStart(f"run '{run}' is up already (pid {live.pid}); end it with `streamctl down {run}`, or choose another --name")
    directory_fd = private.open_private(path, levels=2)
    os.close(private.open_level(directory_fd, "logs", path / "logs"))
    os.close(directory_fd)
    # As it was called: `python -m` would put the working directory in front of what is installed.
    script = sys.argv[0] if os.path.basename(sys.argv[0]) == "streamctl" else ""
    command = (sys.executable, script) if script else command_of("streamcore")
    status, text = spawn_detached([*command, *words], str(path / "logs" / rundir.COORDINATOR_LOG))
    click.echo(text, err=status != 0)
    return status
