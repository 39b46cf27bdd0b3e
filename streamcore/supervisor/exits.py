"""How a process ended: in a sentence, and as one of the classes that decide whether another try makes sense. Pure."""

from __future__ import annotations

import signal

IMPORT = "import"  # the plugin does not load; code does not mend itself
CONFIG = "config"  # ConfigError of setup(): the user must mend something, or a device is not there yet
STOPPED = "on_error"  # process() raised and the spec says `on_error: stop`
RAISED = "exception"  # anything else that node code or the host raised
MEMORY = "memory"  # MemoryError, or the kernel killed it because memory ran out
SIGNAL = "signal"  # killed by a signal that the coordinator did not send
EXIT = "exit"  # exited without a word, 0 included: only a node that said Done may do that
HUNG = "hang"  # one of the clocks ran out; killed by the coordinator
HALTED = "stop"  # the same, of a process that somebody had stopped (SIGSTOP, a debugger)
NOT_READY = "startup"  # startup_s passed
NONSENSE = "protocol"  # it does not keep to the control protocol
NO_PROCESS = "spawn"  # the box could not start a process just now
NO_COMMAND = "command"  # there is nothing that could be started

NEVER_RETRIED = frozenset((IMPORT, STOPPED, NO_COMMAND))
EXIT_TERMINATED = 128 + signal.SIGTERM  # of a node process that ended between packets because of SIGTERM
_SENT_BY_OTHERS = (EXIT_TERMINATED, *(-number for number in (signal.SIGKILL, signal.SIGTERM, signal.SIGINT, signal.SIGHUP)))
_BY_WHERE = {"import": IMPORT, "config": CONFIG, "hang": HUNG, "start": NOT_READY, "control": NONSENSE}


def signal_name(number: int) -> str:
    try:
        return signal.Signals(number).name
    except ValueError:  # real-time signals have numbers only
        return f"signal {number}"


def describe_exit(status: int, told_to_go: bool, oom_kills: int | None = None) -> str:
    """An exit code as os.waitstatus_to_exitcode gives it: "exited with 3", "killed by SIGSEGV".

    A SIGKILL that streamcore did not send is most often the kernel's, and that is worth saying: the log of such a node ends without a word.
    `oom_kills`: by how much the kernel's count of out-of-memory kills has grown since the process began; None if that cannot be read.
    """
    if status == EXIT_TERMINATED and not told_to_go:
        return "ended by SIGTERM between packets"
    if status >= 0:
        return f"exited with {status}"
    name = signal_name(-status)
    if name != "SIGKILL" or told_to_go:
        return f"killed by {name}"
    if oom_kills:
        return "killed by SIGKILL, by the kernel for lack of memory (its count of out-of-memory kills rose)"
    if oom_kills is None:
        return "killed by SIGKILL, perhaps by the kernel for lack of memory (see dmesg)"
    return "killed by SIGKILL (not sent by streamcore; the kernel counted no out-of-memory kill)"


def kind_of(where: str, cause: str, status: int | None, *, stops_on_error: bool, oom_kills: int | None = None) -> str:
    """The class of an end.

    where, cause: of the node's own report, or "exit" if it went without one; see Failure. status: its exit code, None without a process.
    stops_on_error: `on_error: stop` applies to it, so what comes out of its run is an error of process().
    """
    if where in _BY_WHERE:
        return _BY_WHERE[where]
    if cause.startswith("MemoryError"):
        return MEMORY
    if where == "exit":
        if status is not None and (status < 0 or status == EXIT_TERMINATED):
            return MEMORY if status == -signal.SIGKILL and oom_kills else SIGNAL
        return EXIT
    return STOPPED if stops_on_error and where in ("run", "process") else RAISED


def blames_packet(kind: str, status: int | None) -> bool:
    """May the packet under work have caused such an end.

    Not a SIGKILL that neither streamcore nor the kernel, short of memory, has sent, nor a process that somebody had stopped: a packet
    cannot do that, and `kill -9` may lose nothing however often it comes.
    """
    if kind == SIGNAL:
        return status is not None and status not in _SENT_BY_OTHERS
    return kind != HALTED


def is_retried(kind: str, policy: str) -> bool:
    """May a node with this restart policy get another try after such an end, if its intensity allows.

    `always` retries config errors too: a camera that is switched on later than the box. Nothing retries code that does not load.
    """
    if policy == "never" or kind in NEVER_RETRIED:
        return False
    return kind != CONFIG or policy == "always"
