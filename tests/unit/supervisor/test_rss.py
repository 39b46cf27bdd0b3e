"""The memory limit of a node, and what is called growth."""

from streamcore.limits import MIB
from streamcore.supervisor.rss import RssWatch

S = 1_000_000_000


def test_crossing_the_limit_is_said_once_and_again_after_it_was_met():
    watch = RssWatch(100 * MIB)
    said = [watch.note(1, at * S, size * MIB) for at, size in enumerate((90, 100, 101, 150, 99, 120))]
    assert said == [False, False, True, False, False, True]


def test_the_sentence_has_found_and_allowed():
    watch = RssWatch(100 * MIB)
    watch.note(1, 0, 128 * MIB)
    assert str(watch) == "memory: found 128 MiB, its children included; limits.rss is 100 MiB"


def test_a_new_process_is_measured_anew():
    watch = RssWatch(100 * MIB)
    assert watch.note(1, 0, 128 * MIB)
    assert watch.note(2, 1 * S, 128 * MIB)


def test_without_a_limit_nothing_is_said():
    watch = RssWatch(0)
    assert not watch.note(1, 0, 1 << 50)
    assert not watch.restart_helps(0)


def test_a_restart_helps_a_process_that_has_grown():
    watch = RssWatch(100 * MIB)
    for incarnation in (1, 2, 3):
        watch.note(incarnation, 2 * incarnation * S, 50 * MIB)
        assert not watch.restart_helps(2 * incarnation * S)
        watch.note(incarnation, (2 * incarnation + 1) * S, 101 * MIB)
        assert watch.restart_helps((2 * incarnation + 1) * S)
        watch.note_restart((2 * incarnation + 1) * S)


def test_a_process_that_takes_too_much_from_its_start_is_not_restarted_all_the_time():
    # A limit below what the model needs would otherwise let the node do nothing but start.
    watch = RssWatch(100 * MIB)
    restarts = []
    for at in range(150):
        watch.note(1 + len(restarts), at * S, 128 * MIB)
        if watch.restart_helps(at * S):
            watch.note_restart(at * S)
            restarts.append(at)
    assert restarts == [0, 60, 120]


def test_growth_is_that_of_the_last_minute_without_the_start():
    watch = RssWatch(0)
    watch.note(1, 0, 10 * MIB)
    watch.note(1, 5 * S, 500 * MIB)  # it loads its model
    assert watch.growth_bytes_per_s is None
    for at in range(10, 200, 10):
        watch.note(1, at * S, 500 * MIB + at * MIB)
    assert watch.growth_bytes_per_s == MIB


def test_a_new_process_has_not_grown():
    watch = RssWatch(0)
    for at in (0, 10, 20):
        watch.note(1, at * S, at * MIB)
    watch.note(2, 30 * S, 0)
    assert watch.growth_bytes_per_s is None
