"""The cases, as data: what each measures, at which points, and what a point asks of our side and of the peers."""

from __future__ import annotations

from streamcore_bench import lives, recovering, storing, watching
from streamcore_bench.flows import Flow
from streamcore_bench.points import Case, Options, Point
from streamcore_bench.sizes import Size, parse_size

SMALL_UP_TO_BYTES = 4096
SMALL_RATE, PICTURE_RATE = 500.0, 60.0
FLAT = ("rate", "cpu_us")
PACED = ("p50_us", "p99_us", "cpu_us")
ALL_SIZES = tuple(map(parse_size, ("64B", "4KiB", "VGA", "1080p", "4K")))
HD = (parse_size("1080p"),)
SMALL = (parse_size("64B"),)
SCALE = (1, 2, 4, 8, 16, 32)


def _rates(options: Options, size: Size, paced: bool = True) -> tuple[float, ...]:
    usual = SMALL_RATE if size.nbytes <= SMALL_UP_TO_BYTES else PICTURE_RATE
    return options.rates if options.rates is not None else (0.0, usual) if paced else (0.0,)


def _flow_point(name: str, flow: Flow, measures: tuple[str, ...] | None = None) -> Point:
    pace = f"{flow.rate:g}/s" if flow.rate else "flat out"
    wanted = measures or (PACED if flow.rate else FLAT)
    limit = not flow.rate and flow.nbytes >= SMALL_UP_TO_BYTES
    return Point(f"{name}, {pace}", wanted, flow, memcpy=limit)


def hop(options: Options) -> list[Point]:
    sizes = options.sizes or ALL_SIZES
    return [_flow_point(size.name, Flow(size.nbytes, rate)) for size in sizes for rate in _rates(options, size)]


def payload(options: Options) -> list[Point]:
    sizes = options.sizes or tuple(map(parse_size, ("64B", "1KiB", "4KiB", "16KiB")))
    return [
        _flow_point(f"{size.name} as {'an array' if loan else 'bytes'}", Flow(size.nbytes, rate, loan=loan))
        for size in sizes
        for rate in _rates(options, size, paced=False)
        for loan in (False, True)
    ]


def chain(options: Options) -> list[Point]:
    found = []
    for size in options.sizes or HD:
        for hops in options.hops or (3, 6):
            for rate in _rates(options, size):
                found.append(_flow_point(f"{size.name} through {hops}", Flow(size.nbytes, rate, hops=hops)))
                if size.nbytes >= SMALL_UP_TO_BYTES and not rate:
                    found.append(_flow_point(f"{size.name} through {hops} that copy", Flow(size.nbytes, rate, hops=hops, copies=True)))
    return found


def fanout(options: Options) -> list[Point]:
    return [
        _flow_point(f"{size.name} to {receivers}", Flow(size.nbytes, rate, receivers=receivers))
        for size in options.sizes or HD
        for receivers in options.fanout or (3, 6)
        for rate in _rates(options, size, paced=False)
    ]


def fanin(options: Options) -> list[Point]:
    return [
        _flow_point(f"{size.name} from 4", Flow(size.nbytes, rate, sources=4))
        for size in options.sizes or SMALL + HD
        for rate in _rates(options, size, paced=False)
    ]


def cpu(options: Options) -> list[Point]:
    return [
        _flow_point(
            f"{size.name}, " + (f"{hops} forwarding" if hops else "direct"),
            Flow(size.nbytes, rate or PICTURE_RATE, hops=hops),
            ("cpu_per_1000_s",),
        )
        for size in options.sizes or HD
        for hops in options.hops or (0, 3)
        for rate in options.rates or (PICTURE_RATE,)
    ]


def latest(options: Options) -> list[Point]:
    return [Point("1080p at 60/s, 40 ms of work", ("age_p50_ms", "age_p99_ms"), ours=lives.latest)]


def idle(options: Options) -> list[Point]:
    return [Point("20 nodes", ("cpu_percent",), ours=lambda stop, more: lives.idle(stop, more, 20))]


