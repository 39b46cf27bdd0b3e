"""A process of ours and all that it started and that stayed in its process group: signalled and reaped together."""

from __future__ import annotations

import os
import signal

from streamcore.supervisor.usage import core_wait_s


class Group:
    """`pid` is its leader, a child of this process; orphans of it become children too if this process is a subreaper.

    status: the leader's exit code once it is reaped, as os.waitstatus_to_exitcode gives it. cpu_s: CPU time of what was
    reaped. core_wait_s: how long the leader had waited for a core when this was last called for.
    """

    def __init__(self, pid: int):
        self.pid = pid
        self.status: int | None = None
        self.cpu_s = self.core_wait_s = 0.0
        self._members_left = True

    def signal(self, number: signal.Signals) -> None:
        """Nothing happens if none is left."""
        if self._members_left:
            try:
                os.killpg(self.pid, number)
            except ProcessLookupError:
                pass

    def reap(self) -> bool:
        """Collect exit statuses, of orphaned grandchildren too, without waiting. True if none of it is left.

        Never by wait(-1): that would steal the statuses of children that are not ours.
        """
        if self.status is None:
            self.core_wait_s = core_wait_s(self.pid) or 0.0  # of a zombie too; once it is reaped nobody knows it
        while self._members_left:
            try:
                pid, status, used = os.wait4(-self.pid, os.WNOHANG)
            except ChildProcessError:
                self._members_left = False
                break
            if pid == 0:
                return False
            self.cpu_s += used.ru_utime + used.ru_stime
            if pid == self.pid:
                self.status = os.waitstatus_to_exitcode(status)
        return True
