"""A disk whose syncs fail from a moment on, for a process of its own: its library is put before that of the system."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
from store_cuts import compiler

SOURCE = Path(__file__).parent / "unit/durable/failing_disk.c"


def run_on_it(program: str, store: Path, broken: Path, modules: Path) -> subprocess.CompletedProcess[str]:
    """Run `program` with the arguments `store` and `broken`; the disk fails once there is a file `broken`. It may import from `modules`."""
    if compiler() is None:
        pytest.skip("needs a C compiler for a disk that fails")
    library = broken.with_name("failing.so")
    subprocess.run([compiler(), "-shared", "-fPIC", "-o", library, SOURCE, "-ldl"], check=True, timeout=120)
    path = os.pathsep.join([str(modules), *sys.path])
    env = {**os.environ, "LD_PRELOAD": str(library), "DISK_FAILS_IF": str(broken), "PYTHONPATH": path}
    command = [sys.executable, "-c", program, str(store), str(broken)]
    return subprocess.run(command, env=env, capture_output=True, text=True, timeout=120)