def startup(options: Options) -> list[Point]:
    return [
        Point(
            f"{nodes} nodes",
            ("seconds",),
            ours=lambda stop, more, nodes=nodes: lives.startup(stop, nodes),
            job={"case": "startup", "nbytes": lives.FRAME_BYTES, "count": 1, "rate": PICTURE_RATE, "nodes": nodes},
        )
        for nodes in (2, 10)
    ]


def restart(options: Options) -> list[Point]:
    kills = 1 if options.quick else 3
    job = {"case": "restart", "nbytes": lives.FRAME_BYTES, "count": 1, "rate": PICTURE_RATE, "kills": kills}
    victims = {"sink": "sink", "node between": "hop0", "source": "source"}
    return [
        Point(
            f"{what} killed",
            ("seconds", "lost"),
            ours=lambda stop, more, node=node: lives.restart(stop, kills, node),
            job=job if node == "sink" else None,
        )
        for what, node in victims.items()
    ]


def memory(options: Options) -> list[Point]:
    measures = ("uss_mib", "pss_mib", "own_mib", "threads")
    return [
        Point(f"1080p at 60/s, {node or 'whole run'}", measures, ours=lambda stop, more, node=node: lives.memory(stop, more, node))
        for node in ("source", "sink", None)
    ]


def scale(options: Options) -> list[Point]:
    size = (options.sizes or SMALL)[0]
    found = []
    for rate in options.rates or (0.0, 100.0):
        found += [_flow_point(f"{size.name} to {n}", Flow(size.nbytes, rate, receivers=n)) for n in options.fanout or SCALE]
        found += [_flow_point(f"{size.name} through {n}", Flow(size.nbytes, rate, hops=n)) for n in options.hops or SCALE]
    return found


def spec(options: Options) -> list[Point]:
    return [
        Point(f"validate, {nodes} nodes", ("seconds",), ours=lambda stop, more, nodes=nodes: lives.validate(stop, nodes))
        for nodes in (10, 100, 500)
    ]


CASES = {
    case.name: case
    for case in (
        Case("hop", "one edge between two processes", "64B 4KiB VGA 1080p 4K; flat out, 500/s up to 4 KiB, 60/s above", hop),
        Case("payload", "small packets as bytes or as arrays, ours only", "64B 1KiB 4KiB 16KiB; flat out", payload),
        Case("chain", "nodes between source and sink that forward, or copy", "1080p; 3 and 6 nodes; flat out and 60/s", chain),
        Case("fanout", "one source, several sinks", "1080p; 3 and 6 sinks; flat out", fanout),
        Case("fanin", "four sources, one sink", "64B 1080p; flat out", fanin),
        Case("latest", "age of the frame that a slow consumer gets, against the ideal", "1080p at 60/s; 40 ms of work", latest),
        Case("cpu", "CPU of all processes at a camera's pace", "1080p at 60/s; 0 and 3 nodes between", cpu),
        Case("idle", "CPU of a run that has nothing to do", "20 nodes; 20 s", idle),
        Case("startup", "from the command to the first packet", "2 and 10 nodes", startup),
        Case("restart", "from kill -9 of a node to its first packet, and what was lost", "1080p at 60/s; median of 3 kills", restart),
        Case("memory", "memory and threads of nodes that carry frames", "1080p at 60/s", memory),
        Case("scale", "more sinks, longer chains", "64B; 1 2 4 8 16 32; flat out and 100/s", scale),
        Case(
            "durable",
            "records on the disk, synced, beside SQLite and a plain file",
            "1 KiB JSON: store and node, groups of 1 16 64 256; node, 150 KiB: 1 16",
            storing.points,
        ),
        Case("recovery", "start on a durable queue with a backlog", "1,000, 100,000 and 1,000,000 records of 1 KiB", recovering.points),
        Case(
            "watched",
            "all that looks at a run, beside a run that nobody looks at",
            "64B 1080p; flat out; histograms, traces, /metrics every second, `top`",
            watching.points,
        ),
        Case("spec", "time to check a spec", "10, 100 and 500 nodes", spec),
    )
}
