"""How `top` is drawn: every line of the width of the terminal, as many as it has, and in the same places whatever the numbers."""

from __future__ import annotations

from itertools import pairwise

import pytest
from rich.text import Text
from top_replies import MS, edge, node, reply, slow_graph, took

from streamcore.cli.top.columns import ASCII, UNICODE, brief_size
from streamcore.cli.top.facts import Usage, picture
from streamcore.cli.top.live import printable
from streamcore.cli.top.page import HELP_TEXT, Page, Sheet
from streamcore.cli.top.view import EDGES, HELP, LOG, View
from streamcore.cli.wording import brief, per_second

HUGE = {
    "consumed": 10**13,
    "produced": 10**13,
    "failed": 10**12,
    "restarts": 10**7,
    "work": took(3_600_000 * MS, 9),
    "end_to_end": took(86_400_000 * MS, 9),
    "work_ns": 10**18,
    "wait_ns": 10**18,
    "credit_wait_ns": 10**18,
    "pid": 4_194_304,
}


def drawn(shown, width, height=None, view=None, **more):
    view = view or View()
    if height is not None:
        view.settle(shown)
    return [line.plain for line in Page(UNICODE, width, height).draw(shown, view, **more)]


def small():
    return picture(reply(*slow_graph()), "graph", 10, 0, {40: Usage(100.0, 10**8)})


def large(count=30):
    nodes = [
        node(f"stage-{number:02}-of-a-long-name", work_ns=10**9, **({"restarts": 1} if number == 7 else {})) for number in range(count)
    ]
    edges = [edge(one.id, other.id, sent=10, dropped=10) for one, other in pairwise(nodes)]
    return picture(reply(nodes, edges), "graph", 10, 0)


@pytest.mark.parametrize("width", [20, 60, 80, 100, 120, 170, 200])
@pytest.mark.parametrize("height", [1, 6, 10, 24, 40])
@pytest.mark.parametrize("shown", [small(), large()], ids=["small", "large"])
def test_a_terminal_is_filled_and_never_overfilled(shown, width, height):
    lines = drawn(shown, width, height)
    assert len(lines) == height
    assert {len(line) for line in lines} == {width}


def test_80_columns_show_what_matters_most_and_wide_ones_all():
    shown = small()
    assert drawn(shown, 80)[3].split() == ["NODE", "STATE", "IN/S", "OUT/S", "BUSY", "BLOCKED", "WORK50", "WORK95", "CPU", "MEM"]
    assert {"IDLE", "WORK99", "AGE95", "RESTARTS", "PID", "FAIL/S"} < set(drawn(shown, 170)[3].split())
    assert {"POLICY", "WAITING", "FLIGHT", "SENT/S", "DROP/S", "WAIT95"} < set(drawn(shown, 80)[8].split())
    assert {"WAIT50", "WAIT99", "CREDIT", "BYTES/S"} < set(drawn(shown, 170)[8].split())


def test_the_numbers_stand_below_their_heads():
    shown = small()
    heads, camera, detector, _ = drawn(shown, 200)[3:7]
    assert camera[: heads.index(" CPU") + 4].endswith("100%")
    assert camera[: heads.index(" MEM") + 4].endswith("95M")
    assert camera[: heads.index(" PID") + 4].endswith("40")
    assert detector[: heads.index("WORK95") + 6].endswith("40.9ms")
    assert detector[: heads.index("BUSY") + 4].endswith("100%")
    edge_heads, first = drawn(shown, 200)[8:10]
    assert first.startswith("camera->detector")
    assert first[: edge_heads.index("WAITING") + 7].endswith("8/8")
    assert first[: edge_heads.index("FLIGHT") + 6].endswith("10/12")


def test_columns_do_not_jump_however_large_the_numbers_are():
    nodes, edges = slow_graph(**HUGE)
    edges[0] = edge(
        "camera", "detector", sent=10**15, dropped=10**15, bytes=10**18, waiting=10**6, depth=10**6, window=10**7, in_flight=10**7
    )
    usage = {4_194_304: Usage(25_600.0, 2**50)}
    before, after = drawn(small(), 200), drawn(picture(reply(nodes, edges), "graph", 10, 0, usage), 200)
    assert before[3] == after[3]
    assert [len(line) for line in before[3:7]] == [len(line) for line in after[3:7]]
    places = [number for number, (one, other) in enumerate(zip(before[3], before[3][1:] + " ", strict=True)) if one != " " and other == " "]
    assert [after[5][at] == " " for at in places] == [False] * len(places), after[5]  # every column is right below the end of its head
    assert [after[5][at + 1] for at in places[2:]] == [" "] * len(places[2:]), after[5]  # and nothing goes beyond it


