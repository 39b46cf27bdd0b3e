"""A durable store against a dict, some of the runs that tests/store_model.py makes."""

from __future__ import annotations

import pytest
import store_model

from streamcore.durable import opening


@pytest.mark.parametrize("runs", [150, pytest.param(1000, marks=[pytest.mark.slow, pytest.mark.timeout(600)])])
def test_a_store_does_what_a_dict_would_do(monkeypatch, runs):
    monkeypatch.setattr(opening, "examine", opening.examine)  # the machine puts its own in place
    store_model.run(runs)
