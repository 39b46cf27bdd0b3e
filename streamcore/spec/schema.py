"""Cerberus with human words: check a mapping against a schema and say for every problem what was found and what is expected.

One type is added: `size`, an integer of bytes that may be written as `512MiB`. One rule is added: `words`, what a text may be where the
value may also be something else, e.g. a mapping. The same checker serves the spec and each plugin's config.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar, NamedTuple

import cerberus
from cerberus import errors as codes
from cerberus.errors import ErrorDefinition
from cerberus.schema import UnvalidatedSchema
from cerberus.validator import TypeDefinition

from streamcore.secret import keep_secrets, revealed, secrets_in
from streamcore.spec.model import Where
from streamcore.spec.problems import PROBLEMS_MAX, Near, names, show
from streamcore.spec.scalars import parse_size, size_text

_WORDS = {
    "string": "text",
    "integer": "an integer",
    "float": "a number",
    "number": "a number",
    "boolean": "true or false",
    "dict": "a mapping",
    "list": "a list",
    "size": "a size such as 512MiB",
}
_NO_SUCH_WORD = ErrorDefinition(0x4F, "words")  # in the range of cerberus' rules that compare values
_MISSING = "nothing"
_NESTED = ("schema", "valuesrules", "keysrules", "allow_unknown")
_OF_RULES = ("anyof", "allof", "oneof", "noneof")


class Finding(NamedTuple):
    """One thing that a schema does not allow. `at_key`: the key is meant, not its value."""

    where: Where
    found: str
    expected: str
    hint: str = ""
    at_key: bool = False
    near: Near | None = None


class _Validator(cerberus.Validator):  # type: ignore[misc]
    types_mapping: ClassVar[dict[str, TypeDefinition]] = {
        **cerberus.Validator.types_mapping,
        "size": TypeDefinition("size", (int,), (bool,)),
        "integer": TypeDefinition("integer", (int,), (bool,)),  # cerberus takes true for 1
        "float": TypeDefinition("float", (float, int), (bool,)),
    }

    def _error(self, *args: Any) -> None:
        if len(args) == 1:  # cerberus sorts all errors again for every one: 10 s for a list of 4,000 wrong entries
            room = PROBLEMS_MAX + 1 - len(self._errors)
            self._errors.extend(args[0][: max(0, room)])
        else:
            super()._error(*args)

    def _validate_words(self, words: Sequence[str], field: str, value: Any) -> None:
        """The rule's arguments are validated against this schema: {'type': 'list', 'schema': {'type': 'string'}}"""
        if isinstance(value, str) and value not in words:
            self._error(field, _NO_SUCH_WORD)

    def _normalize_coerce_size(self, value: Any) -> Any:
        nbytes = parse_size(value) if isinstance(value, str) else None
        return value if nbytes is None else nbytes


class Checker:
    """A schema, ready to be used many times.

    proven: a test has checked the schema, so that no start has to. For that of the spec it takes 25 ms, more than the spec itself.
    Raises:
      cerberus.SchemaError: the schema itself is not valid.
    """

    def __init__(self, rules: Mapping[str, Any], *, proven: bool = False):
        self.rules = {name: _with_sizes(rule) for name, rule in rules.items()}
        self._validator = _Validator(UnvalidatedSchema(self.rules) if proven else self.rules)

    def check(self, document: Mapping[str, Any]) -> tuple[dict[str, Any], list[Finding]]:
        """The document with its defaults and with sizes as integers, and what is wrong with it. Secrets are checked and not shown."""
        validator, hidden = self._validator, any(True for _ in secrets_in(document))
        validator.validate(revealed(document) if hidden else dict(document))
        findings: list[Finding] = []
        for error in validator._errors:
            self._explain(error, findings)
        as_written = [finding._replace(found=_found(document, finding)) for finding in findings]
        as_written.sort(key=lambda finding: finding.found == _MISSING)  # a key that was misspelt is reported before it is missed
        normalised = validator.document or {}
        return keep_secrets(document, normalised) if hidden else normalised, as_written

    def _explain(self, error: Any, findings: list[Finding]) -> None:
        where: Where = tuple(error.document_path)
        first = len(findings)
        rule = self._rule_at(error.schema_path)
        if error.is_logic_error:  # what each alternative says would be a wall of text
            choices = " or ".join(_expected(choice) for choice in error.constraint)
            findings.append(Finding(where, show(error.value), f"{'not ' if error.rule == 'noneof' else ''}{choices}"))
        elif error.is_group_error:
            for child in error.child_errors:
                self._explain(child, findings)
            if error.rule == "keysrules":  # the keys of the mapping are what was checked
                for number in range(first, len(findings)):
                    key = findings[number].where[-1]
                    findings[number] = findings[number]._replace(found=show(key), at_key=True, near=None)
        elif error.code == codes.UNKNOWN_FIELD.code:
            known = self._names_at(error.schema_path)
            key = str(where[-1])
            expected = f"one of: {names(known)}" if known else "no keys"
            findings.append(Finding(where, f"unknown key {show(key)}", expected, "", at_key=True, near=(key, known)))
        elif error.code == codes.REQUIRED_FIELD.code:
            findings.append(Finding(where, _MISSING, _expected(self._rule_at(error.schema_path))))
        elif error.code == codes.CUSTOM.code or error.rule in ("coerce", "default_setter", "check_with", "dependencies", "excludes"):
            findings.append(Finding(where, show(error.value), "; ".join(map(str, error.info)) or _expected(rule)))
        else:
            words = rule.get("allowed", rule.get("words"))
            near = (error.value, map(str, words)) if isinstance(error.value, str) and words else None
            findings.append(Finding(where, show(error.value), _expected(rule), near=near))

    def _rule_at(self, schema_path: tuple[Any, ...]) -> Mapping[str, Any]:
        """The rules of the field that an error is about: schema_path without the name of the rule."""
        node: Any = self.rules
        for part in schema_path[:-1]:
            try:
                node = node[part]
            except (KeyError, IndexError, TypeError):
                return {}
        return node if isinstance(node, Mapping) else {}

    def _names_at(self, schema_path: tuple[Any, ...]) -> list[str]:
        """The keys allowed in the mapping that holds an unknown one; cerberus gives the path of that mapping's schema."""
        return [str(name) for name in self._rule_at((*schema_path, ""))]


