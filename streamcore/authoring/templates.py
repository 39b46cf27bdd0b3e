"""The files of a new package, as string.Template. Written for someone who has never seen a node: each shows one thing that nodes do."""

PYPROJECT = """\
[build-system]
requires = ["setuptools>=68"]
build-backend = "setuptools.build_meta"

[project]
name = "$distribution"
version = "0.1.0"
description = "The plugin $plugin for streamcore"
readme = "README.md"
requires-python = ">=3.10"
dependencies = ["numpy", "streamcore>=$version"]

[project.optional-dependencies]
test = ["pytest"]

# The name that specs use, and the class behind it.
[project.entry-points."$group"]
"$plugin" = "$module.node:$cls"

[tool.setuptools]
packages = ["$module"]

[tool.pytest.ini_options]
testpaths = ["tests"]
"""

README = """\
# $distribution

The plugin `$plugin` for streamcore pipelines: a $kind, in `$module/node.py`.

```sh
pip install -e .                      # without a network: pip install --no-build-isolation -e .
pytest
streamctl up $spec --for 3s
```

`streamctl node describe $plugin` shows its ports and config, `streamctl node check $plugin` whether it keeps the contract of a node.
"""

INIT = '''\
"""The plugin $plugin for streamcore."""
'''

_NODE = '''\
"""$plugin: make frames brighter or darker."""

from __future__ import annotations

import numpy as np
from streamcore import Node, Port, StreamPacket, array


class $cls(Node):
    """Multiply each frame by `gain`.

    The first line of this text is what `streamctl node list` shows, the whole is in `streamctl node describe $plugin`.
    """

    inputs = {"in": Port("frame", array("uint8", ndim=3), doc="BGR frames")}
    outputs = {"out": Port("frame", array("uint8", ndim=3), doc="frames of the same size")}
    config = {"gain": {"type": "float", "min": 0, "max": 8, "default": 1.5, "meta": {"doc": "factor; 1 changes nothing"}}}

    def setup(self) -> None:
        """Called once, before the first packet: what is slow belongs here. What `process` looks up is made once."""
        self.table = np.clip(np.arange(256) * self.config["gain"], 0, 255).astype(np.uint8)

    def process(self, packet: StreamPacket) -> StreamPacket:
        """Called for each packet. An exception fails this packet and not the node."""
        frame = packet.payload  # a read-only view of the producer's memory
        if self.config["gain"] == 1:
            return packet.derive(payload=frame)  # passed on by reference: no pixel is copied
        out = self.loan("out", frame.shape, frame.dtype)  # a slot of this node's own memory, written in place
        np.take(self.table, frame, out=out)
        return packet.derive(payload=out)
'''

_SOURCE = '''\
"""$plugin: make frames out of nothing."""

from __future__ import annotations

import time
from collections.abc import Iterator
from itertools import count

from streamcore import Port, Source, StreamPacket, array

WIDTH, HEIGHT = 320, 240


class $cls(Source):
    """Emit grey frames in which a white bar moves from left to right, at `fps`.

    The first line of this text is what `streamctl node list` shows, the whole is in `streamctl node describe $plugin`.
    """

    outputs = {"out": Port("frame", array("uint8", ndim=3), doc="BGR frames of 320 x 240")}
    config = {
        "fps": {"type": "float", "min": 0.1, "max": 1000, "default": 25, "meta": {"doc": "frames per second"}},
        "frames": {"type": "integer", "min": 0, "default": 0, "meta": {"doc": "how many; 0 never ends"}},
    }

    def run(self) -> Iterator[StreamPacket]:
        """Yield packets until the stream ends, or until the run is asked to end: then wait_until returns False."""
        # After a crash a new process goes on behind what is known to have arrived; a camera, which cannot, leaves `position` out.
        first = 0 if self.resume_position is None else self.resume_position + 1
        began_ns = time.monotonic_ns()
        for number in count(first):
            if self.config["frames"] and number >= self.config["frames"]:
                return
            if not self.wait_until(began_ns + round((number - first) * 1e9 / self.config["fps"])):
                return
            frame = self.loan("out", (HEIGHT, WIDTH, 3))  # a slot of this node's own memory, written in place
            frame[:] = 64  # all of it: it still holds an earlier frame
            frame[:, number % WIDTH : number % WIDTH + 8] = 255
            yield StreamPacket.new(
                kind="frame",
                source_id=self.id,
                payload=frame,
                meta={"frame": number, "fps": self.config["fps"]},
                position=number,
            )
'''

