"""What setup.cfg cannot say: with STREAMCORE_NATIVE=1 a wheel holds the compiled inner loop, and is one for this Python and machine."""

from __future__ import annotations

import os
import sys
from pathlib import Path

from setuptools import Distribution, setup
from setuptools.command.build_py import build_py

ROOT = Path(__file__).resolve().parent
NATIVE = os.environ.get("STREAMCORE_NATIVE") == "1"


class BuildWithNative(build_py):
    def run(self) -> None:
        super().run()
        if NATIVE and not self.editable_mode:  # an editable installation runs the source tree, for which there is tools/native
            sys.path.insert(0, str(ROOT / "tools"))
            import compile_native

            native = compile_native.load_native()
            compile_native.compile_into(Path(self.build_lib, "streamcore", "_native", native.tag()))


class ForThisMachine(Distribution):
    def has_ext_modules(self) -> bool:
        return True


setup(
    cmdclass={"build_py": BuildWithNative},
    distclass=ForThisMachine if NATIVE else Distribution,
    setup_requires=["mypy>=2.4,<3"] if NATIVE else [],  # SYNC: the extra `native` in setup.cfg
)
