"""A small HTTP server that takes events and misbehaves on request: the other end of http.post, for trials and tests. See --help."""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import re
import signal
import sys
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime, timezone
from http import HTTPStatus
from typing import Any
from urllib.parse import parse_qs, urlsplit

HEAD_BYTES_MAX = 32 << 10
LINE_BEGINS = b'{"key":'
REASONS = {int(status): status.phrase for status in HTTPStatus}
LOGGED = {"x-streamcore-attempt": "attempt", "x-streamcore-replayed": "replayed", "x-streamcore-redelivered": "redelivered"}
TURN = re.compile(r"(fail|hang|lose|slow|away|clear)\b")

HELP = """
Takes every POST or PUT as an event, on any path but /control and /stats, and answers 204. The first line of its output is its URL.
Only the standard library of Python 3.10 is needed. It listens on the loopback interface unless --host says otherwise, knows no
encryption, and believes whoever can reach it: a tool for trials, not for the world.

Rules, given by --rule or sent to /control, make it misbehave. The first rule that fits an event decides:

  fail STATUS [retry-after=TEXT]   do not take it, answer STATUS; retry-after is seconds or an HTTP date
  hang SECONDS                     do not take it, answer nothing, close the connection after SECONDS
  lose                             take it, then close the connection without an answer
  slow SECONDS                     take it, answer after SECONDS
  away SECONDS                     at once, for no event: close all connections and refuse new ones for so long
  clear                            at once: forget all rules

  next=N       after a rule: it holds for the next N events that fit it, then it is gone
  match=REGEX  after a rule: it fits events whose key or body the expression is found in; last, for it reaches to the end of the line

  tools/receiver --port 8080 --log events.jsonl --dedupe
  tools/receiver --rule 'fail 503 next=5 retry-after=2' --rule 'fail 400 match="n": ?13\\b'
  curl -d 'lose next=100' http://127.0.0.1:8080/control
  curl http://127.0.0.1:8080/stats

GET /stats answers with JSON: `received` (events taken, repeated ones included), `distinct` and `duplicates` of them by key, `failed`,
`hung`, `lost`, `malformed`, and `rules`; /stats?keys=1 adds `keys`, how often each was received. GET /control lists the rules.

--log appends {"key", "at", "body"} per event taken, and "attempt", "replayed", "redelivered" where the sender said so; a body that is not
JSON is text. A line is written before its event is answered, so a kill loses none that was. With --dedupe each key is logged once, those
that the file already holds included; a repeat is counted and answered as the first one was. Without an Idempotency-Key (or what
--key-header names) an event has no key, and is never a repeat.

Exit status: 0 ended by SIGINT or SIGTERM, 1 the port or the file cannot be had, 2 the command line is wrong.
"""


@dataclass
class Rule:
    """One line of the language that --help describes. `left`: for how many events it still holds, None: always."""

    text: str
    does: str
    status: int = 0
    seconds: float = 0.0
    retry_after: str = ""
    left: int | None = None
    match: re.Pattern[bytes] | None = None

    @classmethod
    def parse(cls, line: str) -> Rule:
        """Raises ValueError with what is wrong."""
        text = line.strip()
        head, _, expression = text.partition(" match=")
        words = head.split()
        if not words or not TURN.fullmatch(words[0]):
            raise ValueError(f"found {text!r}, expected a rule: fail, hang, lose, slow, away or clear")
        rule = cls(text, words.pop(0))
        if rule.does == "fail":
            rule.status = _number(text, words, 200, 599)
        elif rule.does in ("hang", "slow", "away"):
            rule.seconds = float(_number(text, words, 0, 86400, float))
        for word in words:
            name, _, value = word.partition("=")
            if name == "next":
                rule.left = _number(text, [value], 1, 10**9)
            elif name == "retry-after" and rule.does == "fail":
                rule.retry_after = value.replace("_", " ")
            else:
                raise ValueError(f"found {word!r} in {text!r}, expected next=N, match=REGEX, or retry-after=TEXT of a fail")
        if expression:
            try:
                rule.match = re.compile(expression.encode())
            except re.error as error:
                raise ValueError(f"found match={expression!r}, expected a regular expression: {error}") from None
        return rule

    def fits(self, key: str, body: bytes) -> bool:
        return self.match is None or bool(self.match.search(key.encode()) or self.match.search(body))


def _number(text: str, words: list[str], low: float, high: float, kind: type = int) -> Any:
    try:
        value = kind(words.pop(0))
    except (IndexError, ValueError):
        raise ValueError(f"found {text!r}, expected a number after its first word or `next=`") from None
    if not low <= value <= high:
        raise ValueError(f"found {value} in {text!r}, expected {low} to {high}")
    return value