def test_more_rows_than_room_are_scrolled_around_the_selected_one_and_counted():
    shown, view = large(), View(node="stage-20-of-a-long-name", on_top=False)
    lines = drawn(shown, 80, 24, view)
    assert lines[3].startswith("NODE 18-23 of 30")
    assert sum("stage-20" in line for line in lines[4:10]) == 1
    at = next(number for number, line in enumerate(lines) if line.startswith("EDGE "))
    assert any(line.startswith("stage-20") for line in lines[at + 1 : at + 7])  # its edges are kept in sight
    view.node = "stage-29-of-a-long-name"
    assert drawn(shown, 80, 24, view)[3].startswith("NODE 25-30 of 30")


def test_the_bottom_says_the_worst_first_then_the_bottleneck_then_the_keys():
    lines = drawn(large(), 80, 24)
    assert lines[-1].startswith("q quit  ? help  s sort graph")
    assert "stack" in lines[-1]
    assert any("more such notices" in line for line in lines)
    assert any("stage-07" in line and "restarted 1 time" in line for line in lines)
    lines = drawn(small(), 80, 24)
    assert lines[-3].startswith("'detector' holds the graph back")


def test_the_edges_alone_have_their_own_selection_and_order():
    view = View(panes=EDGES, edge_sort="DROP/S")
    lines = drawn(small(), 80, 24, view)
    assert lines[3].startswith("EDGE")
    assert [line.split()[0] for line in lines[4:6]] == ["detector->sink", "camera->detector"]


def test_two_edges_between_the_same_nodes_keep_their_ports():
    nodes, edges = slow_graph()
    edges.append(edge("camera", "detector"))
    edges[-1].name = "camera.still->detector.in"
    shown = picture(reply(nodes, edges), "graph", 10, 0)
    assert [line.split()[0] for line in drawn(shown, 170)[9:12]] == [
        "camera.out->detector.in",
        "detector->sink",
        "camera.still->detector.in",
    ]


def test_a_log_is_shown_from_its_end_and_long_lines_are_all_there():
    shown, view = small(), View(sheet=LOG, sheet_node="sink")
    sheet = Sheet("log of sink", [Text(f"line {number}") for number in range(50)] + [Text("x" * 100)])
    lines = drawn(shown, 80, 24, view, sheet=sheet)
    assert lines[3].startswith("── log of sink ── 34-52 of 52 ──")
    assert "".join(lines[21:23]).replace(" ", "") == "x" * 100
    view.scroll = 1000
    assert drawn(shown, 80, 24, view, sheet=sheet)[4].startswith("line 0")
    assert view.scroll == 33  # so that the next key moves it at once


def test_the_help_needs_no_more_than_the_smallest_common_terminal():
    view = View(sheet=HELP)
    lines = drawn(small(), 80, 24, view, sheet=Sheet("help", [Text(line) for line in HELP_TEXT.splitlines()]))
    assert any("leave; the run goes on" in line for line in lines)
    assert " of " not in lines[3]
    assert max(map(len, HELP_TEXT.splitlines())) <= 80


def test_no_answer_stands_beside_the_state():
    assert "no answer for 7 s" in drawn(small(), 80, 24, trouble="no answer for 7 s")[0]


@pytest.mark.parametrize(
    ("share", "unicode", "ascii_bar"),
    [
        (0, "─────", "....."),
        (0.001, "─────", "....."),
        (0.02, "╸────", ":...."),
        (0.5, "━━╸──", "##:.."),
        (1, "━━━━━", "#####"),
        (7, "━━━━━", "#####"),
    ],
)
def test_a_bar_goes_in_half_cells(share, unicode, ascii_bar):
    assert UNICODE.bar(share, 5, "").plain == unicode
    assert ASCII.bar(share, 5, "").plain == ascii_bar


@pytest.mark.parametrize(
    ("form", "value", "text"),
    [
        (per_second, 0, "0"),
        (per_second, 0.34, "0.3"),
        (per_second, 99.94, "99.9"),
        (per_second, 99.96, "100"),
        (per_second, 98_123, "98.1k"),
        (brief, None, "-"),
        (brief, 500, "0us"),
        (brief, 850_000, "850us"),
        (brief, 999_900, "1.00ms"),
        (brief, 9_996_000, "10.0ms"),
        (brief, 40_000_000, "40.0ms"),
        (brief, 999_800_000, "1.00s"),
        (brief, 125e9, "125s"),
        (brief, 3600e9, "60min"),
        (brief_size, None, "-"),
        (brief_size, 0, "0B"),
        (brief_size, 999, "999B"),
        (brief_size, 1023, "1.0K"),
        (brief_size, 123 << 20, "123M"),
        (brief_size, 2**60, "1048576T"),
    ],
)
def test_numbers_in_few_characters(form, value, text):
    assert form(value) == text


def test_what_a_node_prints_cannot_move_the_cursor():
    assert printable("\x1b[2Jred\tx\x07\u202e é") == "?[2Jred x?? é"
