"""What NVML says of processes, with a stand-in for its module, since most boxes have no such device."""

from __future__ import annotations

import os
import sys
from types import SimpleNamespace

import pytest

from streamcore.clock import Clock
from streamcore.supervisor.gpu import GpuUse, gpu_use
from streamcore.supervisor.inspection import inspect
from streamcore.supervisor.usage import Usage


class NVMLError(Exception):
    """As the module calls it."""


def row(pid, memory):
    return SimpleNamespace(pid=pid, usedGpuMemory=memory)


def sample(pid, stamp, percent):
    return SimpleNamespace(pid=pid, timeStamp=stamp, smUtil=percent)


class Nvml:
    """A module with the functions that are used. A device is (compute, graphics, samples); an exception in a place is raised."""

    NVMLError = NVMLError

    def __init__(self, *devices, broken=None):
        self.devices, self.broken, self.open = devices, broken, 0

    def nvmlInit(self):
        if self.broken:
            raise self.broken
        self.open += 1

    def nvmlShutdown(self):
        self.open -= 1

    def nvmlDeviceGetCount(self):
        return len(self.devices)

    def nvmlDeviceGetHandleByIndex(self, index):
        return self._answer(self.devices[index])

    def nvmlDeviceGetComputeRunningProcesses(self, handle):
        return self._answer(handle[0])

    def nvmlDeviceGetGraphicsRunningProcesses(self, handle):
        return self._answer(handle[1])

    def nvmlDeviceGetProcessUtilization(self, handle, since):
        return self._answer(handle[2])

    @staticmethod
    def _answer(found):
        if isinstance(found, Exception):
            raise found
        return found


@pytest.fixture
def use_of(monkeypatch):
    def read(*devices, **more):
        nvml = Nvml(*devices, **more)
        monkeypatch.setitem(sys.modules, "pynvml", nvml)
        found = gpu_use()
        assert nvml.open == 0, "it was opened and not closed, or the other way round"
        return found

    return read


def test_memory_and_share_add_up_over_devices(use_of):
    one = ([row(11, 100), row(12, 7)], [], [sample(11, 1, 30)])
    other = ([row(11, 50)], [], [sample(11, 1, 20)])
    assert use_of(one, other) == {11: GpuUse(150, 50.0), 12: GpuUse(7, None)}


def test_a_process_that_computes_and_draws_is_counted_once(use_of):
    assert use_of(([row(11, 100)], [row(11, 100)], [])) == {11: GpuUse(100, None)}


def test_the_newest_sample_counts(use_of):
    assert use_of(([], [], [sample(11, 2, 80), sample(11, 1, 10)])) == {11: GpuUse(None, 80.0)}


def test_what_a_driver_does_not_tell_is_null(use_of):
    # Memory under some drivers; the share of old devices and Jetson; a device that was lost.
    assert use_of(([row(11, None)], NVMLError("not supported"), NVMLError("not found")), NVMLError("lost")) == {11: GpuUse(None, None)}


def test_without_package_library_or_device_nothing_is_known_and_nothing_is_said(use_of, monkeypatch, capfd):
    assert use_of(broken=NVMLError("library not found")) == {}
    assert use_of() == {}
    monkeypatch.setitem(sys.modules, "pynvml", None)
    assert gpu_use() == {}
    assert capfd.readouterr() == ("", "")


def test_an_inspection_shows_it_and_sums_it_up(monkeypatch):
    monkeypatch.setitem(sys.modules, "pynvml", Nvml(([row(os.getpid(), 1 << 30)], [], [sample(os.getpid(), 1, 42)])))
    tree = inspect([os.getpid()], Usage(Clock()))[os.getpid()]
    assert (tree.processes[0].gpu_memory_bytes, tree.total.gpu_memory_bytes, tree.total.gpu_percent) == (1 << 30, 1 << 30, 42.0)
