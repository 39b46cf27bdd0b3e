"""streamctl node check: does a plugin keep the contract of a node."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

import click

from streamcore.cli.completing import complete_plugin
from streamcore.cli.failures import NODE_FAILED
from streamcore.cli.options import duration, json_option, key_values, quiet_debug_option
from streamcore.cli.wording import plural

if TYPE_CHECKING:
    from streamcore.authoring.judge import Verdict


@click.command("check", short_help="Check that a plugin keeps the contract of a node.")
@click.argument("name", shell_complete=complete_plugin)
@click.option("--allow", metavar="PACKAGE", multiple=True, help="Allow NAME to be a class from this package. Repeatable.")
@click.option(
    "--config",
    "config",
    metavar="KEY=VALUE",
    multiple=True,
    callback=key_values,
    help="Give a key of the node's config a value, as a spec would: a number, true, text, or a list or mapping as JSON. Repeatable.",
)
@click.option(
    "--input",
    "samples",
    metavar="PORT=JSON",
    multiple=True,
    callback=key_values,
    help="A payload that the node can handle, for an input port that takes JSON. Repeatable.",
)
@click.option(
    "--timeout",
    "timeout_s",
    callback=duration,
    default="20s",
    show_default=True,
    metavar="DURATION",
    help="How long a single check may take; setup() is part of most.",
)
@json_option('Print {"plugin", "target", "role", "checks": [{"name", "promise", "state", "reason"}], "failed"}.')
@quiet_debug_option
def check(
    name: str, allow: tuple[str, ...], config: dict[str, str], samples: dict[str, str], timeout_s: float | None, as_json: bool
) -> int:
    """Check that the plugin NAME keeps what it declares and what a run expects of a node.

    NAME is a registered name, or package.module:Class together with --allow. The plugin is imported and called in a process of its own,
    with packets that are made from what its ports declare and that lie in rings as in a run. If it hangs or dies, that is reported, the
    process is ended, and the next check is made in a new one. What the plugin does in the world, such as writing files, it does here too.

    Each check is a line: ok, failed or skipped, what was promised, and what was found.

    \b
    Exit status:
      0  no check failed
      1  a check failed
      2  there is no such plugin, it does not load, or the command line or the config is wrong

    \b
    Examples:
      streamctl node check acme.blur
      streamctl node check my_nodes.blur:Blur --allow my_nodes --config ksize=7
      streamctl node check events.build --input in='{"frame": 1, "size": [64, 48], "boxes": []}'
    """
    from streamcore.authoring.judge import judge

    assert timeout_s is not None  # it has a default
    verdict = judge(name, allow, _values(config), _samples(samples), timeout_s)
    if as_json:
        found = [asdict(finding) for finding in verdict.findings]
        facts = {"plugin": name, "target": verdict.target, "role": verdict.role, "checks": found, "failed": verdict.count("failed")}
        click.echo(json.dumps({"version": 1, **facts}, indent=2))
    else:
        click.echo("\n".join(_page(verdict)))
    return NODE_FAILED if verdict.count("failed") else 0


def _page(verdict: Verdict) -> list[str]:
    lines = [f"{verdict.plugin}  ({verdict.role}, {verdict.target})" if verdict.target else verdict.plugin]
    width = max(len(finding.name) for finding in verdict.findings)
    for finding in verdict.findings:
        lines.append(f"  {finding.state:<7}  {finding.name:<{width}}  {finding.promise}")
        if finding.reason:
            lines.append(f"  {'':<7}  {'':<{width}}    {finding.reason}")
    counts = [f"{verdict.count(state)} {state}" for state in ("ok", "failed", "skipped") if verdict.count(state)]
    return [*lines, f"{plural(len(verdict.findings), 'check')}: {', '.join(counts)}"]


def _values(words: Mapping[str, str]) -> dict[str, Any]:
    """Config values as a spec would read them; what begins like a list or mapping is JSON."""
    from streamcore.spec.scalars import core_scalar

    values: dict[str, Any] = {}
    for key, text in words.items():
        try:
            values[key] = json.loads(text) if text[:1] in ("[", "{", '"') else core_scalar(text)
        except (ValueError, RecursionError) as error:
            raise click.BadParameter(f"{key}={text}: {error}", param_hint="--config") from None
    return values


def _samples(words: Mapping[str, str]) -> dict[str, Any]:
    samples: dict[str, Any] = {}
    for port, text in words.items():
        try:
            samples[port] = json.loads(text)
        except (ValueError, RecursionError) as error:
            raise click.BadParameter(f"{port}: not JSON: {error}", param_hint="--input") from None
    return samples
