"""The inner loop of streamcore, compiled before it is measured where its sources and a compiler are there, as by `tools/native`."""

from __future__ import annotations

import configparser
import os
import sys
from collections.abc import Callable
from pathlib import Path

from streamcore import native
from streamcore_bench.environments import Environment
from streamcore_bench.programs import Failed, Program, Stop, folder

ROOT = Path(native.PACKAGE).parent
COMPILE_TIMEOUT_S = 300.0
CAN_BE_COMPILED = 3  # what `--look` says. SYNC: tools/compile_native.py


def compile_inner_loop(stop: Stop, say: Callable[[str], None]) -> None:
    """Unless it is there, or STREAMCORE_NATIVE says what to use. The compiler of the Python goes into an environment of its own. What is in
    the way is said in one line, and streamcore is measured in pure Python.
    """
    tool = ROOT / "tools" / "compile_native.py"
    if os.environ.get(native.VARIABLE) or not tool.exists() or not native.obstacle(native.folder()):
        return
    environment = Environment("native", _requirements())
    try:
        _run(stop, tool, "--look")
        environment.make(stop, say)
        say("compiling the inner loop of streamcore (about a minute)")
        _run(stop, tool, site=environment.path / "lib" / f"python{sys.version_info[0]}.{sys.version_info[1]}" / "site-packages")
    except Failed as error:
        say(f"streamcore is measured in pure Python: {error}")


def _run(stop: Stop, tool: Path, *words: str, site: Path | None = None) -> None:
    """`site`: where the tool finds packages before its own."""
    paths = [str(site or ""), os.environ.get("PYTHONPATH")]
    with folder() as place:
        environ = os.environ | {"PYTHONPATH": os.pathsep.join(filter(None, paths))}
        program = Program(stop, (sys.executable, str(tool), *words), place, environ)
        if program.wait(COMPILE_TIMEOUT_S) not in (0, CAN_BE_COMPILED):
            raise Failed((program.tail().splitlines() or ["tools/native ended without a word"])[-1])


def _requirements() -> str:
    """The extra `native`, in the versions that are tested."""
    config = configparser.ConfigParser()
    config.read(ROOT / "setup.cfg", "utf-8")
    return f"{config['options.extras_require']['native'].strip()}\n-c {ROOT / 'constraints.txt'}\n"
