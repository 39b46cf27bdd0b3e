"""streamctl node: which plugins there are, and what each takes, gives and can be told."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import click

from streamcore.cli.completing import complete_plugin
from streamcore.cli.node_check import check
from streamcore.cli.node_new import new
from streamcore.cli.options import json_option, quiet_debug_option
from streamcore.cli.wording import plural, table

if TYPE_CHECKING:
    from streamcore.errors import PluginError
    from streamcore.manifest import Manifest
    from streamcore.node.api import Port


@click.group(short_help="List, describe, write and check the plugins that a spec can name.")
def node() -> None:
    """Look at the plugins that are installed: those of streamcore, and those that other packages register.

    A package registers a node class with an entry point in the group `streamcore.nodes`.
    """


node.add_command(new)
node.add_command(check)


@node.command("list", short_help="List the registered plugins.")
@json_option('Print {"nodes": [{"name", "target", "role", "summary"}]}; `problem` instead of role and summary if one does not load.')
@quiet_debug_option
def list_(as_json: bool) -> int:
    """List the registered plugins with their role and the first line of their description.

    Those whose code is new are imported for that, by a process of its own. One that does not load, or may not, is listed with the reason
    and does not hide the others.

    \b
    Exit status:
      0  fine, also if a plugin does not load
    """
    from streamcore.plugins.naming import names

    targets = names()
    found = manifests_of(list(targets))
    rows = [_summary(name, target, found[name]) for name, target in targets.items()]
    if as_json:
        click.echo(json.dumps({"version": 1, "nodes": rows}, indent=2))
        return 0
    width = max((len(row["name"]) for row in rows), default=0)
    for row in rows:
        click.echo(f"{row['name']:<{width}}  {row.get('role', '-'):<6}  {row.get('summary') or row.get('problem', '')}".rstrip())
    if not rows:
        click.echo("no plugin is registered in the entry-point group streamcore.nodes", err=True)
    return 0


@node.command("describe", short_help="Describe one plugin: ports, config, what it keeps.")
@click.argument("name", shell_complete=complete_plugin)
@click.option("--allow", metavar="PACKAGE", multiple=True, help="Allow NAME to be a class from this package. Repeatable.")
@json_option('Print {"name", "target", "role", "doc", "inputs", "outputs", "config", "retention", "batch_max", "breaks_cycles"}.')
@quiet_debug_option
def describe(name: str, allow: tuple[str, ...], as_json: bool) -> int:
    """Describe the plugin NAME: what it is for, its ports, and every key of its config with type, bounds and default.

    NAME is a registered name, or package.module:Class together with --allow.

    \b
    Exit status:
      0  fine
      2  there is no such plugin, or it does not load
    """
    from streamcore.errors import PluginError

    found = manifests_of([name], allow)[name]
    if isinstance(found, PluginError):
        raise found
    facts = _facts(found)
    click.echo(json.dumps({"version": 1, **facts}, indent=2, default=str) if as_json else "\n".join(_page(facts)))
    return 0


def manifests_of(plugins: list[str], allow: tuple[str, ...] = ()) -> dict[str, Manifest | PluginError]:
    """Raises SpecError for words of --allow that are no packages, and for a policy file that is wrong."""
    import os

    from streamcore.errors import SpecError
    from streamcore.plugins.manifests import Asked, find
    from streamcore.plugins.policy import Policy, asked, load_machine, wrong_words

    wrong = wrong_words(allow, os.environ)
    if wrong:
        raise SpecError(wrong)
    return find([Asked(plugin) for plugin in plugins], Policy(asked(allow, None, os.environ), load_machine())).manifests


def _summary(name: str, target: str, found: Manifest | PluginError) -> dict[str, Any]:
    if isinstance(found, Exception):
        return {"name": name, "target": target, "problem": str(found)}
    return {"name": name, "target": target, "role": found.role, "summary": (found.doc.splitlines() or [""])[0]}


def _facts(found: Manifest) -> dict[str, Any]:
    return {
        "name": found.name,
        "target": found.target,
        "role": found.role,
        "doc": found.doc,
        "inputs": {name: {**_port(port), "required": port.required, "transport": port.transport} for name, port in found.inputs.items()},
        "outputs": {name: _port(port) for name, port in found.outputs.items()},
        "config": found.config,
        "retention": found.retention,
        "batch_max": found.batch_max,
        "breaks_cycles": found.breaks_cycles,
    }


def _port(port: Port) -> dict[str, Any]:
    return {"kind": port.kind, "payload": str(port.profile), "doc": port.doc}


def _page(facts: Mapping[str, Any]) -> list[str]:
    lines = [f"{facts['name']}  ({facts['role']}, {facts['target']})"]
    lines += ["", *(f"    {line}".rstrip() for line in facts["doc"].splitlines())] if facts["doc"] else []
    for title in ("inputs", "outputs"):
        rows = [(name, port["kind"], port["payload"], _remark(port)) for name, port in facts[title].items()]
        lines += ["", title, *(f"    {line}" for line in table(("port", "kind", "payload", ""), rows))] if rows else []
    if facts["config"]:
        rows = [(key, rule.get("type", "any"), _default(rule), _bounds(rule)) for key, rule in facts["config"].items()]
        lines += ["", "config", *(f"    {line}" for line in table(("key", "type", "default", "allowed"), rows))]
    if facts["retention"]:
        lines += ["", f"keeps {_number(facts['retention'])} beyond the call that takes them"]
    if facts["breaks_cycles"]:
        lines += ["", "a cycle may pass through it, by an edge that drops when it is full"]
    if facts["batch_max"] != 1:
        lines += ["", f"takes {_number(facts['batch_max'])} at once when they wait"]
    return lines


def _remark(port: Mapping[str, Any]) -> str:
    stays = "" if port.get("transport", "shm") == "shm" else f" ({port['transport']}: arrays only with a codec)"
    return f"{port['doc']}{'' if port.get('required', True) else ' (may stay unconnected)'}{stays}"


def _default(rule: Mapping[str, Any]) -> str:
    if "default" in rule:
        return json.dumps(rule["default"], default=str)
    return "required" if rule.get("required") else "-"


def _bounds(rule: Mapping[str, Any]) -> str:
    """What Cerberus will check, in words."""
    said = []
    if "allowed" in rule:
        said.append("one of " + ", ".join(map(str, rule["allowed"])))
    if "min" in rule or "max" in rule:
        said.append(f"{rule.get('min', '')} .. {rule.get('max', '')}".strip())
    if rule.get("nullable"):
        said.append("or null")
    return ", ".join(said)


def _number(value: int | str) -> str:
    return f"as many packets as config.{value} says" if isinstance(value, str) else f"up to {plural(value, 'packet')}"
