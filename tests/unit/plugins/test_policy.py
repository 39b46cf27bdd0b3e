"""Who may load, decided without importing anything."""

from __future__ import annotations

import sys

import pytest

from streamcore.errors import SpecError
from streamcore.plugins import PluginRefused, naming
from streamcore.plugins.policy import Machine, Policy, Rule, asked, load_machine, wrong_words
from streamcore.spec.loading import parse

KNOWN = {"video.file": ["nice.video:File"], "video.writer": ["nice.video:Writer"], "flow.tee": ["other:Tee"]}


def policy(*packages: str, machine: Machine | None = None) -> Policy:
    return Policy(asked(packages, None, {}), machine or Machine())


def refusal(plugin: str, given: Policy, known=KNOWN) -> PluginRefused:
    with pytest.raises(PluginRefused) as caught:
        given.target_of(plugin, known)
    assert "\n" not in str(caught.value)
    assert repr(plugin)[1:-1][:40] in str(caught.value)
    return caught.value


@pytest.fixture
def machine(tmp_path):
    """Writes a policy file and loads it."""

    def load(text: str) -> Machine:
        (tmp_path / "policy.yaml").write_text(text)
        return load_machine(str(tmp_path / "policy.yaml"))

    return load


def test_a_registered_plugin_needs_no_leave_and_is_not_imported_to_find_it(package, installed):
    package("sp_cams")
    installed("sp_cams", test__camera="sp_cams:Camera")
    assert naming.names()["test.camera"] == "sp_cams:Camera"
    assert policy().target_of("test.camera", naming.registered()) == "sp_cams:Camera"
    assert "sp_cams" not in sys.modules


def test_an_unknown_name_is_answered_with_the_nearest():
    assert refusal("video.fiel", policy()).hint == "did you mean 'video.file'?"


def test_a_name_that_two_packages_register_differently_is_refused(installed):
    installed("sp_one", test__camera="sp_cams:Camera")
    installed("sp_two", test__camera="sp_cams:Camera")
    assert policy().target_of("test.camera", naming.registered())
    installed("sp_three", test__camera="sp_other:Camera")
    assert "several packages" in refusal("test.camera", policy(), naming.registered()).found


@pytest.mark.parametrize("allow", ["sp_mine", "sp_mine.sub", "sp_mine.sub.cams"])
def test_leave_for_a_package_is_leave_for_what_lies_below_it(allow):
    assert policy("other", allow).target_of("sp_mine.sub.cams:Camera", {}) == "sp_mine.sub.cams:Camera"


@pytest.mark.parametrize("allow", ["sp_min", "sp_mine.su", "sp_mine.sub.cams.x", "sp_mine.", "", "*", ".", "sp_mine.*", "other"])
def test_leave_is_given_by_whole_dotted_parts(allow):
    assert "--allow sp_mine" in refusal("sp_mine.sub.cams:Camera", policy(allow)).hint


@pytest.mark.parametrize(
    "plugin",
    [
        "os:system",
        "sp_mine:os.system",
        "sp_mine:__builtins__.exec",
        "sp_mine:__class__",
        "sp_mine:_Camera",
        "sp_mine:Camera\n",
        "sp_mine:Cam-era",
        "sp_mine:",
        ":Camera",
        "sp_mine:Camera:Camera",
        "sp_mine..x:Camera",
        "sp_mine/x:Camera",
        "../sp_mine:Camera",
        "sp_mine.__main__:Camera",
        "__main__:Camera",
        "sp_m\u0456ne:Camera",
        "sp_mine :Camera",
        "",
        " ",
        "video.file\n",
        "Video.File",
        "../../etc/passwd",
        "x" * 10_000,
    ],
)
def test_what_is_no_plugin_name_is_refused_by_its_form(plugin):
    refusal(plugin, policy("sp_mine", "os", "__main__"))


def test_leave_comes_from_option_variable_and_spec_and_a_refusal_names_each():
    spec, _ = parse(b"version: 2\nallow: [one, two]\nnodes: []\n", "door.yaml")
    given = Policy(asked(["three"], spec, {"STREAMCORE_PLUGINS": "four:five,six"}))
    for package in ("one", "two", "three", "four", "five", "six"):
        assert given.target_of(f"{package}.nodes:Camera", {})
    expected = refusal("seven:Camera", given).expected
    assert "three (--allow), four ($STREAMCORE_PLUGINS)" in expected
    assert "one (door.yaml:2)" in expected


def test_words_that_are_no_packages_are_problems_with_their_source():
    problems = wrong_words(["a b", "good"], {"STREAMCORE_PLUGINS": "fine::*"})
    assert [(problem.file, problem.path) for problem in problems] == [("--allow", "a b"), ("$STREAMCORE_PLUGINS", "*")]


# --- the policy of the machine


def test_without_a_policy_file_nothing_is_bounded(tmp_path):
    assert load_machine(str(tmp_path / "none.yaml")) == Machine()
    assert load_machine(str(tmp_path / "no" / "folder.yaml")) == Machine()


