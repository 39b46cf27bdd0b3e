"""Nodes whose ports differ in what they carry: shapes, schemas, transports."""

from __future__ import annotations

from streamcore import Node, Port, Sink, Source, array, json_schema

THING = {"type": "object", "required": ["x"], "properties": {"x": {"type": "number"}}}


class Colour(Source):
    outputs = {"out": Port("frame", array("uint8", shape=(None, None, 3)))}

    def run(self):
        yield from ()


class Wide(Source):
    outputs = {"out": Port("frame", array("uint8", shape=(480, 640, 3)))}

    def run(self):
        yield from ()


class Deep(Source):
    outputs = {"out": Port("frame", array("uint16", shape=(None, None)))}

    def run(self):
        yield from ()


class Things(Source):
    outputs = {"out": Port("thing", json_schema(THING))}

    def run(self):
        yield from ()


class Blob(Source):
    outputs = {"out": Port("blob", "bytes")}

    def run(self):
        yield from ()


class Find(Node):
    inputs = {"in": Port("frame", array("uint8", ndim=3))}
    outputs = {"out": Port("thing", json_schema({**THING, "title": "thing"}))}

    def process(self, packet):
        return None


class _Sink(Sink):
    def process(self, packet):
        return None


class Grey(_Sink):
    inputs = {"in": Port("frame", array("uint8", shape=("H", "W", 1)))}


class Square(_Sink):
    inputs = {"in": Port("frame", array("uint8", shape=("N", "N", None)))}


class Whole(_Sink):
    inputs = {"in": Port("thing", json_schema({**THING, "properties": {"x": {"type": "integer"}}}))}


class JsonFile(_Sink):
    inputs = {"in": Port("any", "json")}


class Store(_Sink):
    inputs = {"in": Port("any", "any", transport="durable")}
    config = {"codec": {"type": "string", "allowed": ["raw", "png", "jpeg"]}}


class Post(_Sink):
    inputs = {"in": Port("any", "any", transport="network")}
