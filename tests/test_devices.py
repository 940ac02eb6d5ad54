"""Which device is measured: the one that was named, or the first GPU; never another in silence."""

import sys
import types
from contextlib import contextmanager

import pytest
import torch

from suite import devices, profile, selftest
from suite.cpu.device import Cpu
from suite.registry import Unusable


def nobody():
    return None


def shown(*names):
    return lambda: ("570.1", list(names))


@pytest.fixture
def torch_for(monkeypatch):
    """A torch built for something, which can use so many GPUs."""

    def pretend(cuda=None, hip=None, count=0):
        monkeypatch.setattr(torch.version, "cuda", cuda)
        monkeypatch.setattr(torch.version, "hip", hip)
        monkeypatch.setattr(torch.cuda, "is_available", lambda: count > 0)
        monkeypatch.setattr(torch.cuda, "device_count", lambda: count)
        monkeypatch.setattr(devices, "Cuda", lambda index, threads: f"cuda:{index}")

    return pretend


def names(found):
    return [one if isinstance(one, str) else one.spec for one in found]


@pytest.mark.parametrize(
    ("asked", "found"),
    [
        (None, ["cuda:0"]),
        ("cpu", ["cpu"]),
        ("cuda", ["cuda:0"]),
        ("cuda:1", ["cuda:1"]),
        ("all", ["cuda:0", "cuda:1", "cpu"]),
    ],
)
def test_what_is_asked_for_is_measured(torch_for, asked, found):
    torch_for(cuda="13.0", count=2)
    assert names(devices.find(asked, 1, shown("A", "B"))) == found


@pytest.mark.parametrize(("asked", "found"), [(None, ["cpu"]), ("cpu", ["cpu"]), ("all", ["cpu"])])
def test_without_a_gpu_the_cpu_is(torch_for, asked, found):
    torch_for()
    assert names(devices.find(asked, 1, nobody)) == found


@pytest.mark.parametrize("asked", [None, "cuda", "cuda:0", "all"])
@pytest.mark.parametrize(
    ("cuda", "says"), [(None, "a build for CPUs"), ("13.0", "built for CUDA 13.0, which wants a driver")]
)
def test_a_gpu_that_torch_cannot_use_is_no_silent_run_on_the_cpu(torch_for, asked, cuda, says):
    torch_for(cuda=cuda)
    with pytest.raises(Unusable) as end:
        devices.find(asked, 1, shown("Made Up G100"))
    for part in ("the driver (570.1) shows Made Up G100", torch.__version__, says, "--device cpu"):
        assert part in str(end.value)
    assert names(devices.find("cpu", 1, shown("Made Up G100"))) == ["cpu"]


@pytest.mark.parametrize("asked", [None, "cuda:0"])
def test_rocm_is_recognised(torch_for, asked):
    torch_for(hip="6.2", count=1)
    with pytest.raises(Unusable, match="AMD's GPUs are not supported yet"):
        devices.find(asked, 1, nobody)


@pytest.mark.parametrize(
    ("asked", "count", "says"),
    [
        ("cuda", 0, "there is no NVIDIA GPU here"),
        ("cuda:3", 1, "there is one GPU here, cuda:0"),
        ("cuda:3", 2, "there are 2 GPUs here, from cuda:0"),
        ("gpu", 1, "devices are cpu, cuda, cuda:N or all"),
        ("cuda:x", 1, "devices are cpu, cuda, cuda:N or all"),
    ],
)
def test_a_device_that_is_not_there_is_said(torch_for, asked, count, says):
    torch_for(cuda="13.0" if count else None, count=count)
    with pytest.raises(Unusable, match=says):
        devices.find(asked, 1, nobody)


def test_our_timer_agrees_with_torchs_on_a_cpu(monkeypatch):
    """By how much is for `devices --check` to print; here both measured the same call."""
    monkeypatch.setattr(selftest, "SIZES", {"cpu": (512,)})
    monkeypatch.setattr(selftest, "SECONDS", 0.1)
    (one,) = selftest.comparisons(Cpu(1))
    assert one.timer == "host, hot" and one.other == "torch.utils.benchmark"
    assert 0.2 < one.ratio < 5


class Known:
    """A device whose timers always say the same."""

    kind = "cuda"

    def __init__(self, **seconds):
        self.seconds = seconds

    def place(self, operands):
        return tuple(operands)

    def timer(self, one, cache):
        seconds = self.seconds[cache]
        return type("Timer", (), {"name": "events", "sample": lambda self: seconds})()


@pytest.fixture
def briefly(monkeypatch):
    monkeypatch.setattr(selftest, "SIZES", {"cuda": (4,)})
    monkeypatch.setattr(selftest, "SECONDS", 0.001)


def test_on_a_gpu_each_timer_is_compared_in_the_others_cache_state(monkeypatch, briefly):
    module = types.ModuleType("triton")
    module.testing = types.SimpleNamespace(
        do_bench=lambda call, return_mode: 1.05, do_bench_cudagraph=lambda call, return_mode: 0.9
    )
    monkeypatch.setitem(sys.modules, "triton", module)
    cold, hot = selftest.comparisons(Known(cold=1e-3, hot=1e-3))
    assert (cold.other, cold.ratio) == ("triton do_bench", pytest.approx(1 / 1.05))
    assert (hot.other, hot.beyond) == ("triton do_bench_cudagraph", pytest.approx(1e-4))


def test_without_triton_the_comparison_says_so(monkeypatch, briefly):
    monkeypatch.setitem(sys.modules, "triton", None)
    for one in selftest.comparisons(Known(cold=1e-3, hot=1e-3)):
        assert one.ratio is None and "triton" in one.why


def test_a_profiler_sees_one_call_and_nothing_else(monkeypatch, capsys):
    seen = []
    monkeypatch.setattr(torch.cuda.profiler, "start", lambda: seen.append("start"))
    monkeypatch.setattr(torch.cuda.profiler, "stop", lambda: seen.append("stop"))

    @contextmanager
    def within(name):
        seen.append(f"in {name}")
        yield
        seen.append("out")

    monkeypatch.setattr(torch.cuda.nvtx, "range", within)
    device = types.SimpleNamespace(wait=lambda: seen.append("wait"))
    profile.one_call(lambda: seen.append("call"), device, "a kernel on a case")
    assert seen == [*["call"] * 3, "wait", "start", "in a kernel on a case", "call", "wait", "out", "stop"]
    assert "a kernel on a case: one call profiled" in capsys.readouterr().out
