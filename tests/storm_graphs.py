"""Random graphs for storms of faults, drawn by a seed: file and synthetic sources, nodes that forward, cut, turn, scale, copy, keep, batch,
are slow or do harm to themselves, fan-out and fan-in, every policy, witnesses at the ends; and the flows that lead to each witness.
"""

from __future__ import annotations

import json
import random
from dataclasses import dataclass, field
from typing import Any

from boxes import clip
from flows import Content, Flow, Op

CLIPS = ("carphone_pristine.mp4", "bikes.mp4")
SIZES = ((32, 24), (32, 24), (48, 32), (320, 240), (640, 480), (1920, 1080))
LOSSY = ("drop_new", "drop_oldest", "latest", "sample")
MIDDLES_MAX, FLOWS_MAX = 5, 6  # processes on two cores, and ways to one witness
PROGRESS_S = 3.0
RESTARTS = {"max_restarts": 10_000, "window_s": 60, "backoff_s": 0.01, "backoff_max_s": 0.1}
ANYTHING = ("forward", "slow", "keep", "batch", "copy", "tee")
PICTURES = (*ANYTHING, "crop", "crop", "resize", "turn", "loan", "harm", "harm")
HARMS = ("segfault", "exit", "native", "raise", "poison")  # poison: a segmentation fault each time


@dataclass(frozen=True)
class Output:
    """A port that packets come out of, and the flows that lead there. shape: height, width of the smallest picture; None: no pictures."""

    port: str
    flows: tuple[Flow, ...]
    shape: tuple[int, int] | None


@dataclass
class Graph:
    """A drawn graph: its spec, and what has to arrive at each witness. counts: packets of each source, None if it has no end."""

    spec: dict[str, Any]
    counts: dict[str, int | None]
    flows: dict[str, list[Flow]] = field(default_factory=dict)
    poisoned: dict[str, tuple[int, tuple[Flow, ...]]] = field(default_factory=dict)  # node: the frame that kills it, and what comes in
    shapes: set[str] = field(default_factory=set)  # what the graph has, for the statistics
    delivered: bool = False

    def text(self) -> str:
        return json.dumps(self.spec, indent=1) + "\n"

    @property
    def nodes(self) -> list[str]:
        return [node["id"] for node in self.spec["nodes"]]

    def window_into(self, witness: str) -> int:
        """Packets that can be under way to it at most."""
        depths = [edge.get("depth", 64) for edge in self.spec["edges"] if edge["to"] == witness]
        return sum(2 * depth + 16 for depth in depths)


