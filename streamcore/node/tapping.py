"""Showing the packets of an output port to processes that tap it, without the edges of the port taking notice.

A tap is an edge of its own, `latest`, with one frame under way at most. It is in no plan, and has no credit, no row and no counter: nothing
that the edges of the port, their account or a successor of this process know of. A packet whose payload is in its metadata is sent as a
copy. A frame that lies in a slot of the port's ring is held there, as an array of this process would hold it, until the tap says that
it has copied it; for that each tap brings a spare slot into play. A frame that lies in another ring, which this node only forwards, is
copied to a slot of ours: to hold it there would keep an input from being completed.

Packets are offered by the main thread. A tap's word is heard by the lifeline's, so that it is answered also while node code is at work;
what both touch is `Tap.held`, of which each takes by one atomic `popleft`.
"""

from __future__ import annotations

import logging
import os
import socket
from collections import deque
from collections.abc import Callable, Mapping
from typing import Any, Final

import numpy as np

from streamcore import limits
from streamcore.errors import MessageError, PayloadError
from streamcore.node import channel
from streamcore.node.lifeline import Lifeline
from streamcore.node.outlet import Outlet
from streamcore.node.packing import meta_of
from streamcore.node.placing import as_bytes, small_bytes, trace_of
from streamcore.packet import Meta, SlotRef, StreamPacket, encode_meta
from streamcore.payload import DTYPE_NAMES
from streamcore.shm import segment
from streamcore.shm.layout import REDELIVERED
from streamcore.shm.status import WORD, StatusWriter
from streamcore.wire import tapping
from streamcore.wire.sockets import uid_of_peer
from streamcore.wire.tapping import DONE, HELD, HELLO, NEXT, NO_SEQUENCE, PACKET, REFUSED, VOUCHED

HOLD_NS: Final = 1_000_000_000  # a tap that has not copied a frame by then is stopped, or hangs: copying takes a millisecond
FRAME_NS: Final = 33_000_000  # between frames, unless it is asked for another rate: copying them takes memory bandwidth from the graph
SMALL_NS: Final = 4_000_000  # between other packets: one costs the node about 10 us, and the tap some 50
SMALL_BURST: Final = 64  # so many may come at once
_WAITS: Final = WORD["waits_for_credit"]


class Pace:
    """At most one packet per interval, of which up to `burst` may come together."""

    def __init__(self, interval_ns: int, burst: int):
        self._interval_ns, self._room_ns, self._due_ns = interval_ns, interval_ns * (burst - 1), 0

    @property
    def due_ns(self) -> int:
        return self._due_ns - self._room_ns

    def allows(self, now_ns: int) -> bool:
        return self.due_ns <= now_ns

    def count(self, now_ns: int) -> None:
        self._due_ns = max(self._due_ns, now_ns) + self._interval_ns


