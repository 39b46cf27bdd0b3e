"""For those who write nodes: the scaffold of a new package, and the checks that a node keeps its contract.

`scaffold` writes a package from `templates`. `judge` has a plugin checked in a child process, `program`, which calls `checks`; each makes
a `trial`: an instance of the node, fed with `inputs` through real rings. streamctl's `node new` and `node check` are the two doors.
"""
