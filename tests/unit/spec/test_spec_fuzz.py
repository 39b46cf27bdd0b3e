"""Whatever bytes are handed in, the answer is a plan or problems with a place; never another exception, never a crash."""

from __future__ import annotations

import random

import pytest
import yaml
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from streamcore import Node, Port, Sink, Source, array
from streamcore.errors import PluginError, SpecError
from streamcore.graph.plan import make_plan
from streamcore.graph.validate import validate
from streamcore.manifest import Manifest
from streamcore.spec import reader
from streamcore.spec.loading import parse

VALID = """\
version: 2
name: front-door
params: {video: sample.mp4, area: 600, wanted: {required: true, type: integer}}
limits: {shm: 2GiB}
drain_s: 5
allow: [my_nodes]
nodes:
  - {id: camera, plugin: cam, config: {path: "${video}", pace: realtime, region: [0, 0, 10, 10]}}
  - id: motion
    plugin: motion
    config: {min_area: "${area}", room: 4MiB}
    ring: {slots: 20, slot_bytes: 8MiB}
  - {id: file, plugin: file, startup_s: 2.5}
edges:
  - {from: camera, to: motion, policy: drop_oldest, depth: 4}
  - {from: motion.detections, to: file, policy: sample, rate: 2.5}
"""
WORDS = [
    *("[", "]", "{", "}", ":", ": ", "- ", "\n", "\n  ", "\t", "#", "&a ", "*a", "<<: ", "!", "!!int ", "!secret ", "|", ">-", "'", '"'),
    *("---\n", "...\n", "%YAML 1.1\n", "? ", "null", "~", "true", "-1", "1e999", ".nan", "0x10", "9" * 60, "2GB", "${", "${area}", "$${"),
    *("${env:X}", "${wanted}", "nodes", "edges", "params", "id", "from: camera", "a.b.c", "\x00", "\x1b", "\ufeff", "\u2028", "\x85", "\\"),
    *("\ud7ff", "\U0010ffff", "version: 2", "version: 1", "[" * 70, "{a: " * 70, "x" * 5000, "required: true", "policy: latest"),
]


class Cam(Source):
    outputs = {"out": Port("frame", array("uint8", ndim=3))}
    config = {
        "path": {"type": "string", "required": True},
        "pace": {"type": "string", "allowed": ["realtime", "none"]},
        "region": {"type": "list", "schema": {"type": "integer", "min": 0}, "minlength": 4, "maxlength": 4},
        "nested": {"type": "dict", "keysrules": {"regex": "[a-z]+"}, "valuesrules": {"anyof": [{"type": "size"}, {"type": "list"}]}},
    }

    def run(self):
        yield from ()


class Motion(Node):
    inputs = {"in": Port("frame", array("uint8", ndim=3))}
    outputs = {"frames": Port("frame", array("uint8", ndim=3)), "detections": Port("detections", "json")}
    config = {"min_area": {"type": "integer", "default": 1}, "room": {"type": "size", "max": 2**30}}

    def process(self, packet):
        return None


class File(Sink):
    inputs = {"in": Port("any", "any")}

    def process(self, packet):
        return None


MANIFESTS = {
    "cam": Manifest.of(Cam),
    "motion": Manifest.of(Motion),
    "file": Manifest.of(File),
    "gone": PluginError("it is gone"),
}


def judge(raw: bytes, sets: dict[str, str]) -> bool:
    """Load, validate and plan; True if it is a good spec. Raises whatever is not a proper answer."""
    spec, problems = parse(raw, "a.yaml", sets)
    for problem in problems:
        assert problem.line >= 0
        assert problem.found
        assert problem.expected
        assert "\n" not in f"{problem.path}{problem.found}{problem.expected}{problem.hint}"
        str(problem).encode()
    if spec is None:
        assert problems
        return False
    later = validate(spec, MANIFESTS)
    if problems or later:
        return False
    try:
        return bool(make_plan(spec, MANIFESTS, "run", "/run/streamcore").nodes)
    except SpecError:
        return False


