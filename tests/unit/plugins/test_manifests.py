"""From names to manifests, through child processes: nothing of a plugin runs here, and nothing that a plugin does harms who asks."""

from __future__ import annotations

import os
import signal
import sys
import time

import psutil
import pytest
from boxes import wait_until

from streamcore.errors import PluginError, ReaderError
from streamcore.manifest import Manifest
from streamcore.plugins import PluginRefused, manifests, reading
from streamcore.plugins.cache import Cache
from streamcore.plugins.manifests import Asked, Found, find
from streamcore.plugins.policy import Machine, Policy, Rule, asked

GOOD = """
from streamcore import Node, Port, Sink, Source
class Camera(Source):
    outputs = {"out": Port("frame")}
    config = {"rate": {"type": "integer", "min": 1, "default": 5}}
    def run(self):
        yield from ()
"""
SOON_S, EVER_S = 2.0, 60.0


def ask(*plugins: str | Asked, allow=("sp_mine", "sp_bad"), cache: Cache | None = None, deadline_s: float = EVER_S) -> Found:
    wanted = [plugin if isinstance(plugin, Asked) else Asked(plugin) for plugin in plugins]
    return find(wanted, Policy(asked(allow, None, {})), cache or Cache(""), deadline_s)


def refusal(plugin: str, **more) -> PluginRefused:
    found = ask(plugin, **more).manifests[plugin]
    assert isinstance(found, PluginRefused)
    assert "\n" not in str(found)
    return found


@pytest.fixture(autouse=True)
def nothing_is_left():
    before = psutil.Process().children()  # e.g. the tracker of shared memory that another test has used
    yield
    assert [child for child in psutil.Process().children() if child not in before] == []


@pytest.fixture
def no_child(monkeypatch):
    """From now on a child process is a failure."""

    def use() -> None:
        monkeypatch.setattr(manifests, "read", lambda *args: pytest.fail("a process was started"))

    return use


def test_a_plugin_is_read_in_another_process(package, tmp_path):
    package("sp_mine", f"import os\nfrom pathlib import Path\nPath({str(tmp_path / 'who')!r}).write_text(str(os.getpid()))\n" + GOOD)
    found = ask("sp_mine:Camera").manifests["sp_mine:Camera"]
    assert isinstance(found, Manifest)
    assert (found.name, found.target, found.role) == ("sp_mine:Camera", "sp_mine:Camera", "source")
    assert int((tmp_path / "who").read_text()) != os.getpid()
    assert "sp_mine" not in sys.modules


def test_what_the_policy_refuses_is_imported_nowhere(package, installed, tmp_path, no_child):
    package("sp_mine", f"from pathlib import Path\nPath({str(tmp_path / 'ran')!r}).touch()\n" + GOOD)
    installed("sp_mine", test__camera="sp_mine:Camera")
    no_child()
    assert isinstance(ask("sp_mine:Camera", allow=()).manifests["sp_mine:Camera"], PluginRefused)
    denied = Policy(machine=Machine(deny=(Rule("sp_mine", "policy.yaml:1"),)))
    assert isinstance(find([Asked("test.camera")], denied, Cache("")).manifests["test.camera"], PluginRefused)
    assert not (tmp_path / "ran").exists()


def test_a_class_defined_elsewhere_needs_leave_for_elsewhere(package):
    package("sp_other", GOOD)
    package("sp_mine", "from sp_other import Camera")
    assert "defined in 'sp_other'" in refusal("sp_mine:Camera").found
    assert isinstance(ask("sp_mine:Camera", allow=("sp_mine", "sp_other")).manifests["sp_mine:Camera"], Manifest)


def test_two_names_of_one_class_are_read_once_and_keep_their_names(package, installed):
    package("sp_mine", GOOD)
    installed("sp_mine", test__camera="sp_mine:Camera")
    found = ask("test.camera", "sp_mine:Camera", "test.camera").manifests
    assert {name: manifest.name for name, manifest in found.items()} == {name: name for name in ("test.camera", "sp_mine:Camera")}


# --- hostile plugins

BAD = [
    ("raise ValueError('two\\nlines')", "an import that fails: ValueError: two lines"),
    ("import sys; sys.exit(3)", "an import that fails: SystemExit: 3"),
    ("raise KeyboardInterrupt", "KeyboardInterrupt"),
    ("import os; os._exit(7)", "an import that ends its process (exit status 7)"),
    ("import os; os._exit(0)", "an import that ends its process (exit status 0)"),
    ("import os, signal; os.kill(os.getpid(), signal.SIGSEGV)", "an import that ends its process (SIGSEGV)"),
    ("import os, signal; os.kill(0, signal.SIGKILL)", "an import that ends its process (SIGKILL)"),
    ("import os; os.closerange(3, 100); os._exit(5)", "an import that ends its process (exit status 5)"),
    ("import sys\nwhile True: sys.stdout.write('x' * 100_000)", f"an import that does not end within {SOON_S:g} s"),
    ("import time\nwhile True: time.sleep(1)", f"an import that does not end within {SOON_S:g} s"),
    (
        "import os\nfor fd in map(int, os.listdir('/proc/self/fd')):\n    try: os.write(fd, b'}{ no answer\\n')\n    except OSError: pass",
        "writes into the channel",
    ),
]


