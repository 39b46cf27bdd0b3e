"""`streamctl report`: text, JSON and page of reports of any age, and a clear word about what is none."""

import json
import re
from html.parser import HTMLParser
from itertools import pairwise
from pathlib import Path

import pytest
from click.testing import CliRunner

from streamcore.cli.report import report as command
from streamcore.cli.root import run
from streamcore.shm.distribution import Distribution
from streamcore.shm.histogram import bucket_of
from streamcore.telemetry.report import Ending, make_report, write_report
from streamcore.telemetry.snapshot import EdgeRow, NodeRow, Snapshot
from streamcore.telemetry.timeline import FAILED, RESTART, Timeline

S, MS = 10**9, 10**6
HOSTILE = '</title></svg><script>alert("x")</script><img src=http://evil.example/x onerror=y>\x1b[2J\u202e'
VOID = {"meta", "img", "br", "link", "input", "rect", "path"}  # of HTML; rect and path close themselves


class Page(HTMLParser):
    """Reads a page strictly: every element is closed, in order."""

    def __init__(self, text):
        super().__init__(convert_charrefs=True)
        self.open, self.tags, self.ids, self.texts, self.urls = [], [], [], [], []
        self.feed(text)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag, attrs):
        self._note(tag, attrs)
        if tag not in VOID or self.get_starttag_text().endswith("/>"):
            self.open.append(tag)

    def handle_startendtag(self, tag, attrs):
        self._note(tag, attrs)

    def _note(self, tag, attrs):
        self.tags.append(tag)
        self.ids += [value for name, value in attrs if name == "id"]
        self.urls += [(tag, name, value) for name, value in attrs if name in ("src", "href", "xlink:href", "action", "data", "srcset")]
        assert not any(name.startswith("on") for name, _ in attrs), attrs

    def handle_endtag(self, tag):
        if tag in VOID and self.open[-1] != tag:
            return
        assert self.open.pop() == tag, (tag, self.getpos())

    def handle_data(self, data):
        self.texts.append(data)


def distribution(*durations_ns):
    return Distribution(sum(durations_ns), tuple(sorted((bucket_of(ns), 1) for ns in set(durations_ns))))


def taken(count, *, names=("a", "b"), cause="", dropped=0):
    nodes = [NodeRow(names[0], "test.source", "source", state="DONE", produced=count, emitted=count)]
    edges = []
    for before, name in pairwise(names):
        work = distribution(count * MS)
        nodes.append(NodeRow(name, "test.node", "node", state="DONE", consumed=count, work_ns=count * MS, work=work, end_to_end=work))
        edges.append(EdgeRow(f"{before}.out->{name}.in", before, name, "latest", 1, 2, sent=count + dropped, taken=count, completed=count))
        edges[-1].dropped, edges[-1].wait = dropped, distribution(3 * MS)
    nodes[-1].cause, nodes[-1].restarts, nodes[-1].rss_bytes = cause, int(bool(cause)), 30 * 2**20
    return Snapshot(tuple(nodes), tuple(edges))


class FakePlan:
    graph, graph_version, run = "graph", "v1", "trial"


def made(*, rounds=5, timeline=True, cause="", failures=(), **more):
    course = Timeline(0)
    for number in range(1, rounds + 1):
        course.note(number * S, taken(30 * number, cause=cause, **more))
    if cause:
        course.mark(2 * S, more.get("names", "ab")[-1], RESTART, cause)
        course.mark(3 * S, more.get("names", "ab")[-1], FAILED, cause)
    final = taken(30 * rounds, cause=cause, **more)
    ending = Ending(1_795_417_200_123_456_000, rounds * S, rounds * S, "end of stream", failures)
    return make_report(FakePlan, final, ending, course.as_json() if timeline else None)


@pytest.fixture
def write(tmp_path):
    def write(report, name="r.json"):
        path = tmp_path / name
        write_report(str(path), report)
        return path

    return write


def page_of(path):
    out = path.with_suffix(".html")
    assert run(["report", str(path), "--html"]) == 0
    return out.read_text("utf-8")


def test_the_text_says_how_the_run_went(write, capsys):
    assert run(["report", str(write(made(cause="killed by SIGKILL", dropped=7)))]) == 0
    said = capsys.readouterr().out
    assert "run trial  status ok  5.0 s, ended: end of stream" in said
    assert re.search(r"^b +DONE +150 +0 +0 +1 +3% +1[45][0-9] ms .*30.0 MiB$", said, re.MULTILINE)
    assert re.search(r"^a.out->b.in +latest 1 +157 +150 +7 +0 +0 ", said, re.MULTILINE)
    assert "150 packets from sources, 7 dropped, 0 failed." in said
    assert "At 2.0 s b: restart: killed by SIGKILL" in said
    assert "The account balances on 1 edge." in said


def test_the_page_is_well_formed_and_loads_nothing(write):
    text = page_of(write(made(cause="killed by SIGKILL", dropped=7)))
    found = Page(text)
    assert found.urls == []
    assert not re.search(r"https?://|<script|@import|url\(", text)
    assert "default-src 'none'" in text
    assert len(set(found.ids)) == len(found.ids)
    assert found.tags.count("svg") == 1 + 2 + 5 + 3  # the graph, a source, a node, an edge
    assert "restart: killed by SIGKILL" in "".join(found.texts)


def test_hostile_texts_stay_texts(write):
    names = ("a", f"b{HOSTILE}")
    path = write(made(names=names, cause=HOSTILE, failures=(HOSTILE,)))
    text = page_of(path)
    found = Page(text)
    assert not {"script", "img"} & set(found.tags)
    assert found.urls == []
    assert not any(sign in text for sign in "\x1b\u202e")


