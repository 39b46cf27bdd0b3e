"""From a spec to a plan: every check that needs no running process, and the arithmetic of windows, slots and memory. Pure."""
