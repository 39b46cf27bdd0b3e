"""Compiles the inner loop, its Python with mypyc: `python tools/compile_native.py`, called by tools/native, and `compile_into` by setup.py.

What is compiled, and where it is looked for, stands in streamcore/native.py. The interpreter that runs this is the one it is made for; it
needs mypy, setuptools, a C compiler and Python's headers, and nothing else: numpy, msgspec and zmq are strangers to the compiler, whether
they are installed or not, so that everybody gets the same C.
"""

from __future__ import annotations

import contextlib
import fcntl
import importlib.util
import json
import os
import shutil
import subprocess
import sys
import sysconfig
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

ROOT = Path(__file__).resolve().parent.parent
OPT_LEVEL = "2"
# What a library calls of its own is called directly, and may be inlined; what it calls of others it finds without a stub on the way.
FLAGS = ["-fvisibility=hidden", "-fno-plt"]
STRANGERS = ("cerberus", "msgspec", "numpy", "psutil", "zmq")
EXTRA = "the extra `native`: pip install -c constraints.txt -e '.[native]'"

# Run in a process of its own, by the interpreter that will use the libraries: they load, and a lease that is let go of says so. The last
# is what an old mypyc leaves out without a word.
CHECK = """
import importlib, sys
import streamcore.native as native
native.finder.place = sys.argv[1]
for name in (*native.MODULES, native.LEAVES):
    module = importlib.import_module(name)
    assert module.__file__ == native.library_of(sys.argv[1], name), module.__file__
from streamcore.node.views import Loan
gone = []
Loan(None, 7, gone.append, {})
assert gone == [7], "finalizers do not run"
"""


class CannotCompile(Exception):
    """Something is missing on this box; the text says what and how to get it."""


def load_native() -> ModuleType:
    """streamcore.native of this source tree, whatever is installed."""
    if str(ROOT) not in sys.path:
        sys.path.insert(0, str(ROOT))
    import streamcore.native

    return streamcore.native


def missing(*, modules: bool = True) -> str:
    """What keeps this interpreter from compiling; empty if nothing does. Without `modules`: apart from what pip can install."""
    compiler = (os.environ.get("CC") or sysconfig.get_config_var("CC") or "cc").split()[0]
    if sys.implementation.name != "cpython":
        return f"mypyc knows CPython only, this is {sys.implementation.name}"
    if not shutil.which(compiler) and not shutil.which("cc"):
        return f"no C compiler ({compiler}); on Debian and Ubuntu: apt install gcc, or set CC"
    if not any(Path(sysconfig.get_path(kind), "Python.h").is_file() for kind in ("include", "platinclude")):
        version = f"{sys.version_info[0]}.{sys.version_info[1]}"
        return f"no Python.h for Python {version}; on Debian and Ubuntu: apt install python{version}-dev"
    for module in ("mypyc", "setuptools") if modules else ():
        if importlib.util.find_spec(module) is None:
            return f"no {module}; install {EXTRA}"
    return ""


@contextlib.contextmanager
def quiet(log: Path) -> Iterator[None]:
    """What this process and its compilers write goes into a file."""
    sys.stdout.flush()
    sys.stderr.flush()
    kept = [os.dup(1), os.dup(2)]
    with log.open("ab") as file:
        os.dup2(file.fileno(), 1)
        os.dup2(file.fileno(), 2)
        try:
            yield
        finally:
            sys.stdout.flush()
            sys.stderr.flush()
            for number, fd in enumerate(kept, 1):
                os.dup2(fd, number)
                os.close(fd)


def mypy_config(modules: tuple[str, ...]) -> str:
    """Wrong types are looked for in what is compiled. Elsewhere they would be those of strangers; `mypy` of the project finds ours."""
    unseen = "follow_imports = skip\nfollow_imports_for_stubs = True\nignore_missing_imports = True"
    strangers = [f"[mypy-{name}.*]\n{unseen}" for name in STRANGERS]
    ours = [f"[mypy-{name}]\nignore_errors = {wrong}" for name, wrong in [("streamcore.*", True), *((module, False) for module in modules)]]
    return "\n".join(["[mypy]", *strangers, *ours, ""])


