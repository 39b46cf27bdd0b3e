"""`python -m streamcore` is `streamctl`."""

from __future__ import annotations

import os
import sys

if __name__ == "__main__":
    # `-m` puts the working directory first: a file named numpy.py there would take the place of the real one.
    if not getattr(sys.flags, "safe_path", False) and sys.path[0] == os.getcwd():
        del sys.path[0]
    from streamcore.cli.entry import main

    main()
