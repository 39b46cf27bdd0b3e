"""Secrets: read where they are named, used by who needs them, shown to nobody."""

from __future__ import annotations

import copy
import json
import pickle

import msgspec
import pytest

from streamcore.graph.check import prepare
from streamcore.secret import (
    SECRET_BYTES_MAX,
    Masker,
    Secret,
    SecretRef,
    keep_secrets,
    mask_hook,
    masked,
    reveal_hook,
    revealed,
    secrets_in,
)
from streamcore.spec.loading import read

VALUE = "geheim-4711"


def test_it_comes_from_the_environment_or_from_a_file_without_its_line_end(tmp_path):
    (tmp_path / "token").write_text(f"{VALUE}\n")
    assert SecretRef("env:X").resolve({"X": VALUE}, tmp_path).reveal() == VALUE
    assert SecretRef("file:token").resolve({}, tmp_path).reveal() == VALUE
    assert SecretRef(f"file:{tmp_path}/token").resolve({}, tmp_path / "elsewhere").reveal() == VALUE


@pytest.mark.parametrize(
    ("text", "content", "found"),
    [
        ("env:X", None, "no environment variable X"),
        ("env:EMPTY", None, "an empty EMPTY"),
        ("env:", None, "the secret 'env:'"),
        ("vault:x", None, "a secret that does not say where it is"),
        ("plain", None, "a secret that does not say where it is"),
        ("file:none", None, "none: No such file or directory"),
        ("file:f", b"", "f: empty"),
        ("file:f", b"\xff\xfe", "f: not text in UTF-8"),
        ("file:f", b"x" * (SECRET_BYTES_MAX + 1), f"f: more than {SECRET_BYTES_MAX} bytes"),
        ("file:.", None, ".: Is a directory"),
    ],
)
def test_what_cannot_be_read_is_said_without_the_value(tmp_path, text, content, found):
    if content is not None:
        (tmp_path / "f").write_bytes(content)
    with pytest.raises(LookupError) as caught:
        SecretRef(text).resolve({"EMPTY": ""}, tmp_path)
    assert caught.value.args[0] == found


def test_no_way_of_writing_shows_it():
    secret = Secret(VALUE, "env:X")
    texts = [str(secret), repr(secret), f"{secret}", f"{secret!r:>30}", "%s" % secret, json.dumps({"a": masked([secret])})]  # noqa: UP031
    texts += [json.dumps({"a": secret}, default=str), str(copy.deepcopy({"a": [secret]})), repr({"a": secret})]
    assert not any(VALUE in text for text in texts)
    for write in (json.dumps, msgspec.json.encode, msgspec.to_builtins, pickle.dumps):
        with pytest.raises(TypeError):
            write(secret)
    assert msgspec.to_builtins({"a": secret}, enc_hook=mask_hook) == {"a": "***"}
    assert msgspec.json.decode(msgspec.json.encode({"a": [secret]}, enc_hook=reveal_hook)) == {"a": [VALUE]}


def test_nested_values_keep_their_secrets_through_a_check():
    written = {"a": Secret(VALUE, "env:X"), "b": [1, Secret("two", "env:Y")], "c": {"d": 1}}
    plain = revealed(written)
    assert plain == {"a": VALUE, "b": [1, "two"], "c": {"d": 1}}
    normalised = {**plain, "default": 5}
    kept = keep_secrets(written, normalised)
    assert {secret.source for secret in secrets_in(kept)} == {"env:X", "env:Y"}
    assert revealed(kept) == normalised


def test_the_longest_secret_is_masked_first_and_short_ones_are_left():
    masker = Masker(["abcd", "abcdef", "x", 123456])
    assert masker.mask("abcdef abcd x 123456") == "*** *** x ***"
    assert masker.mask_all({"abcd": ["abcd", 1, {"k": "zabcdz"}]}) == {"abcd": ["***", 1, {"k": "z***z"}]}
    assert not Masker(["abc"])


def spec(tmp_path, monkeypatch, config: str, more: str = ""):
    monkeypatch.setenv("SC_SECRET", VALUE)
    path = tmp_path / "a.yaml"
    path.write_text(
        f"version: 2\n{more}nodes: [{{id: a, plugin: synthetic.frames, config: {config}}}, {{id: k, plugin: debug.null}}]\n"
        "edges: [{from: a, to: k}]\n"
    )
    return path


@pytest.mark.parametrize(
    "config",
    [
        "{width: !secret env:SC_SECRET}",
        '{width: "${p}"}',
        '{width: "a ${p} b"}',
        "{widht: !secret env:SC_SECRET}",
        '{payload: "${p}"}',
        '{"${p}": 1}',
    ],
)
def test_a_problem_never_shows_it(tmp_path, monkeypatch, config):
    path = spec(tmp_path, monkeypatch, config, "params: {p: !secret env:SC_SECRET}\n")
    with pytest.raises(Exception, match="problem") as caught:
        prepare(path)
    assert VALUE not in str(caught.value)


def test_text_with_a_secret_is_one_and_counts_by_its_source(tmp_path, monkeypatch):
    path = spec(tmp_path, monkeypatch, '{url: "rtsp://u:${p}@host"}', "params: {p: !secret env:SC_SECRET}\n")
    first, problems = read(path)
    assert problems == []
    assert first.nodes[0].config["url"].reveal() == f"rtsp://u:{VALUE}@host"
    monkeypatch.setenv("SC_SECRET", "another")
    assert read(path)[0].digest == first.digest


def test_set_gives_a_secret_param_a_value_that_is_secret(tmp_path, monkeypatch):
    path = spec(tmp_path, monkeypatch, '{url: "${p}"}', "params: {p: {required: true, secret: true}}\n")
    found, problems = read(path, {"p": VALUE})
    assert problems == []
    assert isinstance(found.nodes[0].config["url"], Secret)
