"""What a node has to keep of its contract, a function per promise. Each returns a remark, raises Failed or Skipped, or lets out what the
node raised.

They run in a process of their own (`program`), one after the other; which of them a plugin's role has is in `CHECKS`.
"""

from __future__ import annotations

import gc
import threading
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import msgspec

from streamcore.authoring import inputs
from streamcore.authoring.trial import Feed, Stalled, Trial
from streamcore.clock import Clock
from streamcore.errors import ConfigError, PluginError
from streamcore.node.api import Node, role_of
from streamcore.spec.schema import Checker

PACKETS = 12  # of an ordinary stream
STOP_AFTER = 8  # packets of a source, before it is asked to end
THREAD_S, LOOK_S = 2.0, 0.01  # so long may a thread take to end after close()
UNKNOWN_KEY = "a_key_that_nobody_declares"


class Failed(Exception):
    """The promise is not kept; the text says what was found and what is expected."""


class Skipped(Exception):
    """The promise could not be looked at; the text says why."""


@dataclass
class Subject:
    """The plugin that is checked: class, the config that was given, JSON samples by input port."""

    cls: type[Node]
    given: Mapping[str, Any]
    samples: Mapping[str, Any]
    config: dict[str, Any] = field(default_factory=dict)  # with its defaults
    trials: list[Trial] = field(default_factory=list)  # of the check under way

    def trial(self, resume_position: int | None = None, *, setup: bool = True) -> Trial:
        made = Trial(self.cls, self.config, self.samples, resume_position)
        if setup:
            made.node.setup()
        self.trials.append(made)
        return made

    def close_what_is_open(self) -> None:
        """After a check that did not come to its end: files and locks must not be in the way of the next."""
        for trial in self.trials:
            if not trial.ended:
                try:
                    trial.node.close()
                except Exception as error:  # the plugin's own: whether close() works is another check
                    trial.log.debug("close() failed: %s", error)
        self.trials.clear()


class Check(NamedTuple):
    name: str
    promise: str  # as `streamctl node check` prints it
    roles: tuple[str, ...]
    look: Callable[[Subject], str]


# --- what it declares


def check_given(subject: Subject) -> None:
    """Fill in the defaults. Raises ConfigError for what the caller of the check has to mend, PluginError for a schema that is none."""
    checker = _checker(subject)
    subject.config, findings = checker.check(subject.given)
    wrong = [each for each in findings if each.where[0] in subject.given or each.found == "nothing"]
    if wrong:
        told = "; ".join(f"config.{'.'.join(map(str, each.where))}: found {each.found}, expected {each.expected}" for each in wrong)
        raise ConfigError(f"{told}; give it with --config KEY=VALUE")


def _checker(subject: Subject) -> Checker:
    try:
        return Checker(subject.cls.config)
    except Exception as error:  # cerberus, about a schema of foreign code: it raises more kinds than its SchemaError
        raise PluginError(f"{subject.cls.__name__}.config is no Cerberus schema: {error}") from error


def defaults(subject: Subject) -> str:
    _, findings = _checker(subject).check(subject.given)
    if findings:
        raise Failed("; ".join(f"the default of {each.where[0]!r} is {each.found}, its rule wants {each.expected}" for each in findings))
    for key, value in subject.config.items():
        try:
            carried = msgspec.json.decode(msgspec.json.encode(value))
        except (TypeError, ValueError) as error:
            raise Failed(f"the value of {key!r} cannot be sent to a node's process as JSON: {error}") from None
        if carried != value:
            raise Failed(f"the value of {key!r} is {value!r}; a node's process gets it by way of JSON as {carried!r}")
    count = sum("default" in rule for rule in subject.cls.config.values())
    return f"{count} of {len(subject.cls.config)} keys have one"


def unknown_keys(subject: Subject) -> str:
    checker = _checker(subject)
    for path, document in _with_unknown(subject.cls.config, subject.config):
        if not any(each.at_key and each.where[-1] == UNKNOWN_KEY for each in checker.check(document)[1]):
            raise Failed(f"config{path} takes any key: a misspelt one would be ignored; expected no allow_unknown")
    return ""


