"""The rows of a run as text for Prometheus, read back by the parser of prometheus-client."""

import math
import random

import pytest
from prometheus_client.parser import text_string_to_metric_families

from streamcore.shm.distribution import Distribution
from streamcore.shm.histogram import BUCKETS, bucket_of, lower_ns
from streamcore.telemetry import metrics, names
from streamcore.telemetry.metrics import BOUNDS, Run, Vitals, cumulative, exposition
from streamcore.telemetry.snapshot import EdgeRow, NodeRow, Snapshot

RUN = Run("street", "gate", "abc123", 1_700_000_000.25, 60.5)


def noted(*durations_ns):
    buckets = {}
    for ns in durations_ns:
        buckets[bucket_of(ns)] = buckets.get(bucket_of(ns), 0) + 1
    return Distribution(sum(durations_ns), tuple(sorted(buckets.items())))


def rows(**of_the_node):
    node = NodeRow("cam", "test.cam", "source", 41, "READY", **of_the_node)
    edge = EdgeRow("cam.out -> pass.in", "cam", "pass", "block", 8, 16, sent=100, completed=97, in_flight=3, wait=noted(5_000, 2_000_000))
    return Snapshot((node, NodeRow("pass", "durable.queue", "node", state="BACKOFF", metrics={"waiting": 7.0})), (edge,))


def values(text):
    """(sample, labels as a set) to the value."""
    found = {}
    for family in text_string_to_metric_families(text):
        for sample in family.samples:
            key = (sample.name, frozenset(sample.labels.items()))
            assert key not in found, f"twice: {key}"
            found[key] = sample.value
    return found


def of(found, sample_name, /, **labels):
    wanted = {"graph": "street", "run": "gate", **labels}
    return next(value for (sample, have), value in found.items() if sample == sample_name and wanted.items() <= dict(have).items())


def test_a_parser_reads_back_each_value_with_its_labels():
    processes = {"cam": Vitals(1.5, 1_700_000_001.0, 4096, 12, 5, 99)}
    found = values(exposition(RUN, rows(consumed=0, emitted=100, produced=100, work_ns=1_234_567_891, paused=True), processes))
    assert of(found, "streamcore_run_info", graph_version="abc123") == 1
    assert of(found, "streamcore_run_start_time_seconds") == 1_700_000_000.25
    assert of(found, "streamcore_node_produced_packets_total", node="cam") == 100
    assert of(found, "streamcore_node_busy_seconds_total", node="cam") == 1.234567891
    assert of(found, "streamcore_node_paused", node="cam") == 1
    assert [of(found, "streamcore_node_up", node=node) for node in ("cam", "pass")] == [1, 0]
    assert [of(found, "streamcore_node_ready", node=node) for node in ("cam", "pass")] == [1, 0]
    edge = {"edge": "cam.out -> pass.in", "from_node": "cam", "to_node": "pass", "policy": "block"}
    assert of(found, "streamcore_edge_sent_packets_total", **edge) == 100
    assert of(found, "streamcore_edge_wait_seconds_count", **edge) == 2
    assert of(found, "streamcore_process_resident_bytes", node="cam") == 4096
    assert of(found, "streamcore_queue_waiting_records", node="pass") == 7
    assert not any(dict(labels).get("node") == "pass" for name, labels in found if name.startswith("streamcore_process"))


def test_what_the_code_of_a_node_publishes_has_its_name_in_a_label_whatever_it_is():
    numbers = {'a "quoted"\\name\n': 2.5, "nan": math.nan, "inf": math.inf, "down": -math.inf, "big": 1e300}
    found = values(exposition(RUN, rows(metrics=numbers), {}))
    assert {name: of(found, "streamcore_node_value", node="cam", name=name) for name in numbers} == pytest.approx(numbers, nan_ok=True)


def test_a_number_with_a_name_of_the_contract_is_not_told_twice():
    queue = NodeRow("q", "durable.spill", "node", metrics={"waiting": 7.0, "spilled": 3.0})
    found = values(exposition(RUN, Snapshot((queue,), ()), {}))
    assert of(found, "streamcore_queue_waiting_records", node="q") == 7
    assert [dict(labels)["name"] for name, labels in found if name == "streamcore_node_value"] == ["spilled"]


def test_each_family_comes_once_and_has_its_kind_and_its_help():
    text = exposition(RUN, rows(), {})
    heads = [line.split()[2] for line in text.splitlines() if line.startswith("# TYPE")]
    assert len(heads) == len(set(heads))
    kinds = {metric.name: metric.kind for metric in (*names.METRICS, names.OTHER)}
    assert all(kinds[line.split()[2]] == line.split()[3] for line in text.splitlines() if line.startswith("# TYPE"))


def test_a_bucket_never_counts_a_longer_duration_and_misses_at_most_one_fine_bucket():
    random.seed(7)
    durations = [round(10 ** random.uniform(2.5, 11.9)) for _ in range(5_000)] + [bound for _, bound in BOUNDS] + [0, 10**13]
    counts = cumulative(noted(*durations))
    for (_, bound_ns), count in zip(BOUNDS, counts, strict=False):
        lowest_of_its_bucket = lower_ns(bucket_of(bound_ns))
        assert sum(ns < lowest_of_its_bucket for ns in durations) <= count <= sum(ns <= bound_ns for ns in durations)
    assert counts == sorted(counts)
    assert counts[-1] == len(durations)


def test_bounds_are_round_numbers_and_each_fine_bucket_has_one():
    assert [text for text, _ in BOUNDS[:4]] == ["1e-05", "2.5e-05", "5e-05", "0.0001"]
    assert BOUNDS[-1] == ("100", 100 * 10**9) and len(BOUNDS) == 22
    assert all(round(float(text) * 1e9) == bound_ns for text, bound_ns in BOUNDS)
    assert metrics._BOUND_OF[BUCKETS - 1] == len(BOUNDS)  # the last one has no upper end


def test_the_sum_of_durations_is_exact_however_large():
    edge = EdgeRow("a->b", "a", "b", "block", 8, 16, wait=Distribution(2**63 + 1, ((100, 1),)))
    text = exposition(RUN, Snapshot((), (edge,)), {})
    assert "} 9223372036.854775809\n" in text


def test_what_is_written_has_the_labels_that_are_promised():
    processes = {"cam": Vitals(1.5, 1_700_000_001.0, 4096, 12, 5, 99)}
    found = values(exposition(RUN, rows(work=noted(5_000), metrics={"own": 1.0}), processes))
    promised = {metric.name: set(names.LABELS[metric.of]) for metric in names.METRICS} | {names.OTHER.name: set(names.OTHER_LABELS)}
    promised["streamcore_run_info"] |= {"version", "graph_version"}
    seen = set()
    for sample, labels in found:
        name = sample if sample in promised else sample.rpartition("_")[0]  # of a histogram
        assert {label for label, _ in labels} - {"le"} == promised[name], sample
        seen.add(name)
    assert len(seen) > 35 and names.OTHER.name in seen
