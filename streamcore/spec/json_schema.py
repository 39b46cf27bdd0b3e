"""The rules of a spec as JSON Schema (2020-12), for editors: completion and checks while one writes.

Made from the rules that `streamctl validate` checks, and from the config schemas of plugins. It says less than they do: ids, ports and
what belongs together are checked by `validate` alone. Where a value may come from a param, `"${name}"` is allowed in its place.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from streamcore.spec import job
from streamcore.spec.model import HIDDEN_PLUGINS
from streamcore.spec.rules import EDGE, INCLUDE, NODE, TOP, VERSION

DIALECT = "https://json-schema.org/draft/2020-12/schema"
SIZE_PATTERN = r"^[0-9]+(\.[0-9]+)? ?(B|KiB|MiB|GiB|TiB)$"
_REFERENCE = {"$ref": "#/$defs/reference"}
_DEFS = {"reference": {"type": "string", "pattern": r"\$\{[^{}]+\}", "description": "a param, or the environment: ${env:NAME}"}}
_TYPES = {
    "string": "string",
    "integer": "integer",
    "float": "number",
    "number": "number",
    "boolean": "boolean",
    "dict": "object",
    "list": "array",
}
_NUMBERS = ("integer", "float", "number")


def spec_schema(configs: Mapping[str, Mapping[str, Any]] = {}) -> dict[str, Any]:
    """The schema of a spec, of either version. `configs`: names of plugins to the Cerberus schemas of their config."""
    job_version = {"properties": {"version": {"const": job.VERSION}}, "required": ["version"]}
    return {
        "$schema": DIALECT,
        "title": "streamcore spec",
        "type": "object",
        "properties": {"version": {"enum": [job.VERSION, VERSION], "description": f"{VERSION}: a graph; {job.VERSION}: a job"}},
        "required": ["version"],
        "if": job_version,
        "then": {"$ref": "#/$defs/job"},
        "else": {"$ref": "#/$defs/graph"},
        "$defs": {**_DEFS, "graph": _graph(configs), "job": _job(configs)},
    }


def _graph(configs: Mapping[str, Mapping[str, Any]]) -> dict[str, Any]:
    node = _object({**NODE, "with": INCLUDE["with"]})
    node["required"] = ["id"]
    node["anyOf"] = [{"required": ["plugin"]}, {"required": ["include"]}]
    if configs:
        node["properties"]["plugin"]["anyOf"] = [{"enum": sorted(configs)}, {"pattern": ":"}, dict(_REFERENCE)]
        node["allOf"] = [
            {
                "if": {"properties": {"plugin": {"const": name}}, "required": ["plugin"]},
                "then": {"properties": {"config": {"anyOf": [_object(rules), dict(_REFERENCE)]}}},
            }
            for name, rules in sorted(configs.items())
        ]
    whole = _object({**{key: rule for key, rule in TOP.items() if key != "nodes"}, "edges": _edges(configs)})
    whole["properties"]["version"] = {"const": VERSION}
    whole["properties"]["nodes"] = {"type": "array", "minItems": 1, "items": node, "description": "every node is a process"}
    return {**whole, "required": ["version", "nodes"]}


def _edges(configs: Mapping[str, Mapping[str, Any]]) -> dict[str, Any]:
    """The rule of `edges`, with the configs of the nodes that an edge may bring."""
    options: dict[str, Any] = {}
    for key, plugin in HIDDEN_PLUGINS.items():
        if plugin in configs:
            options[key] = {"schema": {name: {**rule, "required": False} for name, rule in configs[plugin].items()}, **EDGE[key]}
    return {"type": "list", "meta": {"words": "a list of edges"}, "schema": {"type": "dict", "schema": {**EDGE, **options}}}


def _job(configs: Mapping[str, Mapping[str, Any]]) -> dict[str, Any]:
    """A job is the config of one of two plugins, and keys of a graph and of a node around it."""
    rules = {key: rule for name in job.PLUGINS.values() for key, rule in configs.get(name, {}).items()}
    what = _object({key: {**rules.get(key, {}), "required": False} for key in job.JOB_KEYS})
    what["oneOf"] = [{"required": [key]} for key in job.PLUGINS]
    whole = _object({key: {**TOP, **{name: NODE[name] for name in job.OF_NODE}}[key] for key in job.KEYS if key != "job"})
    whole["properties"] |= {"version": {"const": job.VERSION}, "job": what}
    return {**whole, "required": ["version", "job"]}


def _object(rules: Mapping[str, Any]) -> dict[str, Any]:
    """A mapping with known keys."""
    made: dict[str, Any] = {
        "type": "object",
        "properties": {str(name): _value(rule) for name, rule in rules.items()},
        "additionalProperties": False,
    }
    required = [str(name) for name, rule in rules.items() if isinstance(rule, Mapping) and rule.get("required") is True]
    return {**made, "required": required} if required else made


def _value(rule: Any) -> dict[str, Any]:
    """A rule of Cerberus; what JSON Schema cannot say is left out, so that nothing right is marked as wrong."""
    if not isinstance(rule, Mapping):
        return {}
    kinds = rule.get("type", ())
    choices = [_typed(kind, rule) for kind in ((kinds,) if isinstance(kinds, str) else kinds)]
    if not kinds and "allowed" in rule:
        choices.append({"enum": _words(rule)})
    for name in ("anyof", "oneof"):
        choices += [_value(choice) for choice in rule.get(name, ())]
    if choices and "coerce" in rule and rule.get("type") != "size":
        choices.append({"type": "string"})
    if choices and rule.get("nullable"):
        choices.append({"type": "null"})
    if choices and {"type": "string"} not in choices:
        choices.append(dict(_REFERENCE))
    made: dict[str, Any] = choices[0] if len(choices) == 1 else {"anyOf": choices} if choices else {}
    words = rule.get("meta", {}).get("words", "") if isinstance(rule.get("meta"), Mapping) else ""
    if words:
        made["description"] = words
    if "default" in rule and isinstance(rule["default"], (str, int, float, bool, list, dict, type(None))):
        made["default"] = rule["default"]
    return made


def _typed(kind: str, rule: Mapping[str, Any]) -> dict[str, Any]:
    if kind == "size":
        number = {"type": "integer", **_bounds(rule, "minimum", "maximum", "min", "max")}
        return {"anyOf": [number, {"type": "string", "pattern": SIZE_PATTERN}]}
    if kind not in _TYPES:
        return {}
    made: dict[str, Any] = {"type": _TYPES[kind]}
    if kind in _NUMBERS:
        made |= _bounds(rule, "minimum", "maximum", "min", "max")
    elif kind == "string":
        made |= _bounds(rule, "minLength", "maxLength", "minlength", "maxlength")
        if "regex" in rule:
            made["pattern"] = f"^(?:{rule['regex']})$"
        if "words" in rule:
            made["enum"] = list(rule["words"])
        if rule.get("empty") is False:
            made.setdefault("minLength", 1)
    elif kind == "list":
        made |= _bounds(rule, "minItems", "maxItems", "minlength", "maxlength")
        if isinstance(rule.get("schema"), Mapping):
            made["items"] = _value(rule["schema"])
    elif kind == "dict":
        made |= _mapping(rule)
    if "allowed" in rule and kind != "list":
        made["enum"] = _words(rule)
    return made


def _words(rule: Mapping[str, Any]) -> list[Any]:
    return [value for value in rule["allowed"] if isinstance(value, (str, int, float, bool))]


def _mapping(rule: Mapping[str, Any]) -> dict[str, Any]:
    if isinstance(rule.get("schema"), Mapping):
        made = _object(rule["schema"])
        return {**made, "additionalProperties": True} if rule.get("allow_unknown") else made
    made = {}
    if isinstance(rule.get("valuesrules"), Mapping):
        made["additionalProperties"] = _value(rule["valuesrules"])
    keys = rule.get("keysrules")
    if isinstance(keys, Mapping) and "regex" in keys:
        made["propertyNames"] = {"pattern": f"^(?:{keys['regex']})$"}
    return made


def _bounds(rule: Mapping[str, Any], low: str, high: str, least: str, most: str) -> dict[str, Any]:
    found = {}
    for name, key in ((low, least), (high, most)):
        if isinstance(rule.get(key), (int, float)):
            found[name] = rule[key]
    return found
