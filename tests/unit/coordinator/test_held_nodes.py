"""With `--reload` a node that would be given up waits to be mended. After each run `Run.go` looks that nothing is left."""

import msgspec
from fake_runs import BEGIN, END, ORDERLY, UNTIL_PEER_GONE, Watcher, chain

from streamcore.coordinator.reload import Reloading
from streamcore.graph.basis import Basis
from streamcore.spec.model import Spec

DIE = ["kill", "SIGSEGV"]
UNTIL_PEER_IS_BACK = [*BEGIN, ["await", "peer_restarted"], *END]


def states_of(run, node):
    return [entry[1] for entry in run.watcher.told if isinstance(entry, tuple) and entry[0] == node]


class Mender(Watcher):
    """Calls `mend` with the node that waits to be mended."""

    def held(self, failure):
        self.told.append(("held", failure.node, failure.cause))
        self.mend(failure.node)


def mendable(run_of, plan, watcher):
    """A run that waits for its files to change; it has none here, so the test says when."""
    basis = Basis(plan, Spec("a.yaml", "a", (), ()), {}, {}, {})
    return run_of(plan, watcher, reloading=Reloading(basis, lambda: basis))


def next_plan(plan, node, **config):
    return msgspec.structs.replace(plan.node(node), config=config)


def test_a_node_that_is_given_up_waits_and_comes_back_with_its_next_plan(run_of):
    plan = chain(UNTIL_PEER_IS_BACK, [*BEGIN, DIE], UNTIL_PEER_IS_BACK)
    run = mendable(run_of, plan, Mender())

    def mend(node):
        member = run.coordinator.members[node]
        member.next_plan = next_plan(plan, node, do=ORDERLY)
        run.coordinator.orders.restart(node, run.coordinator.phase)

    run.watcher.mend = mend
    result = run.go()
    assert (result.status, result.failures) == (0, ())
    assert states_of(run, "b") == ["STARTING", "READY", "EXITED", "BACKOFF", "STARTING", "READY", "DRAINING", "DONE"]
    assert ("held", "b", "killed by SIGSEGV") in run.watcher.told
    assert run.coordinator.members["b"].plan.config == {"do": ORDERLY}


def test_one_that_was_mended_before_it_fell_does_not_wait(run_of):
    # It is asked to end for its new config, and dies of the packet that it was to finish first.
    plan = chain(UNTIL_PEER_IS_BACK, [*BEGIN, ["sleep", 0.2], DIE], UNTIL_PEER_IS_BACK)
    run = mendable(run_of, plan, Mender())

    def mend():
        run.coordinator.members["b"].next_plan = next_plan(plan, "b", do=ORDERLY)

    run.watcher.on_up.append(mend)
    assert run.go().status == 0
    assert not [entry for entry in run.watcher.told if entry[0] == "held"]


def test_when_the_run_ends_one_that_waits_is_tried_once_more_and_then_fails(run_of):
    plan = chain(UNTIL_PEER_GONE, {"do": [*BEGIN, DIE], "again": [[*BEGIN, DIE]]}, UNTIL_PEER_GONE)
    run = mendable(run_of, plan, Mender())
    run.watcher.mend = lambda node: run.coordinator.stop("enough")
    result = run.go()
    assert (result.status, [failure.node for failure in result.failures]) == (1, ["b"])
    assert states_of(run, "b")[-1] == "FAILED"
