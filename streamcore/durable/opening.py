"""Before a store is opened: a child process reads all of it, and what cannot be read is moved aside, its records imported again."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

from streamcore.durable import files, salvage
from streamcore.durable.options import Options
from streamcore.errors import StoreError

CHECK_S = 60.0  # for a child that starts on a busy box ...
CHECK_BYTES_PER_S = 10_000_000  # ... and for what it reads, from a slow card
FOLDERS_MAX = 1000  # damaged-N: someone has to look before there are so many


def prepare(path: Path, options: Options) -> tuple[list[str], list[tuple[int, str]]]:
    """What was found and done, and the (sequence, reason) of records that the opener has to take out. The caller owns the store."""
    data = path / files.DATA
    (path / files.COMPACTED).unlink(missing_ok=True)
    if not data.exists():
        return [], []
    broken, damaged = examine(path)
    broken = broken or files.condemned(path)
    if not broken:
        return [], damaged
    aside = _move_aside(path)
    imported = salvage.import_into(path, aside / files.DATA, options)
    return [f"store {path}: {broken}; moved to {aside}; {imported}"], []


def examine(path: Path, step: Callable[[int, int], None] | None = None) -> tuple[str, list[tuple[int, str]]]:
    """Why the store as a whole cannot be used, or "", and its damaged records; read by a child, which may die of it.

    `step` is told now and then how many records were read, and of how many.
    """
    wrong = files.wrong_length(path)
    if wrong:
        return wrong, []
    deadline_s = CHECK_S + (path / files.DATA).stat().st_size / CHECK_BYTES_PER_S
    command = [sys.executable, "-m", "streamcore.durable.verify", str(path), *(["--progress"] if step else [])]
    try:
        child = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, stdin=subprocess.DEVNULL)
    except OSError as error:
        raise StoreError(f"store {path}: the process that checks it cannot be started: {error.strerror}") from None
    late = threading.Event()

    def end() -> None:
        late.set()
        child.kill()

    timer = threading.Timer(deadline_s, end)
    timer.start()
    try:
        answer, errors = _listen(child, step)
    except BaseException:  # Ctrl-C: nobody waits for it any more
        child.kill()
        raise
    finally:
        timer.cancel()
        child.wait()
    if late.is_set():
        return f"reading it took longer than {deadline_s:.0f} s", []
    if child.returncode < 0:
        return f"reading it ended a process with signal {-child.returncode}", []
    try:
        return answer["broken"], [(int(sequence), str(reason)) for sequence, reason in answer["damaged"]]
    except (ValueError, KeyError, TypeError):
        raise StoreError(f"store {path}: the process that checks it failed: {errors or 'no output'}") from None


def _listen(child: subprocess.Popen[bytes], step: Callable[[int, int], None] | None) -> tuple[dict[str, Any], str]:
    """Its last line, which is the answer, and the last line of its errors. SYNC: verify.main writes them."""
    assert child.stdout is not None and child.stderr is not None
    answer: dict[str, Any] = {}
    with child.stdout, child.stderr:
        for line in child.stdout:
            try:
                answer = json.loads(line)
            except ValueError:
                continue
            if step is not None and "read" in answer:
                step(answer["read"], answer["of"])
        errors = child.stderr.read().decode(errors="replace").strip().splitlines()
    return answer, errors[-1] if errors else ""


def put_aside(path: Path, sequence: int, raw: bytes | None) -> str:
    """Keep the bytes of a damaged record; says where."""
    if raw is None:
        return "nothing of it is left"
    file = path / "quarantine" / f"{sequence}.record"
    try:
        file.parent.mkdir(mode=0o700, exist_ok=True)
        file.write_bytes(raw)
    except OSError as error:
        return f"taken out; its bytes could not be kept: {error.strerror}"
    return f"its bytes are in {file}"


def _move_aside(path: Path) -> Path:
    for number in range(1, FOLDERS_MAX):
        aside = path / f"damaged-{number}"
        try:
            aside.mkdir(mode=0o700)
            os.rename(path / files.DATA, aside / files.DATA)
            for name in (files.LOCK, files.CONDEMNED):
                (path / name).unlink(missing_ok=True)
        except FileExistsError:
            continue
        except OSError as error:
            raise StoreError(f"store {path}: is damaged and cannot be moved aside: {error.strerror}") from None
        return aside
    raise StoreError(f"store {path}: has {FOLDERS_MAX - 1} damaged files aside; look at them, then remove them")
