"""Where a source goes on after a restart: what its successor finds on the page and in the rows that it adopts."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator

import pytest

from streamcore.node.positions import Positions
from streamcore.shm import segment
from streamcore.shm.status import StatusWriter, format_status, status_bytes

Process = Callable[..., Positions]


@pytest.fixture
def process() -> Iterator[Process]:
    """A new process of one source, whose page stays."""
    fd = segment.create("status", status_bytes([]))
    format_status(fd, [])
    yield lambda *adopted, ports=1, tells=False: successor(StatusWriter(fd), adopted, ports, tells)
    os.close(fd)


def successor(status: StatusWriter, adopted: tuple[int, ...], ports: int, tells: bool) -> Positions:
    made = Positions(status, ports, tells)
    for position in adopted:
        made.adopted(position)
    return made


def emit(positions: Positions, *numbers: int) -> None:
    for number in numbers:
        positions.emitted(number)


def tell(positions: Positions, *numbers: int) -> None:
    for number in numbers:
        positions.told(number)


@pytest.mark.parametrize("tells", [False, True])
def test_a_first_process_begins_at_the_beginning(process: Process, tells: bool):
    assert process(tells=tells).resume is None and process(ports=2, tells=tells).resume is None


def test_a_source_goes_on_behind_what_it_has_emitted_although_an_old_packet_is_under_way(process: Process):
    # One packet waits at a slow consumer, hundreds behind it are done with: they are not made again.
    emit(process(), *range(313))
    assert process(69).resume == 312


def test_what_was_committed_but_not_noted_any_more_is_not_made_again(process: Process):
    emit(process(), 0, 1)
    assert process(1, 2).resume == 2


def test_positions_need_not_be_contiguous(process: Process):
    emit(process(), 5, 900)
    assert process().resume == 900


def test_of_several_ports_the_last_position_is_given_again(process: Process):
    # It came out of one port; the process may have died before it came out of the other.
    emit(process(ports=2), 0, 0, 1)
    assert process(1, ports=2).resume == 0
    assert process(ports=2, tells=True).resume is None


def test_of_several_ports_a_position_is_told_when_it_has_come_out_of_each(process: Process):
    before = process(ports=2, tells=True)
    emit(before, 0)
    tell(before, 0)  # before the other port has had room for its packet
    emit(before, 0, 1, 1)
    tell(before, 1, 1)
    assert process(ports=2, tells=True).resume is None


def test_of_several_ports_the_very_first_position_is_given_again(process: Process):
    emit(process(ports=2), 0)
    assert process(ports=2).resume is None


def test_a_source_that_is_told_goes_on_behind_what_it_has_heard_of(process: Process):
    before = process(tells=True)
    emit(before, 0, 1, 2, 3)
    tell(before, 0, 1, 3)
    assert process(2, tells=True).resume == 1


def test_what_nobody_told_of_is_told_although_later_packets_were_adopted(process: Process):
    # 1 was done with when the first process died, and the source had not heard of it. The second one hears of 0 and 2, and dies, too.
    emit(process(tells=True), 0, 1, 2)
    second = process(0, 2, tells=True)
    tell(second, 0, 2)
    assert second.resume is None
    third = process(tells=True)
    emit(third, 0, 1, 2)
    tell(third, 2, 0, 1)
    assert process(tells=True).resume == 2


def test_what_is_given_again_between_adopted_packets_keeps_its_place(process: Process):
    emit(process(tells=True), *range(6))
    second = process(0, 3, 5, tells=True)
    emit(second, 1, 2, 4, 6)
    tell(second, 0, 3, 5, 6)
    assert process(tells=True).resume == 0
    tell(second, 2, 1)
    assert process(tells=True).resume == 3
    tell(second, 4)
    assert process(tells=True).resume == 6


def test_a_position_of_several_packets_is_told_when_all_of_them_are(process: Process):
    before = process(ports=2, tells=True)
    emit(before, 0, 0, 1, 1, 2)
    tell(before, 0, 1, 1)
    assert process(ports=2, tells=True).resume is None
    tell(before, 0)
    assert process(ports=2, tells=True).resume == 1
