"""The checker that the spec and every plugin's config go through."""

from __future__ import annotations

import cerberus
import pytest

from streamcore.spec import rules as spec_rules
from streamcore.spec.schema import Checker


def findings(rules, document):
    return Checker(rules).check(document)[1]


def finding(rules, document):
    found = findings(rules, document)
    assert len(found) == 1
    return found[0]


def test_defaults_are_filled_and_sizes_become_bytes_at_every_depth():
    rules = {
        "a": {"type": "size", "default": "1KiB"},
        "b": {"type": "dict", "schema": {"c": {"type": "size"}, "d": {"type": "integer", "default": 4}}},
        "e": {"type": "list", "schema": {"type": "size"}},
        "f": {"type": "dict", "valuesrules": {"type": "size"}},
        "g": {"type": "list", "items": [{"type": "size"}, {"type": "string"}]},
        "schema": {"type": "size"},
    }
    document = {"b": {"c": "2KiB"}, "e": ["1B", 5], "f": {"x": "1MiB"}, "g": ["3B", "3B"], "schema": "4B"}
    normalised, found = Checker(rules).check(document)
    assert found == []
    assert normalised == {
        "a": 1024,
        "b": {"c": 2048, "d": 4},
        "e": [1, 5],
        "f": {"x": 2**20},
        "g": [3, "3B"],
        "schema": 4,
    }
    assert document["b"] == {"c": "2KiB"}  # what was handed in is not changed


@pytest.mark.parametrize("value", ["2GB", -1, 1.5, True, None, "", [], "-5MiB"])
def test_what_is_no_size_is_shown_as_written(value):
    found = finding({"a": {"type": "size"}}, {"a": value})
    assert found.where == ("a",)
    assert found.expected.startswith("a size such as 512MiB")


@pytest.mark.parametrize(
    ("rule", "value", "expected"),
    [
        ({"type": "integer", "min": 1, "max": 5}, 9, "an integer from 1 to 5"),
        ({"type": "integer", "min": 1}, True, "an integer, at least 1"),
        ({"type": "float", "max": 1}, 2, "a number, at most 1"),
        ({"type": "float"}, True, "a number"),
        ({"type": ["integer", "string"]}, [], "an integer or text"),
        ({"type": "string", "allowed": ["a", "b"]}, "c", "one of: a, b"),
        ({"type": "list", "allowed": ["a"]}, ["z"], "a list of one of: a"),
        ({"type": "string", "minlength": 2}, "x", "text with at least 2 characters"),
        ({"type": "list", "maxlength": 1}, [1, 2], "a list with at most 1 entry"),
        ({"type": "list", "minlength": 2, "maxlength": 3}, [], "a list with 2 to 3 entries"),
        ({"type": "string", "empty": False}, "", "text, not empty"),
        ({"type": "string", "regex": "[a-z]+"}, "5", "text that matches [a-z]+"),
        ({"type": "string", "nullable": True}, 5, "text, or nothing"),
        ({"type": "boolean"}, "yes", "true or false"),
        ({"anyof": [{"type": "integer"}, {"type": "string", "allowed": ["auto"]}]}, "x", "an integer or one of: auto"),
        ({"type": "size", "min": 1024, "max": 2**20}, 5, "a size such as 512MiB from 1KiB to 1MiB"),
        ({"type": "list", "schema": {"type": "integer"}}, ["x"], "an integer"),
        ({"type": "dict", "valuesrules": {"type": "integer"}}, {"k": "x"}, "an integer"),
        ({"type": "dict", "keysrules": {"regex": "[a-z]+"}}, {"5": 1}, "a value that matches [a-z]+"),
    ],
)
def test_a_rule_is_said_in_words(rule, value, expected):
    assert finding({"a": rule}, {"a": value}).expected == expected


def test_an_unknown_key_names_the_nearest_in_its_own_mapping():
    rules = {"outer": {"type": "dict", "schema": {"width": {}, "height": {}}}, "heigth": {}}
    found = finding(rules, {"outer": {"heigth": 1}})
    assert found.where == ("outer", "heigth")
    assert found.at_key
    assert found.expected == "one of: width, height"
    assert found.near == ("heigth", ["width", "height"])


def test_what_a_check_function_says_is_passed_on():
    def even(field, value, error):
        if value % 2:
            error(field, "an even number")

    assert finding({"a": {"check_with": even}}, {"a": 3}).expected == "an even number"


def test_every_kind_of_cerberus_rule_ends_in_words():
    rules = {
        "a": {"dependencies": "b"},
        "c": {"excludes": "d"},
        "d": {},
        "b": {},
        "e": {"forbidden": [1]},
        "f": {"contains": [2]},
        "g": {"coerce": int},
        "h": {"readonly": True},
        "i": {"noneof": [{"type": "string"}]},
        "j": {"allof": [{"min": 1}, {"max": 0}]},
    }
    found = findings(rules, {"a": 1, "c": 1, "d": 1, "e": 1, "f": [1], "g": "x", "h": 1, "i": "x", "j": 5})
    assert {item.where[0] for item in found} >= {"a", "e", "f", "g", "h", "i", "j"}
    assert all(item.found and item.expected for item in found)


def test_a_schema_that_is_none_is_refused_when_it_is_compiled():
    with pytest.raises(cerberus.SchemaError):
        Checker({"a": {"type": "speed"}})


RESTART = {"type": ["string", "dict"], "words": ["never", "always"], "schema": {"max": {"type": "integer"}}}


def test_a_value_that_is_a_word_or_a_mapping_is_judged_by_what_it_is():
    assert findings({"a": RESTART}, {"a": "never"}) == findings({"a": RESTART}, {"a": {"max": 1}}) == []
    found = finding({"a": RESTART}, {"a": "allways"})
    assert (found.where, found.expected) == (("a",), "one of: never, always or a mapping")
    assert found.near[0] == "allways"
    inside = finding({"a": RESTART}, {"a": {"max": "x"}})
    assert (inside.where, inside.expected) == (("a", "max"), "an integer")
    assert finding({"a": RESTART}, {"a": 5}).expected == "one of: never, always or a mapping"


def test_the_schema_of_the_spec_is_valid():
    # It says of itself that it is proven: here.
    for rules in (spec_rules.TOP, spec_rules.INCLUDE, spec_rules.SUBGRAPH):
        Checker(rules)
