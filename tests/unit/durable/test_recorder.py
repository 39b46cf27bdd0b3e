"""A recording: what is completed is on the disk in order, within its bounds, whatever tore its end or turned its bits."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys

import pytest

from streamcore.clock import ManualClock
from streamcore.durable import segment
from streamcore.durable.record import Entry, Head
from streamcore.durable.recorder import Recorder
from streamcore.durable.recording import Recording
from streamcore.errors import ConfigError, PayloadError, StoreLocked

SECOND_NS = 1_000_000_000
SMALL = Recorder.Options(segment_bytes=64 << 10, max_bytes=512 << 10)


def entry(number: int, nbytes: int = 100, kind: str = "event", port: str = "cam.out") -> Entry:
    """Captured at `number` seconds."""
    return Entry(number.to_bytes(16, "big"), number * SECOND_NS, Head(kind, "cam", "bytes", port), b"%08d" % number + bytes(nbytes))


def number_of(found) -> int:
    return int(found.payload[:8])


def record(path, numbers, options=None, **more) -> None:
    with Recorder(path, options, **more) as recorder:
        for number in numbers:
            assert recorder.append([entry(number)]) == 1


def numbers(path, **more) -> list[int]:
    return [number_of(found) for found in Recording(path).read(**more)]


def segments(path):
    return sorted(path.glob("*.seg"))


def test_what_was_appended_is_read_in_order_and_goes_on_in_the_next_life(tmp_path):
    record(tmp_path / "r", range(10))
    record(tmp_path / "r", range(10, 20))
    assert numbers(tmp_path / "r") == [*range(20)]
    found = [*Recording(tmp_path / "r").read()]
    assert [item.sequence for item in found] == [*range(1, 21)]
    assert found[3].head == entry(3).head and found[3].wall_ns == 3 * SECOND_NS and found[3].id16 == entry(3).id16


def test_it_is_read_while_it_is_written_and_has_one_writer(tmp_path):
    with Recorder(tmp_path / "r") as recorder:
        recorder.append([entry(1), entry(2)])
        assert numbers(tmp_path / "r") == [1, 2]
        assert Recording(tmp_path / "r").owner == str(os.getpid())
        with pytest.raises(
            StoreLocked, match=f"recording .*: process {os.getpid()} owns it; stop its run, or read it with `streamctl recording`"
        ):
            Recorder(tmp_path / "r")
        recorder.append([entry(3)])
        assert numbers(tmp_path / "r") == [1, 2, 3]
    assert Recording(tmp_path / "r").owner == ""


def test_the_oldest_segments_are_deleted_at_max_bytes_and_nothing_else(tmp_path):
    with Recorder(tmp_path / "r", SMALL) as recorder:
        for number in range(0, 3000, 50):
            assert recorder.append([entry(n, 1000) for n in range(number, number + 50)]) == 50
            on_disk = sum(path.stat().st_size for path in (tmp_path / "r").iterdir() if path.name != "owner")
            assert on_disk <= SMALL.max_bytes
        kept = numbers(tmp_path / "r")
        assert kept == [*range(3000 - len(kept), 3000)] and recorder.deleted == 3000 - len(kept)
        assert len(kept) * 1000 > SMALL.max_bytes - 2 * SMALL.segment_bytes  # no more is deleted than need be


def test_segments_are_closed_and_deleted_by_age(tmp_path):
    clock = ManualClock(SECOND_NS)
    options = Recorder.Options(segment_s=10, max_age_s=60)
    with Recorder(tmp_path / "r", options, clock=clock) as recorder:
        for number in range(40):
            recorder.append([entry(number)])
            clock.advance(5)
        assert 28 - 2 <= numbers(tmp_path / "r")[0] <= 28  # of 60 s, and what shares its segment
        clock.advance(recorder.due_s)
        recorder.tend()
        before = len(segments(tmp_path / "r"))
        clock.advance(1000)
        recorder.tend()
        recorder.tend()
        assert before > 1 and numbers(tmp_path / "r") == [] and recorder.due_s is None
        recorder.append([entry(99)])
        assert [found.sequence for found in Recording(tmp_path / "r").read()] == [41]  # never one again


@pytest.mark.parametrize(("full", "settled", "dropped"), [("block", 0, 0), ("drop_new", 60, 60)])
def test_at_max_bytes_the_policy_is_obeyed(tmp_path, full, settled, dropped):
    options = Recorder.Options(segment_bytes=64 << 10, max_bytes=128 << 10, full=full)
    with Recorder(tmp_path / "r", options) as recorder:
        count = 0
        while recorder.append([entry(count, 1000)]) and not recorder.dropped:
            count += 1
        assert recorder.full == "max_bytes" and count > 100
        before = recorder.dropped
        assert recorder.append([entry(n, 1000) for n in range(60)]) == settled and recorder.dropped - before == dropped
        assert numbers(tmp_path / "r") == [*range(count)]


def test_a_record_larger_than_a_segment_has_one_of_its_own_and_one_too_large_is_refused(tmp_path):
    with Recorder(tmp_path / "r", SMALL) as recorder:
        assert recorder.append([entry(1), entry(2, 200_000), entry(3)]) == 3
        with pytest.raises(PayloadError, match="a payload of 300008 bytes, expected at most half of max_bytes, 262144"):
            recorder.append([entry(4), entry(5, 300_000)])
    assert numbers(tmp_path / "r") == [1, 2, 3] and len(segments(tmp_path / "r")) == 3


def test_bounds_that_contradict_each_other_are_refused():
    with pytest.raises(ConfigError, match="segment_bytes: found 1048576, expected at most half of max_bytes, 524288"):
        Recorder.Options(segment_bytes=1 << 20, max_bytes=1 << 20)


# --- crashes


def torn(tmp_path, count: int = 5):
    """A recording whose writer was killed: no index, nothing closed."""
    with Recorder(tmp_path / "live") as recorder:
        recorder.append([entry(number) for number in range(count)])
        shutil.copytree(tmp_path / "live", tmp_path / "r")
    return tmp_path / "r"


def test_a_torn_last_record_of_every_length_is_cut_off_and_is_no_damage(tmp_path):
    path = torn(tmp_path)
    (file,) = segments(path)
    whole = file.read_bytes()
    size = (len(whole) - segment.HEADER.size) // 5
    for length in range(size):
        file.write_bytes(whole[: len(whole) - size + length])
        recording = Recording(path)
        assert [number_of(found) for found in recording.read()] == [0, 1, 2, 3] and recording.damaged == 0
        with Recorder(path) as recorder:
            assert bool(recorder.findings) == bool(length), length
            assert recorder.next_sequence == 5
            assert all(part.nbytes == part.index.end for part in Recording(path).parts)
            recorder.append([entry(99)])
            assert numbers(path) == [0, 1, 2, 3, 99]
        for made in path.glob("*.idx"):
            made.unlink()
        for other in segments(path)[1:]:
            other.unlink()


def test_zeros_where_the_end_was_not_written_are_cut_off(tmp_path):
    # What some file systems leave after a power cut: the size was written, the bytes were not.
    path = torn(tmp_path)
    with open(segments(path)[0], "ab") as file:
        file.write(bytes(10_000))
    record(path, [5])
    assert numbers(path) == [*range(6)]


@pytest.mark.parametrize("length", range(0, segment.HEADER.size + 1, 7))
def test_a_torn_header_of_a_new_segment_is_begun_again(tmp_path, length):
    path = torn(tmp_path)
    segments(path)[0].with_suffix(".idx").unlink(missing_ok=True)
    segment.path_of(path, 6).write_bytes(segments(path)[0].read_bytes()[:length])
    record(path, [5])
    assert numbers(path) == [*range(6)]


KILLED = """
import sys
from test_recorder import SMALL, entry
from streamcore.durable.recorder import Recorder
recorder = Recorder(sys.argv[1], SMALL, run="one")
number = recorder.next_sequence
while True:
    recorder.append([entry(n, 1000) for n in range(number, number + 7)])
    number += 7
    print(number - 1, flush=True)
