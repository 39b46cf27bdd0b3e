"""`python -m streamcore` is `streamctl`."""

from __future__ import annotations

from streamcore.cli.root import main

if __name__ == "__main__":
    main()
