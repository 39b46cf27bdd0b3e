"""streamctl node: which plugins there are, and what each takes, gives and can be told."""

from __future__ import annotations

import inspect
import json
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import click

from streamcore.cli.options import json_option, quiet_debug_option
from streamcore.cli.wording import plural, table

if TYPE_CHECKING:
    from streamcore.node.api import Node, Port


@click.group(short_help="List and describe the plugins that a spec can name.")
def node() -> None:
    """Look at the plugins that are installed: those of streamcore, and those that other packages register.

    A package registers a node class with an entry point in the group `streamcore.nodes`.
    """


@node.command("list", short_help="List the registered plugins.")
@json_option('Print {"nodes": [{"name", "target", "role", "summary"}]}; `problem` instead of role and summary if one does not load.')
@quiet_debug_option
def list_(as_json: bool) -> int:
    """List the registered plugins with their role and the first line of their description.

    Each is imported for that. One that does not load is listed with the reason and does not hide the others.

    \b
    Exit status:
      0  fine, also if a plugin does not load
    """
    from streamcore.plugins import names

    rows = [_summary(name, target) for name, target in names().items()]
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
@click.argument("name")
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
    from streamcore.plugins import resolve

    facts = _facts(name, resolve(name, allow))
    click.echo(json.dumps({"version": 1, **facts}, indent=2, default=str) if as_json else "\n".join(_page(facts)))
    return 0


def _summary(name: str, target: str) -> dict[str, Any]:
    from streamcore.errors import PluginError
    from streamcore.node.api import role_of
    from streamcore.plugins import resolve

    try:
        cls = resolve(name)
    except PluginError as error:
        return {"name": name, "target": target, "problem": str(error)}
    return {"name": name, "target": target, "role": role_of(cls), "summary": (_doc(cls).splitlines() or [""])[0]}


def _doc(cls: type[Node]) -> str:
    """The class's own words; those of Node, Source and Sink tell authors how to subclass, not users what it does."""
    return inspect.cleandoc(cls.__doc__ or "")


def _facts(name: str, cls: type[Node]) -> dict[str, Any]:
    from streamcore.node.api import role_of
    from streamcore.plugins import target_of

    return {
        "name": name,
        "target": target_of(cls),
        "role": role_of(cls),
        "doc": _doc(cls),
        "inputs": {name: {**_port(port), "required": port.required, "transport": port.transport} for name, port in cls.inputs.items()},
        "outputs": {name: _port(port) for name, port in cls.outputs.items()},
        "config": {key: dict(rule) for key, rule in cls.config.items()},
        "retention": cls.retention,
        "batch_max": cls.batch_max,
        "breaks_cycles": cls.breaks_cycles,
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
