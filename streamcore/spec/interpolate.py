"""Params, `--set`, the environment and secrets: what stands in for `${name}`, `${env:NAME}` and `!secret` in values.

A string that is nothing but `"${name}"` becomes the param's value with its type; `${name}` inside other text becomes text; `$${` stands
for a literal `${`. Keys are never interpolated. Values of params may refer to the environment and to secrets, not to params. Text with a
secret in it is a secret.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

from streamcore import limits
from streamcore.errors import Problem
from streamcore.secret import Secret, SecretRef, revealed
from streamcore.spec.model import Where
from streamcore.spec.problems import Problems, names, nearest, show
from streamcore.spec.reader import Unreadable, read_tree
from streamcore.spec.scalars import core_scalar

REFERENCE = re.compile(r"\$\$\{|\$\{([^{}]*)\}|\$\{")
_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_-]{0,63}")
_ENV_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]{0,127}")
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
_DECLARATION = ("required", "type", "secret")


class _Unset:
    """The value of a param that has none; what refers to it is not judged."""


UNSET = _Unset()
EACH = "each"  # what `for_each` calls the item


class Filler:
    """Replaces references. The text they add is bounded: 40,000 references to one long param would make gigabytes of a small file.

    `secrets` are the values of all secrets that were read, to keep them out of messages.
    """

    def __init__(self, problems: Problems, environ: Mapping[str, str]):
        self.problems, self.environ = problems, environ
        self.secrets: list[Any] = []
        self._weights: dict[int, tuple[Any, int]] = {}  # by identity; the value is kept so that its number stays its own
        self._room = limits.SPEC_BYTES_MAX
        self._is_full = False

    def fill(self, value: Any, where: Where, known: Mapping[str, Any], folder: Path) -> Any:
        """A copy of `value` with everything replaced. `known`: names to values; `folder`: from where files of secrets are sought.

        Values keep the place of the text that they replace. What could not be replaced is UNSET or None, and its place silenced.
        """
        if isinstance(value, dict):
            return {key: self.fill(item, (*where, key), known, folder) for key, item in value.items()}
        if isinstance(value, list):
            return [self.fill(item, (*where, index), known, folder) for index, item in enumerate(value)]
        if isinstance(value, SecretRef):
            return self._secret(value, where, folder)
        if not isinstance(value, str) or "${" not in value:
            return value
        place, exact = self.problems.places.nearest(where)
        if exact:
            place.written = value
        whole = _WHOLE.fullmatch(value)
        if whole:
            found = self._lookup(whole.group(1), where, known)
            return None if found is UNSET else found
        parts: list[Any] = []
        end = 0
        for match in REFERENCE.finditer(value):
            parts += [value[end : match.start()], self._piece(match, where, known)]
            end = match.end()
        parts.append(value[end:])
        hidden = [part for part in parts if isinstance(part, Secret)]
        text = "".join(str(revealed(part)) for part in parts)
        if not hidden:
            return text
        self._hide(text)
        return Secret(text, hidden[0].source, tuple(parts))

    def _secret(self, ref: SecretRef, where: Where, folder: Path) -> Any:
        try:
            secret = ref.resolve(self.environ, folder)
        except LookupError as error:
            self.problems.add(where, *error.args)
            return None
        self._hide(secret.reveal())
        return secret

    def _hide(self, value: Any) -> None:
        self.secrets.append(value)
        self.problems.hide(self.secrets)

    def _piece(self, match: re.Match[str], where: Where, known: Mapping[str, Any]) -> str | Secret:
        """What stands in text for one reference."""
        if match.group() == "$${":
            return "${"
        if match.group(1) is None:
            self.problems.add(where, f"{show(match.string)} with a ${{ that is not closed", "${name}, or $${ for a literal ${")
            return ""
        value = self._lookup(match.group(1), where, known)
        if isinstance(value, Secret):
            return value
        if value is UNSET:
            return ""
        if isinstance(value, bool) or value is None or isinstance(value, (dict, list)):
            if isinstance(value, bool):
                return show(value)
            self.problems.add(
                where, f"{show(value)} inside {show(match.string)}", f"text or a number as the value of param '{match.group(1)}'"
            )
            return ""
        return str(value)

    def _lookup(self, name: str, where: Where, known: Mapping[str, Any]) -> Any:
        """What a name stands for, or UNSET after a problem was reported."""
        if name.startswith("env:"):
            return self._environment(name, where)
        if name not in known:
            self._unknown(name, where, known)
            return UNSET
        value = known[name]
        if id(value) not in self._weights:
            self._weights[id(value)] = value, _weight(value)
        self._room -= self._weights[id(value)][1]
        if self._room < 0:
            if not self._is_full:
                self._is_full = True
                expected = f"at most {limits.SPEC_BYTES_MAX} bytes of interpolated values"
                self.problems.add(where, "params that make the spec too large", expected)
            self.problems.silence(where)
            return UNSET
        if value is UNSET:
            self.problems.silence(where)
        return value

    def _unknown(self, name: str, where: Where, known: Mapping[str, Any]) -> None:
        items = [word for word in known if word == EACH or word.startswith(f"{EACH}.")]
        if name.partition(".")[0] == EACH:
            expected = f"one of: {names(items)}" if items else f"no ${{{EACH}}}: it is known only at a node with for_each"
        elif known:
            expected = f"one of the params: {names(word for word in known if word not in items)}"
        else:
            expected = "a param: the spec has none; $${ stands for a literal ${"
        if ":" in name:
            expected += ", or ${env:NAME:-DEFAULT}"
        self.problems.add(where, f"'${{{show(name)[1:-1]}}}'", expected, near=(name, known))

    def _environment(self, reference: str, where: Where) -> Any:
        """`env:NAME` is text; `env:NAME:-DEFAULT` has the type of the default, as `--set` has."""
        name, has_default, default_text = reference.removeprefix("env:").partition(":-")
        if not _ENV_NAME.fullmatch(name):
            self.problems.add(where, f"'${{{show(reference)[1:-1]}}}'", "${env:NAME} or ${env:NAME:-DEFAULT}")
            return UNSET
        text = self.environ.get(name)
        if not has_default:
            if text is None:
                hint = f"set it, or give a default: ${{env:{name}:-DEFAULT}}"
                self.problems.add_problem_at(where, f"no environment variable {name}", f"a value in ${name}", hint)
                self.problems.silence(where)
                return UNSET
            return text
        try:
            default = core_scalar(default_text) if default_text else ""
        except ValueError:
            default = default_text
        if not text:  # as in a shell
            return default
        kind = type_of(default)
        value, expected = parse_as(kind, text)
        if value is UNSET:
            self.problems.add(where, f"{show(text)} in ${name}", f"{expected}, as its default is")
        return value


def resolve_params(declared: Any, sets: Mapping[str, str], filler: Filler, folder: Path) -> dict[str, Any]:
    """The value of each param of a spec: its default, or what `--set` gives. Problems are reported at the param or at `--set`."""
    values: dict[str, Any] = {}
    problems = filler.problems
    misspelt = _misspelt(sets, declared)
    for name, kind, hidden, default in _declared(declared, (), filler, folder):
        if name in sets:
            value, expected = parse_as(kind, sets[name])
            if value is UNSET:
                problems.add_problem(Problem("--set", 0, 0, name, "a secret" if hidden else show(sets[name]), expected))
            values[name] = Secret(value, f"--set {name}") if hidden and value is not UNSET else value
        else:
            if default is UNSET and kind and name not in misspelt:
                problems.add(("params", name), "no value", f"--set {name}=VALUE, where VALUE is {_TYPE_WORDS[kind]}")
            values[name] = default
    for name in sets if isinstance(declared, dict) else ():
        if name not in declared:
            expected = f"one of the params: {names(declared)}" if declared else "no --set: the spec has no params"
            problems.add_problem(Problem("--set", 0, 0, name, f"unknown param {show(name)}", expected), (name, declared))
    return values


def resolve_with(declared: Any, inside: Where, given: Mapping[str, Any], where: Where, filler: Filler, folder: Path) -> dict[str, Any]:
    """The value of each param of an included graph, declared at `inside`: its default, or what `with:` at `where` gives."""
    values: dict[str, Any] = {}
    problems = filler.problems
    misspelt = _misspelt(given, declared)
    for name, kind, hidden, default in _declared(declared, inside, filler, folder):
        if name not in given:
            if default is UNSET and kind and name not in misspelt and not problems.is_bad(where):
                found = f"no value for the param '{name}' of {problems.places.file_of((*inside, 'params'))[0]}"
                problems.add_problem_at(where, found, f"with: {{{name}: VALUE}}, where VALUE is {_TYPE_WORDS[kind]}")
            values[name] = default
            continue
        value = given[name]
        plain = revealed(value)
        fits = kind == "" or plain is UNSET or (isinstance(plain, _TYPES[kind]) and isinstance(plain, bool) == (kind == "boolean"))
        if not fits:
            problems.add((*where, name), show(value), _TYPE_WORDS[kind])
        values[name] = UNSET if not fits else Secret(plain, f"with {name}") if hidden and not isinstance(value, Secret) else value
    for name in given:
        if not isinstance(declared, dict) or name not in declared:
            known = declared if isinstance(declared, dict) else {}
            expected = f"one of its params: {names(known)}" if known else "no params: the included graph has none"
            problems.add((*where, name), f"unknown param {show(name)}", expected, at_key=True, near=(name, known))
    return values


def _misspelt(given: Iterable[str], declared: Any) -> set[str]:
    """The params that were meant by names that are none: they are not reported as missing too."""
    return {nearest(name, declared) for name in given if name not in declared} if isinstance(declared, dict) else set()


def _declared(declared: Any, prefix: Where, filler: Filler, folder: Path) -> Iterator[tuple[str, str, bool, Any]]:
    """(name, type, secret or not, default) of each param. UNSET: it is required, or, with type "", wrong."""
    if not isinstance(declared, dict):
        return  # the schema says what is wrong with it
    for name, default in declared.items():
        where: Where = (*prefix, "params", name)
        if not _NAME.fullmatch(name):
            filler.problems.add(where, show(name), "a name of letters, digits, - and _ that begins with a letter", at_key=True)
            yield name, "", False, UNSET
        elif name == EACH:
            filler.problems.add(where, show(name), "another name: this one is the item of for_each", at_key=True)
            yield name, "", False, UNSET
        elif isinstance(default, dict) and "required" in default:
            kind = _required_type(default, where, filler.problems)
            yield name, kind, default.get("secret") is True, UNSET
        else:
            _refuse_references(default, where, filler.problems)
            value = filler.fill(default, where, {}, folder)
            if filler.problems.is_bad(where):
                value = UNSET
            yield name, type_of(revealed(value)), isinstance(value, Secret), value


def _required_type(default: Mapping[str, Any], where: Where, problems: Problems) -> str:
    """The type of a param declared as `{required: true, type: integer}`; "" if the declaration is wrong."""
    kind = default.get("type", "string")
    for key, value in default.items():
        if key not in _DECLARATION:
            expected = f"one of: {names(_DECLARATION)}; a param with a default is nothing but the default"
            problems.add((*where, key), f"unknown key {show(key)}", expected, at_key=True, near=(key, _DECLARATION))
        elif key != "type" and value is not True:
            problems.add((*where, key), show(value), "true, or a plain default" if key == "required" else "true, or no such key")
        elif key == "type" and (not isinstance(kind, str) or kind not in _TYPES):
            problems.add((*where, key), show(kind), f"one of: {names(_TYPES)}", near=(str(kind), _TYPES))
    return "" if any(problems.is_bad((*where, key)) for key in default) else str(kind)


def _refuse_references(value: Any, where: Where, problems: Problems) -> None:
    if isinstance(value, dict):
        for key, item in value.items():
            _refuse_references(item, (*where, key), problems)
    elif isinstance(value, list):
        for index, item in enumerate(value):
            _refuse_references(item, (*where, index), problems)
    elif isinstance(value, str) and any((match[1] or "").partition(":")[0] != "env" for match in REFERENCE.finditer(value)):
        problems.add(where, show(value), "a plain value or ${env:NAME}: params do not refer to params")


def type_of(default: Any) -> str:
    """The type that `--set` must give; "" if any scalar will do (the default is null)."""
    if isinstance(default, bool):
        return "boolean"
    for kind in ("string", "integer", "number", "list", "map"):
        if isinstance(default, _TYPES[kind]):
            return kind
    return ""


def parse_as(kind: str, text: str) -> tuple[Any, str]:
    """What text means as a value of this type: text is taken verbatim, all else is read as YAML. (UNSET, what is expected) if it is not."""
    if any("\ud800" <= char <= "\udfff" for char in text):  # how Python shows bytes that are not UTF-8
        return UNSET, "text in UTF-8"
    if kind == "string":
        return text, ""
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
    return (value, "") if fits else (UNSET, expected)


def _weight(value: Any) -> int:
    """About how many bytes a value adds where it is used."""
    if isinstance(value, dict):
        return 2 + sum(len(key) + _weight(item) for key, item in value.items())
    if isinstance(value, list):
        return 2 + sum(map(_weight, value))
    return len(value) if isinstance(value, str) else 8
