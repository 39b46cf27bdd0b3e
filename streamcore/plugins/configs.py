"""Checking a node's config by its plugin's schema, with an answer that can travel: a schema with code is checked by a child process."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

import cerberus
import msgspec

from streamcore.secret import revealed
from streamcore.spec.model import Where
from streamcore.spec.problems import did_you_mean, show
from streamcore.spec.schema import Checker, Finding


class Checked(NamedTuple):
    """A config with its defaults, and what is wrong with it. `fault`: what is wrong with the schema itself; then the rest is empty."""

    config: Mapping[str, Any] = {}
    findings: tuple[Finding, ...] = ()
    fault: str = ""


class Sent(msgspec.Struct, frozen=True):
    """A Checked on its way out of a child process, the nearest name of each finding already sought."""

    config: dict[str, Any]
    findings: tuple[tuple[Where, str, str, str, bool], ...]
    fault: str

    @classmethod
    def of(cls, checked: Checked) -> Sent:
        rows = []
        for where, found, expected, hint, at_key, near in checked.findings:
            rows.append((where, found, expected, hint or (did_you_mean(*near) if near else ""), at_key))
        return cls({key: value for key, value in checked.config.items() if _can_travel(value)}, tuple(rows), checked.fault)

    def received(self) -> Checked:
        return Checked(self.config, tuple(Finding(*row) for row in self.findings), self.fault)


class Configs:
    """Compiles each schema once, and checks each config once: of many nodes most have the same, or none."""

    def __init__(self) -> None:
        self._checkers: dict[str, Checker | Checked] = {}  # by target; what a schema that is not valid says of every config
        self._known: dict[tuple[str, str], Checked] = {}

    def check(self, target: str, rules: Mapping[str, Any], config: Mapping[str, Any]) -> Checked:
        key = (target, repr(config))
        if key not in self._known:
            self._known[key] = self._check(target, rules, config)
        return self._known[key]

    def _check(self, target: str, rules: Mapping[str, Any], config: Mapping[str, Any]) -> Checked:
        try:
            if target not in self._checkers:
                self._checkers[target] = Checker(rules)
            checker = self._checkers[target]
            if isinstance(checker, Checked):
                return checker
            checked, findings = checker.check(config)
            if not findings:
                msgspec.json.encode(revealed(checked))  # it travels to the node's process as JSON; a coerce function may make anything
            return Checked(checked, tuple(findings))
        except Exception as error:  # foreign code: the plugin's own schema and its functions; reported at the plugin
            what = "is not valid" if isinstance(error, cerberus.SchemaError) else "fails"
            broken = Checked(fault=f"a config schema that {what}: {show(f'{type(error).__name__}: {error}')}")
            self._checkers.setdefault(target, broken)
            return broken


def _can_travel(value: Any) -> bool:
    try:
        msgspec.json.encode(value)
    except (TypeError, ValueError, OverflowError, RecursionError):
        return False
    return True
