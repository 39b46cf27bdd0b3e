"""What holds for every node that comes with streamcore: registered, described, documented, light where it can be."""

from __future__ import annotations

import configparser
import importlib
import re
import subprocess
import sys
from importlib.metadata import entry_points
from pathlib import Path
from typing import Any

import pytest
from boxes import ROOT, SPECS

import streamcore_nodes
from streamcore import Node, Sink, Source
from streamcore.graph.check import prepare
from streamcore.testing import check_config

FOLDER = Path(streamcore_nodes.__file__).parent
LIGHT = ("pattern", "witness", "line_file", "flow", "slow", "jsonl", "events", "stream_time", "crop", "job", "http_post")


def registered() -> dict[str, str]:
    """Name to target as setup.cfg registers them."""
    parser = configparser.ConfigParser()
    parser.read(ROOT / "setup.cfg", "utf-8")
    lines = parser["options.entry_points"]["streamcore.nodes"].strip().splitlines()
    return dict(re.split(r"\s*=\s*", line, maxsplit=1) for line in lines)


def load(target: str) -> Any:
    module, _, name = target.partition(":")
    return getattr(importlib.import_module(module), name)


def defined() -> dict[str, type[Node]]:
    """Target to class of every node that a module in nodes/ defines."""
    found = {}
    for path in FOLDER.glob("*.py"):
        module = importlib.import_module(f"streamcore_nodes.{path.stem}")
        for value in vars(module).values():
            if isinstance(value, type) and issubclass(value, Node) and value.__module__ == module.__name__:
                found[f"{module.__name__}:{value.__name__}"] = value
    return found


def test_every_node_is_registered_once_and_nothing_else_is() -> None:
    assert sorted(registered().values()) == sorted(defined())


def test_the_installed_package_registers_what_setup_cfg_says() -> None:
    installed = {entry.name: entry.value for entry in entry_points(group="streamcore.nodes") if entry.value.startswith("streamcore_nodes.")}
    assert installed == registered(), "install the package again: pip install -e ."


@pytest.mark.parametrize("cls", defined().values(), ids=defined())
def test_a_node_says_what_it_does_and_each_key_what_it_is_for(cls: type[Node]) -> None:
    # `streamctl node describe` and docs/nodes.md have nothing else to say.
    assert cls.__doc__ and len(cls.__doc__.split("\n", 1)[0]) <= 160
    for key, rule in cls.config.items():
        assert rule.get("meta", {}).get("doc"), key
        assert rule.get("required") or "default" in rule or "excludes" in rule or key in ("scale", "rate"), key
    assert bool(cls.inputs) != issubclass(cls, Source)
    assert bool(cls.outputs) != issubclass(cls, Sink) or cls.__module__ == "streamcore_nodes.job"


@pytest.mark.parametrize("cls", defined().values(), ids=defined())
def test_an_unknown_key_is_refused_by_every_node(cls: type[Node]) -> None:
    with pytest.raises(Exception, match="colour_of_the_moon"):
        check_config(cls, {"colour_of_the_moon": 1})


def test_the_documentation_names_every_node_port_and_key_with_its_default() -> None:
    text = (ROOT / "docs" / "nodes.md").read_text("utf-8")
    sections = dict(re.findall(r"^### `([a-z.]+)`\n(.*?)(?=^##|\Z)", text, re.M | re.S))
    assert sorted(sections) == sorted(registered())
    for name, target in registered().items():
        cls = load(target)
        for port in [*cls.inputs, *cls.outputs]:
            assert f"`{port}`" in sections[name], f"{name}: port {port}"
        for key, rule in cls.config.items():
            row = re.search(rf"^\| `{key}` \| ([^|]*) \|", sections[name], re.M)
            assert row, f"{name}: key {key}"
            expected = "required" if rule.get("required") else shown(rule.get("default"))
            assert row[1] == expected, f"{name}.{key}: {row[1]} is written, {expected} is true"


def shown(default: Any) -> str:
    """A default as the tables of the documentation write it."""
    if isinstance(default, list):
        return "its usual ones" if default else "none"
    if default in (None, ""):
        return "" if default is None else "empty"
    return f"`{str(default).lower()}`" if isinstance(default, bool) else f"`{default}`"


def test_nodes_that_draw_nothing_do_not_load_opencv() -> None:
    # It takes 20 MB and a tenth of a second per process.
    code = f"import sys, {', '.join(f'streamcore_nodes.{name}' for name in LIGHT)}; sys.exit('cv2' in sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True)


SETS = {"video_file.yaml": {"video": "clip.mp4"}, "pictures.yaml": {"folder": "pictures"}}


@pytest.mark.parametrize("path", sorted(SPECS.glob("*.yaml")), ids=lambda path: path.name)
def test_every_example_begins_with_what_it_shows_and_has_no_problem(path: Path) -> None:
    assert path.read_text("utf-8").startswith("# ")
    plan = prepare(path, SETS.get(path.name, {}))
    assert plan.nodes and (plan.edges or path.name == "job.yaml")


def test_the_video_example_is_the_chain_that_loses_nothing() -> None:
    plan = prepare(SPECS / "video_file.yaml", {"video": "a clip.mp4", "loop": "true"})
    assert [node.plugin for node in plan.nodes] == ["video.file", "flow.forward", "flow.forward", "debug.hash"]
    assert plan.nodes[0].config == {"path": "a clip.mp4", "pace": "none", "loop": True, "on_damage": "fail"}
    assert {edge.policy for edge in plan.edges} == {"block"}
    assert prepare(SPECS / "video_file.yaml", {"video": "a"}).nodes[0].config["loop"] is False
