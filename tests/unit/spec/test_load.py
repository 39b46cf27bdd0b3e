"""From a file to the frozen model."""

from __future__ import annotations

import dataclasses
import sys

import pytest

from streamcore import limits, spec
from streamcore.errors import SpecError
from streamcore.spec.freeze import name_of
from streamcore.spec.loading import parse, read
from streamcore.spec.model import CareSpec, Mark, RestartSpec, format_path, parse_path

GOOD = """\
version: 2
name: front-door
params: {video: sample.mp4, area: 600}
limits: {shm: 2GiB}
drain_s: 5
allow: [my_nodes]
nodes:
  - {id: camera, plugin: video.file, config: {path: "${video}"}, ring: {slot_bytes: 8MiB}}
  - id: motion
    plugin: vision.motion
    startup_s: 5
    config:
      min_area: "${area}"
edges:
  - {from: camera, to: motion, policy: drop_oldest, depth: 3}
  - {from: motion.detections, to: file, policy: sample, rate: 2.5, completion: delivered}
"""


def parsed(text: str, **sets: str):
    found, problems = parse(text.encode(), "a.yaml", sets)
    assert problems == [], "\n".join(map(str, problems))
    return found


def problems_of(text: str, **sets: str):
    return parse(text.encode(), "a.yaml", sets)[1]


def test_a_spec_becomes_a_frozen_model(tmp_path):
    path = tmp_path / "door.yaml"
    path.write_text(GOOD)
    loaded = spec.load(path)
    assert (loaded.name, loaded.version, loaded.limits.shm, loaded.allow, loaded.drain_s) == ("front-door", 2, 2**31, ("my_nodes",), 5.0)
    camera, motion = loaded.nodes
    assert (camera.id, camera.plugin, camera.config, camera.ring.slot_bytes) == ("camera", "video.file", {"path": "sample.mp4"}, 2**23)
    assert (motion.config, motion.startup_s, camera.startup_s) == ({"min_area": 600}, 5.0, limits.STARTUP_S)
    first, second = loaded.edges
    assert (first.from_, first.to, first.policy, first.depth, first.completion) == ("camera", "motion", "drop_oldest", 3, "hop")
    assert (second.from_, second.rate, second.completion, second.depth) == ("motion.detections", 2.5, "delivered", None)
    with pytest.raises(dataclasses.FrozenInstanceError):
        loaded.name = "other"


def test_everything_in_a_spec_knows_its_place():
    loaded = parsed(GOOD)
    assert loaded.mark("nodes[1].config.min_area") == Mark("a.yaml", 13, 17)
    assert loaded.mark("nodes[1].config.min_area", at_key=True) == Mark("a.yaml", 13, 7)
    assert loaded.mark(("edges", 0, "policy")) == Mark("a.yaml", 15, 40)
    assert loaded.mark("edges[0].completion") == Mark("a.yaml", 15, 5)  # a default: its edge
    assert loaded.mark("") == Mark("a.yaml", 1, 1)


def test_a_path_is_read_as_it_is_written():
    assert parse_path("nodes[1].config.min_area") == ("nodes", 1, "config", "min_area")
    assert format_path(("nodes", 1, "config", "min_area")) == "nodes[1].config.min_area"
    assert format_path(("config", "a.b", "\x1b[0m")) == "config['a.b']['\\x1b[0m']"
    assert format_path(()) == "spec"


def test_load_raises_all_problems_at_once(tmp_path):
    path = tmp_path / "bad.yaml"
    path.write_text("version: 2\nnmae: x\nnodes:\n  - {id: a}\nedges:\n  - {from: a, to: b, policy: lates}\n")
    with pytest.raises(SpecError) as caught:
        spec.load(path, {"foo": "1"})
    assert [(p.file == "--set", p.line, p.path) for p in caught.value.problems] == [
        (True, 0, "foo"),
        (False, 2, "nmae"),
        (False, 4, "nodes[0].plugin"),
        (False, 6, "edges[0].policy"),
    ]
    assert str(caught.value).endswith("nothing was started.")


def test_what_is_right_in_a_bad_spec_is_kept_for_later_checks():
    found, problems = parse(
        b"version: 2\nnodes:\n  - {id: a, plugin: p.q, startup_s: soon}\n  - {plugin: x}\nedges:\n  - {from: a, to: b, depth: 0}\n"
    )
    assert len(problems) == 3
    assert [node.id for node in found.nodes] == ["a"]
    assert found.nodes[0].startup_s == limits.STARTUP_S
    assert found.edges[0].depth is None
    assert found.partial
    assert ("nodes", 0, "startup_s") in found.bad
    assert found.digest == ""


@pytest.mark.parametrize("version", ["3", "'2'", "2.0", "true", "null", "[2]"])
def test_another_version_is_refused_without_judging_the_rest(version):
    problems = problems_of(f"version: {version}\nnodes: nonsense\n")
    assert [(p.path, p.line, p.column) for p in problems] == [("version", 1, 10)]


def test_a_spec_without_a_name_takes_its_files():
    assert parsed(GOOD.replace("name: front-door\n", "")).name == "a"
    assert name_of("/x/Front Door 2.v3.yaml") == "front-door-2-v3"
    assert name_of("2026-cams.yml") == "cams"
    assert name_of("...") == "spec"
    assert name_of("x" * 50 + ".yaml") == "x" * 32