class Tap:
    """One connection. `frames`: it wants to see into slots, and not only to be told of what lies there."""

    def __init__(self, link: socket.socket, command: channel.Tap, incarnation: int, give_back: Callable[[int], None]):
        self.link, self.frames, self.port = link, command.frames, command.port
        self.held: deque[tuple[int, int]] = deque()  # number and slot of the frame that is under way
        self.since_ns = 0  # when it was sent
        self.ready = False  # it waits for one
        self.passed = 0
        self.call: Callable[[], None] = lambda: None  # of the lifeline, when a word has come
        self._incarnation, self._number, self._give_back = incarnation, 0, give_back
        every_ns = command.every_ns
        self._frame_pace = Pace(FRAME_NS if every_ns is None else every_ns, 1)
        self._small_pace = Pace(SMALL_NS, SMALL_BURST) if every_ns is None else self._frame_pace

    def wants(self, heavy: bool, now_ns: int) -> bool:
        return not (heavy and (self.held or not self.ready)) and (self._frame_pace if heavy else self._small_pace).allows(now_ns)

    @property
    def rest_until_ns(self) -> int:
        """Before that time it wants nothing, nor is there anything to be done about it."""
        due_ns = min(self._frame_pace.due_ns, self._small_pace.due_ns)
        return min(due_ns, self.since_ns + HOLD_NS) if self.held else due_ns

    def show(self, raw: bytes, sequence: int, redelivered: bool, slot: int, now_ns: int) -> bool:
        """Send a packet; `slot`, if it is not -1, is held for it. False if it does not go out: then nothing is held."""
        self._number += 1
        if slot >= 0:
            self.since_ns, self.ready = now_ns, False
            self.held.append((self._number, slot))
        flags = (HELD if slot >= 0 else 0) | (tapping.REDELIVERED if redelivered else 0)
        if not self.say(PACKET, flags, self._number, sequence, self.passed, rest=raw):
            self.ready = self.ready or slot >= 0
            return slot >= 0 and not self._take_back()
        (self._frame_pace if slot >= 0 else self._small_pace).count(now_ns)
        return True

    def _take_back(self) -> bool:
        """False if the lifeline's thread has given it back, for a tap that says DONE to what it was not sent."""
        try:
            self.held.pop()
        except IndexError:
            return False
        return True

    def say(self, kind: int, flags: int = 0, number: int = 0, sequence: int = 0, passed: int = 0, rest: bytes = b"") -> bool:
        """False if the tap does not read, or is gone; the second is heard by whoever listens to it."""
        try:
            self.link.send(tapping.header(kind, flags, self._incarnation, number, sequence, passed) + rest)
        except OSError:
            return False
        return True

    def hear(self) -> bool:
        """In the lifeline's thread: a word has come. False: the tap has gone, or does not keep to the protocol."""
        try:
            raw = self.link.recv(tapping.HEADER.size)
            word = tapping.read(raw) if raw else None
        except BlockingIOError:
            return True
        except (OSError, MessageError):
            return False
        if word is not None and word.type == NEXT:
            self.ready = True
            return True
        if word is None or word.type != DONE:
            return False
        try:
            number, slot = self.held.popleft()
        except IndexError:
            return False  # it was too late: this tap is being detached
        self._give_back(slot)
        return number == word.number and self.say(VOUCHED, number=number)


