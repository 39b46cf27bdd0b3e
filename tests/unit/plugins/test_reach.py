"""Which files a plugin runs, read from import statements."""

from __future__ import annotations

import pytest

from streamcore.plugins.reach import Reach


@pytest.fixture
def reached(package):
    """Writes the modules of a package sp_r and says which of them one of them runs."""

    def ask(module: str, **texts: str) -> set[str]:
        names = {"__init__": "", **texts}
        files = {str(package(f"sp_r.{name.replace('__in__', '.')}", text)): name.replace("__in__", ".") for name, text in names.items()}
        return {files[path] for path in Reach(files).of(f"sp_r.{module}")}

    return ask


@pytest.mark.parametrize(
    "statement",
    [
        "import sp_r.b",
        "from sp_r.b import x",
        "from sp_r import b",
        "from . import b",
        "from .b import x",
        "def f():\n    from .b import x",
    ],
)
def test_every_form_of_import_leads_to_its_file(reached, statement):
    assert reached("a", a=statement, b="x = 1", c="") == {"__init__", "a", "b"}


def test_it_follows_imports_and_those_of_the_packages_above(reached):
    assert reached("a", a="from . import b", b="import numpy, os, sp_r.c as c", c="from .a import x", d="") == {"__init__", "a", "b", "c"}
    assert reached("a", __init__="from .d import x", a="", d="x = 1") == {"__init__", "a", "d"}


def test_relative_imports_count_from_where_they_stand(reached):
    assert reached("in.a", in__in____init__="", in__in__a="from ..b import x", b="") >= {"in.a", "in.__init__", "b"}
    assert reached("in", in__in____init__="from .a import x", in__in__a="") >= {"in.__init__", "in.a"}


def test_what_cannot_be_read_as_python_imports_nothing(reached):
    assert reached("a", a="from . import (", b="") == {"__init__", "a"}
    assert reached("missing", a="") == set()
