"""A durable store against a dict, some of the runs that tests/store_model.py makes."""

from __future__ import annotations

import store_model

from streamcore.durable import opening


def test_a_store_does_what_a_dict_would_do(monkeypatch):
    monkeypatch.setattr(opening, "examine", opening.examine)  # the machine puts its own in place
    store_model.run(150)