class Receiver:
    """What was received, and the rules. One event loop, one thread."""

    def __init__(self, options: argparse.Namespace):
        self.options = options
        self.rules: list[Rule] = []
        self.counts = dict.fromkeys(("received", "duplicates", "failed", "hung", "lost", "malformed"), 0)
        self.keys: dict[str, int] = {}
        self.connections: set[Connection] = set()
        self.server: asyncio.Server | None = None
        self.log_fd = -1
        if options.log:
            self.log_fd = os.open(options.log, os.O_RDWR | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o666)
            self._recall()

    def _recall(self) -> None:
        """Cut off what a kill has left of a line, and learn the keys."""
        with open(self.log_fd, "rb", closefd=False) as file:
            raw = file.read()
        whole = raw.rfind(b"\n") + 1
        if raw[whole:] and not raw.startswith(LINE_BEGINS):
            raise OSError(f"{self.options.log}: does not end like a file of this program; nothing is written to it")
        os.ftruncate(self.log_fd, whole)
        for line in raw[:whole].splitlines() if self.options.dedupe else ():
            with suppress(ValueError, KeyError, TypeError):
                key = json.loads(line)["key"]
                if key is not None:
                    self.keys[key] = 0

    async def run(self) -> int:
        loop, ended = asyncio.get_running_loop(), asyncio.Event()
        for number in (signal.SIGINT, signal.SIGTERM):
            loop.add_signal_handler(number, ended.set)
        await self._listen(self.options.port)
        assert self.server is not None
        self.port = self.server.sockets[0].getsockname()[1]
        host = f"[{self.options.host}]" if ":" in self.options.host else self.options.host
        print(f"http://{host}:{self.port}/", flush=True)
        for line in self.options.rule:
            self.obey(line)
        await ended.wait()
        return 0

    async def _listen(self, port: int) -> None:
        self.server = await asyncio.get_running_loop().create_server(lambda: Connection(self), self.options.host, port, backlog=1024)

    def obey(self, text: str) -> None:
        """Take on rules, a line each. Raises ValueError before it has taken any."""
        for rule in [Rule.parse(line) for line in text.splitlines() if line.strip()]:
            if rule.does == "clear":
                self.rules.clear()
            elif rule.does == "away":
                self._go_away(rule.seconds)
            else:
                self.rules.append(rule)

    def _go_away(self, seconds: float) -> None:
        if self.server is None:
            return
        self.server.close()
        self.server = None
        loop = asyncio.get_running_loop()
        for connection in self.connections:
            loop.call_soon(connection.leave)  # not before the answer to this one was written
        loop.call_later(seconds, lambda: loop.create_task(self._listen(self.port)))

    def rule_for(self, key: str, body: bytes) -> Rule | None:
        for rule in self.rules:
            if rule.fits(key, body):
                if rule.left is not None:
                    rule.left -= 1
                    if not rule.left:
                        self.rules.remove(rule)
                return rule
        return None

    def take(self, headers: dict[str, str], body: bytes) -> None:
        self.counts["received"] += 1
        key = headers.get(self.options.key_header)
        if key is not None:
            known = key in self.keys
            self.keys[key] = self.keys.get(key, 0) + 1
            if known:
                self.counts["duplicates"] += 1
                if self.options.dedupe:
                    return
        if self.log_fd >= 0:
            self._write_line(key, headers, body)

    def _write_line(self, key: str | None, headers: dict[str, str], body: bytes) -> None:
        try:
            value = json.loads(body)
        except ValueError:
            value = body.decode("utf-8", "replace")
        line = {"key": key, "at": datetime.now(timezone.utc).isoformat(), "body": value}
        line |= {name: headers[header] for header, name in LOGGED.items() if header in headers}
        os.write(self.log_fd, json.dumps(line, ensure_ascii=False, separators=(",", ":")).encode() + b"\n")

    def stats(self, with_keys: bool) -> dict[str, Any]:
        distinct = sum(1 for count in self.keys.values() if count)
        facts: dict[str, Any] = {**self.counts, "distinct": distinct, "rules": [rule.text for rule in self.rules]}
        return facts | ({"keys": self.keys} if with_keys else {})