@pytest.mark.parametrize(("text", "found"), BAD, ids=[text.partition("\n")[0] for text, _ in BAD])
def test_what_a_plugin_does_is_its_own_problem_and_the_others_are_read(package, text, found):
    package("sp_bad", text)
    package("sp_mine", GOOD)
    both = ask("sp_bad:Camera", "sp_mine:Camera", deadline_s=SOON_S if "within" in found else EVER_S).manifests
    assert isinstance(both["sp_mine:Camera"], Manifest)
    assert isinstance(both["sp_bad:Camera"], PluginRefused)
    assert found in both["sp_bad:Camera"].found


def test_a_plugin_is_not_blamed_for_what_an_earlier_one_left_behind(package):
    # The thread of the first would be found guilty of killing whatever is imported next.
    package("sp_bad", GOOD + "\nimport os, threading\nthreading.Timer(0.1, os._exit, [6]).start()\n")
    package("sp_mine", "import time\ntime.sleep(0.5)\n" + GOOD)
    assert all(isinstance(found, Manifest) for found in ask("sp_bad:Camera", "sp_mine:Camera").manifests.values())


def test_an_answer_that_was_not_asked_for_is_not_taken(package):
    text = (
        "import os\nfor fd in map(int, os.listdir('/proc/self/fd')):\n    try: os.write(fd, b'{\"job\": 1}\\n')\n    except OSError: pass\n"
    )
    package("sp_bad", text + GOOD)
    assert "writes into the channel" in refusal("sp_bad:Camera").found


def test_the_last_words_of_a_process_that_died_are_told(package):
    package("sp_bad", "import os, sys\nprint('loading model')\nprint('no such device', file=sys.stderr, flush=True)\nos._exit(1)")
    assert refusal("sp_bad:Camera").hint == "it said last: no such device"


def test_what_a_plugin_prints_harms_nothing(package, capfd):
    package("sp_mine", "print('{}' * 100_000, flush=True)\n" + GOOD)
    assert isinstance(ask("sp_mine:Camera").manifests["sp_mine:Camera"], Manifest)
    assert capfd.readouterr() == ("", "")


def test_a_declaration_beyond_all_bounds_is_refused(package, monkeypatch):
    monkeypatch.setattr("streamcore.limits.MANIFEST_BYTES_MAX", 1 << 20)
    package("sp_bad", GOOD.replace('"default": 5', '"meta": "x" * 100_000_000'))
    assert "declares more than 1 MiB" in refusal("sp_bad:Camera").found


def test_a_declaration_that_is_no_data_is_refused(package):
    package("sp_bad", "from streamcore.packet import Array\n" + GOOD.replace('Port("frame")', 'Port("frame", Array(dtype=5))'))
    assert "a class that cannot be read: ValidationError" in refusal("sp_bad:Camera").found


def test_processes_that_an_import_started_and_their_group_end_with_it(package, tmp_path):
    pids = tmp_path / "pids"
    text = f"import subprocess\nfrom pathlib import Path\nPath({str(pids)!r}).write_text(str(subprocess.Popen(['sleep', '600']).pid))\n"
    package("sp_mine", text + GOOD)
    assert isinstance(ask("sp_mine:Camera").manifests["sp_mine:Camera"], Manifest)
    wait_until("the sleep to be gone", lambda: not psutil.pid_exists(int(pids.read_text())))


def test_a_plugin_that_forks_answers_once(package):
    package("sp_mine", "import os\nos.fork()\n" + GOOD)
    assert isinstance(ask("sp_mine:Camera").manifests["sp_mine:Camera"], Manifest)


def test_many_that_end_their_process_are_given_up(package, monkeypatch):
    monkeypatch.setattr(reading, "BAD_MAX", 2)
    for number in range(4):
        package(f"sp_bad.m{number}", "import os; os._exit(1)")
    found = list(ask(*(f"sp_bad.m{number}:Camera" for number in range(4))).manifests.values())
    assert ["ends its process" in str(error) for error in found] == [True, True, False, False]
    assert all(isinstance(error, PluginError) for error in found)


def test_a_child_that_does_not_start_is_the_boxs_fault():
    with pytest.raises(ReaderError, match="exit status 1"):
        reading.read([reading.Job("a", "a:A")], EVER_S, (sys.executable, "-c", "raise SystemExit('no memory')"))
    with pytest.raises(ReaderError, match="No such file"):
        reading.read([reading.Job("a", "a:A")], EVER_S, ("/nothing/here",))


def test_the_child_dies_with_whoever_asked(package, tmp_path):
    # kill -9 leaves no time to tidy up.
    package("sp_bad", f"import os, time\nopen({str(tmp_path / 'pid')!r}, 'w').write(str(os.getpid()) + '.')\ntime.sleep(600)")
    code = "from streamcore.plugins.reading import *; read([Job('a', 'sp_bad:Camera')])"
    pid = os.posix_spawn(sys.executable, [sys.executable, "-c", code], os.environ)
    told = tmp_path / "pid"
    wait_until("the plugin to be imported", lambda: told.exists() and told.read_text().endswith("."))
    child = int(told.read_text()[:-1])
    assert child != pid
    os.kill(pid, signal.SIGKILL)
    os.waitpid(pid, 0)
    wait_until("the child to be gone", lambda: not psutil.pid_exists(child) or psutil.Process(child).status() == "zombie")


