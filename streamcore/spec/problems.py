"""Collecting problems: one per place, bounded, in the order of the file, with the nearest valid name."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from difflib import get_close_matches
from itertools import islice
from typing import Any

from streamcore.errors import Problem
from streamcore.secret import Masker, Secret, SecretRef
from streamcore.spec.model import PLAIN_KEY, Place, Where, format_path

PROBLEMS_MAX = 100  # more than anybody mends in one go; bounds the time and output of a hostile file
SHOWN_CHARS_MAX = 80  # of a value in a message
NEAREST_CHARS_MAX = 64  # the search for a similar name is quadratic in the length
NEAREST_NAMES_MAX = 512  # and linear in the number of candidates: 100 problems take a second
LISTED_NAMES_MAX = 20
MEND_FIRST = "mend those above first"  # of the last problem, if some were left out


def show(value: Any) -> str:
    """A value as an error names it: text in quotes and cut, containers by their type only."""
    if value is None:
        return "nothing (null)"
    if isinstance(value, (Secret, SecretRef)):
        return "a secret"
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, dict):
        return "a mapping" if value else "an empty mapping"
    if isinstance(value, (list, tuple)):
        return f"a list of {len(value)}" if value else "an empty list"
    text = repr(value[: SHOWN_CHARS_MAX + 1] if isinstance(value, str) else value)  # cut twice: a megabyte is not worth its quotes
    return text if len(text) <= SHOWN_CHARS_MAX else f"{text[: SHOWN_CHARS_MAX - 3]}..."


def names(words: Iterable[str]) -> str:
    """`a, b, c`, cut after LISTED_NAMES_MAX; what is no plain word is in quotes."""
    listed = list(words)
    more = f" and {len(listed) - LISTED_NAMES_MAX} more" if len(listed) > LISTED_NAMES_MAX else ""
    return ", ".join(word if PLAIN_KEY.fullmatch(word) else show(word) for word in listed[:LISTED_NAMES_MAX]) + more


def nearest(word: str, candidates: Iterable[str]) -> str:
    """The candidate most like `word`, or "" if none is."""
    if len(word) > NEAREST_CHARS_MAX:
        return ""
    listed = list(islice(candidates, NEAREST_NAMES_MAX))
    matches = get_close_matches(word, listed, n=1) or get_close_matches(word.lower(), listed, n=1)
    return matches[0] if matches else ""


def did_you_mean(word: str, candidates: Iterable[str]) -> str:
    """The hint line, or ""."""
    name = nearest(word, candidates)
    return f"did you mean {name!r}?" if name else ""


Near = tuple[str, Iterable[str]]  # a word, and the names of which one may have been meant


class Problems:
    """The problems of one file. A place that has one is not reported again, nor is what lies in it: later findings follow from it."""

    def __init__(self, file: str, places: Place | None = None, bad: Iterable[Where] = ()):
        self.file = file
        self.places = places or Place()
        self._found: list[Problem] = []
        self._known: set[Problem] = set()
        self._secrets = Masker(())
        self._bad: set[Where] = set(bad)
        self._left_out = 0

    def __bool__(self) -> bool:
        return bool(self._found)

    def add(self, where: Where, found: str, expected: str, hint: str = "", at_key: bool = False, near: Near | None = None) -> None:
        """Report the value at `where`, or its key; `near` asks for the nearest of some names as the hint."""
        place, _ = self.places.nearest(where)
        if place.written and not (hint or at_key or "${" in found):
            hint = f"it is the value of {show(place.written)}"
        if not self.is_bad(where):
            self.silence(where)
            if at_key and near:
                self._silence_meant((*where[:-1], nearest(*near)))
            file, path = self.places.file_of(where)
            mark = self.places.find(where, at_key)
            self.add_problem(Problem(file or self.file, *mark, format_path(path), found, expected, hint), near)

    def _silence_meant(self, where: Where) -> None:
        """A key is misspelt. The one that was meant is not reported as missing too."""
        if self.places.children and not self.places.nearest(where)[1]:
            self.silence(where)

    def add_problem_at(self, where: Where, found: str, expected: str, hint: str = "") -> None:
        """One of several at the same place: what is found there later is reported as well."""
        file, path = self.places.file_of(where)
        self.add_problem(Problem(file or self.file, *self.places.find(where), format_path(path), found, expected, hint))

    def add_at(self, line: int, column: int, where: Where, found: str, expected: str, hint: str = "", near: Near | None = None) -> None:
        """Report a place for which no Place is known yet."""
        if not self.is_bad(where):
            self.silence(where)
            path = format_path(self.places.as_written(where))
            self.add_problem(Problem(self.file, line, column, path, found, expected, hint), near)

    def hide(self, secrets: Iterable[Any]) -> None:
        """Problems found from now on do not show these values."""
        self._secrets = Masker(secrets)

    def extend(self, problems: Iterable[Problem]) -> None:
        for problem in problems:
            self.add_problem(problem)

    def add_problem(self, problem: Problem, near: Near | None = None) -> None:
        """A file that is included twice has each of its problems once."""
        if problem in self._known:
            return
        self._known.add(problem)
        if len(self._found) == PROBLEMS_MAX:
            self._left_out += 1
            return
        if near is not None:  # sought only for problems that are kept: it costs milliseconds
            problem = replace(problem, hint=did_you_mean(*near) or problem.hint)
        if self._secrets:
            mask = self._secrets.mask
            found, expected = mask(problem.found), mask(problem.expected)
            problem = replace(problem, path=mask(problem.path), found=found, expected=expected, hint=mask(problem.hint))
        self._found.append(problem)

    def silence(self, where: Where) -> None:
        """What is found at `where` from now on follows from a problem that is known."""
        self._bad.add(self.places.as_written(where))

    @property
    def bad(self) -> frozenset[Where]:
        """All places that are not to be judged any more."""
        return frozenset(self._bad)

    def is_bad(self, where: Where) -> bool:
        if not self._bad:
            return False
        written = self.places.as_written(where)
        return any(written[:length] in self._bad for length in range(1, len(written) + 1))

    def listed(self) -> list[Problem]:
        """All of them in the order of the file, those of the command line first."""
        ordered = sorted(self._found, key=lambda problem: (problem.file == self.file, problem.file, problem.line, problem.column))
        if self._left_out:
            ordered.append(Problem(self.file, 0, 0, "spec", f"{self._left_out} more problems", "none", MEND_FIRST))
        return ordered
