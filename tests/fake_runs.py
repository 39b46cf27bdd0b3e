"""Runs of fake nodes: plans made by hand, a coordinator in this process, and what it told its observer. Fixtures for conftest files."""

import os
import sys
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from streamcore.control.rundir import RunDir
from streamcore.coordinator.coordinator import Coordinator
from streamcore.coordinator.observer import Observer
from streamcore.coordinator.options import Options
from streamcore.graph.model import EdgePlan, NodePlan, Plan, RestartPlan, RingPlan
from streamcore.supervisor import guardian

FAKE_NODE = (sys.executable, "-I", "-S", str(Path(__file__).with_name("fake_node.py")))

BEGIN = [["ready", 0], ["await", "start"]]
END = [["draining", 0], ["done", 0]]
ORDERLY = BEGIN + END
UNTIL_STOP = [*BEGIN, ["await", "stop"], *END]
# A node that ends when its inputs do cannot know of them here: it ends when it is killed, or told that a peer is gone.
UNTIL_PEER_GONE = [*BEGIN, ["await", "peer_gone"], *END]
FOR_EVER = [*BEGIN, ["sleep", 1000]]


@pytest.fixture
def runtime_dir(tmp_path, monkeypatch):
    """Runs of a test lie in its own directory."""
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(tmp_path))
    return tmp_path


NO_RESTART = RestartPlan(policy="never")


def chain(*scripts, drain_s=10.0, startup_s=30.0, slot_bytes=4096, restart=NO_RESTART, **of_each_node):
    """A plan of nodes a, b, c ... in a row; the first is a source, the last a sink."""
    names = "abcdefgh"[: len(scripts)]
    last = len(names) - 1
    rings = tuple(RingPlan(i, f"{name}.out", 4, 64, 4, slot_bytes, ()) for i, name in enumerate(names[:-1]))
    edges = tuple(EdgePlan(i, 0, name, "out", names[i + 1], "in", i, "block", 2, 4, ()) for i, name in enumerate(names[:-1]))
    nodes = tuple(
        NodePlan(
            id=name,
            plugin=f"fake.{name}",
            target="fake:Fake",
            role="source" if i == 0 else "sink" if i == last else "node",
            config=scripts[i] if isinstance(scripts[i], dict) else {"do": scripts[i]},
            outputs={"out": i} if i < last else {},
            reads=(i - 1,) if i else (),
            in_edges=(i - 1,) if i else (),
            out_edges=(i,) if i < last else (),
            startup_s=startup_s,
            restart=restart,
            **of_each_node,
        )
        for i, name in enumerate(names)
    )
    return Plan("run", "graph", "v1", nodes, edges, rings, tuple(reversed(names)), 4 * slot_bytes * len(rings), drain_s)


@dataclass
class Watcher(Observer):
    """Writes down what it is told. `on_up` is called once the run is up."""

    on_up: list = field(default_factory=list)
    told: list = field(default_factory=list)

    def node_changed(self, node, before, after, detail):
        self.told.append((node, after))

    def up(self):
        self.told.append("up")
        for call in self.on_up:
            call()

    def failed(self, failure):
        self.told.append(("failed", failure.node))

    def stopping(self, reason):
        self.told.append(("stopping", reason))

    def restarting(self, failure, delay_s):
        self.told.append(("restarting", failure.node, failure.cause))

    def killing(self, reason):
        self.told.append(("killing", reason))

    def warning(self, text):
        self.told.append(("warning", text))


@dataclass
class Run:
    coordinator: Coordinator
    watcher: Watcher
    path: Path

    def go(self, beside=None):
        """Run it to its end and look that nothing is left. `beside`: a thread of the test that was started meanwhile."""
        before = set(os.listdir("/proc/self/fd"))
        result = self.coordinator.run()
        if beside is not None:
            beside.join()
        assert nothing_left(self.coordinator, self.path)
        assert set(os.listdir("/proc/self/fd")) <= before
        return result

    def log(self, node):
        return (self.path / "logs" / f"{node}.log").read_text()


def nothing_left(coordinator, path):
    """No process that carries the run's mark, no socket, no pid file. Holds after a run however it ended."""
    files = [name for name in os.listdir(path) if name not in ("logs", "incidents")]
    return not files and not guardian.members(coordinator.run_id.encode())


@pytest.fixture
def run_of(runtime_dir):
    """Make a Run of a plan; extra options are those of coordinator.Options."""

    def make(plan, watcher=None, signals=None, **options):
        watcher = watcher or Watcher()
        run_dir = RunDir.take(plan.run)
        path = run_dir.path
        coordinator = Coordinator(plan, run_dir, watcher, Options(command=options.pop("command", FAKE_NODE), **options), signals=signals)
        return Run(coordinator, watcher, path)

    return make
