"""Results as a file, as text and as a page; jobs, graphs, environments."""

from __future__ import annotations

import json
import re
import xml.etree.ElementTree as ElementTree
from pathlib import Path

import pytest

from streamcore.cli.failures import CannotStart
from streamcore.cli.root import streamctl
from streamcore.graph.check import prepare
from streamcore_bench import environments, flows, rounds
from streamcore_bench.cases import CASES
from streamcore_bench.charts import chart, charts, write_all
from streamcore_bench.page import page
from streamcore_bench.points import Options, Point
from streamcore_bench.programs import CannotDo, Failed, Stop
from streamcore_bench.results import FILE_BYTES_MAX, Results, machine, read
from streamcore_bench.shared_work import PEERS, Job
from streamcore_bench.tables import comparison, report


@pytest.fixture
def results() -> Results:
    made = Results("2026-01-02T03:04:05Z", machine(), 3, {"streamcore": "1", "peer": "peer 2"})
    for value in (1000.0, 1010.0, 990.0):
        made.add("hop", "1080p, flat out", "streamcore", {"rate": value, "cpu_us": 900.0})
        made.add("hop", "1080p, flat out", "peer", {"rate": value / 2, "cpu_us": 1800.0})
        made.add("hop", "1080p, flat out", "memcpy", {"rate": 1700.0})
    return made


def test_a_file_of_results_gives_back_what_was_written(results, tmp_path):
    path = tmp_path / "x.json"
    results.write(str(path))
    assert read(str(path)).as_json() == results.as_json()
    assert list(tmp_path.iterdir()) == [path]
    found = json.loads(path.read_text())
    assert {"v", "date", "machine", "versions", "repeat", "rows"} == set(found)
    assert {"cpu", "cores", "memory_bytes", "kernel", "python", "load_before"} == set(found["machine"])
    assert set(found["rows"][0]) == {"case", "point", "who", "measure", "unit", "better", "values"}


EMPTY_ROW = '{"v": 1, "date": "", "machine": {}, "repeat": 1, "versions": {}, "rows": [{}]}'


@pytest.mark.parametrize("text", ["", "[]", '{"v": 2}', '{"v": 1}', EMPTY_ROW, '{"v": "\udcff"}'])
def test_a_file_that_holds_no_results_is_refused_by_name(text, tmp_path):
    path = tmp_path / "x.json"
    path.write_text(text, "utf-8", "surrogateescape")
    with pytest.raises(ValueError, match=re.escape(str(path))):
        read(str(path))


@pytest.mark.parametrize(
    ("where", "value", "said"),
    [
        (("machine", "cores"), "2", "Expected `int`, got `str` - at `$.machine.cores`"),
        (("machine", "kernel"), None, "`$.machine.kernel`"),
        (("versions", "peer"), ["2"], "`$.versions[...]`"),
        (("repeat",), -1.5, "`$.repeat`"),
        (("rows", 0, "case"), 3, "`$.rows[0].case`"),
        (("rows", 0, "better"), "more", "`$.rows[0].better`"),
        (("rows", 0, "measure"), "beauty", "found measure 'beauty', expected one of: rate, "),
        (("rows", 0, "values"), [], "'rate') has no values"),
        (("rows", 0, "values"), ["1"], "`$.rows[0].values[0]`"),
        (("rows", 0, "values"), [-1], "`$.rows[0].values[0]`"),
        (("rows", 0, "values", 1), 10**400, "Number out of range"),
        (("rows",), {}, "`$.rows`"),
    ],
)
def test_what_no_run_can_have_written_is_refused_by_file_and_place(results, where, value, said, tmp_path):
    found = results.as_json()
    place = found
    for step in where[:-1]:
        place = place[step]
    place[where[-1]] = value
    path = tmp_path / "x.json"
    path.write_text(json.dumps(found))
    with pytest.raises(ValueError, match=f"{re.escape(str(path))}.*{re.escape(said)}"):
        read(str(path))


def test_a_file_without_end_is_not_read_to_its_end():
    with pytest.raises(ValueError, match=f"/dev/zero: more than {FILE_BYTES_MAX} bytes"):
        read("/dev/zero")