"""


def test_what_was_completed_survives_kills_at_any_moment(tmp_path):
    path = os.pathsep.join([os.path.dirname(__file__), *sys.path])
    upto = 0
    for life in range(12):
        command = [sys.executable, "-c", KILLED, str(tmp_path / "r")]
        process = subprocess.Popen(command, stdout=subprocess.PIPE, env={**os.environ, "PYTHONPATH": path}, text=True)
        for _ in range(5 + 11 * life):
            upto = int(process.stdout.readline())
        process.kill()
        upto = int((process.stdout.read().split() or [upto])[-1])
        process.wait(60)
        recording = Recording(tmp_path / "r")
        found = [number_of(item) for item in recording.read()]
        assert found == [*range(found[0], found[-1] + 1)] and found[-1] >= upto and recording.damaged == 0
        assert found == [item.sequence for item in Recording(tmp_path / "r").read()]


def test_ids_of_this_run_are_known_after_a_crash_and_those_of_another_run_are_not(tmp_path):
    options = Recorder.Options(segment_bytes=64 << 10)
    with Recorder(tmp_path / "live", options, run="today") as recorder:
        for number in range(200):
            recorder.append([entry(number, 1000)])
        shutil.copytree(tmp_path / "live", tmp_path / "r")
    shutil.copytree(tmp_path / "r", tmp_path / "other")
    with Recorder(tmp_path / "r", options, run="today") as recorder:
        assert all(recorder.knows(entry(number).id16) for number in range(200))  # those of segments that are closed as well
    with Recorder(tmp_path / "other", options, run="tomorrow") as recorder:
        assert not any(recorder.knows(entry(number).id16) for number in range(200))
        recorder.append([entry(7)])
    assert [part.run for part in Recording(tmp_path / "other").parts][-2:] == ["today", "tomorrow"]


# --- damage


def test_every_flipped_byte_of_a_record_is_noticed_and_costs_that_record_only(tmp_path):
    path = torn(tmp_path)
    (file,) = segments(path)
    whole = bytearray(file.read_bytes())
    size = (len(whole) - segment.HEADER.size) // 5
    for closed in (False, True):
        if closed:
            record(path, [])
            index = segment.Index.decode(file.with_suffix(".idx").read_bytes())
            assert index is not None and index.next_sequence == 6
        for offset in range(segment.HEADER.size + size, segment.HEADER.size + 2 * size):
            whole[offset] ^= 0x40
            file.write_bytes(whole)
            whole[offset] ^= 0x40
            recording, said = Recording(path), []
            found = [number_of(item) for item in recording.read(on_damage=lambda count, text, said=said: said.append((count, text)))]
            assert found == [0, 2, 3, 4], offset
            assert recording.damaged == sum(count for count, _ in said) == 1, (offset, said)


def test_the_writer_keeps_what_lies_behind_damage(tmp_path):
    path = torn(tmp_path)
    (file,) = segments(path)
    raw = bytearray(file.read_bytes())
    raw[segment.HEADER.size + 20] ^= 1
    file.write_bytes(raw)
    record(path, [5])
    recording = Recording(path)
    assert [number_of(found) for found in recording.read()] == [1, 2, 3, 4, 5] and recording.damaged == 1


@pytest.mark.parametrize("what", ["gone", "flipped", "cut", "empty"])
def test_an_index_that_is_missing_or_damaged_is_made_anew(tmp_path, what):
    path = tmp_path / "r"
    record(path, range(1000), Recorder.Options(segment_bytes=64 << 10))
    first = segments(path)[0].with_suffix(".idx")
    raw = first.read_bytes()
    first.unlink()
    if what != "gone":
        first.write_bytes({"flipped": raw[:20] + bytes([raw[20] ^ 1]) + raw[21:], "cut": raw[:-1], "empty": b""}[what])
    assert numbers(path) == [*range(1000)]
    record(path, [1000])
    assert first.read_bytes() == raw and numbers(path) == [*range(1001)]


def test_a_folder_without_a_recording_is_an_error(tmp_path):
    with pytest.raises(ConfigError, match="no such folder"):
        Recording(tmp_path / "none")
    with pytest.raises(ConfigError, match="found no segment in it"):
        Recording(tmp_path)


# --- choosing


def test_times_kinds_sources_and_ports_select(tmp_path):
    with Recorder(tmp_path / "r", Recorder.Options(segment_bytes=64 << 10)) as recorder:
        for number in range(100, 400):
            kind, port = ("frame", "cam.out") if number % 3 else ("event", "det.out")
            recorder.append([entry(number, 1000, kind, port)])
    recording = Recording(tmp_path / "r")

    def chosen(*times: str, **names: tuple[str, ...]) -> list[int]:
        return [number_of(found) for found in recording.read(recording.select(*times, **names))]

    assert chosen("10s", "20s") == [*range(110, 120)]
    assert chosen("-10s") == [*range(389, 400)]
    assert chosen("1970-01-01T00:03:20Z", "1970-01-01 00:03:21.5Z") == [200, 201]
    assert chosen(kinds=("event",)) == chosen(ports=("det.out",)) == [*range(102, 400, 3)]
    assert chosen(sources=("other",)) == chosen("2030-01-01") == []
    assert chosen("290s", kinds=("frame", "event"), sources=("cam",)) == [*range(390, 400)]
    assert [number_of(found) for found in recording.read(after=250)] == [*range(350, 400)]
    with pytest.raises(ConfigError, match="'some day' is not a time; expected e.g."):
        recording.select("some day")


def bytes_read() -> int:
    with open("/proc/self/io") as file:
        return int(file.readline().split()[1])


def test_a_span_of_a_long_recording_is_found_without_reading_it(tmp_path):
    with Recorder(tmp_path / "r", Recorder.Options(segment_bytes=8 << 20)) as recorder:
        for number in range(0, 40_000, 200):
            recorder.append([entry(n, 1000) for n in range(number, number + 200)])
    before = bytes_read()
    recording = Recording(tmp_path / "r")
    found = [number_of(item) for item in recording.read(recording.select("20000s", "20010s"))]
    assert found == [*range(20000, 20010)]
    assert bytes_read() - before < recording.nbytes / 20


def test_what_is_deleted_while_it_is_read_is_said_and_the_rest_is_given(tmp_path):
    with Recorder(tmp_path / "r", SMALL) as recorder:
        recorder.append([entry(number, 1000) for number in range(300)])
        recording = Recording(tmp_path / "r")
        reading = recording.read()
        first = [number_of(next(reading)) for _ in range(3)]
        recorder.append([entry(number, 1000) for number in range(300, 700)])
        rest = [number_of(found) for found in reading]
    lost = set(range(300)) - {*first, *rest}
    assert (first, rest[0], rest[-1]) == ([0, 1, 2], 3, 299) and rest == sorted(rest)
    assert recording.gone == len(lost) > 0 and recording.damaged == 0
