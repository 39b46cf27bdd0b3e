"""From YAML to a frozen model with a place (file, line, column) for everything in it."""

from __future__ import annotations

from streamcore.spec.loading import load
from streamcore.spec.model import EdgeSpec, LimitsSpec, Mark, NodeSpec, RingSpec, Spec

__all__ = ["EdgeSpec", "LimitsSpec", "Mark", "NodeSpec", "RingSpec", "Spec", "load"]
