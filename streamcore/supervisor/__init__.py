"""One node's process from outside: the state machine, spawn, reap and kill."""
