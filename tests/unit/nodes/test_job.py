"""job.command and job.callable without a run around them: what they start, what they are told, how they end."""

from __future__ import annotations

import json
import os
import sys

import pytest

from streamcore import ConfigError, JobError
from streamcore.testing import run_node
from streamcore_nodes.job import CONFIG_VARIABLE, Call, Command

JOBS = """
import os, sys
seen = []
def main(config, stopping): seen.append((config, stopping.is_set(), os.getcwd(), os.environ.get("TONE")))
def plain(): seen.append("plain")
def anything(**more): seen.append(sorted(more))
def seven(): return 7
def true(): return True
def leave(): sys.exit()
def leave_badly(): sys.exit(4)
def leave_saying(): sys.exit("no disk")
def fail(): raise ValueError("no day")
def needs(day, config): pass
async def later(): pass
value = 3
"""


@pytest.fixture
def jobs(tmp_path, monkeypatch):
    (tmp_path / "unit_jobs.py").write_text(JOBS)
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("TONE", "low")
    import unit_jobs

    yield unit_jobs
    del sys.modules["unit_jobs"]


def sh(script: str, **config):
    return run_node(Command, config={"command": ["sh", "-c", script], **config})


def test_a_command_is_given_its_words_environment_config_and_directory(tmp_path):
    words = ["sh", "-c", 'printf "%s|" "$@" "$LEVEL" "$STREAMCORE_JOB_CONFIG" "$PWD" > out', "sh", "a b", 5, 1.5]
    run_node(Command, config={"command": words, "env": {"LEVEL": 3}, "cwd": str(tmp_path), "config": {"day": "mon", "n": [1]}})
    *rest, config, pwd, _ = (tmp_path / "out").read_text().split("|")
    assert (rest, json.loads(config), pwd) == (["a b", "5", "1.5", "3"], {"day": "mon", "n": [1]}, str(tmp_path))
    assert CONFIG_VARIABLE not in os.environ


@pytest.mark.parametrize(
    ("script", "cause"), [("exit 3", "the command ended with 3"), ("kill -SEGV $$", "the command was killed by SIGSEGV")]
)
def test_a_command_that_ends_badly_is_a_failure_that_says_how(script, cause):
    with pytest.raises(JobError, match=f"^{cause}$"):
        sh(script)


@pytest.mark.parametrize(
    ("config", "said"),
    [
        ({"command": ["./gone"]}, "no such file"),
        ({"command": ["./text"]}, "not an executable file"),
        ({"command": ["sh"], "cwd": "nowhere"}, "no directory"),
        ({"command": ["no-such-tool-of-mine"]}, "in PATH"),
    ],
)
def test_what_cannot_be_started_is_for_the_user_to_mend(config, said, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "text").touch()
    with pytest.raises(ConfigError, match=said):
        run_node(Command, config=config)


def test_a_file_that_the_kernel_refuses_is_named_with_its_reason(tmp_path):
    (tmp_path / "tool").write_bytes(b"\x7fELF nonsense")
    (tmp_path / "tool").chmod(0o755)
    with pytest.raises(JobError, match="cannot be started: Exec format error"):
        run_node(Command, config={"command": ["./tool"], "cwd": str(tmp_path)})


def test_a_relative_program_is_sought_where_the_job_runs(tmp_path):
    (tmp_path / "tool").write_text("#!/bin/sh\npwd > out\n")
    (tmp_path / "tool").chmod(0o755)
    run_node(Command, config={"command": ["./tool"], "cwd": str(tmp_path)})
    assert (tmp_path / "out").read_text().strip() == str(tmp_path)


def call(name: str, **config):
    return run_node(Call, config={"entry": f"unit_jobs:{name}", **config})


def test_a_function_is_given_what_it_has_parameters_for(jobs, tmp_path):
    (tmp_path / "there").mkdir()
    call("main", config={"day": 1}, env={"TONE": 5}, cwd="there")
    os.chdir(tmp_path)
    call("plain")
    call("anything")
    assert jobs.seen == [({"day": 1}, False, str(tmp_path / "there"), "5"), "plain", ["config", "stopping"]]


@pytest.mark.parametrize("name", ["true", "leave", "plain"])
def test_what_is_no_status_is_no_failure(name, jobs):
    call(name)


@pytest.mark.parametrize(
    ("name", "cause"), [("seven", "unit_jobs:seven returned 7"), ("leave_badly", "returned 4"), ("leave_saying", "left with: no disk")]
)
def test_a_status_other_than_0_is_a_failure(name, cause, jobs):
    with pytest.raises(JobError, match=cause):
        call(name)


def test_what_a_function_raises_comes_out(jobs):
    with pytest.raises(ValueError, match="no day"):
        call("fail")


@pytest.mark.parametrize(
    ("name", "config", "said"),
    [
        ("gone", {}, "no 'gone' in 'unit_jobs'"),
        ("value", {}, "a value"),
        ("later", {}, "a coroutine function"),
        ("plain", {"day": 1}, "no parameter `config`"),
        ("needs", {}, "missing a required argument: 'day'"),
    ],
)
def test_what_cannot_be_called_is_for_the_user_to_mend(name, config, said, jobs):
    with pytest.raises(ConfigError, match=said):
        call(name, config=config)


def test_an_import_that_fails_says_why(jobs, tmp_path):
    (tmp_path / "broken_jobs.py").write_text("import no_such_module_of_mine\n")
    with pytest.raises(ConfigError, match="ModuleNotFoundError: No module named 'no_such_module_of_mine'"):
        run_node(Call, config={"entry": "broken_jobs:main"})