class Taps:
    """The taps of one output port: what Outlet calls after it has dealt with its edges."""

    def __init__(self, outlet: Outlet, node_id: str):
        self.outlet, self.taps = outlet, list[Tap]()
        self._writer, self._node, self._kind = outlet.writer, node_id, "" if outlet.port.kind == "any" else outlet.port.kind
        self._room_bytes = outlet.writer.geometry.slot_bytes
        self.drop: Callable[[Tap, str], None]  # set by Tapping

    def offer(self, meta: Meta, raw: bytes, payload: Any, sequence: int, flags: int, now_ns: int) -> None:
        """A packet was committed. Never waits, never raises for what a packet or a tap is like."""
        ref, slot = meta.ref, -1
        self.count_passed()
        for tap in [*self.taps]:
            if tap.held and now_ns - tap.since_ns > HOLD_NS:
                self.drop(tap, f"it has not copied a frame within {HOLD_NS // 1_000_000} ms")
                continue
            heavy = ref is not None and ref.nbytes > 0 and (tap.frames or ref.dtype == "msgpack")
            if tap.wants(heavy, now_ns):
                if heavy and slot < 0:
                    slot, raw = self._slot_of(meta, raw, payload)
                if not heavy or slot >= 0:
                    if heavy:
                        self._writer.hold_slot(slot)
                    if tap.show(raw, sequence, bool(flags & REDELIVERED), slot if heavy else -1, now_ns):
                        continue
                    if heavy:
                        self._writer.release_slot(slot)
            tap.passed += 1
        if slot >= 0:
            self._writer.release_slot(slot)
        self._rest()

    def count_passed(self) -> None:
        """What the outlet has not offered while it was not time for it."""
        for tap in self.taps:
            tap.passed += self.outlet.passed
        self.outlet.passed = 0

    def _rest(self) -> None:
        self.outlet.rest_until_ns = min((tap.rest_until_ns for tap in self.taps), default=0)

    def offer_dropped(self, packet: StreamPacket, id16: bytes, now_ns: int) -> None:
        """No edge has taken the packet, or the port has none. It has no row; its payload is copied, for its author may write it again."""
        self.count_passed()
        taps = [tap for tap in self.taps if tap.wants(tap.frames, now_ns)]
        try:
            meta, slot = self._meta_of(packet, id16, now_ns, any(tap.frames for tap in taps)) if taps else (None, -1)
            raw = encode_meta(meta) if meta is not None else b""
        except (PayloadError, TypeError, ValueError):  # it is dropped, so nobody has checked it
            meta, slot, raw = None, -1, b""
        for tap in self.taps:
            heavy = meta is not None and meta.ref is not None and tap.frames
            shown = tap in taps and meta is not None and len(raw) <= limits.META_BYTES_MAX and not (heavy and slot < 0)
            if shown and heavy:
                self._writer.hold_slot(slot)
            if shown and not tap.show(raw, NO_SEQUENCE, packet.redelivered, slot if heavy else -1, now_ns):
                shown = False
                if heavy:
                    self._writer.release_slot(slot)
            tap.passed += not shown
        if slot >= 0:
            self._writer.release_slot(slot)
        self._rest()

    def _slot_of(self, meta: Meta, raw: bytes, payload: Any) -> tuple[int, bytes]:
        """The slot in which the payload lies, held once for the caller, and the metadata that names it. -1: there is no room for it."""
        ref = meta.ref
        assert ref is not None  # the caller looked
        if ref.ring == self._writer.shape.id:
            self._writer.hold_slot(ref.slot)
            return ref.slot, raw
        copy = self._copy(payload)
        if copy is None:
            return -1, raw
        meta.ref = copy
        return copy.slot, encode_meta(meta)

    def _meta_of(self, packet: StreamPacket, id16: bytes, now_ns: int, frames: bool) -> tuple[Meta, int]:
        trace = trace_of(packet.trace, packet.parent, self._node, now_ns, False)
        position = packet.position if packet.parent is None else None
        meta, payload, slot = meta_of(packet, id16, self._kind, None, None, position, trace), packet.payload, -1
        small = small_bytes(payload) if not isinstance(payload, np.ndarray) else None
        if small is not None or not isinstance(payload, (np.ndarray, bytes, bytearray, memoryview)):
            meta.value = payload if small is None else small
            return meta, slot
        copy = self._copy(payload) if frames else None
        if copy is not None:
            slot = copy.slot
        meta.ref = copy or self._named(payload)
        return meta, slot

    def _named(self, payload: Any) -> SlotRef:
        """Of a payload that is not shown: what it is, for whoever prints a line of it."""
        array, dtype = self._array(payload)
        return SlotRef(self._writer.shape.id, 0, 0, array.nbytes, dtype, array.shape, ())

    def _array(self, payload: Any) -> tuple[Any, str]:
        if isinstance(payload, np.ndarray):
            if payload.dtype not in DTYPE_NAMES:
                raise PayloadError(f"port {self.outlet.full_name}: an array of dtype {payload.dtype} cannot travel")
            return payload, DTYPE_NAMES[payload.dtype]
        return as_bytes(payload, self.outlet.full_name), ""

    def _copy(self, payload: Any) -> SlotRef | None:
        """A copy in a slot of our own, held once for the caller. None if it is too large, or no slot is free at this moment."""
        array, dtype = self._array(payload)
        self.outlet.settle_loans()
        if array.nbytes > self._room_bytes or not self._writer.free_slots:
            return None
        slot = self._writer.claim_slot()
        if array.nbytes:
            np.ndarray(array.shape, array.dtype, self._writer.slot_view(slot, array.nbytes))[...] = array
        return SlotRef(self._writer.shape.id, slot, 0, array.nbytes, dtype, array.shape, ())


