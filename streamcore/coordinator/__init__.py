"""The coordinator: turns a plan into supervised processes and owns everything they share until the run ends."""

from streamcore.coordinator.coordinator import Coordinator, RunResult
from streamcore.coordinator.observer import Failure, Observer

__all__ = ["Coordinator", "Failure", "Observer", "RunResult"]
