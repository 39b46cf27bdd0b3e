"""How `ps` and tools/inspect show what processes use, from made-up numbers."""

from __future__ import annotations

import sys

import pytest

from streamcore.cli import ps as module
from streamcore.cli.processes import CPU, MEMORY, all_columns, described, indented, numbered, tree_lines
from streamcore.cli.ps import Look
from streamcore.cli.wording import fit, short
from streamcore.control.rundir import RunInfo
from streamcore.supervisor.inspection import Facts, Numbers, Tree

GIB = 1 << 30
INFO = RunInfo("front-door", 1234567, "id", "front-door", "v1", "", "")
ROW = {"plugin": "synthetic.frames", "state": "DRAINING", "pid": 1234568, "restarts": 12, "incarnation": 13, "incidents": 12}
COUNTS = {"consumed": 123_456_789, "produced": 123_456_789, "failed": 12_345, "cpu_percent": 199.6, "rss_bytes": 1023 << 20}


def look(*names, trees=None, coordinator=None, **more):
    nodes = [{"id": name, **ROW, **COUNTS, **more} for name in names]
    reply = {"run": "front-door", "state": "READY", "uptime_s": 59.9, "nodes": nodes, "edges": []}
    return Look(INFO, reply, trees or dict.fromkeys(names), coordinator)


def facts(pid, parent=1, **more):
    return Facts(pid=pid, parent=parent, name=more.pop("name", "python"), state="sleeping", age_s=5.0, nice=0, **more)


def test_a_node_of_large_numbers_and_a_short_name_fits_80_columns(monkeypatch):
    lines = module._page(look("motion"))
    assert max(map(len, lines)) <= 80, lines
    assert lines[2].split() == ["motion", "DRAINING", "1234568", "12", "200%", "1023.0", "MiB", "123.5M", "123.5M", "12.3k"]


def test_long_names_are_cut_in_their_middle_on_a_terminal_and_whole_in_a_pipe(monkeypatch):
    names = ["a-camera-with-a-name-of-31-left", "a-camera-with-a-name-of-32-right"]
    assert [line.split()[0] for line in module._page(look(*names))[2:]] == names
    monkeypatch.setattr(sys.stdout, "isatty", lambda: True, raising=False)
    monkeypatch.setenv("COLUMNS", "80")
    lines = module._page(look(*names))
    assert max(map(len, lines)) <= 80
    shown = [line.split()[0] for line in lines[2:]]
    assert len(set(shown)) == 2 and all("…" in name for name in shown)


def test_a_node_without_a_process_has_dashes_in_every_column_of_one():
    for lines in (module._page(look("motion", pid=None, state="BACKOFF", cpu_percent=None, rss_bytes=None)),):
        assert lines[2].split()[:6] == ["motion", "BACKOFF", "-", "12", "-", "-"]
    heads, row = (line.split("  ") for line in module._wide_page(look("motion", pid=None, state="BACKOFF"), children=True)[1:])
    assert [cell.strip() for cell in row if cell][2:6] == ["BACKOFF", "-", "-", "-"]


def test_a_paused_node_is_said_to_be_paused_as_in_up():
    assert "PAUSED" in module._page(look("motion", state="READY", paused=True))[2]


def test_children_stand_below_who_has_started_them_and_the_coordinator_last():
    processes = [facts(10), facts(11, 10, name="sh"), facts(12, 11, name="ffmpeg"), facts(13, 1, name="orphan")]
    tree = Tree(Numbers(), [], processes)
    assert [indent + one.name for indent, one in indented(tree)] == ["python", "  sh", "    ffmpeg", "  orphan"]
    lines = module._wide_page(look("motion", trees={"motion": tree}, coordinator=Tree(Numbers(), [], [facts(9)])), children=True)
    assert [line.split()[0] for line in lines[2:]] == ["motion", "sh", "ffmpeg", "orphan", "(coordinator)"]
    assert len(module._wide_page(look("motion", trees={"motion": tree}), children=False)) == 3


def test_a_plus_marks_the_sum_that_leaves_a_process_out():
    assert MEMORY[1].cell(Numbers(uss_bytes=GIB), ["uss_bytes"]) == "1.0 GiB+"
    assert MEMORY[0].cell(Numbers(rss_bytes=GIB), ["uss_bytes"]) == "1.0 GiB"
    assert CPU.cell(Numbers()) == CPU.cell(None) == "-"


def test_gpus_have_columns_only_where_one_works_for_a_process():
    assert "GPU" not in [column.head for column in all_columns([Numbers()])]
    assert [column.head for column in all_columns([Numbers(), Numbers(gpu_percent=3.0)])][-2:] == ["GPU", "GPU MEM"]


def test_every_fact_is_in_words_and_what_is_not_known_is_said():
    known = facts(
        7, fds=34, fds_max=1024, command=["ffmpeg", "-i", "x"], cgroup="/kube/pod", memory_max_bytes=GIB, cpu_max=1.5, affinity=[0, 1, 3]
    )
    text = "\n".join(described(known))
    for part in ("34 of 1,024", "ffmpeg -i x", "/kube/pod, at most 1.0 GiB, at most 1.5 CPUs", "on CPUs 0-1,3", "disks        not known"):
        assert part in text, text
    assert "4 processes" not in "\n".join(tree_lines(Tree(Numbers(), [], [known])))


@pytest.mark.parametrize(("cpus", "text"), [([0, 1, 2, 6], "0-2,6"), ([3], "3"), ([], "-"), (None, "-"), ([5, 4], "4-5")])
def test_cpus_are_written_as_the_kernel_writes_them(cpus, text):
    assert numbered(cpus) == text


@pytest.mark.parametrize(
    ("count", "text"),
    [
        (0, "0"),
        (9_999, "9,999"),
        (10_000, "10.0k"),
        (999_949, "999.9k"),
        (999_950, "1.0M"),
        (999_950_000, "1.0G"),
        (12_345_678_901, "12.3G"),
    ],
)
def test_a_count_needs_at_most_six_characters(count, text):
    assert short(count) == text


def test_a_name_is_cut_to_both_its_ends():
    assert (fit("camera", 6), fit("camera-front", 9)) == ("camera", "came…ront")
