"""Every module can be imported by this interpreter, whichever of the supported ones it is."""

from __future__ import annotations

import pkgutil
import subprocess
import sys

import streamcore

OF_AN_EXTRA = {"streamcore.telemetry.otel_sink": "opentelemetry"}  # module to the package that it alone needs
SKIPPED = ("__main__",)  # they run something


def test_every_module_can_be_imported():
    names = [found.name for found in pkgutil.walk_packages(streamcore.__path__, "streamcore.")]
    wanted = [name for name in names if name.rpartition(".")[2] not in SKIPPED]
    assert len(wanted) > 200
    program = f"""
import importlib, importlib.util
for name in {wanted!r}:
    package = {OF_AN_EXTRA!r}.get(name)
    if package is None or importlib.util.find_spec(package):
        importlib.import_module(name)
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=100)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