def test_the_digest_follows_what_takes_effect_and_nothing_else():
    base = parsed(GOOD).digest
    assert len(base) == 64
    assert parsed("# a comment\n" + GOOD.replace("params: {", "params: {unused: 1, ")).digest == base
    assert parsed(GOOD, area="600").digest == base
    for other in (GOOD.replace("depth: 3", "depth: 4"), GOOD.replace("2GiB", "1GiB"), GOOD.replace("startup_s: 5", "startup_s: 6")):
        assert parsed(other).digest != base
    assert parsed(GOOD, area="601").digest != base


def test_a_size_and_its_number_are_the_same_spec():
    assert parsed(GOOD).digest == parsed(GOOD.replace("2GiB", "2147483648").replace("8MiB", "8388608")).digest


def test_keys_without_a_meaning_are_not_accepted():
    for key in ("foreach: [1]", "replicas: 2", "environment: {}", "on_give_up: stop_run"):
        (problem,) = problems_of(f"version: 2\nnodes:\n  - {{id: a, plugin: p.q, {key}}}\n")
        assert problem.found.startswith("unknown key")


def test_a_file_name_that_is_no_text_can_be_shown():
    _, problems = read("/nowhere/\udcff.yaml")
    assert "\\udcff" in problems[0].file
    str(problems[0]).encode()


def test_thousands_of_problems_are_no_more_work_than_thousands_of_values():
    # Left to itself cerberus takes ten seconds for 4,000 errors, and these would take an hour.
    for text in ("{id: a}," * 20_000, "0," * 60_000, "{id: a, plugin: b, x: y}," * 9_000):
        _, problems = parse(f"version: 2\nnodes: [{text}]\n".encode())
        assert problems


def test_loading_needs_no_recursion_beyond_the_nesting_limit():
    frames = 0
    frame = sys._getframe()
    while frame:
        frames, frame = frames + 1, frame.f_back
    depth = limits.SPEC_NESTING_MAX - 4
    text = f'version: 2\nparams: {{deep: {"[" * depth}1{"]" * depth}}}\nnodes: [{{id: a, plugin: b, config: {{x: "${{deep}}"}}}}]\n'
    before = sys.getrecursionlimit()
    sys.setrecursionlimit(frames + 400)
    try:
        assert parsed(text).nodes[0].config["x"]
    finally:
        sys.setrecursionlimit(before)


def care_of(keys: str):
    spec, problems = parse(f"version: 2\nnodes:\n  - {{id: a, plugin: p.q, {keys}}}\n".encode())
    assert problems == []
    return spec.nodes[0].care


def test_a_node_that_says_nothing_of_its_care_leaves_all_to_the_defaults():
    assert care_of("config: {}") == CareSpec()


@pytest.mark.parametrize(
    ("keys", "expected"),
    [
        ("restart: never", CareSpec(restart=RestartSpec(policy="never"))),
        ("restart: {policy: always, max_restarts: 0}", CareSpec(restart=RestartSpec(policy="always", max_restarts=0))),
        (
            "restart: {window_s: 5, backoff_s: 0, backoff_max_s: 1, on_give_up: isolate}",
            CareSpec(restart=RestartSpec(None, None, 5.0, 0.0, 1.0, "isolate")),
        ),
        ("restart: {}", CareSpec()),
        ("on_error: stop", CareSpec(on_error="stop")),
        ("on_error: fail_packet", CareSpec(on_error="fail_packet")),
        ("on_error: {retry: 3}", CareSpec(on_error="retry", retries=3)),
        ("on_error: retry(3)", CareSpec(on_error="retry", retries=3)),
        ("poison_limit: 0, progress_s: 2, heartbeat_s: 4", CareSpec(poison_limit=0, progress_s=2.0, heartbeat_s=4.0)),
        ("limits: {rss: 1.5GiB}", CareSpec(rss=3 << 29)),
        ("limits: {rss: 512MiB, on_exceed: warn}", CareSpec(rss=1 << 29, on_exceed="warn")),
    ],
)
def test_care_is_read_as_it_is_written(keys, expected):
    assert care_of(keys) == expected


def test_care_decides_what_runs_but_the_two_ways_to_write_it_do_not():
    def digest(keys: str) -> str:
        spec, _ = parse(f"version: 2\nname: n\nnodes:\n  - {{id: a, plugin: p.q, {keys}}}\n".encode())
        return spec.digest

    assert digest("on_error: retry(3)") == digest("on_error: {retry: 3}") != digest("on_error: {retry: 4}")
    assert digest("restart: never") == digest("restart: {policy: never}") != digest("restart: always")
    assert digest("progress_s: 2") == digest("progress_s: 2.0") != digest("progress_s: 3")


def test_a_bad_key_of_a_mapping_leaves_the_others_right():
    keys = "restart: {policy: sometimes, max_restarts: 2}, limits: {rss: 1}"
    spec, problems = parse(f"version: 2\nnodes:\n  - {{id: a, plugin: p.q, {keys}}}\n".encode())
    assert [problem.path for problem in problems] == ["nodes[0].restart.policy", "nodes[0].limits.rss"]
    assert spec.nodes[0].care == CareSpec(restart=RestartSpec(max_restarts=2))
