"""The streamctl command: its verbs, loaded when they are used, and how they end."""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from importlib import import_module

import click

from streamcore import __version__, native
from streamcore.cli.failures import INTERRUPTED, report
from streamcore.cli.options import wants_debug

# One module per verb, in the order of `streamctl --help`. Each has a click command of the verb's name and imports what is heavy only when
# it runs, so that help and completion come at once.
VERBS = (
    "up",
    "validate",
    "plan",
    "graph",
    "explain",
    "schema",
    "convert",
    "ps",
    "top",
    "stats",
    "account",
    "report",
    "trace",
    "events",
    "tap",
    "logs",
    "incidents",
    "stack",
    "pause",
    "resume",
    "restart",
    "dlq",
    "queue",
    "recording",
    "down",
    "node",
    "bench",
    "completion",
)

# Named for what they handle; `queue` and `trace` are modules of the standard library.
_MODULES = {
    "queue": "queues",
    "recording": "recordings",
    "top": "top.command",
    "trace": "tracing",
}


class Verbs(click.Group):
    """A group that imports the module of a verb when it is asked for."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(VERBS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in VERBS:
            return None
        command: click.Command = getattr(import_module(f"streamcore.cli.{_MODULES.get(cmd_name, cmd_name)}"), cmd_name)
        return command


def _say_version(ctx: click.Context, _: click.Parameter, asked: bool) -> None:
    if asked and not ctx.resilient_parsing:
        click.echo(f"streamctl {__version__} ({'native inner loop' if native.finder.decide() else 'pure Python'})")
        ctx.exit()


@click.group(cls=Verbs, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 110})
@click.option("--version", is_flag=True, is_eager=True, expose_value=False, callback=_say_version, help="Show the version and exit.")
def streamctl() -> None:
    """Start, check and watch streaming pipelines: one process per node, frames in shared memory.

    A pipeline is a graph of nodes in a YAML file, the SPEC, or a single job. `streamctl up SPEC` starts it and supervises it until it
    ends; the other commands look at a run from outside or act on it. A run is named by --name, or after its spec.

    \b
    Exit status, of every command:
      0  fine, or stopped on request
      1  a node failed for good
      2  the spec or the command line is wrong; nothing was started
      3  there is no such run
      130, 143, 129  Ctrl-C (SIGINT), SIGTERM or SIGHUP came before it had done anything that has to be ended in order
    """


def run(args: Sequence[str] | None = None) -> int:
    """Run one command line and return its exit status; what went wrong is on stderr."""
    argv = list(sys.argv[1:] if args is None else args)
    try:
        status = streamctl.main(argv, prog_name="streamctl", standalone_mode=False)
    except click.exceptions.Exit as leave:
        status = leave.exit_code
    except SystemExit:
        status = 0  # how click ends when the reader of `streamctl ps | head` has seen enough
    except (KeyboardInterrupt, click.Abort):
        status = INTERRUPTED
    except Exception as error:  # of any command: shown in the form that streamctl gives to errors
        status = report(error, debug=wants_debug(argv))
    try:
        sys.stdout.flush()
    except BrokenPipeError:
        # The interpreter flushes once more at exit and would complain.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    return status if isinstance(status, int) else 0
