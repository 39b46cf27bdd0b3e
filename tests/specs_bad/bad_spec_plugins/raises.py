"""A module whose import fails."""

raise RuntimeError("no GPU\nin this box")
