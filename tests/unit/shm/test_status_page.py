"""Status pages: one writer, read from outside, also when the node is dead."""

from __future__ import annotations

import math
import os
import signal
import struct
import subprocess
import sys

import msgspec
import pytest

from streamcore import limits
from streamcore.errors import LayoutError
from streamcore.shm.status import (
    EDGE_WORD,
    MAGIC,
    STATES,
    VERSION,
    WORD,
    EdgeCounters,
    StatusReader,
    StatusWriter,
    format_status,
    status_bytes,
)

PLAIN = sorted(set(WORD) - {"magic", "version", "edge_count", "state"})


@pytest.fixture
def page(make_page):
    """A page of a node with the edges 3 and 11: (writer, reader)."""
    fd = make_page(3, 11)
    return StatusWriter(fd), StatusReader(fd)


def test_a_fresh_page_says_that_nothing_has_happened(page):
    found = page[1].read()
    assert (found.state, found.edges, found.metrics) == ("planned", {3: EdgeCounters(), 11: EdgeCounters()}, {})
    assert all(getattr(found, name) == 0 for name in PLAIN)


@pytest.mark.parametrize("name", PLAIN)
def test_every_word_is_read_back_as_it_was_written_and_no_other_changes(page, name):
    writer, reader = page
    before = msgspec.structs.asdict(reader.read())
    writer.set(name, 2**64 - 1)
    assert msgspec.structs.asdict(reader.read()) == before | {name: 2**64 - 1}


@pytest.mark.parametrize("state", STATES)
def test_every_state_is_read_back_by_its_name(page, state):
    page[0].set("state", STATES.index(state))
    assert page[1].read().state == state


def test_a_state_of_a_newer_writer_is_read_as_the_last_one_known(page):
    page[0].set("state", 99)
    assert page[1].read().state == STATES[-1]


@pytest.mark.parametrize("field", EDGE_WORD)
def test_every_counter_of_an_edge_is_read_back_and_no_other_changes(page, field):
    writer, reader = page
    writer.words[writer.row(11) + EDGE_WORD[field]] = 42
    assert reader.read().edges == {3: EdgeCounters(), 11: EdgeCounters(**{field: 42})}


def test_an_edge_of_other_nodes_has_no_row(page):
    with pytest.raises(KeyError):
        page[0].row(4)


@pytest.mark.parametrize("value", [-1, 2**64])
def test_a_number_that_does_not_fit_a_word_is_refused(page, value):
    with pytest.raises(ValueError, match="invalid value"):
        page[0].set("consumed", value)


def test_user_metrics_are_read_by_name(page):
    writer, reader = page
    writer.metric("frames_blurred").add()
    writer.metric("frames_blurred").add(2.5)
    writer.metric("größe").set(-1e300)
    assert reader.read().metrics == {"frames_blurred": 3.5, "größe": -1e300}


def test_a_name_may_fill_its_room_and_no_more(page):
    writer, reader = page
    writer.metric("n" * 56).set(7)
    assert reader.read().metrics == {"n" * 56: 7}
    for name in ("n" * 57, "ä" * 29, "", "a\0b"):
        with pytest.raises(ValueError, match="metric name"):
            writer.metric(name)


def test_a_node_has_a_bounded_number_of_metrics(page):
    writer, reader = page
    for number in range(limits.USER_METRICS_MAX):
        writer.metric(f"m{number}").set(number)
    with pytest.raises(ValueError, match=f"at most {limits.USER_METRICS_MAX}"):
        writer.metric("one too many")
    writer.metric("m0").add()
    assert reader.read().metrics == {"m0": 1} | {f"m{n}": n for n in range(1, limits.USER_METRICS_MAX)}
    assert math.isclose(sum(reader.read().metrics.values()), sum(range(limits.USER_METRICS_MAX)) + 1)


def test_the_metrics_of_a_predecessor_go_on(make_page):
    fd = make_page()
    StatusWriter(fd).metric("a_rather_long_name").set(1)
    StatusWriter(fd).metric("short").set(2)
    StatusWriter(fd).metric("a_rather_long_name").add(1)
    assert StatusReader(fd).read().metrics == {"a_rather_long_name": 2, "short": 2}


def test_marks_of_input_edges_lie_apart_and_survive_the_process_that_set_them(make_segment):
    rows = [(3, 4), (11, 0), (5, 2)]
    fd = make_segment(status_bytes(rows))
    format_status(fd, rows)
    first = StatusWriter(fd)
    first.marks(3)[3], first.marks(5)[0] = 17, 18
    again = StatusWriter(fd)
    assert [list(again.marks(edge)) for edge in (3, 11, 5)] == [[0, 0, 0, 17], [], [18, 0]]
    assert StatusReader(fd).read().metrics == {}


@pytest.mark.parametrize(("word", "value"), [(0, MAGIC + 1), (0, 0), (1, VERSION + 1), (2, 3), (2, 1), (2, 2**63)])
@pytest.mark.parametrize("side", [StatusReader, StatusWriter])
def test_a_page_of_another_kind_or_version_is_refused(make_page, side, word, value):
    fd = make_page(3, 11)
    os.pwrite(fd, struct.pack("<Q", value), word * 8)
    with pytest.raises(LayoutError, match=r"found magic .* expected magic"):
        side(fd)


@pytest.mark.parametrize("nbytes", [8, 4096, status_bytes([(1, 0)]) + 8])
def test_a_page_of_an_impossible_size_is_refused(make_segment, nbytes):
    with pytest.raises(LayoutError, match="status page: found"):
        StatusReader(make_segment(nbytes))


def test_the_page_of_a_killed_process_can_still_be_read(make_page):
    fd = make_page(3)
    program = (
        "import sys, signal, os\n"
        "from streamcore.shm.status import StatusWriter, EDGE_WORD\n"
        "page = StatusWriter(int(sys.argv[1]))\n"
        "page.set('pid', os.getpid()); page.set('consumed', 5)\n"
        "page.words[page.row(3) + EDGE_WORD['taken']] = 6\n"
        "page.metric('boxes').set(7)\n"
        "os.kill(os.getpid(), signal.SIGKILL)\n"
    )
    process = subprocess.run([sys.executable, "-c", program, str(fd)], pass_fds=[fd], timeout=20, env={"PYTHONPATH": ":".join(sys.path)})
    assert process.returncode == -signal.SIGKILL
    found = StatusReader(fd).read()
    assert (found.consumed, found.edges[3].taken, found.metrics) == (5, 6, {"boxes": 7})
    assert found.pid > 0


def test_a_closed_reader_gives_its_memory_back(make_page):
    reader = StatusReader(make_page(3))
    reader.read()
    reader.close()
    with pytest.raises(ValueError, match="released"):
        reader.read()
