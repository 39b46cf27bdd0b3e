"""The coordinator: turns a plan into supervised processes and owns everything they share until the run ends."""