class Connection(asyncio.Protocol):
    """One client: requests one after the other, pipelined ones too."""

    def __init__(self, receiver: Receiver):
        self.receiver = receiver
        self.buffer = bytearray()
        self.transport: Any = None
        self.busy = False  # with an answer that comes later; what follows waits

    def connection_made(self, transport: Any) -> None:
        self.transport = transport
        self.receiver.connections.add(self)

    def connection_lost(self, error: Exception | None) -> None:
        self.receiver.connections.discard(self)
        self.transport = None

    def leave(self) -> None:
        if self.transport is not None:
            self.transport.close()

    def data_received(self, data: bytes) -> None:
        self.buffer += data
        self._go_on()

    def _go_on(self) -> None:
        while not self.busy and self.transport is not None and not self.transport.is_closing():
            end = self.buffer.find(b"\r\n\r\n")
            if end < 0:
                if len(self.buffer) > HEAD_BYTES_MAX:
                    self._refuse(431)
                return
            head = self._read_head(bytes(self.buffer[:end]))
            if head is None:
                return self._refuse(400)
            method, target, headers, length = head
            if length < 0:
                return self._refuse(411)
            if length > self.receiver.options.max_body:
                return self._refuse(413)
            if len(self.buffer) < end + 4 + length:
                return None
            body = bytes(self.buffer[end + 4 : end + 4 + length])
            del self.buffer[: end + 4 + length]
            self._handle(method, target, headers, body)

    @staticmethod
    def _read_head(raw: bytes) -> tuple[str, str, dict[str, str], int] | None:
        """(method, target, headers, bytes of the body); None of what is no HTTP/1.1, -1 bytes of a body without a length."""
        first, *lines = raw.decode("latin-1").split("\r\n")
        words = first.split(" ")
        if len(words) != 3 or not words[0].isalpha() or not words[2].startswith("HTTP/1."):
            return None
        headers = {}
        for line in lines:
            name, colon, value = line.partition(":")
            if not colon or not name or name != name.strip():
                return None
            headers[name.lower()] = value.strip()
        length = headers.get("content-length", "0")
        if not (length.isascii() and length.isdigit()):
            return None
        return words[0], words[1], headers, -1 if "transfer-encoding" in headers else int(length)

    def _handle(self, method: str, target: str, headers: dict[str, str], body: bytes) -> None:
        path = urlsplit(target)
        if path.path == "/stats":
            return self._say(200, json.dumps(self.receiver.stats("keys" in parse_qs(path.query))).encode())
        if path.path == "/control":
            return self._control(method, body)
        if method not in ("POST", "PUT"):
            return self._say(405)
        rule = self.receiver.rule_for(headers.get(self.receiver.options.key_header, ""), body)
        if rule is None:
            self.receiver.take(headers, body)
            return self._say(204)
        return self._misbehave(rule, headers, body)

    def _misbehave(self, rule: Rule, headers: dict[str, str], body: bytes) -> None:
        counts, loop = self.receiver.counts, asyncio.get_running_loop()
        if rule.does == "fail":
            counts["failed"] += 1
            more = f"Retry-After: {rule.retry_after}\r\n" if rule.retry_after else ""
            return self._say(rule.status, b'{"error":"told to fail"}', more)
        if rule.does == "hang":
            counts["hung"] += 1
            self.busy = True
            loop.call_later(rule.seconds, self.leave)
            return None
        self.receiver.take(headers, body)
        if rule.does == "lose":
            counts["lost"] += 1
            return self.leave()
        self.busy = True
        loop.call_later(rule.seconds, self._say_late)
        return None

    def _say_late(self) -> None:
        self.busy = False
        if self.transport is not None:
            self._say(204)
            self._go_on()

    def _control(self, method: str, body: bytes) -> None:
        if method in ("POST", "PUT"):
            try:
                self.receiver.obey(body.decode("utf-8"))
            except ValueError as error:
                return self._say(400, json.dumps({"error": str(error)}).encode())
        return self._say(200, json.dumps({"rules": [rule.text for rule in self.receiver.rules]}).encode())

    def _say(self, status: int, body: bytes = b"", more: str = "") -> None:
        kind = "Content-Type: application/json\r\n" if body else ""
        length = "" if status == 204 else f"Content-Length: {len(body)}\r\n"
        self.transport.write(f"HTTP/1.1 {status} {REASONS.get(status, 'Unknown')}\r\n{kind}{length}{more}\r\n".encode() + body)

    def _refuse(self, status: int) -> None:
        self.receiver.counts["malformed"] += 1
        self._say(status, b"", "Connection: close\r\n")
        self.transport.close()


def _rule(text: str) -> str:
    try:
        Rule.parse(text)
    except ValueError as error:
        raise argparse.ArgumentTypeError(str(error)) from None
    return text


def arguments(words: list[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="tools/receiver", description="Receive events over HTTP.", epilog=HELP, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--host", default="127.0.0.1", help="interface to listen on (default: %(default)s, this machine only)")
    parser.add_argument("--port", type=int, default=0, help="port to listen on; 0, the default: a free one")
    parser.add_argument("--log", metavar="FILE", help="append each event taken as a JSON line")
    parser.add_argument("--dedupe", action="store_true", help="log each key once")
    parser.add_argument("--key-header", default="Idempotency-Key", type=str.lower, help="header that holds the key (default: %(default)s)")
    parser.add_argument("--rule", action="append", default=[], type=_rule, metavar="RULE", help="misbehave; may be repeated, see below")
    parser.add_argument("--max-body", type=int, default=16 << 20, metavar="BYTES", help="answer 413 above (default: %(default)s)")
    return parser.parse_args(words)


def main() -> int:
    options = arguments()
    try:
        return asyncio.run(Receiver(options).run())
    except (OSError, OverflowError) as error:
        print(f"receiver: {error}", file=sys.stderr)
        return 1


if __name__ == "__main__":
    sys.exit(main())
