"""Functions that specs in this corpus name; none of them is ever called."""

from __future__ import annotations

raise RuntimeError("a check of a spec must not import what a job runs")


def main() -> None:
    pass


def nightly() -> None:
    pass
