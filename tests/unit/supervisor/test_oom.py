"""The kernel's count of out-of-memory kills, as the box and control groups show it."""

from pathlib import Path

import pytest

from streamcore.supervisor.oom import oom_kills


@pytest.fixture
def root(tmp_path: Path):
    for folder in ("proc/self", "sys/fs/cgroup/a/b"):
        (tmp_path / folder).mkdir(parents=True)
    return tmp_path


def test_the_count_of_the_box_is_read(root):
    (root / "proc/vmstat").write_text("nr_free_pages 12\noom_kill 7\ndrop_slab 0\n")
    assert oom_kills(root) == 7


def test_inside_a_group_with_a_limit_its_own_count_is_known(root):
    (root / "proc/vmstat").write_text("oom_kill 0\n")
    (root / "proc/self/cgroup").write_text("1:name=x:/\n0::/a/b\n")
    (root / "sys/fs/cgroup/a/b/memory.events").write_text("low 0\noom 4\noom_kill 3\n")
    assert oom_kills(root) == 3


def test_where_nothing_can_be_read_nothing_is_claimed(root):
    assert oom_kills(root) is None


def test_this_box_can_be_asked():
    assert oom_kills() is None or oom_kills() >= 0
