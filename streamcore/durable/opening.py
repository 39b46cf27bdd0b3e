"""Before a store is opened: a child process reads all of it, and what cannot be read is moved aside, its records imported again."""

from __future__ import annotations

import json
import os
import select
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from streamcore.durable import files, salvage
from streamcore.durable.options import Options
from streamcore.errors import StoreError

SILENCE_S = 120.0  # of a child that says how far it is every 10 MB: a slow card takes seconds, a busy box some more
FOLDERS_MAX = 1000  # damaged-N: someone has to look before there are so many


def prepare(path: Path, options: Options, step: Callable[[int, int], None]) -> tuple[list[str], list[tuple[int, str]]]:
    """What was found and done, and the (sequence, reason) of records that the opener has to take out. The caller owns the store.

    `step` as examine() calls it.
    """
    data = path / files.DATA
    (path / files.COMPACTED).unlink(missing_ok=True)
    if not data.exists():
        return [], []
    broken, damaged = examine(path, step)
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
    command = [sys.executable, "-m", "streamcore.durable.verify", str(path)]
    try:
        child = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, stdin=subprocess.DEVNULL)
    except OSError as error:
        raise StoreError(f"store {path}: the process that checks it cannot be started: {error.strerror}") from None
    try:
        answer, errors = _listen(child, step)
    except TimeoutError:
        raise StoreError(f"store {path}: the process that checks it has said nothing for {SILENCE_S:g} s: a disk that hangs?") from None
    finally:
        child.kill()  # one that has ended does not mind; else nobody waits for it any more
        child.wait()
    if child.returncode < 0:
        return f"reading it ended a process with signal {-child.returncode}", []
    try:
        return answer["broken"], [(int(sequence), str(reason)) for sequence, reason in answer["damaged"]]
    except (ValueError, KeyError, TypeError):
        raise StoreError(f"store {path}: the process that checks it failed: {errors or 'no output'}") from None


def _listen(child: subprocess.Popen[bytes], step: Callable[[int, int], None] | None) -> tuple[dict[str, Any], str]:
    """Its last line, which is the answer, and the last line of its errors. Raises TimeoutError. SYNC: verify.main writes them."""
    assert child.stdout is not None and child.stderr is not None
    answer: dict[str, Any] = {}
    left = b""
    with child.stdout, child.stderr:
        while select.select([child.stdout], [], [], SILENCE_S)[0]:
            chunk = os.read(child.stdout.fileno(), 1 << 16)
            if not chunk:
                break
            *lines, left = (left + chunk).split(b"\n")
            for line in lines:
                try:
                    answer = json.loads(line)
                except ValueError:
                    continue
                if step is not None and "read" in answer:
                    step(answer["read"], answer["of"])
        else:
            raise TimeoutError
        errors = child.stderr.read().decode(errors="replace").strip().splitlines()
    child.wait()
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