class Drawing:
    """`draw` once."""

    def __init__(self, rng: random.Random, *, endless: bool, seconds: float):
        self._rng, self._endless, self._seconds = rng, endless, seconds
        self._outputs: list[Output] = []
        self._used: set[str] = set()
        self._loses = rng.random() < 0.3
        self._delivered = rng.random() < 0.15
        self._numbers: dict[str, int] = {}
        spec = {"version": 2, "name": "storm", "drain_s": 60, "allow": ["fault_nodes"], "nodes": [], "edges": []}
        self.graph = Graph(spec, {})

    def draw(self) -> Graph:
        for _ in range(self._rng.choice((1, 1, 2, 2, 3))):
            self._source()
        for _ in range(self._rng.randint(1, MIDDLES_MAX)):
            self._middle()
        open_ends = [output for output in self._outputs if output.port not in self._used]
        while open_ends:
            count = self._rng.randint(1, len(open_ends))
            self._witness(open_ends[:count])
            open_ends = open_ends[count:]
        if self._delivered:
            self.graph.delivered = True
            self.graph.shapes.add("completion delivered")
        return self.graph

    def _add(self, what: str, plugin: str, config: dict[str, Any] | None = None, **more: Any) -> str:
        self._numbers[what] = self._numbers.get(what, -1) + 1
        name = f"{what}{self._numbers[what]}"
        self.graph.spec["nodes"].append(
            {"id": name, "plugin": plugin, "config": config or {}, "restart": RESTARTS, "progress_s": PROGRESS_S, **more}
        )
        self.graph.shapes.add(what)
        return name

    def _source(self) -> None:
        rng = self._rng
        kind = rng.choice(("frames", "frames", "frames", "clip", "small"))
        if kind == "clip":
            path = str(clip(rng.choice(CLIPS)))
            name, content = (
                self._add("clip", "video.file", {"path": path, "pace": "none", "loop": self._endless}),
                Content("clip", path=path),
            )
            height, width = content.packet(0).shape[:2]
            shape, count = (height, width), content.count
        elif kind == "small":
            rate, nbytes = rng.choice((0, 500, 2000)), rng.choice((64, 2000, 12_000))
            count = self._count(rate or 2500)
            config = {"payload": "json", "bytes": nbytes, "rate": rate, "count": count, "burst": rng.choice((1, 1, 16))}
            name, content, shape = self._add("small", "synthetic.frames", config), Content("small", nbytes=nbytes), None
        else:
            width, height = rng.choice(SIZES)
            rate = 30 if width > 1000 else rng.choice((0, 100, 300, 1000))
            count = self._count(rate or 1500)
            config = {"width": width, "height": height, "rate": rate, "count": count}
            name, content = self._add("frames", "synthetic.frames", config), Content("frames", width, height)
            shape = (height, width)
        self.graph.counts[name] = None if self._endless else count
        self._outputs.append(Output(name, (Flow(name, content),), shape))

    def _count(self, rate: float) -> int:
        return 0 if self._endless else max(20, round(rate * self._seconds))

    def _inputs(self) -> list[Output]:
        """One output, or two: of what is there so far, one that leads nowhere yet rather than others."""
        rng = self._rng
        fresh = [output for output in self._outputs if output.port not in self._used]
        chosen = [rng.choice(fresh if fresh and rng.random() < 0.7 else self._outputs)]
        if rng.random() < 0.3:
            other = rng.choice(self._outputs)
            if other not in chosen and len(chosen[0].flows) + len(other.flows) <= FLOWS_MAX:
                chosen.append(other)
                self.graph.shapes.add("fan-in")
        return chosen

    def _middle(self) -> None:
        ins = self._inputs()
        shapes = [output.shape for output in ins if output.shape is not None]
        shape = (min(h for h, _ in shapes), min(w for _, w in shapes)) if len(shapes) == len(ins) else None
        what = self._rng.choice(PICTURES if shape is not None else ANYTHING)
        name, op, shape, ports, without = self._made(what, shape)
        flows = [flow for output in ins for flow in self._link(output, name)]
        for frame in without:
            self.graph.poisoned[name] = frame, tuple(flows)
        done = tuple(
            Flow(flow.source, flow.content, (*flow.ops, *([op] if op else [])), flow.lossy, flow.without | without) for flow in flows
        )
        self._outputs += [Output(f"{name}.{port}" if port else name, done, shape) for port in ports]

    def _made(
        self, what: str, shape: tuple[int, int] | None
    ) -> tuple[str, Op | None, tuple[int, int] | None, tuple[str, ...], frozenset[int]]:
        """A node of this kind: its id, what it does to a picture, the shape behind it, its ports, the frames that it refuses for good."""
        rng, nothing, one = self._rng, frozenset[int](), ("",)
        if what == "slow":
            return self._add(what, "debug.slow", {"work_ms": rng.choice((0.5, 1, 3))}), None, shape, one, nothing
        if what == "keep":
            return self._add(what, "fault_nodes:Keep", {"keep": rng.randint(1, 5)}), None, shape, one, nothing
        if what == "tee":
            return self._add(what, "flow.tee"), None, shape, ("a", "b"), nothing
        if what in ("copy", "loan"):
            return self._add(what, "fault_nodes:Copy", {"loan": what == "loan"}), None, shape, one, nothing
        if what == "crop" and shape is not None:
            return self._crop(shape)
        if what == "resize":
            width, height = rng.randint(8, 64), rng.randint(8, 64)
            name = self._add(what, "vision.resize", {"width": width, "height": height})
            return name, ("resize", width, height), (height, width), one, nothing
        if what == "harm":
            return self._harm(shape)
        plugin = {"batch": "fault_nodes:Batch", "turn": "fault_nodes:Turn"}.get(what, "flow.forward")
        return self._add(what, plugin), ("turn",) if what == "turn" else None, shape, one, nothing

    def _crop(self, shape: tuple[int, int]) -> tuple[str, Op, tuple[int, int], tuple[str, ...], frozenset[int]]:
        width, height = self._rng.randint(1, shape[1]), self._rng.randint(1, shape[0])
        x, y = self._rng.randint(0, shape[1] - width), self._rng.randint(0, shape[0] - height)
        name = self._add("crop", "vision.crop", {"x": x, "y": y, "width": width, "height": height})
        return name, ("crop", x, y, width, height), (height, width), ("",), frozenset()

    def _harm(self, shape: tuple[int, int] | None) -> tuple[str, None, tuple[int, int] | None, tuple[str, ...], frozenset[int]]:
        rng = self._rng
        how, frame = rng.choice(HARMS), rng.randint(0, 60)
        self.graph.shapes.add(how)
        config = {"how": "segfault" if how == "poison" else how, "at": [frame], "once": how != "poison"}
        name = self._add("harm", "fault_nodes:Harm", config, **({"on_error": {"retry": 2}} if how == "raise" else {}))
        if how != "poison":
            return name, None, shape, ("",), frozenset()
        return name, None, shape, ("",), frozenset({frame})

    def _link(self, output: Output, target: str) -> tuple[Flow, ...]:
        """An edge; the flows through it."""
        rng = self._rng
        if output.port in self._used:
            self.graph.shapes.add("fan-out")
        self._used.add(output.port)
        edge: dict[str, Any] = {"from": output.port, "to": target}
        if rng.random() < 0.5:
            edge["depth"] = rng.choice((1, 2, 3, 4, 16))
        if self._loses and rng.random() < 0.35:
            edge["policy"] = rng.choice(LOSSY)
            self.graph.shapes.add(edge["policy"])
            if edge["policy"] == "latest":
                edge.pop("depth", None)
            elif edge["policy"] == "sample":
                edge["rate"] = 50
        if self._delivered:
            edge["completion"] = "delivered"
        self.graph.spec["edges"].append(edge)
        lossy = "policy" in edge
        return tuple(Flow(flow.source, flow.content, flow.ops, flow.lossy or lossy, flow.without) for flow in output.flows)

    def _witness(self, outputs: list[Output]) -> None:
        name = self._add("witness", "debug.hash")
        self.graph.spec["nodes"][-1]["config"] = {"path": f"{name}.jsonl"}
        if len(outputs) > 1:
            self.graph.shapes.add("fan-in")
        self.graph.flows[name] = [flow for output in outputs for flow in self._link(output, name)]


def drawn(rng: random.Random, *, endless: bool, seconds: float) -> Graph:
    """A graph whose sources make packets for about so long, or without end."""
    return Drawing(rng, endless=endless, seconds=seconds).draw()
