"""Nodes of the rig that end their process: before they are ready, or in the middle of it."""

from __future__ import annotations

import sys

from streamcore import ConfigError, Port, Sink, StreamPacket

ANY = Port("any", "any")


class BadSetup(Sink):
    """Fails before it is ready, as `config["how"]` says."""

    inputs = {"in": ANY}

    def setup(self) -> None:
        if self.config["how"] == "config":
            raise ConfigError("no such file: model.onnx")
        raise KeyError("weights")

    def process(self, packet: StreamPacket) -> None:
        raise AssertionError


class Slow(Sink):
    """Gets on with its setup, twice."""

    inputs = {"in": ANY}

    def setup(self) -> None:
        self.still_starting()
        self.still_starting()

    def process(self, packet: StreamPacket) -> None:
        pass


class Quitter(Sink):
    """Leaves as a script would."""

    inputs = {"in": ANY}

    def process(self, packet: StreamPacket) -> None:
        sys.exit(self.config["status"])
