"""file.jsonl: complete lines only, whatever happens, and each packet once."""

from __future__ import annotations

import json
import os
import resource
import signal
import subprocess
import sys
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from streamcore import ConfigError, PayloadError, StreamPacket
from streamcore.testing import run_node
from streamcore_nodes.jsonl import JsonLines
from streamcore_nodes.line_file import PAGE_BYTES, TAIL_BYTES, LineFile, line_of


def rows(path: Path) -> list[dict[str, Any]]:
    text = path.read_text("utf-8")
    assert text == "" or text.endswith("\n")
    return [json.loads(line) for line in text.splitlines()]


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "new" / "events.jsonl"


@pytest.fixture
def numbers(json_packet: Callable[..., StreamPacket]) -> list[StreamPacket]:
    return [json_packet({"n": n, "text": "ü\n☃"}, n, kind="event") for n in range(5)]


def test_a_line_tells_what_the_packet_is(path: Path, numbers: list[StreamPacket]) -> None:
    run_node(JsonLines, numbers, {"path": str(path)})
    for packet, row in zip(numbers, rows(path), strict=True):
        assert row == {
            "packet_id": packet.packet_id,
            "ts": packet.ts,
            "kind": "event",
            "source_id": "cam",
            "payload": packet.payload,
            "meta": packet.meta,
        }


def test_fields_choose_and_order(path: Path, numbers: list[StreamPacket]) -> None:
    run_node(JsonLines, numbers[:1], {"path": str(path), "fields": ["sequence", "payload", "position", "redelivered"]})
    assert list(rows(path)[0].items()) == [("sequence", 0), ("payload", numbers[0].payload), ("position", None), ("redelivered", False)]


def test_lines_are_appended_to_what_is_there(path: Path, numbers: list[StreamPacket]) -> None:
    run_node(JsonLines, numbers[:2], {"path": str(path)})
    run_node(JsonLines, numbers[2:], {"path": str(path)})
    assert [row["payload"]["n"] for row in rows(path)] == [0, 1, 2, 3, 4]


@pytest.mark.parametrize("tear", [b'{"packet_id":"00', b"{"])
def test_a_torn_last_line_is_cut_off_with_a_warning(path: Path, numbers: list[StreamPacket], tear: bytes, caplog: Any) -> None:
    run_node(JsonLines, numbers[:2], {"path": str(path)})
    with path.open("ab") as file:
        file.write(tear)
    run_node(JsonLines, numbers[2:], {"path": str(path)})
    assert [row["payload"]["n"] for row in rows(path)] == [0, 1, 2, 3, 4]
    assert f"cut off a torn last line of {len(tear)} bytes" in caplog.text


def test_a_torn_line_longer_than_what_is_read_at_once_is_cut_off(tmp_path: Path) -> None:
    path = tmp_path / "long"
    path.write_bytes(b'{"a":1}\n{' + b"x" * (2 * TAIL_BYTES + 100))
    file = LineFile(path)
    assert file.cut_bytes == 2 * TAIL_BYTES + 101 and path.read_bytes() == b'{"a":1}\n'
    file.close()
    path.write_bytes(b"{" + b"x" * TAIL_BYTES)
    LineFile(path).close()
    assert path.read_bytes() == b""


def test_nothing_is_cut_from_a_file_of_somebody_else(tmp_path: Path) -> None:
    path = tmp_path / "notes.txt"
    path.write_text("dear diary\ntoday")
    with pytest.raises(ConfigError, match=r"notes\.txt: its last line is neither complete nor JSON"):
        run_node(JsonLines, [], {"path": str(path)})
    assert path.read_text() == "dear diary\ntoday"


def test_a_packet_delivered_again_is_written_once_also_by_the_next_process(path: Path, numbers: list[StreamPacket]) -> None:
    run_node(JsonLines, numbers[:3], {"path": str(path)})
    for packet in numbers:
        packet.redelivered = True
    run_node(JsonLines, [*numbers[1:], numbers[4]], {"path": str(path)})
    assert [row["payload"]["n"] for row in rows(path)] == [0, 1, 2, 3, 4]


