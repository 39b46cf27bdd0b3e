"""From bytes to plain values and their places, without trusting the bytes.

YAML is read as a stream of parse events and never composed by the library: its C composer overflows the stack on deep nesting, and
aliases and merge keys turn a few hundred bytes into hours. Values are dict, list, str, int, float, bool, None and SecretRef; keys are
text, as written.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import yaml

from streamcore import limits
from streamcore.secret import SecretRef
from streamcore.spec.model import Place, Where
from streamcore.spec.problems import Problems, show
from streamcore.spec.scalars import core_scalar

# The C parser is 10 times faster; both give the same events.
LOADER: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
_NOT_YAML = re.compile("[^\t\n\r\x20-\x7e\x85\xa0-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")
_SURROGATE = re.compile("[\ud800-\udfff]")
_BRACES = "put values with braces, like ${name}, in quotes"
_REPEATED = "use a param and ${name} for what is repeated"
_NO_KEY = object()


class Unreadable(Exception):
    """Reading cannot go on; the problem was reported."""


def read_file(path: str | Path, problems: Problems) -> str:
    """The text of a spec file, a leading byte order mark removed.

    Raises:
      Unreadable: missing, not a file, too large, not UTF-8, or with characters that YAML does not allow.
    """
    try:
        with open(path, "rb") as file:
            raw = file.read(limits.SPEC_BYTES_MAX + 1)
    except (OSError, ValueError) as error:  # ValueError: a NUL in the path
        reason = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
        problems.add_at(0, 0, (), reason, "a readable spec file")
        raise Unreadable from error
    if len(raw) > limits.SPEC_BYTES_MAX:
        problems.add_at(0, 0, (), f"more than {limits.SPEC_BYTES_MAX} bytes", f"at most {limits.SPEC_BYTES_MAX} bytes")
        raise Unreadable
    return decode(raw, problems)


def decode(raw: bytes, problems: Problems) -> str:
    """Raises Unreadable with the place of the first byte that is not UTF-8 or the first character that YAML does not allow."""
    try:
        text = raw.decode("utf-8")
    except UnicodeDecodeError as error:
        before = raw[: error.start].decode("utf-8")
        problems.add_at(*_line_column(before), (), f"byte 0x{raw[error.start]:02x}, which is not UTF-8", "a text file in UTF-8")
        raise Unreadable from error
    text = text.removeprefix("\ufeff")
    bad = _NOT_YAML.search(text)
    if bad:
        problems.add_at(*_line_column(text[: bad.start()]), (), f"control character U+{ord(bad.group()):04X}", "printable text")
        raise Unreadable
    return text


def _line_column(before: str) -> tuple[int, int]:
    return before.count("\n") + 1, len(before) - (before.rfind("\n") + 1) + 1


def read_tree(text: str, problems: Problems) -> tuple[Any, Place]:
    """Parse one YAML document. Problems that do not hide what follows (a tag, a duplicate key) are reported and reading goes on.

    Raises:
      Unreadable: not YAML, more than one document, an alias, or beyond SPEC_NESTING_MAX or SPEC_EVENTS_MAX.
    """
    builder = _Builder(problems)
    try:
        for count, event in enumerate(yaml.parse(text, Loader=LOADER)):
            if count >= limits.SPEC_EVENTS_MAX:
                builder.refuse(event, f"more than {limits.SPEC_EVENTS_MAX} values", "a smaller spec")
            builder.take(event)
    except yaml.YAMLError as error:
        _report_syntax(error, text, problems)
        raise Unreadable from error
    except (ValueError, OverflowError) as error:  # the pure Python scanner lets chr() raise on an escape like "\UFFFFFFFF"
        problems.add_at(0, 0, (), f"text that YAML cannot hold ({error})", "valid YAML")
        raise Unreadable from error
    if builder.unreadable:
        raise Unreadable
    if builder.root is None:
        problems.add_at(1, 1, (), "an empty file", "a mapping with version, nodes and edges")
        raise Unreadable
    return builder.value, builder.root


def _report_syntax(error: yaml.YAMLError, text: str, problems: Problems) -> None:
    mark = getattr(error, "problem_mark", None) or getattr(error, "context_mark", None)
    line, column = (mark.line + 1, mark.column + 1) if mark else (0, 0)
    what = getattr(error, "problem", None) or "text that cannot be parsed"
    context = getattr(error, "context", None)
    start = getattr(error, "context_mark", None)
    since = f" ({context} that begins on line {start.line + 1})" if context and start else ""
    lines = text.split("\n")
    written = lines[line - 1] if 0 < line <= len(lines) else ""
    hint = ""
    if "\t" in written[: column + 1]:
        hint = "indent with spaces, not with tabs"
    elif "{$" in written.replace(" ", "") or ": ${" in written:
        hint = _BRACES
    elif what.startswith("mapping values"):
        hint = _colon_hint(written, column - 1)
    problems.add_at(line, column, (), f"{what.removeprefix('found ')}{since}", "valid YAML", hint)


def _colon_hint(written: str, colon: int) -> str:
    """What a colon does not belong to: text, unless it is the first one of its line."""
    if re.match(r" *-[^ ]", written):
        return "put a space behind the dash"
    return "put text that contains a colon in quotes" if ":" in written[:colon] else "indent this line as the keys beside it"


class _Frame:
    """A container that is being filled. `part` is its key or index in what encloses it."""

    __slots__ = ("container", "key", "part", "place")

    def __init__(self, container: dict[str, Any] | list[Any], place: Place, part: str | int):
        self.container, self.place, self.part = container, place, part
        self.key: Any = _NO_KEY  # of a mapping: (text, line, column) between a key and its value

    def next_part(self) -> str | int:
        """Key or index of the value that comes next."""
        if isinstance(self.container, list):
            return len(self.container)
        return "" if self.key is _NO_KEY else str(self.key[0])


class _Builder:
    """Builds values and places from events; a stack instead of recursion."""

    def __init__(self, problems: Problems):
        self.problems = problems
        self.value: Any = None
        self.root: Place | None = None
        self.unreadable = False
        self._stack: list[_Frame] = []
        self._documents = 0

    def refuse(self, event: Any, found: str, expected: str, hint: str = "") -> None:
        """Report what makes the rest meaningless."""
        self._report(event, found, expected, hint)
        raise Unreadable

    def take(self, event: Any) -> None:
        if isinstance(event, yaml.ScalarEvent):
            self._check_properties(event)
            self._scalar(event)
        elif isinstance(event, (yaml.MappingStartEvent, yaml.SequenceStartEvent)):
            self._check_properties(event)
            self._open(event)
        elif isinstance(event, (yaml.MappingEndEvent, yaml.SequenceEndEvent)):
            self._stack.pop()
        elif isinstance(event, yaml.AliasEvent):
            self.unreadable = True
            self._report(event, f"the alias *{show(event.anchor)[1:-1]}", "no aliases", _REPEATED)
            if self._wants_key():
                raise Unreadable
            self._put(event, None)
        elif isinstance(event, yaml.DocumentStartEvent):
            self._documents += 1
            if self._documents > 1:
                self.refuse(event, "a second document", "one document in a file")

    def _check_properties(self, event: Any) -> None:
        if event.anchor is not None:
            self._report(event, f"the anchor &{show(event.anchor)[1:-1]}", "no anchors", _REPEATED)
        if event.tag is not None and not self._is_secret(event):
            tag = str(event.tag).replace("tag:yaml.org,2002:", "!!")
            secret = "a secret is a value: !secret env:NAME or !secret file:PATH"
            hint = secret if tag == "!secret" else "types follow from how a value is written"
            self._report(event, f"the tag {show(tag)[1:-1]}", "no tags", hint)

    def _is_secret(self, event: Any) -> bool:
        return event.tag == "!secret" and isinstance(event, yaml.ScalarEvent) and not self._wants_key()

    def _open(self, event: Any) -> None:
        if len(self._stack) >= limits.SPEC_NESTING_MAX:
            self.refuse(event, f"nesting deeper than {limits.SPEC_NESTING_MAX}", f"at most {limits.SPEC_NESTING_MAX} levels")
        if self._wants_key():
            self.refuse(event, "a mapping or list as a key", "text as a key", _BRACES)
        container: dict[str, Any] | list[Any] = {} if isinstance(event, yaml.MappingStartEvent) else []
        part = self._stack[-1].next_part() if self._stack else ""
        self._stack.append(_Frame(container, self._put(event, container), part))

    def _scalar(self, event: Any) -> None:
        if self._wants_key():
            frame = self._stack[-1]
            frame.key = (event.value, event.start_mark.line + 1, event.start_mark.column + 1)
            if event.value == "<<":
                self.unreadable = True
                self._report(event, "the merge key <<", "no merge keys", _REPEATED)
            elif event.value in frame.container:
                first = frame.place.children[event.value].key
                self._report(event, f"the key {show(event.value)} again", "each key once", f"first on line {first[0] if first else 0}")
            return
        value = event.value
        if _SURROGATE.search(value):  # only the pure Python parser lets such an escape pass
            self.refuse(event, "half of a surrogate pair", "characters, not UTF-16 code units")
        if self._is_secret(event):
            value = SecretRef(value)
        elif not event.style:
            try:
                value = core_scalar(value)
            except ValueError as error:
                self._report(event, show(value)[1:-1], str(error))
                value = 0
        self._put(event, value)

    def _wants_key(self) -> bool:
        return bool(self._stack) and isinstance(self._stack[-1].container, dict) and self._stack[-1].key is _NO_KEY

    def _put(self, event: Any, value: Any) -> Place:
        place = Place(event.start_mark.line + 1, event.start_mark.column + 1)
        if not self._stack:
            self.value, self.root = value, place
            return place
        frame = self._stack[-1]
        if isinstance(frame.container, list):
            frame.place.children[len(frame.container)] = place
            frame.container.append(value)
            return place
        key, line, column = frame.key
        frame.key = _NO_KEY
        place.key = (line, column)
        if key not in frame.container:  # of a duplicate the first stays
            frame.container[key] = value
            frame.place.children[key] = place
        return place

    def _report(self, event: Any, found: str, expected: str, hint: str = "") -> None:
        mark = event.start_mark
        self.problems.add_at(mark.line + 1, mark.column + 1, self._where(), found, expected, hint)

    def _where(self) -> Where:
        """The path of the value that comes next."""
        if not self._stack:
            return ()
        parts = [frame.part for frame in self._stack[1:]]
        return tuple(parts) if self._wants_key() else (*parts, self._stack[-1].next_part())
