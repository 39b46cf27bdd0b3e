"""Places for nodes: each right of all that feed it, no two at one place, for any graph and in little time."""

from itertools import pairwise

from hypothesis import given
from hypothesis import strategies as st

from streamcore.drawing.layers import lay_out

GRAPHS = st.integers(1, 9).flatmap(
    lambda count: st.lists(st.tuples(st.integers(0, count - 1), st.integers(0, count - 1)), max_size=16).map(
        lambda pairs: ([str(n) for n in range(count)], [(str(a), str(b)) for a, b in pairs])
    )
)


@given(GRAPHS)
def test_every_edge_leads_to_the_right_but_those_that_close_a_cycle(graph):
    nodes, edges = graph
    layout = lay_out(nodes, edges)
    assert set(layout.places) == set(nodes)
    for (first, last), back, way in zip(edges, layout.back, layout.ways, strict=True):
        assert (way[0], way[-1]) == (layout.places[first], layout.places[last])
        if not back:
            assert [column for column, _ in way] == list(range(way[0][0], way[-1][0] + 1))
            assert len(way) > 1


@given(GRAPHS)
def test_nothing_lies_on_another_and_all_lie_within(graph):
    nodes, edges = graph
    layout = lay_out(nodes, edges)
    bends = [place for way in layout.ways for place in way[1:-1]]
    places = [*layout.places.values(), *bends]
    assert len(set(places)) == len(places)
    assert all(0 <= column < layout.columns and 0 <= row <= layout.rows - 1 for column, row in places)


@given(st.permutations(range(6)))
def test_a_chain_is_a_line_in_whatever_order_its_nodes_are_written(order):
    nodes = [str(number) for number in order]
    layout = lay_out(nodes, [(str(n), str(n + 1)) for n in range(5)])
    assert layout.places == {str(n): (n, 0.0) for n in range(6)}
    assert not any(layout.back)


def test_a_cycle_has_one_edge_that_leads_back():
    layout = lay_out(["a", "b", "c"], [("a", "b"), ("b", "c"), ("c", "b")])
    assert layout.back == [False, False, True]
    assert [layout.places[node][0] for node in "abc"] == [0, 1, 2]


def test_chains_side_by_side_do_not_cross():
    nodes = [f"{row}.{column}" for column in range(4) for row in (2, 0, 1)]
    layout = lay_out(nodes, [(f"{row}.{column}", f"{row}.{column + 1}") for row in (1, 0, 2) for column in range(3)])
    for row in range(3):
        assert len({layout.places[f"{row}.{column}"][1] for column in range(4)}) == 1


def test_a_long_chain_and_a_wide_fan_are_no_trouble():
    chain = [str(n) for n in range(3_000)]
    assert lay_out(chain, list(pairwise(chain))).columns == 3_000
    fan = lay_out(["hub", *chain], [("hub", node) for node in chain])
    assert (fan.columns, fan.rows, fan.places["hub"]) == (2, 3_000, (0, 1499.5))


def test_a_graph_without_edges_is_one_column():
    assert lay_out(["a", "b"], []).places == {"a": (0, 0.0), "b": (0, 1.0)}
    assert lay_out([], []).places == {}
