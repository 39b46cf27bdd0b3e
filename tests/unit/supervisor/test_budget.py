"""What a run may use, read from trees of files that look like /proc and /sys of different boxes."""

import pytest

from streamcore import limits
from streamcore.errors import BudgetError
from streamcore.graph.model import NodePlan, Plan, RingPlan
from streamcore.supervisor import budget

GIB, MIB = limits.GIB, limits.MIB


@pytest.fixture
def box(tmp_path):
    """A box with 8 GiB available and no control group."""
    write(tmp_path, "proc/meminfo", f"MemTotal:       16777216 kB\nMemAvailable:   {8 * GIB // 1024} kB\n")
    write(tmp_path, "proc/self/cgroup", "")
    return tmp_path


def write(root, name, text):
    path = root / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)


def group(box, path, limit, usage, cache=0, v1=False):
    names = ("memory.limit_in_bytes", "memory.usage_in_bytes") if v1 else ("memory.max", "memory.current")
    base = "sys/fs/cgroup/memory" if v1 else "sys/fs/cgroup"
    for name, value in zip((*names, "memory.stat"), (limit, usage, f"anon 1\ninactive_file {cache}\n"), strict=True):
        write(box, f"{base}{path}/{name}", f"{value}\n")


def plan(slot_count=4, entry_count=8):
    ring = RingPlan(0, "a.out", entry_count, 8192, slot_count, 32 * MIB, ())
    node = NodePlan("a", "p", "m:C", "source", {}, {"out": 0}, (), (), ())
    return Plan("run", "graph", "v", (node,), (), (ring,), ("a",), slot_count * 32 * MIB)


def test_without_control_groups_what_the_kernel_calls_available_counts(box):
    assert budget.available_bytes(box) == 8 * GIB


def test_a_version_2_group_bounds_it_and_page_cache_can_be_given_back(box):
    write(box, "proc/self/cgroup", "0::/kube/pod\n")
    group(box, "/kube/pod", limit=2 * GIB, usage=GIB, cache=GIB // 2)
    assert budget.available_bytes(box) == GIB + GIB // 2


def test_a_limit_of_an_ancestor_bounds_it_as_well(box):
    write(box, "proc/self/cgroup", "0::/kube/pod\n")
    group(box, "/kube/pod", limit="max", usage=GIB)
    group(box, "/kube", limit=3 * GIB, usage=GIB)
    assert budget.available_bytes(box) == 2 * GIB


def test_a_version_1_group_bounds_it(box):
    write(box, "proc/self/cgroup", "5:cpu,cpuacct:/d\n4:memory:/d\n")
    group(box, "/d", limit=GIB, usage=GIB // 4, v1=True)
    assert budget.available_bytes(box) == GIB - GIB // 4


def test_an_unlimited_version_1_group_and_a_hidden_path_bound_nothing(box):
    # In a container the path of the group is the host's, and only the root of the mount can be seen.
    write(box, "proc/self/cgroup", "4:memory:/docker/0123\n")
    group(box, "", limit=9223372036854771712, usage=GIB, v1=True)
    assert budget.available_bytes(box) == 8 * GIB


def test_a_group_that_is_over_its_limit_leaves_nothing(box):
    write(box, "proc/self/cgroup", "0::/\n")
    group(box, "", limit=GIB, usage=2 * GIB)
    assert budget.available_bytes(box) == 0


def test_without_a_limit_in_the_spec_a_share_of_what_is_available_may_be_used(box):
    assert budget.check(plan(), None, box) == int(8 * GIB * limits.SHM_SHARE)


def test_the_limit_of_the_spec_counts_as_far_as_the_box_has_it(box):
    assert budget.check(plan(), 3 * GIB, box) == 3 * GIB
    assert budget.check(plan(), 64 * GIB, box) == 8 * GIB


def test_slots_are_sparse_so_a_plan_whose_maximum_is_too_large_may_start(box):
    assert budget.check(plan(slot_count=4000), None, box) < plan(slot_count=4000).shm_bytes_max


def test_a_plan_whose_tables_alone_do_not_fit_is_refused_before_anything_is_allocated(box):
    with pytest.raises(BudgetError, match=r"graph: found 64KiB .*limits\.shm is 64KiB.* expected at least 280KiB; lower depths"):
        budget.check(plan(slot_count=4, entry_count=4096), 64 * 1024, box)


SIZES = [(0, "0 B"), (1023, "1023 B"), (1536, "1.5 KiB"), (2 * GIB, "2 GiB"), (5000 * 1024 * GIB, "5000 TiB")]


@pytest.mark.parametrize(("nbytes", "text"), SIZES)
def test_bytes_read_as_a_person_writes_them(nbytes, text):
    assert budget.human(nbytes) == text
