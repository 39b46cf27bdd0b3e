"""Small files that would take hours or gigabytes, and large ones: each is refused, soon and in little memory, by a process with limits."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

from streamcore import limits

MIB = 1 << 20
MEMORY_BYTES = 100 * MIB  # on top of what the process has before it reads the spec
CPU_S = 1.0
FACTOR = 4  # for a machine that is slower than those this was measured on
PATIENCE_S = 100
# Prints what was refused and the CPU time that it took. The limit is on addresses, which are more than memory: so it is the stricter one.
# VmHWM is this program's own peak; ru_maxrss begins with the peak of the process that started it.
CHILD = f"""
import os, resource, sys, time
from streamcore.errors import SpecError
from streamcore.graph.check import check_structure
with open("/proc/self/statm") as statm:
    taken = int(statm.read().split()[0]) * os.sysconf("SC_PAGE_SIZE")
resource.setrlimit(resource.RLIMIT_AS, (taken + {MEMORY_BYTES},) * 2)
began_s = time.process_time()
try:
    check_structure(sys.argv[1])
except SpecError as error:
    took_s = time.process_time() - began_s
    with open("/proc/self/status") as status:
        rss_kib = next(line.split()[1] for line in status if line.startswith("VmHWM:"))
    print(took_s, rss_kib, len(error.problems), str(error.problems[0]).replace(chr(10), " "))
"""
BILLION = "version: 2\nparams:\n  l0: &l0 [x, x]\n" + "".join(f"  l{n}: &l{n} [{', '.join([f'*l{n - 1}'] * 10)}]\n" for n in range(1, 30))
MERGES = "version: 2\nparams:\n  m0: &m0 {a: 1}\n" + "".join(f"  m{n}: &m{n} {{<<: [*m{n - 1}, *m{n - 1}]}}\n" for n in range(1, 30))
NODES = "".join(f"  - {{id: n{n}, plugin: debug.null, nice: 50}}\n" for n in range(20_000))
TEN_MB = 10_000_000
BOMBS = {
    "aliases": (BILLION, "the anchor &l0"),
    "aliases in themselves": ("version: 2\nparams: &a [*a, *a]\n", "the anchor &a"),
    "merge keys": (MERGES, "the anchor &m0"),
    "merge keys without aliases": ("version: 2\n" + "<<: {a: 1}\n" * 50_000, "the merge key <<"),
    "lists 100,000 deep": ("version: 2\nname: " + "[" * 100_000, "nesting deeper than"),
    "mappings 100,000 deep": ("version: 2\nname: " + "{a: " * 100_000, "nesting deeper than"),
    "blocks deeper than a stack": ("version: 2\nparams:\n" + "".join(f"{' ' * n}a:\n" for n in range(1, 1400)), "nesting deeper than"),
    "dashes 100,000 deep": ("version: 2\nparams:\n  " + "- " * 100_000, "nesting deeper than"),
    "keys 100,000 deep": ("? " * 100_000, "a mapping or list as a key"),
    "10 MB of text": ("version: 2\nname: " + "a" * TEN_MB, f"more than {limits.SPEC_BYTES_MAX} bytes"),
    "10 MB of nothing": ("\n" * TEN_MB, f"more than {limits.SPEC_BYTES_MAX} bytes"),
    "1 MB of one word": ("version: 2\nname: " + "a" * (MIB - 100), "nothing"),
    "1 MB of digits": ("version: 2\ndrain_s: " + "9" * (MIB - 100), "nothing"),
    "1 MB of quotes": ("version: 2\nname: '" + "'" * (MIB - 100), ""),
    "1 MB of references": (
        "version: 2\nparams: {a: b}\nnodes: [{id: n, plugin: p, config: {x: '" + "${a}" * 200_000 + "'}}]\ntypo: 1\n",
        "unknown key",
    ),
    "1 MB of open references": ("version: 2\nnodes: [{id: n, plugin: p, config: {x: '" + "${" * 400_000 + "'}}]\n", "not closed"),
    "200,000 values": ("version: 2\nname: [" + "1," * 250_000 + "]\n", "more than 200000 values"),
    "one param, 40,000 times": (
        f"version: 2\nparams: {{a: {'x' * 100_000}}}\nnodes: [{{id: n, plugin: p, config: {{x: [b" + ", '${a}'" * 40_000 + "]}}]\n",
        "params that make the spec too large",
    ),
    "20,000 wrong nodes": (f"version: 2\nnodes:\n{NODES}", "20000 nodes"),
    "for_each in the millions": ("version: 2\nnodes: [{id: n, for_each: 99999999999, plugin: p}]\n", "more than 4096 items"),
    "a NUL": (b"version: 2\nname: a\0b\n", "control character U+0000"),
    "NULs": (b"\0" * MIB, "control character U+0000"),
    "UTF-16": ("version: 2\n".encode("utf-16"), "not UTF-8"),
    "half a character": (b"version: 2\nname: \xe2\x82", "not UTF-8"),
    "overlong UTF-8": (b"version: 2\nname: \xc0\xaf", "not UTF-8"),
    "surrogates in UTF-8": (b"version: 2\nname: \xed\xa0\x80", "not UTF-8"),
    "a key twice": ("version: 2\nname: a\nname: b\nnodes: [{id: n, plugin: p}]\n", "the key 'name' again"),
    "a key 100,000 times": ("version: 2\n" + "name: a\n" * 100_000, "the key 'name' again"),
    "a tag that calls": ("version: 2\nname: !!python/object/apply:os.system [exit 1]\n", ""),
    "a tag on everything": ("version: 2\nparams: [" + "!x 1," * 50_000 + "]\n", "the tag !x"),
    "a binary tag": ("version: 2\nname: !!binary aGVsbG8=\nnodes: [{id: n, plugin: p}]\n", "the tag !!binary"),
}


@pytest.fixture(params=BOMBS.values(), ids=BOMBS.keys())
def bomb(request, tmp_path):
    content, found = request.param
    path = tmp_path / "bomb.yaml"
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return path, found


def test_a_bomb_is_refused_within_a_second_and_100_mib(bomb):
    path, found = bomb
    environment = {**os.environ, "PYTHONDONTWRITEBYTECODE": "1"}
    command = [sys.executable, "-c", CHILD, str(path)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=PATIENCE_S, env=environment, check=False)
    assert done.returncode == 0, done.stderr[-500:]
    assert not done.stderr
    took_s, rss_kib, count, problem = done.stdout.split(maxsplit=3)
    assert found in problem
    assert int(count) <= 101
    assert float(took_s) < CPU_S * FACTOR
    assert int(rss_kib) * 1024 < MEMORY_BYTES + 150 * MIB