def build(scratch: Path, sources: list[str]) -> Path:
    """mypyc and the C compiler, in a scratch folder that also gets a copy of the package; returns where the libraries lie."""
    os.environ.setdefault("CC", (sysconfig.get_config_var("CC") or "cc") if not shutil.which("cc") else "cc")
    from mypyc.build import mypycify
    from setuptools import Distribution, Extension

    native = load_native()
    config = scratch / "mypy.ini"
    config.write_text(mypy_config(native.MODULES), "utf-8")
    options = [f"--config-file={config}", f"--cache-dir={scratch / 'cache'}"]
    group = native.LIBRARY.removesuffix("__mypyc")
    target = str(scratch / "c")
    extensions = mypycify([*options, *sources], opt_level=OPT_LEVEL, debug_level="0", group_name=group, target_dir=target)
    leaves = os.path.relpath(native.source_of(native.LEAVES), ROOT)
    extensions.append(Extension(native.LEAVES, [leaves], extra_compile_args=[f"-O{OPT_LEVEL}", "-g0", "-Werror=implicit"]))
    for extension in extensions:
        extension.extra_compile_args += FLAGS
    command = Distribution({"name": group, "ext_modules": extensions}).get_command_obj("build_ext")
    command.build_lib, command.build_temp = str(scratch / "lib"), str(scratch / "tmp")
    command.ensure_finalized()
    command.run()
    return scratch / "lib"


def compile_into(place: Path) -> None:
    """Make the folder `place` with the libraries and their manifest. Raises CannotCompile, with the compiler's words if it had any."""
    why = missing()
    if why:
        raise CannotCompile(why)
    native = load_native()
    from mypy.version import __version__ as mypy_version

    with tempfile.TemporaryDirectory(prefix="streamcore-native.") as name:
        scratch, before = Path(name), Path.cwd()
        shutil.copytree(native.PACKAGE, scratch / "streamcore", ignore=shutil.ignore_patterns("_native", "__pycache__"))
        sources = [os.path.join(*module.split(".")) + ".py" for module in native.MODULES]
        hashes = native.hashes()  # after the copy: what was changed in between is found out at the end
        log = scratch / "log"
        try:
            os.chdir(scratch)
            with quiet(log):
                lib = build(scratch, sources)
        except (Exception, SystemExit) as error:  # whatever mypyc, setuptools or the C compiler end with
            raise CannotCompile(f"{log.read_text('utf-8', 'replace')}{type(error).__name__}: {error}") from error
        finally:
            os.chdir(before)
        made = scratch / "made"
        made.mkdir()
        for module in (*native.MODULES, native.LEAVES, native.LIBRARY):
            library = Path(native.library_of(str(made), module))
            library.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(native.library_of(str(lib), module), library)
        facts = {"version": native.__version__, "tag": native.tag(), "mypy": mypy_version, "opt_level": OPT_LEVEL, "sources": hashes}
        (made / native.MANIFEST).write_text(json.dumps(facts, indent=2) + "\n", "utf-8")
        check(made)
        put(made, place)


def check(made: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-c", CHECK, str(made)], capture_output=True, text=True, env={**os.environ, "PYTHONPATH": str(ROOT)}, timeout=120
    )
    if done.returncode and "ModuleNotFoundError" in done.stderr and "streamcore" not in done.stderr.rpartition("ModuleNotFoundError")[2]:
        return  # an environment that only builds has no numpy to try it with
    if done.returncode:
        raise CannotCompile(f"{done.stderr}what was compiled does not work")


def put(made: Path, place: Path) -> None:
    """Into place in one step. What lay there did not fit its sources, so no process was about to load it."""
    place.parent.mkdir(parents=True, exist_ok=True)
    fresh = Path(tempfile.mkdtemp(prefix=".new-", dir=place.parent))
    try:
        shutil.copytree(made, fresh / "made")
        if place.exists():
            place.rename(fresh / "old")
        (fresh / "made").rename(place)
    finally:
        shutil.rmtree(fresh)


def in_one_line(error: CannotCompile, log: Path) -> str:
    """The first error of the compilers, if there was one; all of their words go into the log."""
    lines = str(error).splitlines()
    if len(lines) == 1:
        return lines[0]
    log.write_text("\n".join([*lines, ""]), "utf-8")
    return f"{next((line for line in lines if 'error' in line), lines[-1]).strip()} (more in {log})"


def main(look: bool) -> int:
    """Exit status: 0 there is a compiled inner loop that fits, 1 it cannot be compiled, 3 only looked: it is to be compiled."""
    native = load_native()
    place = Path(native.folder())
    if look:
        if not native.obstacle(str(place)):
            return 0
        why = missing(modules=False)
        if why:
            print(f"native: cannot be compiled: {why}", file=sys.stderr)
        return 1 if why else 3
    place.parent.mkdir(exist_ok=True)
    with (place.parent / ".lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)  # a second one waits for the first, and finds that nothing is left to do
        if not native.obstacle(str(place)):
            print(f"native: {place} is up to date")
            return 0
        began_s = time.monotonic()
        try:
            compile_into(place)
        except CannotCompile as error:
            print(f"native: cannot be compiled: {in_one_line(error, place.parent / 'compile.log')}", file=sys.stderr)
            return 1
        print(f"native: compiled {len(native.MODULES)} modules and the leaves into {place} in {time.monotonic() - began_s:.0f} s")
    return 0


if __name__ == "__main__":
    sys.exit(main("--look" in sys.argv[1:]))
