"""Params, `--set`, and `${name}` in string values.

A string that is nothing but `"${name}"` becomes the param's value with its type; `${name}` inside other text becomes text; `$${` stands
for a literal `${`. Keys are never interpolated, and neither are the values of params.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from streamcore import limits
from streamcore.errors import Problem
from streamcore.spec.model import Where
from streamcore.spec.problems import Problems, names, show
from streamcore.spec.reader import Unreadable, read_tree
from streamcore.spec.scalars import core_scalar

_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_-]{0,63}")
_REFERENCE = re.compile(r"\$\$\{|\$\{([^{}]*)\}|\$\{")
_WHOLE = re.compile(r"\$\{([^{}]*)\}")
_TYPES: dict[str, tuple[type, ...]] = {
    "string": (str,),
    "integer": (int,),
    "number": (int, float),
    "boolean": (bool,),
    "list": (list,),
    "map": (dict,),
}
_TYPE_WORDS = {
    "string": "text",
    "integer": "an integer",
    "number": "a number",
    "boolean": "true or false",
    "list": "a list",
    "map": "a mapping",
}


class _Unset:
    """The value of a param that has none; what refers to it is not judged."""


_UNSET = _Unset()
_UNTOUCHED = ("version", "params")  # top-level keys that are not interpolated


def resolve_params(declared: Any, sets: Mapping[str, str], problems: Problems) -> dict[str, Any]:
    """The value of each param: its default, or what `--set` gives. Problems are reported at the param or at `--set`."""
    if not isinstance(declared, dict):
        return {}  # the schema says what is wrong with it
    values: dict[str, Any] = {}
    for name, default in declared.items():
        where: Where = ("params", name)
        if not _NAME.fullmatch(name):
            problems.add(where, show(name), "a name of letters, digits, - and _ that begins with a letter", at_key=True)
        elif (kind := _required_type(default, where, problems)) is not None:
            values[name] = _parse_set(name, sets[name], kind, problems) if name in sets else _UNSET
            if name not in sets:
                problems.add(where, "no value", f"--set {name}=VALUE, where VALUE is {_TYPE_WORDS[kind]}")
        else:
            _refuse_references(default, where, problems)
            values[name] = _parse_set(name, sets[name], _type_of(default), problems) if name in sets else default
    for name in sets:
        if name not in declared:
            expected = f"one of the params: {names(declared)}" if declared else "no --set: the spec has no params"
            problems.add_problem(Problem("--set", 0, 0, name, f"unknown param {show(name)}", expected), (name, declared))
    return values


def _required_type(default: Any, where: Where, problems: Problems) -> str | None:
    """The type of a param declared as `{required: true, type: integer}`; None for a plain default."""
    if not isinstance(default, dict) or "required" not in default:
        return None
    kind = default.get("type", "string")
    if default["required"] is not True or not set(default) <= {"required", "type"}:
        problems.add(where, "a declaration with other keys", "{required: true} or {required: true, type: TYPE}, or a plain default")
    elif not isinstance(kind, str) or kind not in _TYPES:
        problems.add((*where, "type"), show(kind), f"one of: {names(_TYPES)}", near=(str(kind), _TYPES))
    else:
        return kind
    return "string"


def _refuse_references(value: Any, where: Where, problems: Problems) -> None:
    if isinstance(value, dict):
        for key, item in value.items():
            _refuse_references(item, (*where, key), problems)
    elif isinstance(value, list):
        for index, item in enumerate(value):
            _refuse_references(item, (*where, index), problems)
    elif isinstance(value, str) and "${" in value:
        problems.add(where, show(value), "a plain value: params are not interpolated")


def _type_of(default: Any) -> str:
    """The type that `--set` must give; "" if any scalar will do (the default is null)."""
    if isinstance(default, bool):
        return "boolean"
    for kind in ("string", "integer", "number", "list", "map"):
        if isinstance(default, _TYPES[kind]):
            return kind
    return ""


def _parse_set(name: str, text: str, kind: str, problems: Problems) -> Any:
    """What `--set name=text` means for a param of this type: text is taken verbatim, all else is read as YAML."""
    if any("\ud800" <= char <= "\udfff" for char in text):  # how Python shows bytes of the command line that are not UTF-8
        problems.add_problem(Problem("--set", 0, 0, name, show(text), "text in UTF-8"))
        return _UNSET
    if kind == "string":
        return text
    expected = _TYPE_WORDS.get(kind, "a scalar")
    value: Any
    if kind in ("list", "map"):
        inner = Problems("--set")
        try:
            value = read_tree(text, inner)[0]
        except Unreadable:
            value = None
        fits = isinstance(value, _TYPES[kind]) and not inner
    else:
        try:
            value = core_scalar(text)
            fits = kind == "" or (isinstance(value, _TYPES[kind]) and isinstance(value, bool) == (kind == "boolean"))
        except ValueError as error:
            value, fits, expected = None, False, str(error)
    if not fits:
        problems.add_problem(Problem("--set", 0, 0, name, show(text), expected))
        return _UNSET
    return value


def interpolate(tree: Any, params: Mapping[str, Any], problems: Problems) -> Any:
    """A copy of the tree with every `${name}` replaced. Values keep the place of the text that they replace."""
    if not isinstance(tree, dict):
        return tree
    filler = _Filler(params, problems)
    return {key: value if key in _UNTOUCHED else filler.fill(value, (key,)) for key, value in tree.items()}


class _Filler:
    """Replaces references. The text they add is bounded: 40,000 references to one long param would make gigabytes of a small file."""

    def __init__(self, params: Mapping[str, Any], problems: Problems):
        self.params, self.problems = params, problems
        self._weights: dict[str, int] = {}
        self._room = limits.SPEC_BYTES_MAX

    def fill(self, value: Any, where: Where) -> Any:
        if isinstance(value, dict):
            return {key: self.fill(item, (*where, key)) for key, item in value.items()}
        if isinstance(value, list):
            return [self.fill(item, (*where, index)) for index, item in enumerate(value)]
        if not isinstance(value, str) or "${" not in value:
            return value
        place, exact = self.problems.places.nearest(where)
        if exact:
            place.written = value
        whole = _WHOLE.fullmatch(value)
        if whole:
            found = self._lookup(whole.group(1), where)
            return None if found is _UNSET else found
        return _REFERENCE.sub(lambda match: self._text_of(match, where), value)

    def _text_of(self, match: re.Match[str], where: Where) -> str:
        if match.group() == "$${":
            return "${"
        if match.group(1) is None:
            self.problems.add(where, f"{show(match.string)} with a ${{ that is not closed", "${name}, or $${ for a literal ${")
            return ""
        value = self._lookup(match.group(1), where)
        if value is _UNSET:
            return ""
        if isinstance(value, bool) or value is None or isinstance(value, (dict, list)):
            if isinstance(value, bool):
                return show(value)
            self.problems.add(where, f"{show(value)} inside text", f"text or a number as the value of param '{match.group(1)}'")
            return ""
        return str(value)

    def _lookup(self, name: str, where: Where) -> Any:
        """The value of a param, or _UNSET after a problem was reported."""
        if name.startswith("env:"):
            hint = "declare a param and give it with --set NAME=VALUE"
            self.problems.add(where, f"'${{{show(name)[1:-1]}}}'", "a param: the environment cannot be read from a spec", hint)
            return _UNSET
        if name not in self.params:
            known = f"one of the params: {names(self.params)}" if self.params else "a param: the spec has none; $${ stands for a literal ${"
            self.problems.add(where, f"'${{{show(name)[1:-1]}}}'", known, near=(name, self.params))
            return _UNSET
        value = self.params[name]
        if name not in self._weights:
            self._weights[name] = _weight(value)
        self._room -= self._weights[name]
        if self._room < 0:
            self.problems.add(where, "params that make the spec too large", f"at most {limits.SPEC_BYTES_MAX} bytes of interpolated values")
            return _UNSET
        if value is _UNSET:
            self.problems.silence(where)
        return value


def _weight(value: Any) -> int:
    """About how many bytes a value adds where it is used."""
    if isinstance(value, dict):
        return 2 + sum(len(key) + _weight(item) for key, item in value.items())
    if isinstance(value, list):
        return 2 + sum(map(_weight, value))
    return len(value) if isinstance(value, str) else 8
