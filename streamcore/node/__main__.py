"""`python -m streamcore.node RUN/NODE FD`: one node process. Started by the coordinator, not by people."""

from __future__ import annotations

import os
import sys

from streamcore.node.start import main

if __name__ == "__main__":
    if len(sys.argv) != 3 or not sys.argv[2].isdigit():
        sys.exit("usage: python -m streamcore.node RUN/NODE FD; the coordinator starts this, use `streamctl up SPEC`")
    status = main(int(sys.argv[2]))
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(status)  # threads that a plugin left behind must not keep the process
