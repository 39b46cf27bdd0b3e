"""The contract of metrics: its names are held by a golden file and a document, and the nodes keep what it promises of them.

After a decision to change a name run with UPDATE_EXPECTED=1: it writes both anew.
"""

import os
import re
from pathlib import Path

import pytest

from streamcore.telemetry import names
from streamcore.telemetry.metrics import Run, Vitals
from streamcore.telemetry.names import COUNTER, EDGE, GAUGE, HISTOGRAM, LABELS, METRICS, NODE, OTHER, OTHER_LABELS, PROCESS
from streamcore.telemetry.snapshot import EdgeRow, NodeRow

HERE = Path(__file__).parent
GOLDEN = HERE / "metric_names.expected"
DOCUMENT = HERE.parents[2] / "docs" / "metrics.md"
BEGIN, END = f"## {next(iter(names.TITLES.values()))}\n", "## Numbers of a node's own code\n"


def listed():
    rows = [(metric.name, metric.kind, LABELS[metric.of]) for metric in METRICS] + [(OTHER.name, OTHER.kind, OTHER_LABELS)]
    return "".join(f"{name} {kind} {' '.join(labels)}\n" for name, kind, labels in rows)


def test_names_kinds_and_labels_are_those_that_dashboards_were_made_for():
    if os.environ.get("UPDATE_EXPECTED"):
        GOLDEN.write_text(listed())
    assert listed() == GOLDEN.read_text()


def test_the_document_lists_each_metric_as_the_code_does():
    text = DOCUMENT.read_text()
    before, _, rest = text.partition(BEGIN)
    _, _, after = rest.partition(END)
    if os.environ.get("UPDATE_EXPECTED"):
        DOCUMENT.write_text(f"{before}{names.as_markdown()}{END}{after}")
    assert DOCUMENT.read_text() == f"{before}{names.as_markdown()}{END}{after}"
    known = {metric.name for metric in (*METRICS, OTHER)}
    assert set(re.findall(r"\bstreamcore_\w+", before + after)) <= known


@pytest.mark.parametrize("metric", [*METRICS, OTHER], ids=lambda metric: metric.name)
def test_each_name_follows_the_rules_of_names(metric):
    assert re.fullmatch(r"streamcore_[a-z]+(_[a-z]+)+", metric.name)
    assert metric.name.endswith("_total") == (metric.kind == COUNTER)
    assert metric.kind in (COUNTER, GAUGE, HISTOGRAM)
    assert metric.help.endswith(".") and "\n" not in metric.help and "\\" not in metric.help
    if metric.kind == HISTOGRAM:
        assert metric.name.endswith("_seconds")


def test_no_two_metrics_are_one_when_a_parser_takes_the_endings_off():
    families = [re.sub(r"_(total|bucket|sum|count|info|created)$", "", metric.name) for metric in METRICS]
    assert sorted(set(families)) == sorted(families)


@pytest.mark.parametrize(("of", "row"), [(NODE, NodeRow), (EDGE, EdgeRow), (PROCESS, Vitals), (names.RUN, Run)])
def test_each_value_stands_where_the_contract_says(of, row):
    fields = {metric.field for metric in METRICS if metric.of == of and metric.field}
    assert fields and fields <= set(row.__struct_fields__)


def test_the_document_names_every_field_that_a_plugin_publishes():
    text = DOCUMENT.read_text()
    fields = {metric.field for metric in METRICS if metric.of in names.OF_PLUGINS}
    assert [field for field in sorted(fields) if f"`{field}`" not in text] == []
