"""Which processes may look before they sleep: those of a run that has a CPU for each of them."""

import msgspec
import pytest
from fake_runs import ORDERLY, chain

from streamcore.coordinator import coordinator

SCRIPT = [["log_boot", "lingers"], *ORDERLY]


def pinned(plan, name):
    nodes = [msgspec.structs.replace(node, cpu_affinity=(0,)) if node.id == name else node for node in plan.nodes]
    return msgspec.structs.replace(plan, nodes=tuple(nodes))


@pytest.mark.parametrize(("cpus", "lingers"), [(3.0, "true"), (2.0, "true"), (1.9, "false"), (1.0, "false")])
def test_a_run_with_a_cpu_for_each_process_lets_them_linger(run_of, monkeypatch, cpus, lingers):
    monkeypatch.setattr(coordinator, "usable_cpus", lambda: cpus)
    run = run_of(chain(SCRIPT, SCRIPT))
    run.go()
    assert [f"lingers {lingers}" in run.log(name) for name in "ab"] == [True, True]


def test_a_process_that_is_bound_to_some_cpus_does_not_linger(run_of, monkeypatch):
    monkeypatch.setattr(coordinator, "usable_cpus", lambda: 8.0)
    run = run_of(pinned(chain(SCRIPT, SCRIPT), "b"))
    run.go()
    assert "lingers true" in run.log("a") and "lingers false" in run.log("b")
