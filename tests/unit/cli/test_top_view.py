"""What keys change in `top`, which rows are shown then, and what is asked for."""

from __future__ import annotations

import msgspec
import pytest
from top_replies import edge, node, reply

from streamcore.cli.top.facts import picture
from streamcore.cli.top.view import EDGES, HELP, LOG, QUIT, STACK, Order, View

NODES = [
    node("camera", "source", work_ns=10, restarts=1),
    node("blur", consumed=30, work_ns=3_000_000_000),
    node("detector", consumed=90, work_ns=9_000_000_000, paused=True),
    node("sink", "sink", consumed=90, work_ns=10),
]
LINKS = [edge("camera", "blur", sent=5, waiting=8), edge("blur", "detector", sent=50), edge("detector", "sink", sent=20, waiting=1)]


@pytest.fixture
def shown():
    return picture(reply(NODES, LINKS), "graph", 10, 0)


@pytest.fixture
def press(shown):
    """Press keys one after the other; what the last one asked for."""

    def pressing(view, *keys):
        asked = None
        for key in keys:
            asked = view.press(key, shown)
        return asked

    return pressing


def ids(view, shown):
    return [line.id for line in view.nodes(shown)]


def test_a_selection_moves_by_rows_and_stops_at_the_ends(press):
    view = View(page_rows=2)
    moves = [("down", "blur"), ("j", "detector"), ("k", "blur"), ("up", "camera"), ("up", "camera"), ("pgdn", "detector")]
    moves += [("end", "sink"), ("down", "sink"), ("pgup", "blur"), ("g", "camera"), ("G", "sink")]
    for key, selected in moves:
        press(view, key)
        assert (key, view.node) == (key, selected)


def test_sorting_goes_through_the_columns_and_back_to_the_graph(press, shown):
    view, orders = View(), []
    for _ in range(9):
        press(view, "s")
        orders.append((view.sort, ids(view, shown)[0]))
    assert orders[0] == ("NODE", "blur")
    assert ("BUSY", "detector") in orders
    assert ("RESTARTS", "camera") in orders
    assert orders[-1] == ("graph", "camera")


def test_rows_without_a_difference_keep_the_order_of_the_graph(press, shown):
    # Else they would change places at every look.
    view = View(node_sort="IN/S")
    assert ids(view, shown) == ["detector", "sink", "blur", "camera"]
    press(view, "r")
    assert ids(view, shown) == ["camera", "blur", "sink", "detector"]


def test_the_selection_stays_on_its_node_when_rows_change_places(press):
    view = View(node_sort="BUSY")
    press(view, "down")
    assert view.node == "blur"
    now_busy = [msgspec.structs.replace(one, work_ns=10**10) if one.id == "camera" else one for one in NODES]
    view.settle(picture(reply(now_busy, LINKS), "graph", 10, 0))
    assert view.node == "blur"


def test_who_sorts_sees_what_comes_first_until_the_selection_is_moved(press):
    view = View()
    press(view, "down", "down", "s", "s")
    assert (view.sort, view.node) == ("BUSY", "detector")
    now_busy = [msgspec.structs.replace(one, work_ns=10**10) if one.id == "camera" else one for one in NODES]
    later = picture(reply(now_busy, LINKS), "graph", 10, 0)
    view.settle(later)
    assert view.node == "camera"
    assert view.press("p", later) == Order("pause", "camera")
    view.settle(picture(reply(NODES, LINKS), "graph", 10, 0))
    assert view.node == "camera"  # the one that was acted on stays the selected one


def test_a_filter_follows_what_is_typed_and_can_be_taken_back(press, shown):
    view = View()
    press(view, "/", "e", "t", "x", "backspace")
    assert (ids(view, shown), view.typing, view.node) == (["detector"], True, "detector")
    assert [line.name for line in view.edges(shown)] == ["blur.out->detector.in", "detector.out->sink.in"]
    press(view, "q", "backspace", "enter")
    assert (view.filter, view.typing) == ("et", False)
    press(view, "esc")
    assert ids(view, shown) == ["camera", "blur", "detector", "sink"]
    press(view, "/", "z", "down")
    assert (ids(view, shown), view.node) == ([], "")
    assert press(view, "enter", "p") is None
    assert view.said == "nothing is selected"
    press(view, "/", "esc")
    assert (view.filter, view.said) == ("", "")


def test_tables_windows_and_their_keys_go_round(press, shown):
    view = View()
    windows = [press(view, "w") or view.window_s for _ in range(3)]
    assert windows == [60, 1, 10]
    press(view, "tab", "tab")
    assert view.panes == EDGES
    press(view, "s", "s")
    assert (view.sort, [line.to_node for line in view.edges(shown)]) == ("WAITING", ["blur", "sink", "detector"])
    press(view, "down")
    assert view.edge == "detector.out->sink.in"
    press(view, "tab")
    assert (view.sort, [line.to_node for line in view.edges(shown)]) == ("graph", ["blur", "detector", "sink"])


@pytest.mark.parametrize(
    ("keys", "order"),
    [
        ("q", Order(QUIT)),
        ("p", Order("pause", "camera")),
        ("jjp", Order("resume", "detector")),
        ("jl", Order(LOG, "blur")),
        ("jt", Order(STACK, "blur")),
        (["tab", "tab", "down", "l"], Order(LOG, "detector")),
        (["tab", "tab", "down", "p"], Order("resume", "detector")),
        ("x", None),
    ],
    ids=str,
)
def test_keys_ask_for_what_goes_beyond_the_view(press, keys, order):
    # Of an edge, the node that it leads to is meant.
    assert press(View(), *keys) == order


def test_a_sheet_takes_the_keys_until_it_is_left(press):
    view = View(page_rows=5)
    press(view, "?")
    assert view.sheet == HELP
    press(view, "down", "down", "up")
    assert (view.scroll, view.node) == (1, "camera")
    assert press(view, "p") is None
    press(view, "?")
    assert view.sheet == ""
    view.open(LOG, "blur")
    press(view, "pgup", "up", "down")  # a log is read from its end
    assert view.scroll == 5
    press(view, "G")
    assert view.scroll == 0
    assert press(view, "t") == Order(STACK, "blur")
    assert press(view, "q") == Order(QUIT)
    press(view, "esc")
    assert (view.sheet, view.node) == ("", "camera")


def test_a_selected_node_that_is_gone_gives_its_place_to_the_first(shown):
    view = View(node="gone", edge="gone")
    view.settle(shown)
    assert (view.node, view.edge) == ("camera", "camera.out->blur.in")
    view.settle(picture(reply([], []), "graph", 10, 0))
    assert (view.node, view.edge) == ("", "")
