"""The shape of a report: docs/report.schema.json is that of the code, and describes every key.

`.venv/bin/python -m pytest tests/unit/telemetry/test_report_shape.py` with UPDATE_EXPECTED=1 writes the file anew.
"""

import json
import os
from pathlib import Path

import jsonschema
import msgspec
import pytest

from streamcore.telemetry.report_shape import Timeline, schema

FILE = Path(__file__).resolve().parents[3] / "docs" / "report.schema.json"


def test_the_schema_in_the_docs_is_that_of_the_code():
    text = json.dumps(schema(), indent=1) + "\n"
    if os.environ.get("UPDATE_EXPECTED"):
        FILE.write_text(text)
    assert FILE.read_text() == text, "the shape has changed, which is a decision: UPDATE_EXPECTED=1 renews the file"


def test_it_is_a_schema_and_describes_every_key():
    jsonschema.Draft202012Validator.check_schema(schema())
    objects = schema()["$defs"].items()
    assert {"Report", "Node", "Edge", "Account", "Timeline", "Quantiles"} <= {name for name, _ in objects}
    assert [f"{name}.{key}" for name, found in objects for key, value in found["properties"].items() if not value.get("description")] == []


def test_the_lists_of_a_timeline_are_of_one_length():
    course = {"begin_s": [0, 1], "end_s": [1, 2], "nodes": {}, "edges": {}}
    assert msgspec.convert(course, Timeline).end_s == [1.0, 2.0]
    with pytest.raises(msgspec.ValidationError, match="found 1 items in end_s, expected 2"):
        msgspec.convert({**course, "end_s": [1]}, Timeline)
