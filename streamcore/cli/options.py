"""Options that several commands share."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, TypeVar

import click

from streamcore.cli.completing import complete_live_run, complete_run
from streamcore.clock import parse_duration

if TYPE_CHECKING:
    from streamcore.control.web import Address

EXPOSED = f"{__name__}.exposed"
Function = TypeVar("Function", bound=Callable[..., Any])


def duration(ctx: click.Context, param: click.Parameter, text: str | None) -> float | None:
    """Callback of an option that takes a duration: seconds for the command."""
    try:
        return None if text is None else parse_duration(text)
    except ValueError as error:
        raise click.BadParameter(str(error), ctx, param) from None


def exposed(ctx: click.Context, param: click.Parameter, value: bool) -> None:
    """Callback of an eager flag without which `http_address` takes no host beyond loopback."""
    ctx.meta[EXPOSED] = value


def http_address(ctx: click.Context, param: click.Parameter, text: str | None) -> Address | None:
    """Callback of an option that takes PORT or HOST:PORT. An IPv6 address stands in brackets."""
    if text is None:
        if ctx.meta[EXPOSED]:
            raise click.UsageError("--http-exposed is said of the host of --http, which is missing", ctx)
        return None
    from streamcore.control.web import Address
    from streamcore.spec.addresses import LOOPBACK, PORT_MAX, numeric, unfit

    host, _, port = text.rpartition(":")
    host = host.removeprefix("[").removesuffix("]") or LOOPBACK
    if not (port.isascii() and port.isdecimal() and int(port) <= PORT_MAX):
        raise click.BadParameter(f"found {text!r}, expected PORT or HOST:PORT, PORT from 0 to {PORT_MAX}", ctx, param)
    wrong = unfit(host, exposed=ctx.meta[EXPOSED], how="--http-exposed as well")
    if wrong:
        raise click.BadParameter(f"found {host!r}, expected {wrong.expected}" + (f"; {wrong.hint}" if wrong.hint else ""), ctx, param)
    return Address(numeric(host) or host, int(port), ctx.meta[EXPOSED])


def otel_base(ctx: click.Context, param: click.Parameter, text: str | None) -> str | None:
    """Callback of an option that takes the address of a collector. Credentials in it would be seen by whoever lists processes."""
    from urllib.parse import urlsplit

    from streamcore.telemetry.otel import unfit

    if text is None:
        return None
    wrong = unfit(text)
    if wrong:
        raise click.BadParameter(f"found {text!r}, {wrong}", ctx, param)
    if "@" in urlsplit(text).netloc:
        raise click.BadParameter("credentials belong into OTEL_EXPORTER_OTLP_HEADERS, not into the address", ctx, param)
    return text


def key_values(ctx: click.Context, param: click.Parameter, words: Sequence[str]) -> dict[str, str]:
    """Callback of a repeated KEY=VALUE option. The value may hold further equals signs, and may be empty.

    A key given twice is refused, since one of its values would be lost.
    """
    found: dict[str, str] = {}
    for word in words:
        key, equals, value = word.partition("=")
        key = key.strip()
        if not equals or not key:
            raise click.BadParameter(f"{word!r} is not KEY=VALUE", ctx, param)
        if key in found:
            raise click.BadParameter(f"{key!r} is given twice: {found[key]!r} and {value!r}", ctx, param)
        found[key] = value
    return found


def spec_options(function: Function) -> Function:
    """SPEC, --set, --allow and --include-from: what `up`, `validate` and `plan` need to find the same graph."""
    for decorate in (
        click.option(
            "--include-from",
            "folders",
            metavar="DIR",
            multiple=True,
            type=click.Path(file_okay=False, exists=True),
            help="Let SPEC include files from DIR too, and not only from its own folder and what lies below. Repeatable.",
        ),
        click.option(
            "--allow",
            "allow",
            metavar="PACKAGE",
            multiple=True,
            help="Allow plugins given as package.module:Class from this package and what lies below it. Repeatable; added to the spec's "
            "`allow` and to $STREAMCORE_PLUGINS. /etc/streamcore/policy.yaml comes before all three.",
        ),
        click.option(
            "--set",
            "sets",
            metavar="KEY=VALUE",
            multiple=True,
            callback=key_values,
            help="Give the parameter KEY of the spec's `params` a value. Repeatable.",
        ),
        click.argument("spec", type=click.Path(dir_okay=False)),
    ):
        function = decorate(function)
    return function


def json_option(what: str) -> Callable[[Function], Function]:
    return click.option("--json", "as_json", is_flag=True, help=what)


def interval_option(what: str) -> Callable[[Function], Function]:
    """Over what the CPU share of processes is taken: `interval_s`."""
    text = f"{what}, e.g. 2s. 0s: since each process began."
    return click.option("--interval", "interval_s", metavar="TIME", default="500ms", show_default=True, callback=duration, help=text)


run_option = click.option("--run", metavar="RUN", shell_complete=complete_live_run, help="Which run; may be left out if there is only one.")
any_run_option = click.option(
    "--run", metavar="RUN", shell_complete=complete_run, help="Which run, live or ended; may be left out if there is only one."
)
debug_option = click.option("--debug", is_flag=True, help="Show tracebacks of what fails.")
quiet_debug_option = click.option("--debug", is_flag=True, expose_value=False, hidden=True)


def wants_debug(argv: Sequence[str]) -> bool:
    """Was --debug given? Read from the words themselves, because a command line that fails to parse has no parameters."""
    return "--debug" in argv[: argv.index("--") if "--" in argv else len(argv)]