def test_the_valid_spec_is_valid():
    # Otherwise the mutations below would all be of something that ends at the first check.
    assert judge(VALID.encode(), {"wanted": "5"})


@pytest.fixture(params=["C", "Python"])
def loader(request, monkeypatch):
    monkeypatch.setattr(reader, "LOADER", yaml.CSafeLoader if request.param == "C" else yaml.SafeLoader)


mutation = st.tuples(st.floats(0, 1), st.integers(0, 40), st.sampled_from(WORDS) | st.text(max_size=5))


@settings(max_examples=400, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(mutation, min_size=1, max_size=6))
def test_a_mutated_spec_is_answered_with_problems(loader, mutations):
    text = VALID
    for place, removed, inserted in mutations:
        at = int(place * len(text))
        text = text[:at] + inserted + text[at + removed :]
    judge(text.encode("utf-8", "surrogatepass"), {"wanted": "5"})


@settings(max_examples=200, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.binary(max_size=300))
@example(b"\xff\xfe\x00")
@example(b"\xef\xbb\xbf")
def test_any_bytes_are_answered_with_problems(loader, raw):
    assert not judge(raw, {})


scalars = st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8) | st.sampled_from([*MANIFESTS, "latest", "2GiB"])
trees = st.recursive(
    scalars, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=4), inner, max_size=3), max_leaves=8
)
PATHS = [
    *[(key,) for key in ("version", "name", "params", "limits", "drain_s", "allow", "nodes", "edges")],
    *[("limits", "shm"), ("params", "video"), ("nodes", 0), ("nodes", 1, "ring"), ("edges", 0), ("nodes", 0, "config", "region", 2)],
    *[("nodes", 1, key) for key in ("id", "plugin", "config", "startup_s", "ring")],
    *[("nodes", 1, "ring", key) for key in ("slots", "slot_bytes", "meta_bytes")],
    *[("nodes", 0, "config", key) for key in ("path", "pace", "region", "nested", "unknown")],
    *[("edges", 1, key) for key in ("from", "to", "policy", "depth", "rate", "completion")],
]


@settings(max_examples=400, deadline=None)
@given(st.lists(st.tuples(st.sampled_from(PATHS), trees), min_size=1, max_size=3))
def test_any_value_at_any_place_is_answered_with_problems(changes):
    tree = yaml.safe_load(VALID)
    for path, value in changes:
        parent = tree
        for part in path[:-1]:
            try:
                parent = parent[part]
            except (KeyError, IndexError, TypeError):
                break
        else:
            if isinstance(parent, dict) or (isinstance(parent, list) and isinstance(path[-1], int) and path[-1] < len(parent)):
                parent[path[-1]] = value
    judge(yaml.safe_dump(tree, allow_unicode=True).encode("utf-8", "surrogatepass"), {"wanted": "5"})


@settings(max_examples=100, deadline=None)
@given(st.dictionaries(st.sampled_from(["video", "area", "wanted", "other"]) | st.text(max_size=5), st.text(max_size=20)))
def test_any_set_is_answered_with_problems(sets):
    judge(VALID.encode(), sets)


def test_a_spec_cut_off_at_any_byte_is_answered_with_problems():
    raw = VALID.encode()
    for end in range(len(raw)):
        judge(raw[:end], {"wanted": "5"})


def test_many_bytes_changed_at_random_are_answered_with_problems():
    chance = random.Random(20261123)
    for _ in range(500):
        raw = bytearray(VALID.encode())
        for _ in range(chance.randrange(1, 8)):
            raw[chance.randrange(len(raw))] = chance.choice(b"[]{}:-&*!|>'\"%@`#,?\t\n \x00\x80\xff0aA$")
        judge(bytes(raw), {"wanted": "5"})
