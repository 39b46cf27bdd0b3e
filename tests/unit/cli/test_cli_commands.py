"""The command line itself: help, exit status, problems, and what is not loaded before it is needed."""

from __future__ import annotations

import json
import shlex
import subprocess
import sys

import pytest

from streamcore import __version__
from streamcore.cli.root import VERBS, run
from streamcore.graph.fit import Box, Room
from streamcore.supervisor import box

NODES = '''"""Nodes for the tests of the command line."""
from streamcore import Node, Port, Sink, Source


class Count(Source):
    """Count up."""

    outputs = {"out": Port("number", "json", doc="one per count")}
    config = {"n": {"type": "integer", "min": 1, "default": 10}, "pace": {"allowed": ["realtime", "none"], "default": "none"}}

    def run(self):
        return []


class Pass(Node):
    """Pass on."""

    inputs = {"in": Port("number", "json")}
    outputs = {"out": Port("number", "json")}
    config = {"keep": {"type": "integer", "required": True}}
    retention = "keep"
    batch_max = 4

    def process(self, packet):
        return packet.derive()


class End(Sink):
    inputs = {"in": Port("any")}

    def process(self, packet):
        pass
'''
SPEC = """version: 2
name: trial
params: {n: 5}
nodes:
  - {id: count, plugin: "cli_nodes:Count", config: {n: "${n}"}}
  - {id: end, plugin: "cli_nodes:End"}
edges:
  - {from: count, to: end}
"""


@pytest.fixture
def spec(tmp_path, monkeypatch, importable):
    (tmp_path / "cli_nodes.py").write_text(NODES)
    (tmp_path / "trial.yaml").write_text(SPEC)
    importable(tmp_path)
    monkeypatch.delitem(sys.modules, "cli_nodes", raising=False)
    return str(tmp_path / "trial.yaml")


@pytest.fixture
def run_dir(tmp_path, monkeypatch):
    """The directory of an ended run of the name `cli-ended`, with a log of each of two nodes."""
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(tmp_path))
    logs = tmp_path / "streamcore" / "cli-ended" / "logs"
    logs.mkdir(parents=True)
    for directory in (logs, logs.parent, logs.parent.parent):
        directory.chmod(0o700)
    (logs / "a.log").write_text("2026-11-23T07:00:00.100Z INFO one\nprinted\n")
    (logs / "b.log").write_text("2026-11-23T07:00:00.050Z WARNING zero\n")
    (logs / "_coordinator.log").write_text("a | printed\n")
    return logs.parent


GROUPS = {"node": ("list", "describe"), "incidents": ("list", "show"), "dlq": ("list", "show", "redrive", "drop")}
GROUPS["recording"] = ("ls", "info", "check", "export")
GROUPS["queue"] = ("ls", "peek", "stats", "check", "repair", "compact")
GROUPS["bench"] = ("list", "run", "compare", "report")


@pytest.mark.parametrize("words", [[verb] for verb in VERBS] + [[group, verb] for group in GROUPS for verb in GROUPS[group]], ids=" ".join)
def test_every_command_says_what_it_does_and_how_it_can_end(words, capsys):
    assert run([*words, "--help"]) == 0
    text = capsys.readouterr().out
    assert text.startswith(f"Usage: streamctl {' '.join(words)}")
    assert "Exit status:" in text or words in [[group] for group in GROUPS]
    assert "--debug" in text or words != ["up"]


def test_help_comes_before_anything_heavy_is_loaded():
    # A quick answer matters most where people type and press tab: an import of cv2 alone takes longer than all of this.
    heavy = ("numpy", "zmq", "cv2", "yaml", "rich", "msgspec", "psutil")
    code = f"import sys; from streamcore.cli.root import run; run(['--help']); sys.exit([m for m in {heavy} if m in sys.modules] or 0)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=30, check=False)
    assert (done.returncode, done.stderr) == (0, "")
    assert all(verb in done.stdout for verb in VERBS)


def test_what_nodes_are_forked_from_starts_before_the_run_is_imported():
    # Its imports take as long as ours: one after the other, `up` would take a third longer to its first packet.
    heavy = {"numpy", "zmq", "yaml", "streamcore.coordinator.coordinator", "streamcore.graph"}
    code = f"import sys; from streamcore.cli import up; up._starters(); print(up._fork_server().__enter__() and {heavy} & set(sys.modules))"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=60).stdout == "set()\n"


def test_the_module_is_the_command():
    done = subprocess.run([sys.executable, "-m", "streamcore", "--version"], capture_output=True, text=True, timeout=30, check=False)
    inner_loops = ("native inner loop", "pure Python")  # which of the two is for tests/unit/core/test_native.py
    assert done.returncode == 0
    assert done.stdout in [f"streamctl {__version__} ({inner_loop})\n" for inner_loop in inner_loops]


@pytest.mark.parametrize(
    "words", [["fly"], ["up"], ["validate"], ["up", "--fore", "x.yaml"], ["up", "x.yaml", "--for", "10"]], ids=" ".join
)
def test_a_wrong_command_line_is_status_2_and_says_where_help_is(words, capsys):
    assert run(words) == 2
    error = capsys.readouterr().err
    assert "Usage:" in error
    assert "Traceback" not in error


