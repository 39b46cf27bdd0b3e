"""No secret in an incident file: by name, in URLs, in log lines."""

from __future__ import annotations

import pytest

from streamcore.supervisor.masking import MASK, mask, mask_environment, mask_text

SECRET = "hunter2xyz"


@pytest.mark.parametrize(
    "name",
    [
        "OTEL_EXPORTER_OTLP_HEADERS",
        "OTEL_EXPORTER_OTLP_TRACES_HEADERS",
        "API_KEY",
        "AWS_SECRET_ACCESS_KEY",
        "GITHUB_TOKEN",
        "DB_PASSWORD",
        "PGPASSWORD",
        "MYSQL_PWD",
        "smtp_pass",
        "Authorization",
        "MyToken",
    ],
)
def test_a_secret_name_hides_its_value(name):
    assert mask_environment({name: SECRET}) == {name: MASK}
    assert SECRET not in str(mask({"a": [{name: SECRET}]}))
    assert SECRET not in str(mask({name: {"inner": SECRET}}))


@pytest.mark.parametrize("name", ["PATH", "PWD", "HOME", "LANG", "STREAMCORE_PROCESS", "PYTHONPATH"])
def test_what_one_needs_to_know_stays(name):
    assert mask_environment({name: "/usr/bin"}) == {name: "/usr/bin"}


@pytest.mark.parametrize(
    "text",
    [
        f"rtsp://admin:{SECRET}@10.0.0.7:554/h264",
        f"rtsp://{SECRET}@10.0.0.7/",
        f"opening postgres://app:{SECRET}@db/events failed",
        f"rtsp://admin:p@ss@{SECRET}@10.0.0.7/",
        f"GET /a?token={SECRET}&x=1",
        f"password: {SECRET}",
        f'{{"api_key": "{SECRET}"}}',
        f"Authorization: Bearer {SECRET}",
        f"access_token='{SECRET}'",
    ],
)
def test_a_credential_in_a_text_is_masked_and_the_rest_stays(text):
    masked = mask_text(text)
    assert SECRET not in masked
    assert MASK in masked
    for part in ("10.0.0.7", "db/events failed", "&x=1"):
        assert part not in text or part in masked


@pytest.mark.parametrize(
    "text",
    ["http://example.org/a@b", "mail to a@example.org", 'File "/x/token.py", line 3 in read', "key frame 12 of 30", "a: 5, b = 6", ""],
)
def test_an_innocent_text_stays_as_it_is(text):
    assert mask_text(text) == text


def test_numbers_are_no_secrets_whatever_they_are_called():
    value = {"keyframe": True, "tokens": 5, "passes": None, "monkey": ""}
    assert mask(value) == value


def test_masking_a_long_line_takes_no_time():
    # A node may print anything; an expression that backtracks would stop the coordinator.
    for start, again in (("a://", "x"), ("", "secret"), ("", "token="), ("", "://@"), ("", "bearer "), ("ab://", "@"), ("", "pwd='")):
        mask_text(start + again * (60_000 // len(again)))