_SINK = '''\
"""$plugin: tell how bright frames are."""

from __future__ import annotations

from streamcore import Port, Sink, StreamPacket, array


class $cls(Sink):
    """Log the mean brightness of the frames, once for every `every` of them.

    The first line of this text is what `streamctl node list` shows, the whole is in `streamctl node describe $plugin`.
    """

    inputs = {"in": Port("frame", array("uint8", ndim=3), doc="BGR frames")}
    config = {"every": {"type": "integer", "min": 1, "default": 30, "meta": {"doc": "log each n-th frame"}}}

    def setup(self) -> None:
        """Called once, before the first packet: what is slow belongs here."""
        self.frames = 0
        self.brightness = self.metrics.gauge("brightness")  # shown by `streamctl ps --json` and in the report

    def process(self, packet: StreamPacket) -> None:
        """Called for each packet. An exception fails this packet and not the node."""
        mean = float(packet.payload.mean())  # a read-only view of the producer's memory
        self.brightness.set(mean)
        if self.frames % self.config["every"] == 0:
            self.log.info("frame %d: brightness %.1f", self.frames, mean)
        self.frames += 1

    def close(self) -> None:
        """Called once, at the end."""
        self.log.info("%d frames", self.frames)
'''

NODE = {"node": _NODE, "source": _SOURCE, "sink": _SINK}

TEST_HEAD = '''\
"""Tests of $plugin: what it does, and that it keeps the contract of a node."""

from __future__ import annotations

import subprocess
import sys

'''

_TEST_FRAME = """\
import numpy as np
from streamcore import StreamPacket
from streamcore.testing import run_node

from $module.node import $cls


def frame(brightness: int) -> StreamPacket:
    return StreamPacket.new(kind="frame", source_id="test", payload=np.full((4, 6, 3), brightness, np.uint8))

"""

TEST = {
    "node": _TEST_FRAME
    + """
def test_frames_become_brighter_and_stay_within_a_byte() -> None:
    out = run_node($cls, [frame(100), frame(250)], {"gain": 2})
    assert [int(packet.payload.max()) for packet in out] == [200, 255]


def test_a_gain_of_1_passes_the_frame_on() -> None:
    given = frame(100)
    (out,) = run_node($cls, [given], {"gain": 1})
    assert np.shares_memory(out.payload, given.payload)
""",
    "source": """\
from streamcore.testing import run_node

from $module.node import $cls


def test_it_gives_as_many_frames_as_it_is_told() -> None:
    out = run_node($cls, config={"frames": 3})
    assert [packet.position for packet in out] == [0, 1, 2]
    assert out[0].payload.shape == (240, 320, 3)


def test_it_goes_on_behind_what_had_arrived() -> None:
    out = run_node($cls, config={"frames": 5}, resume_position=2)
    assert [packet.position for packet in out] == [3, 4]
""",
    "sink": _TEST_FRAME
    + """
def test_it_tells_the_brightness_of_the_last_frame() -> None:
    out = run_node($cls, [frame(100), frame(50)])
    assert out == []
    assert out.metrics["brightness"] == 50
""",
}

TEST_TAIL = """

def test_it_keeps_the_contract_of_a_node() -> None:
    command = [sys.executable, "-m", "streamcore", "node", "check", "$plugin"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stdout + done.stderr
"""

_SPEC_HEAD = """\
# Runs $plugin. What it prints and logs is shown by `streamctl logs` from another terminal.
#
#   streamctl validate $spec
#   streamctl up $spec --for 3s
version: 2
name: $run
nodes:
"""

SPEC = {
    "node": _SPEC_HEAD
    + """\
  - {id: frames_in, plugin: synthetic.frames, config: {width: 640, height: 480, rate: 30}}
  - {id: $run, plugin: $plugin, config: {gain: 1.5}}
  - {id: packets_out, plugin: debug.print, config: {every: 30}}
edges:
  - {from: frames_in, to: $run}
  - {from: $run, to: packets_out}
""",
    "source": _SPEC_HEAD
    + """\
  - {id: $run, plugin: $plugin, config: {fps: 30}}
  - {id: packets_out, plugin: debug.print, config: {every: 30}}
edges:
  - {from: $run, to: packets_out}
""",
    "sink": _SPEC_HEAD
    + """\
  - {id: frames_in, plugin: synthetic.frames, config: {width: 640, height: 480, rate: 30}}
  - {id: $run, plugin: $plugin, config: {every: 30}}
edges:
  - {from: frames_in, to: $run}
""",
}
