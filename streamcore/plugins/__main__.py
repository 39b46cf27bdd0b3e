"""`python -m streamcore.plugins REQUEST_FD REPLY_FD PARENT_PID`: reads plugins for another process, which starts it."""

from __future__ import annotations

import sys

from streamcore.plugins.child import main

if __name__ == "__main__":
    main(*map(int, sys.argv[1:4]))