def test_hostile_texts_steer_no_terminal(write, capsys):
    assert run(["report", str(write(made(names=("a", f"b{HOSTILE}"), cause=HOSTILE)))]) == 0
    assert not any(sign in capsys.readouterr().out for sign in "\x1b\u202e")


@pytest.mark.parametrize("lacking", [("timeline",), ("timeline", "versions", "failures")])
def test_a_report_of_an_older_version_is_read_and_says_what_it_lacks(write, capsys, lacking):
    old = {key: value for key, value in made(cause="exited with 7").items() if key not in lacking}
    for row in (*old["nodes"].values(), *old["edges"].values()):
        for key in ("work", "end_to_end", "wait"):
            row.pop(key, None)
    path = write(old)
    assert run(["report", str(path)]) == 0
    assert "No timeline" in capsys.readouterr().out
    found = Page(page_of(path))
    assert "This report has no timeline" in "".join(found.texts)
    assert found.tags.count("svg") == 1


def test_what_a_newer_version_adds_is_left_alone(write):
    newer = {**made(), "tomorrow": {"x": 1}}
    newer["nodes"]["b"]["tomorrow"] = 1
    assert run(["report", str(write(newer))]) == 0


def test_json_is_the_report_in_its_present_shape(write, capsys):
    old = made(timeline=False)
    del old["versions"]
    assert run(["report", str(write(old)), "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found == {"version": 1, **old, "versions": {}}


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ('{"ts": "2026-11-23T07:', "found 22 bytes that are no JSON"),
        ("", "found 0 bytes that are no JSON"),
        ("\udcff\udcfe", "found 2 bytes that are no JSON"),
        ("[" * 100_000, "found 100,000 bytes that are no JSON"),
        ("[1, 2]", "found JSON that is no object but list"),
        ("{}", "found an object without keys"),
        ('{"ts": 1, "status": "fine"}', "found an object with the keys 'ts', 'status'"),
        ('{"a":1,"b":1,"c":1,"d":1,"e":1,"f":1,"g":1}', "'f', ...; expected the report of a run"),
    ],
)
@pytest.mark.parametrize("option", [[], ["--html"], ["--json"]])
def test_what_is_no_report_is_refused_with_what_was_found(tmp_path, capsys, text, found, option):
    path = tmp_path / "x.json"
    path.write_text(text, errors="surrogateescape")
    assert run(["report", str(path), *option]) == 2
    said = capsys.readouterr()
    assert said.out == ""
    assert found in said.err
    assert "expected the report of a run, as `streamctl up SPEC --report FILE` writes it" in said.err
    assert list(tmp_path.iterdir()) == [path]


def test_a_value_that_is_wrong_is_named_with_its_place(write, capsys):
    wrong = made()
    wrong["nodes"]["b"]["consumed"] = "many"
    assert run(["report", str(write(wrong))]) == 2
    assert "Expected `int`, got `str` - at `$.nodes[...].consumed`" in capsys.readouterr().err


def test_lists_of_different_lengths_are_refused(write, capsys):
    wrong = made()
    wrong["timeline"]["nodes"]["b"]["busy"].pop()
    assert run(["report", str(write(wrong))]) == 2
    assert "found 4 items in busy, expected 5" in capsys.readouterr().err


def test_a_file_that_is_not_there_is_said(tmp_path, capsys):
    assert run(["report", str(tmp_path / "no.json")]) == 2
    assert "no.json: cannot be read: No such file or directory" in capsys.readouterr().err


def test_the_page_goes_where_it_is_told(write, tmp_path, capsys):
    path = write(made())
    assert run(["report", str(path), "--html", str(tmp_path / "o.html")]) == 0
    assert "o.html: written" in capsys.readouterr().out
    done = CliRunner().invoke(command, [str(path), "--html", "-"])
    assert done.output == (tmp_path / "o.html").read_text("utf-8")


@pytest.mark.parametrize("name", ["r.html", "link.html"])
def test_the_page_never_takes_the_place_of_its_report(write, tmp_path, capsys, name):
    path = write(made(), "r.html")  # --html would write r.html
    (tmp_path / "link.html").symlink_to(path)
    assert run(["report", str(path), "--html", str(tmp_path / name)]) == 2
    assert "is the file that this was to be made from" in capsys.readouterr().err
    assert json.loads(path.read_text())["run"] == "trial"


def test_a_page_that_cannot_be_written_is_said(write, tmp_path, capsys):
    assert run(["report", str(write(made())), "--html", str(tmp_path / "no" / "o.html")]) == 2
    assert "o.html: cannot be written: No such file or directory" in capsys.readouterr().err


def test_json_and_html_at_once_are_refused(write):
    assert run(["report", str(write(made())), "--html", "--json"]) == 2


def test_a_page_of_many_nodes_unfolds_only_those_with_news(write):
    names = tuple(f"node{number}" for number in range(60))
    text = page_of(write(made(names=names, rounds=300, cause="killed by SIGKILL")))
    Page(text)
    assert text.count('<details class="course" open>') == 1
    assert text.count('<details class="course">') == 59 + 59
    assert len(text) < 8 * 2**20


def test_a_run_that_ended_before_a_round_says_so(write):
    empty = made(rounds=1)
    empty["timeline"] = Timeline(0).as_json()
    assert "The run ended before there was anything to measure." in page_of(write(empty))


def test_a_run_without_edges_has_a_page(write):
    assert Page(page_of(write(made(names=("alone",))))).tags.count("svg") == 4


def test_a_report_keeps_lists_of_numbers_on_one_line(write):
    # Else a report of ten nodes is a file of twenty thousand lines that nobody can look through.
    path = write(made(rounds=100))
    lines = path.read_text().splitlines()
    assert len(lines) < 200
    assert json.loads(Path(path).read_text()) == made(rounds=100)