def test_its_allow_takes_the_place_of_what_everybody_else_allows(machine, tmp_path):
    given = policy("mine", machine=machine("# who may load\nallow: [acme.nodes]\n"))
    assert given.target_of("acme.nodes.blur:Blur", {})
    assert given.target_of("video.file", KNOWN)
    error = refusal("mine:Camera", given)
    assert error.expected == f"one of the packages that {tmp_path}/policy.yaml:2 allows: acme.nodes"
    assert "--allow" in error.hint
    refusal("acme.nodesx:Blur", given)
    refusal("acme:Blur", given)


def test_an_empty_allow_admits_no_class_by_its_path(machine):
    assert "allows no package" in refusal("mine:Camera", policy("mine", machine=machine("allow: []\n"))).expected


@pytest.mark.parametrize(
    ("registered", "admitted"),
    [
        ("all", {"video.file", "video.writer", "flow.tee"}),
        ("[video.*]", {"video.file", "video.writer"}),
        ("[flow.tee, video.file]", {"flow.tee", "video.file"}),
        ("['*']", {"video.file", "video.writer", "flow.tee"}),
        ("[video]", set()),
        ("[]", set()),
    ],
)
def test_its_registered_bounds_registered_names(machine, tmp_path, registered, admitted):
    given = policy(machine=machine(f"registered: {registered}\n"))
    for name in KNOWN:
        if name in admitted:
            assert given.target_of(name, KNOWN)
        else:
            assert f"{tmp_path}/policy.yaml:1 admits" in refusal(name, given).expected


@pytest.mark.parametrize(
    ("deny", "denied"),
    [
        ("video.file", {"video.file"}),
        ("video.*", {"video.file", "video.writer"}),
        ("nice", {"video.file", "video.writer", "nice.video:File"}),
        ("nice.video", {"video.file", "video.writer", "nice.video:File"}),
        ("nice.v", set()),
        ("acme.*", {"acme.nodes:Blur"}),
        ("acme", {"acme.nodes:Blur"}),
    ],
)
def test_what_it_denies_is_denied_whoever_asks(machine, tmp_path, deny, denied):
    given = policy("nice", "acme", machine=machine(f"deny:\n  - '{deny}'\n"))
    for name in (*KNOWN, "nice.video:File", "acme.nodes:Blur"):
        if name in denied:
            assert refusal(name, given).expected == f"one that {tmp_path}/policy.yaml:2 does not deny: {deny}"
        else:
            assert given.target_of(name, KNOWN)


def test_a_class_defined_elsewhere_needs_leave_for_elsewhere(machine):
    policy("mine", "other").admit_definition("mine:Camera", "other.cams")
    with pytest.raises(PluginRefused, match="defined in 'other.cams'"):
        policy("mine").admit_definition("mine:Camera", "other.cams")
    policy().admit_definition("video.file", "anything")
    with pytest.raises(PluginRefused, match="does not deny: anything"):
        policy(machine=machine("deny: [anything]\n")).admit_definition("video.file", "anything.x")


@pytest.mark.parametrize(
    ("text", "path"),
    [
        ("", "policy"),
        ("- allow\n", "policy"),
        ("alow: [acme]\n", "alow"),
        ("allow: acme\n", "allow"),
        ("allow: ['acme.*']\n", "allow[0]"),
        ("allow: [5]\n", "allow[0]"),
        ("allow:\n", "allow"),
        ("registered: some\n", "registered"),
        ("registered: ['[a-z]*']\n", "registered[0]"),
        ("deny: ['']\n", "deny[0]"),
        ("deny: [a b]\n", "deny[0]"),
        ("allow: [\n", "policy"),
        ("allow: [a]\nallow: [b]\n", "allow"),
        ("a: &x [b]\nallow: *x\n", "allow"),
    ],
)
def test_a_policy_file_that_is_wrong_is_told_with_its_place(machine, tmp_path, text, path):
    with pytest.raises(SpecError) as caught:
        machine(text)
    assert [problem.file for problem in caught.value.problems] == [f"{tmp_path}/policy.yaml"] * len(caught.value.problems)
    assert path in [problem.path for problem in caught.value.problems]


def test_an_empty_policy_file_is_told_what_a_policy_is(machine):
    # It may have been cut when the disk was full: taken for no policy it would open what it closed.
    with pytest.raises(SpecError) as caught:
        machine("# nothing\n")
    assert caught.value.problems[0].expected == "a mapping with allow, registered, deny"


def test_a_policy_file_that_cannot_be_read_refuses(tmp_path):
    for name, make in {"folder": lambda path: path.mkdir(), "link": lambda path: path.symlink_to(tmp_path / "gone")}.items():
        make(tmp_path / name)
        with pytest.raises(SpecError) as caught:
            load_machine(str(tmp_path / name))
        assert caught.value.problems[0].expected == "a policy file that can be read"


def test_rules_know_who_wrote_them(machine, tmp_path):
    found = machine("deny:\n  - a\n\n  - b\n")
    assert found.deny == (Rule("a", f"{tmp_path}/policy.yaml:2"), Rule("b", f"{tmp_path}/policy.yaml:4"))
