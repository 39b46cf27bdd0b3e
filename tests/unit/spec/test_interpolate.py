"""Params, --set and ${name}."""

from __future__ import annotations

import pytest

from streamcore import limits
from streamcore.spec.loading import parse

SPEC = "version: 2\nparams: {params}\nnodes: [{{id: a, plugin: p.q, config: {{x: {value}}}}}]\n"


def load(params: str, value: str, sets: dict[str, str] | None = None):
    spec, problems = parse(SPEC.format(params=params, value=value).encode(), "a.yaml", sets or {})
    return (spec.nodes[0].config.get("x") if spec else None), problems


def value_of(params: str, value: str, sets: dict[str, str] | None = None):
    found, problems = load(params, value, sets)
    assert problems == [], "\n".join(map(str, problems))
    return found


def problem_of(params: str, value: str, sets: dict[str, str] | None = None):
    _, problems = load(params, value, sets)
    assert len(problems) == 1, "\n".join(map(str, problems))
    return problems[0]


@pytest.mark.parametrize(
    ("default", "value"),
    [
        ("5", 5),
        ("1.5", 1.5),
        ("true", True),
        ("text", "text"),
        ("'5'", "5"),
        ("[1, {a: b}]", [1, {"a": "b"}]),
        ("{k: 1}", {"k": 1}),
        ("", None),
    ],
)
def test_a_string_that_is_only_a_reference_takes_the_params_value_and_type(default, value):
    found = value_of(f"{{p: {default}}}", '"${p}"')
    assert found == value
    assert type(found) is type(value)


@pytest.mark.parametrize(("default", "text"), [("5", "a5b"), ("0.5", "a0.5b"), ("false", "afalseb"), ("x", "axb")])
def test_a_reference_inside_text_becomes_text(default, text):
    assert value_of(f"{{p: {default}}}", '"a${p}b"') == text


def test_references_work_at_any_depth_and_more_than_once():
    assert value_of("{p: 1, q: z}", '{y: [{deep: "${p}"}, "${q}-${p}-${q}"]}') == {"y": [{"deep": 1}, "z-1-z"]}


@pytest.mark.parametrize(
    ("value", "text"), [("'$${p}'", "${p}"), ("'a$${'", "a${"), ("'$$${p}'", "$${p}"), ("'$p $ {p}'", "$p $ {p}"), ("'$${p}${p}'", "${p}5")]
)
def test_a_doubled_dollar_stands_for_itself(value, text):
    assert value_of("{p: 5}", value) == text


def test_keys_are_not_interpolated():
    assert value_of("{p: 5}", '{"${p}": 1}') == {"${p}": 1}


def test_a_params_value_is_not_interpolated_again():
    assert value_of("{p: x}", "'${p}'", {"p": "${p}"}) == "${p}"


@pytest.mark.parametrize(
    ("value", "found"),
    [
        ("'${q}'", "'${q}'"),
        ("'a${}b'", "'${}'"),
        ("'${p'", "that is not closed"),
        ("'${ p }'", "'${ p }'"),
        ("'${env:NO_SUCH_VARIABLE}'", "no environment variable NO_SUCH_VARIABLE"),
        ("'${env:9}'", "'${env:9}'"),
        ("'${env:}'", "'${env:}'"),
    ],
)
def test_a_reference_that_means_nothing_is_a_problem_at_its_place(value, found):
    problem = problem_of("{p: 5}", value)
    assert found in problem.found
    assert (problem.path, problem.line, problem.column) == ("nodes[0].config.x", 3, 42)


def test_an_unknown_param_names_the_nearest():
    assert problem_of("{video: a}", "'${vidoe}'").hint == "did you mean 'video'?"
    assert "$${" in problem_of("{}", "'${vidoe}'").expected


@pytest.mark.parametrize(
    ("default", "given", "value"),
    [
        ("text", "5", "5"),
        ("text", "", ""),
        ("text", "true", "true"),
        ("text", "a: [b", "a: [b"),
        ("5", "7", 7),
        ("5", "0x10", 16),
        ("1.5", "2", 2),
        ("1.5", "2.5", 2.5),
        ("true", "false", False),
        ("", "5", 5),
        ("", "text", "text"),
        ("[1]", "[2, 3]", [2, 3]),
        ("{a: 1}", "{b: x}", {"b": "x"}),
    ],
)
def test_set_gives_a_value_of_the_defaults_type(default, given, value):
    found = value_of(f"{{p: {default}}}", '"${p}"', {"p": given})
    assert found == value
    assert type(found) is type(value)


