"""Whatever bytes are handed in, the answer is a plan or problems with a place; never another exception, never a crash."""

from __future__ import annotations

import os
import random
import re
import shutil
import subprocess
import time
from pathlib import Path

import pytest
import yaml
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from streamcore import Node, Port, Sink, Source, array
from streamcore.errors import PluginError, SpecError
from streamcore.graph import wiring
from streamcore.graph.plan import make_plan, plan_graph
from streamcore.graph.validate import check, validate
from streamcore.graph.wiring import wire
from streamcore.manifest import Manifest
from streamcore.plugins import naming
from streamcore.plugins.configs import Checked, Configs
from streamcore.plugins.manifests import Asked, find
from streamcore.plugins.policy import Policy
from streamcore.spec import reader
from streamcore.spec.loading import parse

SPECS = Path(__file__).parents[3] / "specs"
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


# --- 20,000 mutations of good specs

SEED = int(os.environ.get("STREAMCORE_FUZZ_SEED", 20261126))
MUTATIONS = int(os.environ.get("STREAMCORE_FUZZ_MUTATIONS", 20_000))
CPU_S_MAX = 2.0  # of one mutation; most take milliseconds
PART = """\
version: 2
params: {url: {required: true}, area: 50}
ports:
  outputs: {frames: {port: camera.out, kind: frame, payload: array}, found: motion.detections}
nodes:
  - {id: camera, plugin: video.file, config: {path: "${url}"}}
  - {id: motion, plugin: vision.motion, config: {min_area: "${area}"}}
edges: [{from: camera, to: motion, policy: latest}]
"""
WRITTEN = {
    "many.yaml": """\
version: 2
name: many
params: {cameras: {front: {url: a.mp4, area: 5}, rear: {url: b.mp4, area: 7}}, password: !secret env:FUZZ_SECRET}
limits: {shm: 2GiB}
nodes:
  - id: camera
    for_each: "${cameras}"
    plugin: video.file
    config: {path: "rtsp://u:${password}@h/${each.url}", pace: none}
    restart: {policy: always, max_restarts: 3, backoff_s: 0.5}
    on_error: {retry: 2}
    env: {TOKEN: !secret env:FUZZ_SECRET, N: "${each.index}"}
    cpu_affinity: 0-1
    ring: {slots: 40, slot_bytes: 8MiB}
  - {id: motion, for_each: "${cameras}", plugin: vision.motion, config: {min_area: "${each.area}"}, limits: {rss: 1GiB}, nice: 5}
  - {id: shown, plugin: debug.null, progress_s: "${env:FUZZ_NOT_SET:-30}"}
edges:
  - {from: camera.*, to: motion.*, policy: drop_oldest, depth: 4}
  - {from: motion.*.frames, to: shown, policy: sample, rate: 5}
  - {from: motion.front.detections, to: shown, completion: delivered}
""",
    "gate.yaml": """\
version: 2
nodes:
  - {id: gate, for_each: [front, rear], include: part.yaml, with: {url: "${each}.mp4"}}
  - {id: shown, plugin: debug.null}
edges:
  - {from: gate.*.frames, to: shown}
  - {from: gate.front.found, to: shown}
""",
    "nightly.yaml": """\
version: 1
name: nightly
params: {day: {required: true}, hour: 3}
job: {command: [sh, -c, "echo ${day}", "${hour}"], env: {MODE: fast}, config: {a: [1, 2.5, true, null]}}
restart: {policy: on_failure, max_restarts: 3}
limits: {rss: 512MiB, on_exceed: warn}
progress_s: 7200
""",
}
TOKEN = re.compile(r"[A-Za-z_][\w.-]*|[0-9]+(?:\.[0-9]+)?|[^\w\s]|\n *")
VALUES = [
    "null",
    "true",
    "-1",
    "0",
    "1.5",
    "1e400",
    "9" * 30,
    "[]",
    "{}",
    "[1, [2]]",
    "{a: {b: c}}",
    '"text"',
    "''",
    "!secret env:FUZZ_SECRET",
    "*",
]