class Tapping:
    """All taps of one process: attached and detached by the main thread, as the commands say."""

    def __init__(self, outlets: Mapping[str, Outlet], ring_fds: Mapping[str, int], run_dir: str, incarnation: int, node_id: str):
        self._ports = {name: Taps(outlet, node_id) for name, outlet in outlets.items()}
        self._ring_fds, self._run_dir, self._incarnation = ring_fds, run_dir, incarnation
        self._count, self._heard = 0, dict[int, Tap]()
        for port in self._ports.values():
            port.drop = self._drop

    def equip(self, lifeline: Lifeline, commands: deque[channel.Command], status: StatusWriter, log: logging.Logger) -> None:
        """lifeline: hears the taps. commands: read by the main thread, which is woken for them."""
        self._lifeline, self._commands, self._words, self._log = lifeline, commands, status.words, log

    def on_command(self, command: channel.Tap | channel.Untap) -> None:
        if isinstance(command, channel.Tap):
            self._attach(command)
            return
        tap = self._heard.pop(command.number, None)
        if tap is not None and tap in self._ports[tap.port].taps:
            self._detach(tap)

    def end(self) -> None:
        """Nothing is written to any ring of ours any more, by nobody: what is held stays as it is. SYNC: VOUCHED."""
        for tap in [tap for port in self._ports.values() for tap in port.taps]:
            for number, _ in [*tap.held]:
                tap.say(VOUCHED, number=number)

    def _attach(self, command: channel.Tap) -> None:
        """Whatever is in the way of it, the node goes on."""
        port = self._ports[command.port]
        try:
            link = self._connect(command.name)
        except OSError as error:  # it has gone meanwhile, or this process has no descriptors left
            self._log.info("tap %s of port %s: %s", command.name, command.port, error)
            return
        tap = Tap(link, command, self._incarnation, lambda slot: self._give_back(port.outlet, slot))
        if len(port.taps) >= limits.TAPS_PER_PORT_MAX or not port.outlet.writer.lend():
            tap.say(REFUSED, rest=f"port {port.outlet.full_name} has {len(port.taps)} taps, the most there may be; end one".encode())
            link.close()
            return
        port.count_passed()
        port.taps.append(tap)
        port.outlet.taps, port.outlet.rest_until_ns = port, 0
        fd = link.fileno()
        tap.call = lambda: self._on_word(tap, fd)
        self._lifeline.watch(fd, tap.call)
        try:
            self._greet(link, self._ring_fds[str(port.outlet.writer.shape.id)])
        except OSError as error:
            self._drop(tap, f"it cannot be given the ring: {error}")

    def _connect(self, name: str) -> socket.socket:
        link = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        try:
            link.setblocking(False)
            link.connect(f"{self._run_dir}/{name}")
            uid = uid_of_peer(link)
            if uid != os.geteuid():
                raise OSError(f"it belongs to user {uid}")
        except OSError:
            link.close()
            raise
        return link

    def _greet(self, link: socket.socket, ring_fd: int) -> None:
        fd = segment.reopen_readonly(ring_fd)
        try:
            socket.send_fds(link, [tapping.header(HELLO, 0, self._incarnation)], [fd])
        finally:
            os.close(fd)

    def _on_word(self, tap: Tap, fd: int) -> None:
        """In the lifeline's thread."""
        if not tap.hear():
            self._lifeline.unwatch(fd, tap.call)
            self._count += 1
            self._heard[self._count] = tap
            self._commands.append(channel.Untap(self._count))
            self._lifeline.poke()

    def _give_back(self, outlet: Outlet, slot: int) -> None:
        """In the lifeline's thread, seldom in the main one, which may be waiting for just this slot."""
        outlet.returned.append(slot)
        if self._words[_WAITS]:
            self._lifeline.poke()

    def _drop(self, tap: Tap, why: str) -> None:
        self._log.warning("a tap of port %s is detached: %s", tap.port, why)
        self._detach(tap)

    def _detach(self, tap: Tap) -> None:
        port = self._ports[tap.port]
        self._lifeline.unwatch(tap.link.fileno(), tap.call)
        while tap.held:
            try:
                self._give_back(port.outlet, tap.held.popleft()[1])
            except IndexError:  # the lifeline's thread was faster
                break
        port.outlet.settle_loans()
        port.taps.remove(tap)
        port.outlet.writer.take_back()
        tap.link.close()
        if not port.taps:
            port.outlet.taps = None