@pytest.mark.parametrize(
    ("default", "given"),
    [("5", "x"), ("5", "1.5"), ("5", "true"), ("1.5", "fast"), ("true", "yes"), ("true", "1"), ("5", ""), ("[1]", "2"), ("[1]", "[2"),
     ("{a: 1}", "[1]"), ("5", "9" * 50), ("", ".nan"), ("[1]", "[&a 1, *a]"), ("[1]", "[!!int '1']"), ("text", "\udcff")],
)  # fmt: skip
def test_set_of_another_type_is_a_problem_of_the_command_line(default, given):
    problem = problem_of(f"{{p: {default}}}", '"${p}"', {"p": given})
    assert (problem.file, problem.line, problem.path) == ("--set", 0, "p")
    str(problem).encode()


def test_set_of_an_unknown_param_names_the_nearest():
    problem = problem_of("{video: a}", "1", {"vidoe": "b"})
    assert (problem.file, problem.path, problem.hint) == ("--set", "vidoe", "did you mean 'video'?")
    assert "no params" in problem_of("{}", "1", {"vidoe": "b"}).expected


@pytest.mark.parametrize(
    ("kind", "given", "value"),
    [
        ("string", "5", "5"),
        ("integer", "5", 5),
        ("number", "5", 5),
        ("number", "5.5", 5.5),
        ("boolean", "true", True),
        ("list", "[1]", [1]),
    ],
)
def test_a_required_param_is_given_by_set(kind, given, value):
    assert value_of(f"{{p: {{required: true, type: {kind}}}}}", '"${p}"', {"p": given}) == value
    assert problem_of(f"{{p: {{required: true, type: {kind}}}}}", '"${p}"').path == "params.p"


def test_a_required_param_is_text_unless_it_says_otherwise():
    assert value_of("{p: {required: true}}", '"${p}"', {"p": "5"}) == "5"


def test_a_missing_required_param_is_reported_once_not_where_it_is_used():
    _, problems = load("{p: {required: true}}", '"${p}", y: "${p}"')
    assert [p.path for p in problems] == ["params.p"]


@pytest.mark.parametrize("declared", ["{required: false}", "{required: 1}", "{required: true, default: 5}", "{required: true, type: text}"])
def test_a_declaration_of_another_form_is_refused(declared):
    assert problem_of(f"{{p: {declared}}}", "1", {"p": "x"}).path.startswith("params.p")


def test_a_map_without_the_key_required_is_a_plain_default():
    assert value_of("{p: {type: string}}", '"${p}"') == {"type": "string"}


def test_references_in_params_are_refused():
    assert problem_of("{p: {a: ['${q}']}, q: 1}", "1").path == "params.p.a[0]"


@pytest.mark.parametrize("default", ["[1]", "{a: 1}", ""])
def test_only_scalars_can_stand_inside_text(default):
    assert "inside 'a${p}'" in problem_of(f"{{p: {default}}}", '"a${p}"').found


@pytest.mark.parametrize("reference", ['"${p}"', '"${p}${p}"'])
def test_what_params_add_is_bounded(reference):
    # 40,000 references to one long param would make gigabytes of a small file.
    long = "x" * (limits.SPEC_BYTES_MAX // 100)
    _, problems = load(f"{{p: {long}}}", "[" + f"{reference}," * 120 + "]")
    assert problems
    assert all(p.found == "params that make the spec too large" for p in problems)


def test_an_interpolated_value_keeps_its_place_and_says_what_is_written_there():
    spec = "version: 2\nparams: {n: many}\nnodes: [{id: a, plugin: p.q}]\ndrain_s: ${n}\n"
    _, (problem,) = parse(spec.encode())
    assert (problem.path, problem.line, problem.column, problem.found) == ("drain_s", 4, 10, "'many'")
    assert problem.hint == "it is the value of '${n}'"


def test_version_and_params_are_not_interpolated():
    _, problems = parse(b"version: '${v}'\nparams: {v: 2}\nnodes: [{id: a, plugin: p.q}]\n")
    assert [p.path for p in problems] == ["version"]