# --- configs that only the plugin's own code can check

CODED = """
import os, time
from streamcore import Port, Source
def judge(field, value, error):
    if value == "die": os._exit(9)
    if value == "hang": time.sleep(600)
    if value == "raise": raise RuntimeError("cannot judge")
    if value == "exit": raise SystemExit(3)
    if value != "good": error(field, f"{value} is not good")
class Camera(Source):
    outputs = {"out": Port("frame")}
    config = {"word": {"check_with": judge}, "count": {"coerce": lambda value: value * 2, "default": 4}}
    def run(self):
        yield from ()
"""


def test_a_config_is_checked_where_the_code_is_and_each_answer_is_its_own(package):
    package("sp_mine", CODED)
    words = ["good", "poor", "die", "raise", "hang", "good", "exit"]
    found = ask(*(Asked("sp_mine:Camera", {"word": word}) for word in words), deadline_s=SOON_S)
    assert found.manifests["sp_mine:Camera"].has_code
    assert found.checked[0].config == {"word": "good", "count": 8}
    assert [(row.where, row.found, row.expected) for row in found.checked[1].findings] == [(("word",), "'poor'", "poor is not good")]
    assert found.checked[2].fault == "a config check that ends its process (exit status 9)"
    assert "RuntimeError: cannot judge" in found.checked[3].fault
    assert found.checked[4].fault == f"a config check that does not end within {SOON_S:g} s"
    assert found.checked[5] == found.checked[0]
    assert found.checked[6].fault == "a config schema that fails: SystemExit: 3"


def test_a_config_that_json_cannot_carry_is_told(package):
    package("sp_mine", CODED)
    assert ask(Asked("sp_mine:Camera", {"word": {1}})).checked[0].findings[0].found == "something that JSON cannot carry"


# --- with a cache


def test_a_second_time_nothing_is_started(package, cache, folder, no_child):
    package("sp_mine", GOOD)
    first = ask("sp_mine:Camera", cache=cache)
    no_child()
    assert ask("sp_mine:Camera", cache=Cache(str(folder))) == first


def test_a_change_of_the_plugin_or_of_what_it_imports_of_its_package_is_seen(package, folder):
    helper = package("sp_mine.numbers", "RATE = 5")
    package("sp_mine.cams", GOOD.replace('"default": 5', '"default": RATE') + "").write_text(
        "from sp_mine.numbers import RATE\n" + GOOD.replace('"default": 5', '"default": RATE')
    )

    def rate() -> int:
        return ask("sp_mine.cams:Camera", cache=Cache(str(folder))).manifests["sp_mine.cams:Camera"].config["rate"]["default"]

    assert rate() == 5
    helper.write_text("RATE = 60")
    assert rate() == 60


def test_failures_are_not_kept(package, cache, folder):
    module = package("sp_mine", "raise ValueError")
    assert isinstance(ask("sp_mine:Camera", cache=cache).manifests["sp_mine:Camera"], PluginRefused)
    module.write_text(GOOD)
    assert isinstance(ask("sp_mine:Camera", cache=Cache(str(folder))).manifests["sp_mine:Camera"], Manifest)


def test_what_was_kept_needs_leave_like_anything_else(package, cache, folder):
    package("sp_other", GOOD)
    package("sp_mine", "from sp_other import Camera")
    assert isinstance(ask("sp_mine:Camera", allow=("sp_mine", "sp_other"), cache=cache).manifests["sp_mine:Camera"], Manifest)
    assert "defined in 'sp_other'" in refusal("sp_mine:Camera", cache=Cache(str(folder))).found


def test_no_code_runs_of_a_class_that_is_known_to_be_defined_where_none_may_be(package, cache, folder, no_child):
    package("sp_other", CODED)
    package("sp_mine", "from sp_other import Camera")
    wanted = Asked("sp_mine:Camera", {"word": "good"})
    assert ask(wanted, allow=("sp_mine", "sp_other"), cache=cache).checked[0].config
    no_child()
    found = ask(wanted, cache=Cache(str(folder)))
    assert isinstance(found.manifests["sp_mine:Camera"], PluginRefused)
    assert not found.checked


def test_code_is_asked_again_though_the_manifest_is_kept(package, cache, folder):
    package("sp_mine", CODED)
    ask(Asked("sp_mine:Camera", {"word": "good"}), cache=cache)
    again = ask(Asked("sp_mine:Camera", {"word": "poor"}), cache=Cache(str(folder)))
    assert again.checked[0].findings


def test_a_file_written_while_it_was_read_is_not_vouched_for(package, cache, folder):
    module = package("sp_mine", GOOD)
    later = time.time() + 1000
    os.utime(module, (later, later))
    ask("sp_mine:Camera", cache=cache)
    assert not folder.exists()
