"""`python -m streamcore.node RUN/NODE FD`: one node process. Started by the coordinator, not by people.

`python -m streamcore.node forkserver FD PID` is the process that others are forked from, and each of them goes on here as if it had
been started with words of its own.
"""

from __future__ import annotations

import os
import sys

if __name__ == "__main__":
    # `-m` puts the working directory first: a file named numpy.py there would take the place of the real one. SYNC: interpreter.COMMAND.
    if not getattr(sys.flags, "safe_path", False) and sys.path[0] == os.getcwd():
        del sys.path[0]
    if sys.argv[1:2] == ["forkserver"]:
        from streamcore.node.forkserver import serve

        serve(int(sys.argv[2]), int(sys.argv[3]))
    from streamcore.node.start import main

    if len(sys.argv) != 3 or not sys.argv[2].isdigit():
        sys.exit("usage: python -m streamcore.node RUN/NODE FD; the coordinator starts this, use `streamctl up SPEC`")
    status = main(int(sys.argv[2]))
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(status)  # threads that a plugin left behind must not keep the process