def test_a_spec_without_a_problem_is_status_0(spec, capsys):
    assert run(["validate", spec, "--allow", "cli_nodes"]) == 0
    assert capsys.readouterr().out == f"{spec}: no problem; 2 nodes, 1 edge\n"


@pytest.mark.parametrize("verb", ["validate", "plan", "up"])
def test_all_problems_of_a_spec_are_printed_at_their_places_and_nothing_starts(verb, spec, capsys):
    with open(spec, "a") as file:
        file.write("  - {from: count, to: nobody}\n  - {from: count, to: end, policy: blok}\n")
    assert run([verb, spec, "--allow", "cli_nodes"]) == 2
    out, error = capsys.readouterr()
    assert f"{spec}:9:" in error
    assert f"{spec}:10:" in error
    assert "found" in error
    assert "expected" in error
    assert "Traceback" not in error
    assert out == ""


def test_problems_as_json_carry_place_found_and_expected(spec, capsys):
    assert run(["validate", spec, "--json"]) == 2  # the plugins are not allowed
    problems = json.loads(capsys.readouterr().out)["problems"]
    assert len(problems) == 2
    for problem in problems:
        assert set(problem) == {"file", "line", "column", "path", "found", "expected", "hint"}
    assert [problem["path"] for problem in problems] == ["nodes[0].plugin", "nodes[1].plugin"]


def test_json_of_a_good_spec_has_no_problems(spec, capsys):
    assert run(["validate", spec, "--json", "--allow", "cli_nodes"]) == 0
    assert json.loads(capsys.readouterr().out)["problems"] == []


def test_a_missing_spec_is_a_problem_like_any_other(tmp_path, capsys):
    assert run(["validate", str(tmp_path / "none.yaml")]) == 2
    assert f"{tmp_path}/none.yaml  spec\n" in capsys.readouterr().err


def test_set_reaches_the_plan(spec, capsys):
    assert run(["plan", spec, "--json", "--allow", "cli_nodes", "--set", "n=7"]) == 0
    plan = json.loads(capsys.readouterr().out)
    assert [node["config"].get("n") for node in plan["nodes"]] == [7, None]


def test_a_plan_for_people_names_every_process_edge_and_ring(spec, capsys):
    assert run(["plan", spec, "--allow", "cli_nodes"]) == 0
    text = capsys.readouterr().out
    assert all(name in text for name in ("count", "end", "count.out -> end.in", "window", "slots", "memory"))


