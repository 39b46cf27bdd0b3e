"""How an error ends a command: what stands on stderr, and the exit status."""

from __future__ import annotations

import errno
import os
import traceback
from typing import TypeGuard

import click

from streamcore.errors import BudgetError, ConfigError, NativeError, PluginError, RunError, SpecError, StreamcoreError

FINE, NODE_FAILED, WRONG_INPUT, NO_SUCH_RUN = 0, 1, 2, 3
INTERRUPTED = 130  # as a shell reports a command that Ctrl-C ended

_STATUS: tuple[tuple[type[StreamcoreError], int], ...] = (
    (SpecError, WRONG_INPUT),
    (BudgetError, WRONG_INPUT),
    (PluginError, WRONG_INPUT),
    (ConfigError, WRONG_INPUT),
    (NativeError, WRONG_INPUT),
    (RunError, NO_SUCH_RUN),
)


_WRONG_PATH = (errno.ENAMETOOLONG, errno.ENOTDIR, errno.EISDIR, errno.ELOOP)  # whoever named it has to name another
_PATH_CHARS_MAX = 200


class CannotStart(StreamcoreError):
    """`up` was refused before it started anything: a run of that name is up, a run directory is not ours."""

    fault = "box"


def status_of(error: BaseException) -> int:
    """The exit status that an error stands for."""
    if isinstance(error, CannotStart):
        return WRONG_INPUT
    if isinstance(error, click.ClickException):
        return error.exit_code
    if _is_no_text(error) or (isinstance(error, OSError) and error.errno in _WRONG_PATH):
        return WRONG_INPUT
    return next((status for kind, status in _STATUS if isinstance(error, kind)), NODE_FAILED)


def _is_no_text(error: BaseException) -> TypeGuard[UnicodeEncodeError]:
    """Bytes of the command line that are no UTF-8: nothing else brings half a surrogate pair."""
    return isinstance(error, UnicodeEncodeError) and error.encoding == "utf-8"


def report(error: Exception, *, debug: bool) -> int:
    """Print an error on stderr, without a traceback unless `debug`, and return the exit status."""
    if isinstance(error, click.ClickException):
        error.show()
    elif isinstance(error, SpecError):
        click.echo(str(error), err=True)
    elif isinstance(error, StreamcoreError):
        click.echo(f"streamctl: {error}", err=True)
    elif _is_no_text(error):
        click.echo(f"streamctl: found {error.object[:_PATH_CHARS_MAX]!r}, expected text in UTF-8", err=True)
    elif isinstance(error, OSError) and error.filename is not None:
        path = os.fsdecode(error.filename) if isinstance(error.filename, (str, bytes)) else str(error.filename)
        shown = path if len(path) <= _PATH_CHARS_MAX else f"{path[:_PATH_CHARS_MAX]}..."
        click.echo(f"streamctl: {shown}: {error.strerror}", err=True)
    else:
        hint = "" if debug else " (an error in streamcore itself; --debug shows the traceback)"
        click.echo(f"streamctl: {type(error).__name__}: {error}{hint}", err=True)
    if debug and not isinstance(error, click.ClickException):
        click.echo("".join(traceback.format_exception(error)), err=True, nl=False)
    return status_of(error)
