"""What a box has left, read from trees of files that look like /proc and /sys; memory is in test_budget.py."""

from __future__ import annotations

import os
import resource

import pytest

from streamcore.graph.fit import Room
from streamcore.supervisor import box as module


@pytest.fixture
def box(tmp_path):
    def write(name, text):
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)

    write("proc/meminfo", "MemAvailable: 1024 kB\n")
    write("proc/self/cgroup", "0::/kube/pod\n")
    return tmp_path, write


@pytest.fixture(autouse=True)
def _no_limits(monkeypatch):
    monkeypatch.setattr(resource, "getrlimit", lambda which: (resource.RLIM_INFINITY, resource.RLIM_INFINITY))


def test_where_nothing_limits_only_memory_is_known(box):
    root, _ = box
    assert module.look(root).memory == (Room("MemAvailable", 1 << 20),)
    assert (module.look(root).tasks, module.look(root).descriptors) == ((), ())


@pytest.mark.parametrize(
    ("cgroup", "base"), [("0::/kube/pod\n", "sys/fs/cgroup"), ("8:pids:/kube/pod\n", "sys/fs/cgroup/pids")], ids=["v2", "v1"]
)
def test_every_pids_group_up_to_the_root_counts(box, cgroup, base):
    root, write = box
    write("proc/self/cgroup", cgroup)
    for group, limit in (("/kube/pod", 100), ("/kube", "max"), ("", 50)):
        write(f"{base}{group}/pids.max", f"{limit}\n")
        write(f"{base}{group}/pids.current", "20\n")
    names = [(room.whose.removeprefix("pids group /"), room.left) for room in module.look(root).tasks]
    assert names == [(f"{base}/kube/pod", 80), (base, 30)]


def test_the_limit_of_a_user_counts_the_threads_of_all_its_processes_and_does_not_bind_root(box, monkeypatch):
    root, write = box
    monkeypatch.setattr(resource, "getrlimit", lambda which: (10, 10) if which == resource.RLIMIT_NPROC else (64, 128))
    monkeypatch.setattr(os, "getuid", lambda: 7)
    write("proc/1/status", "Name:\tinit\nUid:\t0\t0\t0\t0\nThreads:\t3\n")
    write("proc/12/status", "Name:\ta\nUid:\t7\t7\t7\t7\nThreads:\t4\n")
    write("proc/13/status", "Name:\tb\nUid:\t7\t7\t7\t7\nThreads:\t1\n")
    monkeypatch.setattr(os, "geteuid", lambda: 7)
    assert module.look(root).tasks == (Room("ulimit -u", 5),)
    assert module.look(root).descriptors == (Room("ulimit -Hn", 128),)
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    assert module.look(root).tasks == ()


def test_cpus_are_those_that_are_on_as_far_as_the_groups_leave_them(box):
    root, write = box
    write("sys/devices/system/cpu/online", "0-3,6\n")
    assert module.cpus(root) == {0, 1, 2, 3, 6}
    write("sys/fs/cgroup/kube/pod/cpuset.cpus.effective", "2-6\n")
    assert module.cpus(root) == {2, 3, 6}
    write("proc/self/cgroup", "3:cpuset:/\n")
    write("sys/fs/cgroup/cpuset/cpuset.effective_cpus", "0\n")
    assert module.cpus(root) == {0}


def test_a_box_that_does_not_say_which_cpus_it_has_forbids_none(box):
    root, write = box
    assert module.cpus(root) == frozenset()
    write("sys/devices/system/cpu/online", "all of them\n")
    assert module.cpus(root) == frozenset()


def test_this_box_can_be_read():
    assert module.look().memory[0].left > 0
    assert os.sched_getaffinity(0) <= module.cpus()


@pytest.fixture
def group_of_7(box):
    root, write = box
    write("proc/7/cgroup", "0::/kube/pod\n")
    return root, write


def test_a_process_is_bound_by_the_lowest_limit_of_its_group_and_those_around_it(group_of_7):
    root, write = group_of_7
    write("sys/fs/cgroup/kube/pod/memory.max", "max\n")
    write("sys/fs/cgroup/kube/memory.max", "1048576\n")
    write("sys/fs/cgroup/kube/pod/cpu.max", "150000 100000\n")
    write("sys/fs/cgroup/kube/cpu.max", "max 100000\n")
    assert module.bounds(7, root) == module.Bounds("/kube/pod", 1 << 20, 1.5)


def test_without_limits_or_files_a_process_has_its_group_alone(group_of_7):
    root, _ = group_of_7
    assert module.bounds(7, root) == module.Bounds("/kube/pod", None, None)
    assert module.bounds(8, root) == module.Bounds(None, None, None)


def test_groups_of_version_1_bind_as_well_and_name_the_process_where_version_2_has_it_in_its_root(box):
    root, write = box
    write("proc/7/cgroup", "3:cpu,cpuacct:/docker\n2:memory:/docker/7\n0::/\n")
    write("sys/fs/cgroup/memory/docker/7/memory.limit_in_bytes", f"{1 << 62}\n")
    write("sys/fs/cgroup/memory/docker/memory.limit_in_bytes", "4096\n")
    write("sys/fs/cgroup/cpu/docker/cpu.cfs_quota_us", "50000\n")
    write("sys/fs/cgroup/cpu/docker/cpu.cfs_period_us", "100000\n")
    assert module.bounds(7, root) == module.Bounds("/docker/7", 4096, 0.5)


@pytest.mark.parametrize(
    ("mine", "of_the_pod", "around_it", "found"),
    [
        (8, "max 100000", "max 100000", 8),
        (8, "250000 100000", "max 100000", 2.5),
        (8, "400000 100000", "150000 100000", 1.5),
        (1, "250000 100000", "", 1),
    ],
)
def test_the_cpus_of_a_run_are_those_it_may_run_on_unless_its_groups_give_less_time(box, monkeypatch, mine, of_the_pod, around_it, found):
    root, write = box
    monkeypatch.setattr(os, "sched_getaffinity", lambda pid: set(range(mine)))
    write(f"proc/{os.getpid()}/cgroup", "0::/kube/pod\n")
    write("sys/fs/cgroup/kube/pod/cpu.max", of_the_pod + "\n")
    write("sys/fs/cgroup/kube/cpu.max", around_it + "\n")
    assert module.usable_cpus(root) == found
