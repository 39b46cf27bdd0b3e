"""How an exit status reads in a sentence."""

from __future__ import annotations

import signal


def signal_name(number: int) -> str:
    try:
        return signal.Signals(number).name
    except ValueError:  # real-time signals have numbers only
        return f"signal {number}"


def describe_exit(status: int, told_to_go: bool) -> str:
    """An exit code as os.waitstatus_to_exitcode gives it: "exited with 3", "killed by SIGSEGV".

    A SIGKILL that streamcore did not send is most often the kernel's, and that is worth saying: the log of such a node ends without a word.
    """
    if status >= 0:
        return f"exited with {status}"
    name = signal_name(-status)
    if name == "SIGKILL" and not told_to_go:
        return "killed by SIGKILL (not sent by streamcore: a person, or the kernel when memory ran out; see dmesg)"
    return f"killed by {name}"