def test_lines_of_others_in_the_file_are_left_alone(path: Path, numbers: list[StreamPacket], caplog: Any) -> None:
    path.parent.mkdir()
    path.write_text('not json\n{"packet_id": 7}\n[]\n')
    run_node(JsonLines, numbers[:1], {"path": str(path)})
    assert path.read_text().startswith('not json\n{"packet_id": 7}\n[]\n{') and "2 of its last lines are not of this node" in caplog.text


def test_gathered_lines_are_written_at_the_end_or_when_enough_are_held(path: Path, numbers: list[StreamPacket]) -> None:
    sizes: list[int] = []

    class Watched(JsonLines):
        def process(self, packet: StreamPacket) -> None:
            super().process(packet)
            sizes.append(len(rows(path)))

    run_node(Watched, numbers, {"path": str(path), "flush": "end", "held": 2})
    assert sizes == [0, 2, 2, 4, 4] and len(rows(path)) == 5


def test_what_is_gathered_is_kept_until_it_is_written(path: Path, numbers: list[StreamPacket]) -> None:
    # A packet that is let go of counts as completed; a kill would then lose it.
    node = JsonLines()

    class Watched(JsonLines):
        def process(self, packet: StreamPacket) -> None:
            super().process(packet)
            assert [kept for kept, _ in self.gathered][-1] is packet

    run_node(Watched, numbers, {"path": str(path), "flush": "end"})
    run_node(node, numbers, {"path": str(path.with_name("2")), "flush": "end"})
    assert node.gathered == []


def test_with_an_interval_lines_are_written_without_a_further_packet(path: Path, numbers: list[StreamPacket]) -> None:
    class Watched(JsonLines):
        def flush(self) -> None:
            assert self.timer is not None
            self.timer.join(30)
            assert len(rows(path)) == 5 and not self.gathered
            super().flush()

    run_node(Watched, numbers, {"path": str(path), "flush": "interval", "interval_s": 0.05})
    assert len(rows(path)) == 5


def test_fsync_writes_the_same(path: Path, numbers: list[StreamPacket]) -> None:
    run_node(JsonLines, numbers, {"path": str(path), "fsync": True})
    assert len(rows(path)) == 5


@pytest.mark.parametrize("payload", [float("nan"), [float("inf")], {"a": b"bytes"}])
def test_what_is_not_json_fails_and_leaves_no_trace(path: Path, json_packet: Callable[..., StreamPacket], payload: Any) -> None:
    packet = json_packet(1)
    packet.payload = payload

    class Direct(JsonLines):
        def setup(self) -> None:
            super().setup()
            with pytest.raises(PayloadError, match="not to be written as a JSON line"):
                self.process(packet)

    run_node(Direct, [], {"path": str(path)})
    assert path.read_bytes() == b""


def test_text_that_utf8_cannot_hold_is_no_line() -> None:
    with pytest.raises(PayloadError, match="surrogates not allowed"):
        line_of("half \udc80 a pair")


WRITER = """
import sys
from streamcore import StreamPacket
from streamcore.testing import run_node
from streamcore_nodes.jsonl import JsonLines

def packets():
    print("begun", flush=True)
    for number in range(10**9):
        yield StreamPacket.new(kind="event", source_id="cam", payload={"n": number, "pad": "x" * (number % 3000)})

run_node(JsonLines, packets(), {"path": sys.argv[1], "flush": sys.argv[2]})
"""


@pytest.mark.parametrize("flush", ["line", "end"])
def test_after_a_kill_at_any_moment_the_file_holds_complete_lines_without_a_gap(tmp_path: Path, flush: str) -> None:
    for attempt in range(3):
        path = tmp_path / f"{attempt}.jsonl"
        with subprocess.Popen([sys.executable, "-c", WRITER, str(path), flush], stdout=subprocess.PIPE) as process:
            assert process.stdout is not None and process.stdout.readline() == b"begun\n"
            while path.stat().st_size < 200_000 * (attempt + 1):
                assert process.poll() is None
            process.send_signal(signal.SIGKILL)
        found = rows(path)
        assert [row["payload"]["n"] for row in found] == list(range(len(found)))