def _with_unknown(rules: Mapping[str, Any], config: Mapping[str, Any]) -> list[tuple[str, dict[str, Any]]]:
    """The config with a key too many: at its top, and in every mapping of which the keys are declared."""
    found = [("", {**config, UNKNOWN_KEY: 1})]
    for key, rule in rules.items():
        if rule.get("type") == "dict" and "schema" in rule:
            inner = config.get(key) or {}
            found += [(f".{key}{path}", {**config, key: deeper}) for path, deeper in _with_unknown(rule["schema"], inner)]
    return found


# --- what it does


def setup(subject: Subject) -> str:
    try:
        trial = subject.trial()
    except ConfigError as error:
        raise Failed(f"it cannot work with its config: {error}; give another one with --config KEY=VALUE") from None
    trial.close()
    return ""


def declared_keys(subject: Subject) -> str:
    trial = subject.trial(setup=False)
    try:
        trial.node.setup()
        _ordinary_life(trial)
    finally:
        unknown = sorted(trial.config.missing - set(subject.cls.config))
        if unknown:
            raise Failed(f"it reads config keys that it does not declare: {', '.join(unknown)}")
    return ""


def _ordinary_life(trial: Trial) -> str:
    """From the first packet to the end. What process() raised first, as text: it fails the packet, and the contract allows that."""
    cause = ""
    if not trial.feeds:
        trial.run(STOP_AFTER)
    for _ in range(PACKETS if trial.feeds else 0):
        cause = _fails(trial) or cause
    trial.end()
    return cause


def emits(subject: Subject) -> str:
    trial = subject.trial()
    cause = _ordinary_life(trial)
    if trial.wrong:
        raise Failed(trial.wrong)
    if cause and not trial.outputs:
        wanted = [feed.name for feed in trial.feeds if inputs.needs_word(feed.port, subject.samples, feed.name)]
        hint = f"; give a payload that it takes with --input {wanted[0]}=JSON" if wanted else ""
        raise Skipped(f"process() raised for every input: {cause}{hint}")
    counts = Counter(packet.port for packet in trial.outputs)
    return ", ".join(f"{count} by {port}" for port, count in sorted(counts.items())) or f"nothing was emitted for {PACKETS} inputs"


def sink_returns_nothing(subject: Subject) -> str:
    trial = subject.trial()
    cause = _ordinary_life(trial)
    if trial.wrong:
        raise Failed("process() or flush() gave something out; a Sink has no outputs, a Node has both")
    if cause:
        raise Skipped(f"process() raised: {cause}")
    return ""


def no_input(subject: Subject) -> str:
    subject.trial().end()
    return ""


def restart(subject: Subject) -> str:
    for redelivered in (False, True):
        trial = subject.trial()
        for _ in range(PACKETS):
            _fails(trial, redelivered=redelivered)
        trial.end()
    return ""


def odd_input(subject: Subject) -> str:
    trial = subject.trial()
    before = _fails(trial)
    said = [_fails(trial, feed, payload) for feed in trial.feeds for payload in inputs.odd(feed.port)]
    after = _fails(trial)
    if after and not before:
        raise Failed(f"after odd inputs it cannot handle an ordinary one any more: {after}")
    trial.end()
    return f"{sum(map(bool, said))} refused, {said.count('')} taken"


def _fails(trial: Trial, feed: Feed | None = None, payload: Any = None, *, redelivered: bool = False) -> str:
    """What process() raised for a payload, or for an ordinary one at every port; "" if nothing."""
    try:
        if feed is None:
            trial.push_ordinary(redelivered=redelivered)
        else:
            trial.push(feed, payload)
    except Stalled:
        raise
    except Exception as error:  # the node's own: it fails the packet
        return f"{type(error).__name__}: {error}"
    return ""


