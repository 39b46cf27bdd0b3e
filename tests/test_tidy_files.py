"""The project's files, checked: no text that only its writers understand, line ends, examples, packages, changelog."""

from __future__ import annotations

import configparser
import re
from pathlib import Path

import streamcore

ROOT = Path(__file__).resolve().parent.parent
TEXT_DIRS = ("streamcore", "nodes", "bench", "tests", "specs", "docs", "tools", ".ci")
TEXT_SUFFIXES = {".py", ".md", ".yaml", ".yml", ".cfg", ".toml", ".txt", ".in", ".sh", ".svg", ".expected", ""}
# Put together here, so that this file passes its own test.
OUTSIDE = ("\\.\\./sha" + "red", "/wo" + "rk/", "/ro" + "ot/", r"\b(?:iss" + r"ue|phase|ticket|milestone) #?\d", "TO" + "DO", "FIX" + "ME")
PRIVATE_TEXT = re.compile("|".join(OUTSIDE))


def texts() -> list[Path]:
    """Every text file that belongs to the project, build products left out."""
    found = [path for path in ROOT.iterdir() if path.is_file() and path.name != ".git"]  # a file in a linked worktree
    found += [path for name in TEXT_DIRS for path in (ROOT / name).rglob("*") if path.is_file() and "__pycache__" not in path.parts]
    return sorted(path for path in found if path.suffix in TEXT_SUFFIXES)


TEXTS = texts()


def test_the_test_for_private_texts_knows_one():
    assert PRIVATE_TEXT.search("see /wo" + "rk/plan.md")
    assert PRIVATE_TEXT.search("fixed by iss" + "ue #12")


def test_no_text_refers_to_what_only_its_writers_know():
    hits = []
    for path in TEXTS:
        for number, line in enumerate(path.read_text("utf-8", "replace").splitlines(), 1):
            if PRIVATE_TEXT.search(line):
                hits.append(f"{path.relative_to(ROOT)}:{number}: {line.strip()[:120]}")
    assert not hits, "\n" + "\n".join(hits)


def test_lines_end_with_lf_and_so_does_every_file():
    texts = [path for path in TEXTS if "specs_bad" not in path.parts]  # some of those are wrong in just this way
    wrong = [str(path.relative_to(ROOT)) for path in texts if b"\r" in (raw := path.read_bytes()) or (raw and not raw.endswith(b"\n"))]
    assert not wrong


def test_every_example_names_its_schema_for_editors_and_then_says_what_it_shows():
    modeline = "# yaml-language-server: $schema=spec.schema.json"
    heads = {path.name: path.read_text("utf-8").split("\n", 2) for path in sorted((ROOT / "specs").glob("*.yaml"))}
    assert [name for name, (first, second, _) in heads.items() if first != modeline or not second.startswith("# ")] == []


def test_every_package_is_listed_in_setup_cfg():
    # Two packages live in folders of another name, so they cannot be found by themselves and a new room is easily left out of the wheel.
    config = configparser.ConfigParser()
    config.read(ROOT / "setup.cfg", "utf-8")
    found = {path.parent.relative_to(ROOT).as_posix().replace("/", ".") for path in (ROOT / "streamcore").rglob("__init__.py")}
    for folder in ("nodes", "bench"):
        found |= {
            f"streamcore_{folder}" + "".join(f".{part}" for part in path.parent.relative_to(ROOT / folder).parts)
            for path in (ROOT / folder).rglob("__init__.py")
        }
    assert set(config["options"]["packages"].split()) == found


def test_the_changelog_begins_with_the_present_version():
    version = streamcore.__version__
    first = re.search(r"^## (\S+)", (ROOT / "CHANGELOG.md").read_text("utf-8"), re.MULTILINE)
    assert first is not None
    assert first[1] == version