def test_a_plan_ends_with_whether_it_fits_and_its_json_says_the_same(spec, capsys):
    assert run(["plan", spec, "--allow", "cli_nodes"]) == 0
    assert capsys.readouterr().out.splitlines()[-1].startswith("fits: ")
    assert run(["plan", spec, "--allow", "cli_nodes", "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert told["fit"]["fits"]
    assert [node["id"] for node in told["needs"]["nodes"]] == ["count", "end"]
    assert told["box"]["memory"][0]["whose"] == "MemAvailable"


def test_a_plan_that_does_not_fit_is_shown_whole_and_status_2(spec, capsys, monkeypatch):
    full = Box((Room("memory group /small", 1 << 20),))
    monkeypatch.setattr(box, "look", lambda: full)
    assert run(["plan", spec, "--allow", "cli_nodes"]) == 2
    out = capsys.readouterr().out
    assert "count.out -> end.in" in out
    assert "does not fit: memory: " in out
    assert "(memory group /small)" in out


def test_a_cpu_that_is_not_there_stops_plan_and_up_but_not_validate(spec, capsys):
    with open(spec) as file:
        text = file.read()
    with open(spec, "w") as file:
        file.write(text.replace("id: end,", "id: end, cpu_affinity: [4095],"))
    for verb in ("plan", "up"):
        assert run([verb, spec, "--allow", "cli_nodes"]) == 2
        assert "nodes[1].cpu_affinity\n    found     CPU 4095" in capsys.readouterr().err
    assert run(["validate", spec, "--allow", "cli_nodes"]) == 0


def test_a_report_that_could_not_be_written_is_refused_before_anything_starts(spec, tmp_path, capsys):
    assert run(["up", spec, "--allow", "cli_nodes", "--report", str(tmp_path / "none" / "r.json")]) == 2
    assert "--report" in capsys.readouterr().err


@pytest.mark.parametrize(
    "words", [["ps", "no-such-run"], ["down", "no-such-run"], ["stats", "no-such-run"], ["logs", "--run", "no-such-run"]], ids=" ".join
)
def test_a_run_that_does_not_exist_is_status_3(words, run_dir, capsys):
    assert run(words) == 3
    assert "no run 'no-such-run'" in capsys.readouterr().err


def test_logs_are_selected_and_printed_as_json(run_dir, capsys):
    assert run(["logs", "--run", "cli-ended", "--level", "warning", "--json"]) == 0
    entry = {"node": "b", "ts": "2026-11-23T07:00:00.050Z", "level": "WARNING", "text": "zero", "printed": False}
    assert [json.loads(line) for line in capsys.readouterr().out.splitlines()] == [entry]
    assert run(["logs", "a", "b", "--run", "cli-ended", "--grep", "o|printed", "--until", "2026-11-23T07:00:00.1Z"]) == 0
    shown = ["b | 2026-11-23T07:00:00.050Z WARNING zero", "a | 2026-11-23T07:00:00.100Z INFO one", "a | printed"]
    assert capsys.readouterr().out.splitlines() == shown


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--grep", "("], ["'('", "regular expression", "expected e.g."]),
        (["--since", "noon"], ["'noon'", "expected e.g.", "10m"]),
        (["--since", "10"], ["'10'", "expected e.g."]),
        (["--level", "loud"], ["'loud'", "warning"]),
        (["--since", "1h", "--until", "2h"], ["before --since"]),
        (["-f", "--until", "now"], ["leave one of them out"]),
    ],
    ids=lambda value: " ".join(value),
)
def test_what_selects_logs_wrongly_is_a_wrong_command_line(run_dir, capsys, words, said):
    assert run(["logs", "--run", "cli-ended", *words]) == 2
    err = capsys.readouterr().err
    assert all(text in err for text in said), err


def test_an_ended_run_is_not_there_for_ps_but_its_logs_are(run_dir, capsys):
    assert run(["ps", "cli-ended"]) == 3
    capsys.readouterr()
    assert run(["logs", "--run", "cli-ended"]) == 0
    stamp = "2026-11-23T07:00:00"
    assert capsys.readouterr().out.splitlines() == [f"b | {stamp}.050Z WARNING zero", f"a | {stamp}.100Z INFO one", "a | printed"]


def test_the_log_of_one_node_stands_alone_and_its_last_lines_can_be_had(run_dir, capsys):
    assert run(["logs", "a", "--run", "cli-ended", "-n", "1"]) == 0
    assert capsys.readouterr().out == "printed\n"


def test_following_an_ended_run_ends_at_once(run_dir, capsys):
    assert run(["logs", "-f", "--run", "cli-ended", "-n", "1"]) == 0
    assert capsys.readouterr().out == "a | printed\n"


def test_a_node_without_a_log_is_refused_with_the_names_that_exist(run_dir, capsys):
    assert run(["logs", "c", "--run", "cli-ended"]) == 2
    assert "there is _coordinator, a, b" in capsys.readouterr().err


def test_a_plugin_is_described_with_ports_config_and_what_it_keeps(spec, capsys):
    assert run(["node", "describe", "cli_nodes:Pass", "--allow", "cli_nodes"]) == 0
    text = capsys.readouterr().out
    for expected in (
        "cli_nodes:Pass  (node",
        "Pass on.",
        "inputs",
        "outputs",
        "keep  integer  required",
        "config.keep",
        "up to 4 packets at once",
    ):
        assert expected in text


def test_a_description_as_json_holds_the_config_schema(spec, capsys):
    assert run(["node", "describe", "cli_nodes:Count", "--allow", "cli_nodes", "--json"]) == 0
    facts = json.loads(capsys.readouterr().out)
    assert (facts["role"], facts["doc"], facts["inputs"]) == ("source", "Count up.", {})
    assert facts["outputs"]["out"] == {"kind": "number", "payload": "json", "doc": "one per count"}
    assert facts["config"]["n"] == {"type": "integer", "min": 1, "default": 10}


def test_an_unknown_plugin_is_status_2_with_the_nearest_name(capsys):
    assert run(["node", "describe", "video.fil"]) == 2
    assert "did you mean 'video.file'" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["queue", "check", "x" * 300], "xxx...: File name too long"),
        (["queue", "ls", "/dev/null/q"], "/dev/null"),
        (["node", "check", "acme.\udcff"], "expected text in UTF-8"),  # what Python makes of a byte that is no UTF-8
        (["report", "/dev/zero"], "more than 256.0 MiB"),
        (["tap", "cam", "--every", "nan"], "nan is no number of seconds"),
        (["logs", "--run", "cli-ended", "-n", "9" * 23], "999 is not in the range"),
    ],
    ids=lambda value: " ".join(value)[:20],
)
def test_a_path_or_word_that_cannot_be_is_the_callers_mistake_and_none_of_streamcore(words, said, capsys):
    assert run(words) == 2
    err = capsys.readouterr().err
    assert said in err and "in streamcore itself" not in err


def test_a_reader_that_has_seen_enough_is_no_error():
    # `streamctl node list | head -1`
    code = f"{shlex.quote(sys.executable)} -m streamcore node list | head -c 1 >/dev/null; echo ${{PIPESTATUS[0]}}"
    done = subprocess.run(["bash", "-c", code], capture_output=True, text=True, timeout=60, check=False)
    assert (done.stdout, done.stderr) == ("0\n", "")


def test_every_registered_plugin_loads_and_says_what_it_is_for(capsys):
    assert run(["node", "list", "--json"]) == 0
    rows = json.loads(capsys.readouterr().out)["nodes"]
    assert rows
    assert [row for row in rows if not row.get("summary")] == []
