"""Power cuts against a recording."""

from __future__ import annotations

from pathlib import Path

import pytest
import recording_cuts


def cut_often(folder: Path, steps: list[recording_cuts.Step]) -> None:
    for seed in range(120):
        recording_cuts.check(folder / "cut", folder / "whole", steps, seed)


def test_a_power_cut_loses_nothing_that_was_completed(tmp_path):
    steps = recording_cuts.record(tmp_path / "whole", seed=1, rounds=60)
    cut_often(tmp_path, steps)


def test_a_recorder_that_does_not_sync_is_found_out(tmp_path):
    # If this passes by itself, the cuts above prove nothing.
    steps = recording_cuts.record(tmp_path / "whole", 1, 60, syncs=False)
    with pytest.raises(recording_cuts.Broken, match="lost, though they were completed"):
        cut_often(tmp_path, steps)