def _found(document: Any, finding: Finding) -> str:
    """What was found, as it is written in the document: cerberus names sizes as it has converted them."""
    if finding.at_key or finding.found == _MISSING:
        return finding.found
    value = document
    for part in finding.where:
        try:
            value = value[part]
        except (KeyError, IndexError, TypeError):
            return finding.found
    return show(value)


def _with_sizes(rule: Any) -> Any:
    """A copy of a rule in which `type: size` also converts, at every depth."""
    if not isinstance(rule, Mapping):
        return rule
    copy = dict(rule)
    kinds = copy.get("type")
    if kinds == "size" or (isinstance(kinds, (list, tuple)) and "size" in kinds):
        copy.setdefault("coerce", "size")
        copy.setdefault("min", 0)
    for name in _NESTED:
        inner = copy.get(name)
        if isinstance(inner, Mapping):
            # `schema` holds either one rule (for lists) or names with rules (for mappings); only the latter has mappings in every value.
            many = name == "schema" and bool(inner) and all(isinstance(value, Mapping) for value in inner.values())
            copy[name] = {key: _with_sizes(value) for key, value in inner.items()} if many else _with_sizes(inner)
    if isinstance(copy.get("items"), (list, tuple)):
        copy["items"] = [_with_sizes(item) for item in copy["items"]]
    return copy


def _bounds(low: Any, high: Any, both: str, least: str, most: str) -> str:
    if low is not None and high is not None:
        return both.format(low, high)
    return least.format(low) if low is not None else most.format(high) if high is not None else ""


def _expected(rule: Mapping[str, Any]) -> str:
    """A rule in words, e.g. `an integer from 1 to 100`."""
    if not isinstance(rule, Mapping):
        return "another value"
    if "allowed" in rule:
        what = f"one of: {names(str(value) for value in rule['allowed'])}"
        return f"a list of {what}" if rule.get("type") == "list" else what
    kinds = rule.get("type", ())
    kinds = [kinds] if isinstance(kinds, str) else list(kinds)
    said = {**_WORDS, "string": f"one of: {names(rule['words'])}"} if "words" in rule else _WORDS
    what = " or ".join(said.get(kind, f"a {kind}") for kind in kinds) or "a value"
    what = rule.get("meta", {}).get("words", what)
    low, high = rule.get("min"), rule.get("max")
    if kinds == ["size"]:
        low, high = size_text(low) if low else None, size_text(high) if high else None
    what += _bounds(low, high, " from {} to {}", ", at least {}", ", at most {}")
    lengths = rule.get("minlength"), rule.get("maxlength")
    one, many = (" character", " characters") if "string" in kinds else (" entry", " entries")
    unit = one if 1 in lengths and None in lengths else many
    if lengths[0] is not None and lengths[0] == lengths[1]:
        what += f" with exactly {lengths[0]}{unit}"
    else:
        what += _bounds(*lengths, f" with {{}} to {{}}{unit}", f" with at least {{}}{unit}", f" with at most {{}}{unit}")
    if rule.get("empty") is False and not rule.get("minlength"):
        what += ", not empty"
    if "regex" in rule:
        what += f" that matches {rule['regex']}"
    if rule.get("nullable"):
        what += ", or nothing"
    if any(name in rule for name in _OF_RULES):
        choices = [choice for name in _OF_RULES for choice in rule.get(name, ())]
        what = " or ".join(_expected(choice) for choice in choices)
    return what