def mutated(text: str, chance: random.Random) -> bytes:
    """One to three mutations: of bytes, of lines, of tokens, of values."""
    raw = bytearray(text.encode())
    for _ in range(chance.choice((1, 1, 1, 2, 3))):
        kind = chance.randrange(8)
        lines = bytes(raw).decode("utf-8", "replace").split("\n")
        at = chance.randrange(len(lines))
        tokens = list(TOKEN.finditer("\n".join(lines)))
        if kind == 0 and raw:
            raw[chance.randrange(len(raw))] ^= 1 << chance.randrange(8)
            continue
        if kind == 1:
            del lines[at]
        elif kind == 2:
            lines.insert(chance.randrange(len(lines) + 1), lines[at])
        elif kind == 3:
            other = chance.randrange(len(lines))
            lines[at], lines[other] = lines[other], lines[at]
        whole = "\n".join(lines)
        if kind > 3 and tokens:
            token = chance.choice(tokens)
            instead = (chance.choice(WORDS), chance.choice(tokens).group(), chance.choice(VALUES), "")[kind - 4]
            whole = whole[: token.start()] + instead + whole[token.end() :]
        raw = bytearray(whole.encode("utf-8", "surrogatepass"))
    return bytes(raw)


@pytest.fixture
def pantry(tmp_path, monkeypatch):
    """(good specs by name, manifests of all their plugins) in a folder where no process can be started any more."""
    good = {path.name: path.read_text(encoding="utf-8") for path in sorted(SPECS.glob("*.yaml"))} | WRITTEN
    manifests = find([Asked(name) for name in naming.names()], Policy()).manifests
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("FUZZ_SECRET", "hunter2-hunter2")
    (tmp_path / "part.yaml").write_text(PART, encoding="utf-8")
    shutil.copytree(SPECS / "parts", tmp_path / "parts")

    def refuse(*args, **kwargs):
        raise AssertionError("a check of a spec starts a process")

    shared = Configs()  # to compile a plugin's schema takes longer than all the rest
    monkeypatch.setattr(wiring, "Configs", lambda: shared)
    for module, name in ((subprocess, "Popen"), (os, "fork"), (os, "posix_spawn"), (os, "posix_spawnp"), (os, "system"), (os, "execve")):
        monkeypatch.setattr(module, name, refuse)
    return good, manifests


def check_whole(raw: bytes, file: str, manifests, sets: dict[str, str]) -> bool:
    """As `streamctl plan` does it; True for a good spec. Raises AssertionError for an answer that helps nobody."""
    spec, problems = parse(raw, file, sets)
    for problem in problems:
        judge_problem(problem)
    if spec is None:
        return False
    coded = {"job.command", "job.callable"}  # their code has judged: what it says does not matter here
    checked = {index: Checked(node.config) for index, node in enumerate(spec.nodes) if node.plugin in coded}
    graph = wire(spec, manifests, checked)
    later = check(graph)
    if not later and not problems:
        try:
            plan_graph(graph, "run", "/run/streamcore/run")
        except SpecError as error:
            later = error.problems
    for problem in later:
        judge_problem(problem)
    return not problems and not later


def judge_problem(problem) -> None:
    where = str(problem)
    assert problem.file, where
    assert problem.line >= 1 or problem.path == "spec" or problem.file == "--set", where
    assert problem.found, where
    assert problem.expected, where
    assert "\n" not in f"{problem.path}{problem.found}{problem.expected}{problem.hint}", where
    assert "hunter2" not in where, where
    where.encode()


@pytest.mark.timeout(600)  # a minute of CPU, on a box that may be busy
def test_mutations_of_good_specs_pass_or_are_answered_with_problems(pantry):
    good, manifests = pantry
    sets = {"nightly.yaml": {"day": "monday"}}
    for name, text in good.items():
        assert check_whole(text.encode(), name, manifests, sets.get(name, {})), name
    names = [*good, "part.yaml"]
    passed = 0
    for number in range(MUTATIONS):
        chance = random.Random(SEED * MUTATIONS + number)
        name = names[number % len(names)]
        raw = mutated(good.get(name, PART), chance)
        began_s = time.thread_time()
        try:
            if name == "part.yaml":
                Path(name).write_bytes(raw)
                passed += check_whole(good["gate.yaml"].encode(), "gate.yaml", manifests, {})
                Path(name).write_text(PART, encoding="utf-8")
            else:
                passed += check_whole(raw, name, manifests, sets.get(name, {}))
            assert time.thread_time() - began_s < CPU_S_MAX
        except Exception as error:  # whatever it is, of our own code: it is raised again with the seed
            raise AssertionError(f"STREAMCORE_FUZZ_SEED={SEED}, mutation {number} of {name}: {error!r}\n{raw!r}") from error
    assert MUTATIONS // 50 < passed < MUTATIONS // 2  # else they are too wild, or too tame, to find anything
