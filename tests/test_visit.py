"""A visit on devices that are short of memory, disturbed, or metered: what stands in the line."""

from dataclasses import replace
from time import perf_counter

import pytest
import torch

from suite import energy
from suite.case import case
from suite.cpu.device import Cpu
from suite.kernel import Prepared, kernel
from suite.measure import Effort
from suite.op import OPS, discover_parts
from suite.patterns.n_of_m import NofM
from suite.patterns.unstructured import Unstructured
from suite.visit import Visit

discover_parts()

POINT = case("spmm", Unstructured(0.9), m=64, k=96, n=8)


def honest(a, b):
    return torch.from_numpy(a.scipy() @ b.numpy())


@kernel(op="spmm", keep=False)
def sparse(a, b):
    """Well behaved."""
    return lambda b: honest(a, b)


@kernel(op="spmm", dense=True, keep=False)
def dense(a, b):
    """Zeros and all."""
    return lambda b: a.dense @ b


@kernel(op="spmm", patterns=(NofM,), keep=False)
def as_two_of_four(a, b):
    """Runs a mask as another one that allows it."""
    return Prepared(lambda b: honest(a, b), hidden=True, executed_pattern="2:4")


@kernel(op="spmm", execution="dense", keep=False)
def filled(a, b):
    """No zeros at all."""
    return lambda b: a.dense @ b


class Meter:
    """Counts and shows so many watts of real time; None: it does not."""

    source = "scripted"

    def __init__(self, counted, shown):
        self.counted, self.shown = counted, shown

    def joules(self):
        return None if self.counted is None else self.counted * perf_counter()

    def watts(self):
        return self.shown


def lines(device, *kernels, point=POINT, **how):
    visit = Visit(device, 1, effort=Effort(cap=0.01), **how)
    return {one.kernel: one for one in visit.results("made up", point, kernels)}


def test_what_one_kernel_alone_is_asked_is_charged_to_no_other(monkeypatch):
    """Its reference may take long, or more memory than there is."""
    steps, charged = [("", "")], []
    reference = OPS["spmm"].reference
    asked = replace(OPS["spmm"], reference=lambda *of: charged.append(steps[-1]) or reference(*of))
    monkeypatch.setitem(OPS, "spmm", asked)
    found = lines(Cpu(1), sparse, filled, beat=lambda kernel, stage: steps.append((kernel, stage)))
    assert found["sparse"].outcome == found["filled"].outcome == "ok"
    assert charged == [("", "making the operands"), ("filled", "making the operands")]


def test_what_the_device_cannot_hold_is_refused_with_both_sizes():
    device = Cpu(1)
    device.memory = 20_000
    found = lines(device, sparse, dense)
    assert found["sparse"].outcome == "ok"
    assert found["dense"].outcome == "refused"
    assert "needs 0.0 GiB" in found["dense"].note and "has 0.0 GiB" in found["dense"].note


def test_the_pattern_that_is_executed_stands_beside_the_one_that_was_asked_for():
    line = lines(Cpu(1), as_two_of_four, point=case("spmm", NofM(1, 8), m=64, k=96, n=8))["as_two_of_four"]
    assert (line.pattern, line.executed_pattern) == ("1:8", "2:4")


def test_a_device_that_is_never_itself_leaves_no_time():
    class Slowed:
        name = "events"

        def sample(self):
            return None

    device = Cpu(1)
    device.timer = lambda one, cache: Slowed()
    line = lines(device, sparse)["sparse"]
    assert line.outcome == "broken" and "do not count" in line.note and not line.seconds


def test_samples_that_did_not_count_are_in_the_line():
    device = Cpu(1)
    timer = device.timer

    def sometimes(one, cache):
        made = timer(one, cache)
        sample, turns = made.sample, iter([True, False] * 10_000)
        made.sample = lambda: sample() if next(turns) else None
        return made

    device.timer = sometimes
    line = lines(device, sparse)["sparse"]
    assert line.outcome == "ok" and line.timer == "host"
    assert line.calls == len(line.seconds) and abs(line.discarded - line.calls) <= 1


@pytest.fixture
def brief(monkeypatch):
    """Windows of a tenth of a second."""
    defaults = list(energy.meter_calls.__defaults__)
    defaults[:2] = 0.1, 0.02
    monkeypatch.setattr(energy.meter_calls, "__defaults__", tuple(defaults))
    monkeypatch.setattr(energy, "LOOK", 0.001)


@pytest.mark.usefixtures("brief")
@pytest.mark.parametrize(
    ("counted", "shown", "note"),
    [(50.0, 50.0, None), (50.0, None, None), (None, 50.0, None), (50.0, 80.0, "apart")],
)
def test_a_window_states_what_its_meter_has(counted, shown, note):
    device = Cpu(1)
    device.meter, device.no_meter = Meter(counted, shown), ""
    line = lines(device, sparse, metered=True)["sparse"]
    assert (line.outcome, line.cache, line.timer) == ("ok", "rotating", "window")
    assert (line.joules_counter is None, line.joules_integral is None) == (counted is None, shown is None)
    (seconds,) = line.seconds
    measured = line.joules_counter or line.joules_integral
    assert measured == pytest.approx(50.0 * seconds, rel=0.05)
    assert line.idle_watts == pytest.approx(counted or shown, rel=0.05)
    assert (line.energy_note is None) if note is None else note in line.energy_note


def test_without_a_meter_a_window_is_refused_with_the_reason():
    device = Cpu(1)
    device.meter, device.no_meter = None, "no energy meter: made up"
    line = lines(device, sparse, metered=True)["sparse"]
    assert (line.outcome, line.note) == ("refused", "no energy meter: made up")