def test_no_line_that_fits_a_page_crosses_the_end_of_one(tmp_path: Path) -> None:
    # The kernel looks for a SIGKILL between two pages of a write; there a line would be torn.
    lengths = np.random.default_rng(4).integers(20, 900, 3000).tolist() + [5000, 30, 9000, 30, 30] + [200] * 500
    file = LineFile(tmp_path / "a")
    for n, length in enumerate(lengths):
        file.append([line_of({"n": n, "pad": "x" * length})])
    raw, start, longest = (tmp_path / "a").read_bytes(), 0, 0
    assert [row["n"] for row in rows(tmp_path / "a")] == list(range(len(lengths)))
    for line in raw.splitlines(keepends=True):
        text = len(line.rstrip()) + 1
        crosses = start // PAGE_BYTES != (start + len(line) - 1) // PAGE_BYTES
        assert not crosses or text > PAGE_BYTES or text > longest * 5 / 4, (start, len(line))
        start, longest = start + len(line), max(longest, min(text, PAGE_BYTES))
    assert raw.count(b" ") < 0.3 * len(raw)


def test_two_writers_of_one_file_are_refused(path: Path) -> None:
    first = LineFile(path)
    with pytest.raises(ConfigError, match="another process is writing it"):
        run_node(JsonLines, [], {"path": str(path)})
    first.close()
    run_node(JsonLines, [], {"path": str(path)})


FULL = """
import resource, signal, sys
from pathlib import Path
from streamcore_nodes.line_file import LineFile
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (1000, 1000))
file = LineFile(Path(sys.argv[1]))
file.append([b'{"n":1}'])
try:
    file.append([b'{"n":3}', b'{"pad":"' + b"x" * 5000 + b'"}'])
except OSError as error:
    print("refused", error.errno)
file.append([b'{"n":2}'])
"""


def test_when_the_disk_is_full_the_line_is_taken_back_whole(tmp_path: Path) -> None:
    # RLIMIT_FSIZE makes the kernel write a part and then refuse, as a full disk does.
    assert hasattr(resource, "RLIMIT_FSIZE")
    path = tmp_path / "full.jsonl"
    done = subprocess.run([sys.executable, "-c", FULL, str(path)], capture_output=True, text=True, check=True)
    assert done.stdout.startswith("refused") and rows(path) == [{"n": 1}, {"n": 2}]


def test_a_packet_that_cannot_be_written_fails_and_those_gathered_before_it_are_tried_again(
    path: Path, numbers: list[StreamPacket]
) -> None:
    class FullForAWhile(JsonLines):
        def setup(self) -> None:
            super().setup()
            append, calls = self.file.append, []

            def flaky(lines: Iterable[bytes]) -> None:
                calls.append(1)
                if len(calls) == 1:
                    raise OSError(28, os.strerror(28))
                append(lines)

            self.file.append = flaky  # type: ignore[method-assign]

        def process(self, packet: StreamPacket) -> None:
            if packet.payload["n"] == 1:
                with pytest.raises(OSError, match="No space left"):
                    super().process(packet)
            else:
                super().process(packet)

    run_node(FullForAWhile, numbers, {"path": str(path), "flush": "end", "held": 2})
    assert [row["payload"]["n"] for row in rows(path)] == [0, 2, 3, 4]


def test_places_that_cannot_be_written_are_refused_with_the_reason(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    for path, said in [
        (tmp_path, "Is a directory"),
        (tmp_path / "file" / "a", "exists|Not a directory"),
        (Path("/proc/x/a"), "No such file"),
    ]:
        with pytest.raises(ConfigError, match=said):
            run_node(JsonLines, [], {"path": str(path)})


@pytest.mark.parametrize("config", [{}, {"path": "a", "flush": "never"}, {"path": "a", "fields": ["colour"]}, {"path": "a", "fields": []}])
def test_bad_config_is_refused(config: dict[str, object]) -> None:
    with pytest.raises(ConfigError, match="config of JsonLines"):
        run_node(JsonLines, config=config)
