"""The work that every program measured here does, ours included: peers/work.py, which the peers' programs import by its path.

A sender copies a whole picture afresh into the memory of the message, then stamps sequence and time; a receiver reads both and the last
byte, and checks them.
"""

from __future__ import annotations

import sys
from pathlib import Path

PEERS = Path(__file__).resolve().parent / "peers"
if str(PEERS) not in sys.path:
    sys.path.append(str(PEERS))

from work import LARGE_BYTES, STAMP, Job, Sink, Source, result_of  # noqa: E402

MIN_BYTES = STAMP.size + 8

__all__ = ["LARGE_BYTES", "MIN_BYTES", "PEERS", "STAMP", "Job", "Sink", "Source", "result_of"]