def held(subject: Subject) -> str:
    trial = subject.trial()
    most, allowed = 0, trial.retention
    declared = f"retention declares {allowed}"
    try:
        for _ in range(trial.slots + PACKETS):
            _fails(trial)
            most = max(most, *trial.held().values())
            if most > allowed:
                now, by_garbage = trial.held_in_the_end(allowed)
                if by_garbage:
                    raise Failed("packets came back only when the garbage collector ran: the node puts them into a reference cycle")
                if max(now.values()) > allowed:
                    told = ", ".join(f"{count} of port {port}" for port, count in now.items() if count > allowed)
                    raise Failed(f"it keeps {told} beyond process(), {declared}")
                most = allowed
    except Stalled:
        raise Failed(f"it keeps all {trial.slots} packets that there are, {declared}") from None
    trial.end()
    del trial.node  # as the host does: only what something else holds counts
    gc.collect()
    if max(trial.held_in_the_end(0)[0].values()):
        raise Failed("packets are still held when close() has returned and the node is gone: by a global, a class or a thread")
    return f"at most {most}, {declared}"


def threads(subject: Subject) -> str:
    before = set(threading.enumerate())
    trial = subject.trial()
    _ordinary_life(trial)
    clock = Clock()
    deadline_ns = clock.monotonic_ns() + round(THREAD_S * 1e9)
    while left := [each for each in threading.enumerate() if each not in before and not each.daemon]:
        if clock.monotonic_ns() > deadline_ns:
            raise Failed(f"thread {left[0].name!r} runs on after close(): the process could not end")
        clock.sleep(LOOK_S)
    return ""


# --- sources


def source_stops(subject: Subject) -> str:
    trial = subject.trial()
    try:
        trial.run(STOP_AFTER)
    except RuntimeError as error:
        if "ignored GeneratorExit" in str(error):
            raise Failed("run() goes on when its generator is closed; let GeneratorExit pass") from None
        raise
    if trial.wrong:
        raise Failed(trial.wrong)
    trial.end()
    return f"it gave {plural(len(trial.outputs))}{'' if trial.stopping else ' and ended by itself'}"


def source_resumes(subject: Subject) -> str:
    known = _positions(subject, None, STOP_AFTER)
    if not known:
        raise Skipped("it gave no packet")
    if None in known:
        raise Skipped("its packets have no position: after a restart it goes on with new ones")
    if known != sorted(set(known)):
        raise Failed(f"positions do not rise from packet to packet: {known}")
    middle = known[len(known) // 2]
    again = _positions(subject, middle, 1)
    if again and again[0] <= middle:
        raise Failed(f"resumed with resume_position {middle}, it began at {again[0]}; expected the one after it")
    if not again and middle != known[-1]:
        raise Failed(f"resumed with resume_position {middle}, it gave nothing; before, {known[-1]} followed")
    return f"at {again[0]} after {middle}" if again else ""


def _positions(subject: Subject, resume_position: int | None, limit: int) -> list[Any]:
    trial = subject.trial(resume_position)
    trial.run(limit)
    trial.end()
    return [packet.position for packet in trial.outputs]


def plural(packets: int) -> str:
    return f"{packets} packet{'' if packets == 1 else 's'}"


ALL = ("source", "node", "sink")
TAKES, GIVES = ("node", "sink"), ("source",)
CHECKS = (
    Check("defaults", "the defaults of its config keep its own rules, and are JSON", ALL, defaults),
    Check("unknown-keys", "its config refuses keys that it does not know", ALL, unknown_keys),
    Check("setup", "setup() and close() work with this config", ALL, setup),
    Check("emits", "what it emits fits the ports it declares", ("node",), emits),
    Check("returns-nothing", "a sink gives nothing out", ("sink",), sink_returns_nothing),
    Check("stops", "the source ends when it is asked, and its packets fit their ports", GIVES, source_stops),
    Check("declared-keys", "it reads only config keys that it declares", ALL, declared_keys),
    Check("resumes", "the source goes on behind resume_position", GIVES, source_resumes),
    Check("no-input", "flush() and close() work when no packet came", ALL, no_input),
    Check("restart", "it can be set up again, and takes packets that are delivered again", TAKES, restart),
    Check("odd-input", "a packet that it cannot handle fails alone", TAKES, odd_input),
    Check("held", "it keeps no more packets than it declares", TAKES, held),
    Check("threads", "close() ends its threads", ALL, threads),
)


def checks_of(cls: type[Node]) -> list[Check]:
    return [check for check in CHECKS if role_of(cls) in check.roles]