@pytest.mark.parametrize(("out", "why"), [("x.json", "name another one"), ("/dev/full", "No space"), ("no/x.html", "No such")])
def test_a_page_never_takes_the_place_of_its_results_and_says_why_it_cannot_be_written(results, out, why, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    results.write("x.json")
    with pytest.raises(CannotStart, match=why):
        streamctl.main(["bench", "report", "x.json", "--html", out], standalone_mode=False)
    assert read("x.json").as_json() == results.as_json()


def test_the_table_holds_ratio_and_verdict_and_a_dash_for_who_could_not(results):
    lines = report(results, ["peer", "other"]).splitlines()
    row = next(line for line in lines if " peer " in line)
    assert row.endswith("2.00  2.00x faster")
    assert next(line for line in lines if "memcpy" in line).endswith("0.59")  # a limit is nothing to be faster than
    assert next(line for line in lines if " other " in line).split()[-2:] == ["other", "-"]
    assert any("2.00x less" in line for line in lines)


def test_a_comparison_judges_the_second_file_against_the_first(results, tmp_path):
    after = Results(results.date, results.machine, 3)
    for value in (2000.0, 2020.0, 1980.0):
        after.add("hop", "1080p, flat out", "streamcore", {"rate": value})
    text = comparison(results, after)
    assert "2.00x faster" in text
    assert "4 rows are in one of the files only" in text


def test_the_page_needs_nothing_from_outside_and_knows_light_and_dark(results):
    text = page(results)
    assert not re.search(r"https?://|<script|<link|<img|\bsrc=|\bhref=|@import|url\(", text)
    assert text.count("prefers-color-scheme: dark") == 1
    assert text.count("<svg") == text.count("</svg>") == 2
    assert "2.00x faster" in text


def test_what_names_hold_is_shown_and_never_taken_for_markup(results):
    results.add("<b>case", "<i>point & more", "<u>who", {"rate": 1.0})
    text = page(results)
    assert "<i>" not in text
    assert "<u>" not in text
    assert "&lt;i&gt;point &amp; more" in text


def test_a_chart_is_whole_xml_with_a_bar_per_program(results, tmp_path):
    paths = write_all(results, str(tmp_path))
    assert sorted(Path(path).name for path in paths) == ["hop-cpu-us.svg", "hop-rate.svg"]
    root = ElementTree.parse(tmp_path / "hop-rate.svg").getroot()
    bars = [node.get("class") for node in root.iter("{http://www.w3.org/2000/svg}rect")]
    assert bars == ["ours", "other", "limit"]
    assert "xmlns" not in chart("hop", "rate", charts(results)["hop", "rate"])  # within a page it needs none


def test_another_set_of_packages_or_another_python_is_another_environment():
    one = environments.stamp("a==1\nb==2\n", "3.11")
    assert one == environments.stamp("# note\nb==2\n\na==1  # why\n", "3.11")
    assert len({one, environments.stamp("a==1\nb==3\n", "3.11"), environments.stamp("a==1\nb==2\n", "3.12")}) == 3


def test_environments_lie_in_the_cache_of_the_user(monkeypatch, tmp_path):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    made = environments.Environment("peer", "a==1\n")
    assert made.path.parent == tmp_path / "streamcore" / "bench"
    assert made.path.name.startswith("peer-")
    assert not made.exists
    monkeypatch.setenv("XDG_CACHE_HOME", "relative")  # the rule of that variable: ignored unless absolute
    assert environments.cache().parts[-3:] == (".cache", "streamcore", "bench")


def test_every_peer_says_what_it_needs():
    assert environments.names()
    assert all((PEERS / name / "requirements.txt").exists() for name in environments.names())


@pytest.mark.parametrize("name", CASES)
def test_every_case_has_points_of_names_of_their_own(name):
    points = CASES[name].points(Options())
    assert points
    assert len({point.name for point in points}) == len(points)
    assert all(point.flow or point.ours for point in points)


@pytest.mark.parametrize("name", CASES)
def test_every_flow_is_a_graph_that_streamctl_takes_and_a_job_that_peers_understand(name, tmp_path):
    for point in CASES[name].points(Options()):
        if point.flow:
            path = tmp_path / "bench.yaml"
            path.write_text(json.dumps(flows.spec_of(point.flow, 10, tmp_path)))
            assert prepare(str(path), {}, ())
            only_ours = {"sources", "loan", "copies"}
            job = {key: value for key, value in point.flow.job(10, 60.0).items() if key not in only_ours}
            assert Job.parse(json.dumps(job)).count == 10


class Taker:
    """A program that does as it is told: a value, or an exception."""

    def __init__(self, who: str, *does: float | Exception):
        self.who, self.does = who, list(does)

    def warm_up(self) -> None:
        self.take()

    def take(self) -> dict[str, dict[str, float]]:
        found = self.does.pop(0)
        if isinstance(found, Exception):
            raise found
        return {self.who: {"rate": found}}


def rounds_of(monkeypatch: pytest.MonkeyPatch, *takers: Taker, repeat: int = 3) -> tuple[Results, list[str], list[str]]:
    """The results, the points at which ours failed, and what was said."""
    monkeypatch.setattr(rounds, "takers", lambda *_: list(takers))
    said: list[str] = []
    made = Results("", machine(), repeat)
    failed = rounds.Rounds(made, [], Options(), Stop(), said.append).run([("hop", Point("p", ("rate",)))], lambda line: None)
    return made, failed, said


def test_programs_take_turns_and_the_first_round_is_not_measured(monkeypatch):
    made, failed, said = rounds_of(monkeypatch, Taker("streamcore", 9, 1, 2, 3), Taker("peer", 9, 4, 5, 6))
    assert {row.who: row.values for row in made.rows} == {"streamcore": [1, 2, 3], "peer": [4, 5, 6]}
    assert not failed
    assert not said


def test_a_program_that_fails_once_goes_on_and_after_a_second_time_is_left_out(monkeypatch):
    once = Taker("once", Failed("first\nmore"), 9, 5, 6, 7)
    twice = Taker("twice", 9, Failed("again"), 5, Failed("and again"))
    made, failed, said = rounds_of(monkeypatch, Taker("streamcore", 9, 1, 2, 3), once, twice)
    assert {row.who: row.values for row in made.rows} == {"streamcore": [1, 2, 3], "once": [5, 6, 7], "twice": [5]}
    assert said == ["hop p: once failed: first", "hop p: twice failed: again", "hop p: twice failed: and again"]
    assert not failed


def test_what_a_program_cannot_do_is_no_failure_and_what_ours_cannot_is(monkeypatch):
    made, failed, said = rounds_of(monkeypatch, Taker("streamcore", 9, Failed("a\nb"), 2, 3), Taker("peer", CannotDo("no such case")))
    assert [(row.who, row.values) for row in made.rows] == [("streamcore", [2, 3])]
    assert failed == ["hop p"]
    assert said == ["hop p: streamcore failed: a\nb"]
