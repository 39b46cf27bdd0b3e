"""What processes use of NVIDIA GPUs, asked of NVML. Without the package, the library or a device nothing is known, and nothing is said."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from importlib import import_module
from typing import Any, NamedTuple


class GpuUse(NamedTuple):
    """Over all devices. `percent` is that of one device, of late; None: the driver does not tell (old devices, Jetson)."""

    memory_bytes: int | None
    percent: float | None


NO_USE = GpuUse(None, None)


def gpu_use() -> Mapping[int, GpuUse]:
    """By pid, of every process that a GPU of this box works for and that the driver names.

    The driver numbers processes as the host does. In a container with pids of its own nobody is found, so no entry never means no use.
    """
    try:
        nvml: Any = import_module("pynvml")  # package nvidia-ml-py, extra `gpu`
    except ImportError:
        return {}
    try:
        nvml.nvmlInit()
    except nvml.NVMLError:
        return {}
    found: dict[int, GpuUse] = {}
    try:
        for index in _known(nvml, lambda: range(nvml.nvmlDeviceGetCount())):
            for pid, use in _of_device(nvml, index).items():
                before = found.get(pid, NO_USE)
                found[pid] = GpuUse(_sum(before.memory_bytes, use.memory_bytes), _sum(before.percent, use.percent))
    finally:
        _known(nvml, lambda: nvml.nvmlShutdown() or ())
    return found


def _of_device(nvml: Any, index: int) -> dict[int, GpuUse]:
    handle = _known(nvml, lambda: [nvml.nvmlDeviceGetHandleByIndex(index)])
    if not handle:
        return {}
    memory: dict[int, int | None] = {}
    for ask in (nvml.nvmlDeviceGetComputeRunningProcesses, nvml.nvmlDeviceGetGraphicsRunningProcesses):
        for row in _known(nvml, lambda ask=ask: ask(handle[0])):  # type: ignore[misc]
            # One that computes and draws stands in both lists, with all of its memory in each.
            memory[row.pid] = max(filter(None, (memory.get(row.pid), row.usedGpuMemory)), default=None)
    percent: dict[int, float] = {}
    # Samples of the last seconds, several of one process: the newest counts. Asked of an idle device, the driver answers with an error.
    for sample in sorted(_known(nvml, lambda: nvml.nvmlDeviceGetProcessUtilization(handle[0], 0)), key=lambda sample: sample.timeStamp):
        percent[sample.pid] = float(sample.smUtil)
    return {pid: GpuUse(memory.get(pid), percent.get(pid)) for pid in {*memory, *percent} if pid}


def _known(nvml: Any, ask: Callable[[], Any]) -> Any:
    """What NVML answers, else nothing: a device may be lost, too old for the question, or not ours to ask about."""
    try:
        return ask()
    except nvml.NVMLError:
        return ()


def _sum(one: Any, other: Any) -> Any:
    return other if one is None else one if other is None else one + other
