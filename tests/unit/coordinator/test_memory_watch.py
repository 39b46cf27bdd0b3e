"""The limit of shared memory: warned of once, then enforced, both with the ports that hold it."""

from streamcore.coordinator.memory_watch import MemoryWatch
from streamcore.limits import MIB


def test_below_the_warning_nothing_is_said():
    assert MemoryWatch(100 * MIB).look({"a.out": 79 * MIB}) == ("", "")


def test_at_80_percent_it_warns_once_and_names_the_largest_ports():
    watch = MemoryWatch(100 * MIB)
    warning, error = watch.look({"a.out": 10 * MIB, "b.out": 60 * MIB, "c.out": 9 * MIB, "d.out": 1 * MIB})
    assert warning == "shared memory: 80 MiB in use, limit 100 MiB (b.out 60 MiB, a.out 10 MiB, c.out 9 MiB); the run ends at the limit"
    assert error == ""
    assert watch.look({"b.out": 90 * MIB}) == ("", "")


def test_at_the_limit_it_is_an_error_that_says_what_to_do():
    watch = MemoryWatch(100 * MIB)
    warning, error = watch.look({"a.out": 1 * MIB, "b.out": 99 * MIB})
    assert warning == ""
    assert error == "shared memory: found 100 MiB in use, limit 100 MiB (b.out 99 MiB, a.out 1 MiB); raise limits.shm, or lower depths"
    assert watch.culprit({"a.out": 1 * MIB, "b.out": 99 * MIB}) == "b"
