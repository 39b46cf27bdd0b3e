"""A node process that does what its config tells it, well or badly: real process, real control channel, nothing of streamcore imported.

Run as `fake_node.py RUN/NODE FD` by the coordinator. config: {"do": [step, ...]}, each step a list of a name and its argument; what later
incarnations do instead stands in "again": [steps of the 2nd, steps of the 3rd, ...], the last of which holds for all that follow.
"""

import json
import os
import signal
import socket
import subprocess
import sys
import time


class Fake:
    def __init__(self, boot):
        self.boot = boot
        self.control = socket.socket(fileno=boot["control_fd"])

    def say(self, kind, **rest):
        self.control.send(json.dumps({"type": kind, **rest}).encode())

    def await_command(self, kind):
        while True:
            raw = self.control.recv(65536)
            if not raw:
                os._exit(0)  # the coordinator is gone
            command = json.loads(raw)
            print("got", json.dumps(command), flush=True)
            if command["type"] == kind:
                return

    def ready(self, _):
        self.say("ready", pid=os.getpid())

    def starting(self, _):
        self.say("starting")

    def draining(self, _):
        self.say("draining")

    def done(self, _):
        self.say("done")

    def fail(self, cause):
        self.say("failed", where="setup", cause=cause, fault="plugin", traceback="Traceback: here")

    def fail_in(self, where_and_cause):
        where, cause = where_and_cause
        self.say("failed", where=where, cause=cause, fault="spec")

    def follow(self, after):
        """Ask for events."""
        self.say("follow", after=after)

    def follow_to_the_end(self, after):
        """As core.health does: until it is told that nothing more is to come. Each event is logged."""
        while True:
            self.follow(after)
            news = {"type": ""}
            while news["type"] != "news":
                news = json.loads(self.control.recv(65536) or os._exit(0))
            if not news["events"]:
                return
            for event in news["events"]:
                print("event", event["event"], event["node"], flush=True)
                after = event["number"]

    def nonsense(self, text):
        self.control.send(text.encode("latin-1"))

    def hang_up(self, _):
        self.control.close()

    def print(self, text):
        print(text, flush=True)

    def exit(self, status):
        os._exit(status)

    def kill(self, name):
        os.kill(os.getpid(), getattr(signal, name))

    def ignore_term(self, _):
        signal.signal(signal.SIGTERM, signal.SIG_IGN)

    def child(self, kind):
        """A grandchild of the coordinator: in this process' group and without the run's mark, or the other way round. Its pid is logged."""
        group = kind == "group"
        environ = {} if group else None
        child = subprocess.Popen(["/bin/sleep", "1000"], start_new_session=not group, stdout=subprocess.DEVNULL, env=environ)
        print("child", child.pid, flush=True)

    def touch_ring(self, nbytes):
        for fd in self.boot["ring_fds"].values():
            os.pwrite(fd, b"x" * nbytes, 4096)

    def sleep(self, seconds):
        time.sleep(seconds)

    def words(self, words):
        """Write on the status page: word to number; "now" is the time."""
        for word, value in {"4": self.boot["incarnation"], **words}.items():
            number = time.monotonic_ns() if value == "now" else value
            os.pwrite(self.boot["status_fd"], number.to_bytes(8, "little"), 8 * int(word))

    def beat(self, word):
        """Be alive for ever, as the helper thread of a node is."""
        while True:
            self.words({word: "now"})
            time.sleep(0.05)

    def end_on_term(self, status):
        """As a node does between two packets."""
        signal.signal(signal.SIGTERM, lambda *_: os._exit(status))

    def log_boot(self, name):
        print(name, json.dumps(self.boot[name]), flush=True)


def main():
    fd = int(sys.argv[2])
    boot = json.loads(os.pread(fd, os.fstat(fd).st_size, 0))
    fake = Fake(boot)
    config = boot["node"]["config"]
    scripts = [config["do"], *config.get("again", [])]
    for name, argument in scripts[min(boot["incarnation"], len(scripts)) - 1]:
        if name == "await":
            fake.await_command(argument)
        else:
            getattr(fake, name)(argument)


if __name__ == "__main__":
    main()
