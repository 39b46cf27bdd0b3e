"""Fixtures of this room."""

from fake_runs import run_of, runtime_dir

__all__ = ["run_of", "runtime_dir"]
