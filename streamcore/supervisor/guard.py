"""The coordinator's end of its guardian: tells it which process groups exist, and says goodbye (SYNC: guardian.py)."""

from __future__ import annotations

import os
import subprocess
import sys

from streamcore.supervisor import guardian

GOODBYE_S = 5.0  # it has nothing left to do after `bye`; past this the box is ill and it is killed


class Guard:
    """A guardian process and the pipe to it. Closing the pipe without `close()` is what the death of the coordinator looks like."""

    def __init__(self, run_dir: str, run_id: str, coordinator_pid: int | None = None):
        """Start it for this process, or another one. Raises OSError if the box has no process or descriptor left."""
        reader, self._writer = os.pipe()
        os.set_blocking(self._writer, False)
        environ = {key: value for key, value in os.environ.items() if key != guardian.MARK[:-1].decode()}
        try:
            self._process = subprocess.Popen(
                [sys.executable, "-I", "-S", "-E", guardian.__file__, run_dir, run_id, str(coordinator_pid or os.getpid())],
                stdin=reader,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
                start_new_session=True,
                cwd="/",
                env=environ,
            )
        except OSError:
            os.close(self._writer)
            raise
        finally:
            os.close(reader)
        self.pid = self._process.pid

    def add(self, group: int) -> None:
        self._say(f"+{group}\n")

    def remove(self, group: int) -> None:
        self._say(f"-{group}\n")

    def alive(self) -> bool:
        return self._process.poll() is None

    def close(self) -> None:
        """Send it home and reap it."""
        self._say("bye\n")
        os.close(self._writer)
        try:
            self._process.wait(GOODBYE_S)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()

    def _say(self, line: str) -> None:
        try:
            os.write(self._writer, line.encode())
        except (BrokenPipeError, BlockingIOError):
            pass  # it was killed or stopped. The nodes still end by themselves when the control channel closes: it is the second net
