"""Plots: well-formed pictures that say in words what they show, whatever the texts and numbers."""

import re
import xml.etree.ElementTree as ET

import pytest

from streamcore.drawing import flow
from streamcore.drawing.look import printable, safe, shortened
from streamcore.drawing.plot import DROPS, HEIGHT, LEFT, RIGHT, WIDTH, Event, Frame, Plot, Series, draw
from streamcore.drawing.scale import NS, RATE, SHARE

HOSTILE = "</title></svg><script>alert(1)</script><img src=x onerror=y>\"'&amp;\x00\x1b[31m\u202e"


def parsed(svg):
    return ET.fromstring(svg)


def frame(points, *, columns_max=48, each_s=1.0):
    return Frame([each_s * n for n in range(points)], [each_s * (n + 1) for n in range(points)], columns_max)


def numbers(path):
    return [float(number) for number in re.findall(r"-?[\d.]+", path)]


def lines_of(root):
    return [path.get("d") for path in root.iter("path") if path.get("class", "").startswith("line") and "h13" not in path.get("d")]


def test_a_plot_says_its_name_unit_and_range_in_words():
    root = parsed(draw(Plot("Age", NS, [Series("p50", [2e6, 4e6])]), frame(2), "slow", 0))
    assert root.get("aria-labelledby").split() == [root[0].get("id"), root[1].get("id")]
    assert (root[0].text, root[1].text) == ("slow: Age, ms", "p50: 2 ms to 4 ms, mean 3 ms")


def test_a_line_stays_within_its_plot_and_breaks_where_nothing_was_measured():
    (line,) = lines_of(parsed(draw(Plot("Age", NS, [Series("p50", [1e6, 5e6, None, 3e6, 2e6])]), frame(5), "a", 0)))
    assert line.count("M") == 2
    found = numbers(line)
    assert all(LEFT <= x <= WIDTH - RIGHT for x in found[::2])
    assert all(0 <= y <= HEIGHT for y in found[1::2])


def test_a_single_point_is_a_line_over_its_time():
    (line,) = lines_of(parsed(draw(Plot("Throughput", RATE, [Series("sent", [30.0])]), frame(1, each_s=0.3), "a", 0)))
    found = numbers(line)
    assert (found[0], found[-2]) == (LEFT, WIDTH - RIGHT)


def test_of_many_points_some_share_a_tooltip_that_says_their_largest():
    root = parsed(draw(Plot("Flow", RATE, [Series("dropped", [float(n) for n in range(240)], DROPS)]), frame(240, columns_max=20), "a", 0))
    columns = [rect.find("title").text for rect in root.iter("rect") if rect.get("class") == "column"]
    assert len(columns) == 20
    assert columns[0] == "0.0 to 12.0 s\ndropped up to 11 packets/s"


def test_a_share_is_drawn_against_the_whole():
    # Else a node that works 1 % of the time looks as busy as one that works all the time.
    (line,) = lines_of(parsed(draw(Plot("Busy", SHARE, [Series("in its code", [0.01, 0.01])]), frame(2), "a", 0)))
    assert all(y > HEIGHT * 0.8 for y in numbers(line)[1::2])


def test_a_mark_stands_at_its_time_and_says_what_happened():
    root = parsed(draw(Plot("Busy", SHARE, [Series("x", [0.5] * 4)]), frame(4), "a", 0, [Event(2.0, "restart", "killed by SIGKILL")]))
    (mark,) = [path for path in root.iter("path") if path.get("class") == "mark"]
    assert mark.find("title").text == "2.0 s, restart: killed by SIGKILL"
    assert numbers(mark.get("d"))[0] == pytest.approx((LEFT + WIDTH - RIGHT) / 2)


def test_hostile_texts_stay_texts():
    plot = Plot(HOSTILE, NS, [Series(HOSTILE, [1.0, None])], limit=(1.0, HOSTILE))
    for svg in (
        draw(plot, frame(2), HOSTILE, 0, [Event(0.5, HOSTILE, HOSTILE)]),
        flow.draw(
            [flow.FlowNode(HOSTILE, HOSTILE, HOSTILE, HOSTILE)], [flow.FlowEdge(HOSTILE, HOSTILE, HOSTILE, HOSTILE, HOSTILE)], HOSTILE
        ),
    ):
        assert {element.tag for element in parsed(svg).iter()} <= {"svg", "g", "title", "desc", "path", "rect", "text"}
        assert not any(sign in svg for sign in "\x00\x1b\u202e")


def test_printable_text_steers_no_terminal():
    assert printable("a\x1b[2J\nb\u202e") == "a\N{REPLACEMENT CHARACTER}[2J b\N{REPLACEMENT CHARACTER}"
    assert safe("<\"'&") == "&lt;&quot;&#x27;&amp;"


def test_a_long_id_loses_its_middle():
    assert shortened("camera", 6) == "camera"
    assert shortened("front-door-camera-17", 11) == "front…ra-17"
    assert len(shortened("x" * 300, 20)) == 20


def test_a_graph_shows_rates_losses_and_the_slow_node():
    nodes = [flow.FlowNode("a", "p", "30/s", "all of a"), flow.FlowNode("b", "p", "30/s", "all of b", busy=0.5, slow=True)]
    edges = [
        flow.FlowEdge("a", "b", "30/s", "all", "3 dropped"),
        flow.FlowEdge("b", "a", "1/s", "back"),
        flow.FlowEdge("a", "gone", "", ""),
    ]
    root = parsed(flow.draw(nodes, edges, "The graph"))
    assert root.find("desc").text == "2 nodes, 2 edges. a to b: 30/s 3 dropped; b to a: 1/s"
    assert [group.get("class") for group in root.iter("g")] == ["edge lossy", "edge back", "node", "node slow"]
    assert "holds the graph back" in [text.text for text in root.iter("text")]
    assert [rect.get("width") for rect in root.iter("rect") if rect.get("class") == "busy"] == ["0.0", "76.0"]
