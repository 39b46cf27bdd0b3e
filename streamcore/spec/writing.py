"""A spec as YAML that means the same: expanded, interpolated, without defaults. Secrets are written as where they come from."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import yaml

from streamcore.errors import ConfigError
from streamcore.limits import DRAIN_S, STARTUP_S
from streamcore.secret import Secret
from streamcore.spec.model import CareSpec, EdgeSpec, NodeSpec, Spec

_WIDTH = 120


class _Dumper(yaml.SafeDumper):
    """Text that other readers take for something else is quoted by SafeDumper; here secrets are added."""

    def ignore_aliases(self, data: Any) -> bool:
        return True


class _Tagged(str):
    """What stands behind the tag !secret."""


_Dumper.add_representer(_Tagged, lambda dumper, text: dumper.represent_scalar("!secret", str(text), style='"'))


def to_yaml(spec: Spec) -> str:
    """YAML of version 2.

    Raises:
      ConfigError: a secret that came from neither the environment nor a file.
    """
    secrets: dict[str, str] = {}  # source to the param that holds it
    nodes = [_plain(_node(node), secrets) for node in spec.nodes]
    edges = [_plain(_edge(edge), secrets) for edge in spec.edges]
    top: dict[str, Any] = {"version": spec.version, "name": spec.name}
    if secrets:
        top["params"] = {name: _Tagged(source) for source, name in secrets.items()}
    if spec.limits.shm is not None:
        top["limits"] = {"shm": spec.limits.shm}
    if spec.drain_s != DRAIN_S:
        top["drain_s"] = spec.drain_s
    if spec.http is not None:
        top["http"] = dict(vars(spec.http))
    if spec.checks != "first":
        top["checks"] = spec.checks
    if spec.allow:
        top["allow"] = list(spec.allow)
    lines = [_dump(top)]
    for title, entries in (("nodes", nodes), ("edges", edges)):
        if entries:
            lines.append(f"{title}:\n" + "".join(f"  - {_dump(entry, flow=True)}" for entry in entries))
    return "".join(lines)


def _dump(value: Any, *, flow: bool = False) -> str:
    width = 1_000_000 if flow else _WIDTH  # an entry on one line
    return str(yaml.dump(value, Dumper=_Dumper, sort_keys=False, allow_unicode=True, default_flow_style=flow, width=width))


def _plain(value: Any, secrets: dict[str, str]) -> Any:
    """A copy in which `${` stands for itself and secrets are references to params."""
    if isinstance(value, Secret):
        return _reference(value, secrets)
    if isinstance(value, Mapping):
        return {key: _plain(item, secrets) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(item, secrets) for item in value]
    return value.replace("${", "$${") if isinstance(value, str) else value


def _reference(secret: Secret, secrets: dict[str, str]) -> str:
    if secret.parts:
        return "".join(str(_plain(part, secrets)) for part in secret.parts)
    if not secret.source.startswith(("env:", "file:")):
        raise ConfigError(f"the secret of {secret.source} cannot be written: it comes from neither the environment nor a file")
    return f"${{{secrets.setdefault(secret.anywhere, f'secret_{len(secrets) + 1}')}}}"


def _node(node: NodeSpec) -> dict[str, Any]:
    care, process = node.care, node.process
    made: dict[str, Any] = {"id": node.id, "plugin": node.plugin}
    if node.config:
        made["config"] = node.config
    if node.startup_s != STARTUP_S:
        made["startup_s"] = node.startup_s
    made |= _given({key: getattr(care, key) for key in ("heartbeat_s", "progress_s", "poison_limit", "drain_s", "checks")})
    if care.on_error is not None:
        made["on_error"] = {"retry": care.retries} if care.on_error == "retry" else care.on_error
    made |= _mappings(care, node)
    if process.env:
        made["env"] = process.env
    if process.cpu_affinity:
        made["cpu_affinity"] = list(process.cpu_affinity)
    return made | ({"nice": process.nice} if process.nice else {})


def _mappings(care: CareSpec, node: NodeSpec) -> dict[str, Any]:
    made = {"restart": _given(vars(care.restart)), "ring": _given(vars(node.ring))}
    if care.rss is not None:
        made["limits"] = {"rss": care.rss} | _given({"on_exceed": care.on_exceed})
    return {key: value for key, value in made.items() if value}


def _edge(edge: EdgeSpec) -> dict[str, Any]:
    made: dict[str, Any] = {"from": edge.from_, "to": edge.to}
    if edge.policy != "block":
        made["policy"] = edge.policy
    made |= _given({"depth": edge.depth, "rate": edge.rate, "outbox": True if edge.outbox == {} else edge.outbox, "spill": edge.spill})
    return made | ({"completion": edge.completion} if edge.completion != "hop" else {})


def _given(values: Mapping[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in values.items() if value is not None}
