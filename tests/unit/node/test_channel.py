"""The control channel: commands, reports, and the end of file that says that the other side is gone."""

from __future__ import annotations

import socket

import msgspec
import pytest

from streamcore.node.channel import (
    DATAGRAM_BYTES_MAX,
    Done,
    Draining,
    Failed,
    PeerGone,
    Ready,
    Start,
    Stop,
    decode_report,
    encode,
    receive_command,
)


@pytest.fixture
def pair():
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    theirs.settimeout(10)
    yield ours, theirs
    ours.close()
    theirs.close()


@pytest.mark.parametrize("command", [Start({"a": 1, "b": 12}), Stop(), PeerGone("camera")], ids=lambda c: type(c).__name__)
def test_a_command_arrives_as_it_was_sent(pair, command):
    pair[0].send(encode(command))
    assert receive_command(pair[1]) == command


@pytest.mark.parametrize("report", [Ready(7), Draining(), Done(), Failed("run", "ValueError: x", "plugin", "Traceback ä")], ids=repr)
def test_a_report_arrives_as_it_was_sent(report):
    assert decode_report(encode(report)) == report


def test_commands_keep_their_bounds(pair):
    for command in (Stop(), Start({}), Stop()):
        pair[0].send(encode(command))
    assert [receive_command(pair[1]) for _ in range(3)] == [Stop(), Start({}), Stop()]


def test_the_end_of_the_channel_is_no_command(pair):
    pair[0].close()
    assert receive_command(pair[1]) is None


@pytest.mark.parametrize("raw", [b"x", b"{}", b'{"type":"ready","pid":1}', b'{"type":"start","peers":{"a":"b"}}', b'{"type":"start"}'])
def test_what_is_no_command_is_refused(pair, raw):
    pair[0].send(raw)
    with pytest.raises(msgspec.DecodeError):
        receive_command(pair[1])


@pytest.mark.parametrize("raw", [b"", b"[]", b'{"type":"stop"}', b'{"type":"ready"}', b'{"type":"failed","where":1}'])
def test_what_is_no_report_is_refused(raw):
    with pytest.raises(msgspec.DecodeError):
        decode_report(raw)


def test_a_datagram_that_would_be_cut_is_refused(pair):
    with pytest.raises(ValueError, match=f"at most {DATAGRAM_BYTES_MAX}"):
        encode(Failed("run", "x" * DATAGRAM_BYTES_MAX, "plugin"))
    nearly = Failed("run", "x" * (DATAGRAM_BYTES_MAX - 100), "plugin")
    pair[0].send(encode(nearly))  # blocks or fails here if the kernel's buffer were smaller
    assert decode_report(pair[1].recv(DATAGRAM_BYTES_MAX)) == nearly
