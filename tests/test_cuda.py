"""GPUs by script: what the driver may answer or refuse, which timer a call gets, and what it then counts."""

import json
from types import SimpleNamespace

import pytest
import torch
from scripts import LOST, NO_PERMISSION, NOT_SUPPORTED, Nvml, Stream, properties

from suite.case import FLOAT8, INT8
from suite.cuda import nvml, timers, windows
from suite.cuda.device import Cuda, architectures
from suite.measure import Contender
from suite.registry import Unusable


def gpu(**answers):
    return nvml.Gpu("12345678-0000", Nvml(**answers))


def cuda(stream=None, about=None, **answers):
    return Cuda(0, 1, about or properties(), gpu(**answers), stream or Stream())


def contender(stream, seconds, touched=1 << 20, **how):
    def again():
        return contender(stream, seconds, touched, **how)

    return Contender("one", stream.work("call", seconds, **how), touched=touched, again=again)


# The driver


def test_a_gpu_tells_what_it_is():
    one = cuda()
    assert (one.kind, one.spec, one.key) == ("cuda", "cuda:0", "made-up-g100")
    about = one.fingerprint()
    assert json.loads(json.dumps(about)) == about
    assert about["power_limit_watts"] == 700.0 and about["ecc"] is True and about["mig"] is None
    assert "uuid" not in about and "12345678" not in json.dumps(about)
    assert one.cautions() == []


def test_a_chip_runs_what_older_ones_run_and_has_instructions_of_its_own():
    assert {"sm_80", "sm_89", "sm_90", "sm_90a"} <= architectures(9, 0)
    assert "sm_90a" not in architectures(10, 0) and "sm_90" in architectures(10, 0)
    assert "sm_80" not in architectures(7, 5)


def test_the_counter_and_the_power_are_both_read():
    meter = cuda(DeviceGetTotalEnergyConsumption=[5_000, 5_000, 9_000]).meter
    assert meter.source == "NVML counter and power"
    assert (meter.joules(), meter.joules(), meter.watts()) == (5.0, 9.0, 120.0)


def test_without_a_counter_there_is_power():
    meter = cuda(DeviceGetTotalEnergyConsumption=NOT_SUPPORTED).meter
    assert meter.source == "NVML power" and meter.joules() is None and meter.watts() == 120.0


def test_where_power_is_not_instant_it_is_the_mean_of_a_second():
    meter = cuda(DeviceGetFieldValues=NOT_SUPPORTED).meter
    assert meter.watts() == 100.0


def test_a_counter_that_goes_back_measures_nothing():
    meter = cuda(DeviceGetTotalEnergyConsumption=[9_000, 9_000, 1_000]).meter
    assert meter.joules() == 9.0
    with pytest.raises(OSError, match="went back from 9 J to 1 J"):
        meter.joules()


def test_a_device_lost_on_the_way_ends_the_window():
    meter = cuda(DeviceGetTotalEnergyConsumption=[9_000, LOST]).meter
    with pytest.raises(OSError, match="stopped answering"):
        meter.joules()


@pytest.mark.parametrize(
    ("answers", "says"),
    [
        (
            {
                "DeviceGetTotalEnergyConsumption": NO_PERMISSION,
                "DeviceGetFieldValues": NO_PERMISSION,
                "DeviceGetPowerUsage": NO_PERMISSION,
            },
            "Insufficient Permissions",
        ),
        ({"DeviceGetMigMode": (1, 1)}, "a part of it (MIG)"),
    ],
)
def test_no_meter_is_said_with_its_reason(answers, says):
    one = cuda(**answers)
    assert one.meter is None and says in one.no_meter


def test_a_part_of_a_gpu_is_found_by_its_own_name():
    nvml_of_a_part = Nvml(DeviceGetHandleByUUID=[NOT_SUPPORTED, "the part"], DeviceGetMigMode=(1, 1))
    assert nvml.Gpu("12345678-0000", nvml_of_a_part).has("Mig")


def test_a_lost_gpu_is_an_end_in_words():
    with pytest.raises(Unusable, match="GPU is lost"):
        gpu(DeviceGetHandleByUUID=LOST)


def test_no_driver_is_no_gpu():
    assert nvml.drivers(Nvml(Init=NOT_SUPPORTED)) is None
    assert nvml.drivers(Nvml(DeviceGetName=b"Made Up")) == ("999.1", ["Made Up"])


@pytest.mark.parametrize(
    ("answers", "says"),
    [
        (
            {"DeviceGetComputeRunningProcesses": (SimpleNamespace(pid=2**22 + 1),)},
            "Other processes compute on this GPU: 4194305",
        ),
        ({"DeviceGetUtilizationRates": SimpleNamespace(gpu=60)}, "busy 60%"),
        ({"DeviceGetCurrentClocksEventReasons": 0x20}, "slowed for heat by the driver"),
        ({"DeviceGetMigMode": (1, 1)}, "part of a GPU (MIG)"),
        ({"DeviceGetPersistenceMode": 0}, "nvidia-smi -pm 1"),
    ],
)
def test_what_will_be_in_the_numbers_is_said(answers, says):
    assert says in " ".join(cuda(**answers).cautions())


def test_a_display_alone_is_not_busy():
    """It draws a few percent, and is no compute process."""
    assert cuda(DeviceGetUtilizationRates=SimpleNamespace(gpu=4)).cautions() == []


def test_this_process_is_none_of_the_others():
    import os

    own = (SimpleNamespace(pid=os.getpid()), SimpleNamespace(pid=os.getppid()))
    assert gpu(DeviceGetComputeRunningProcesses=own).others() == []


@pytest.mark.parametrize(
    ("clock", "reasons", "fit"),
    [
        (1900, 0, True),
        (1200, 0, False),  # the clock has not risen yet
        (1200, 0x1, False),
        (1200, 0x4, True),  # the power limit is what users of it get too
        (1200, 0x2, True),
        (1900, 0x40, False),
        (NOT_SUPPORTED, 0, True),
    ],
)
def test_a_sample_counts_where_the_device_was_itself(clock, reasons, fit):
    one = cuda(DeviceGetClockInfo=clock, DeviceGetCurrentClocksEventReasons=reasons)
    assert one.fit() is fit


def test_the_clock_is_given_time_to_rise_before_a_kernel_is_looked_at():
    stream = Stream()
    one = cuda(stream, DeviceGetClockInfo=[300, 900, 1800])
    timer = one.timer(contender(stream, 1e-3), "cold")
    assert timer.name == "events" and timer.sample() == pytest.approx(1e-3)
    assert stream.host > 2 * 0.005


def test_a_clock_that_never_rises_is_not_waited_for_for_long():
    clock = iter([0.0, 0.5, 1.5])
    cuda(DeviceGetClockInfo=300).rise(lambda: next(clock))


def test_clocks_and_their_reasons_are_seen_over_all_samples():
    one = cuda(DeviceGetClockInfo=[1900, 1700], DeviceGetCurrentClocksEventReasons=[0x4, 0x1])
    seen = one.noise()
    one.fit(), one.fit()
    assert seen().clock_mhz == 1800.0 and seen().throttle == "power limit"


def test_old_drivers_know_the_reasons_by_another_name():
    one = gpu(DeviceGetCurrentClocksEventReasons=NOT_SUPPORTED, DeviceGetCurrentClocksThrottleReasons=0x8)
    assert nvml.named(one.reasons(), nvml.DISTURBED) == ["slowed by hardware"]


# Timers


def chosen(stream, one, cache="cold", l2=1 << 20):
    return timers.choose(one, stream, cache == "cold", l2, lambda: True)


def test_a_long_call_is_timed_between_marks_on_cold_caches():
    stream = Stream()
    timer = chosen(stream, contender(stream, 1e-3))
    assert timer.name == "events"
    stream.log.clear()
    assert timer.sample() == pytest.approx(1e-3)
    assert stream.log == ["flush", "call"] and timer.one.answer == "call"


def test_hot_is_straight_after_itself():
    stream = Stream()
    timer = chosen(stream, contender(stream, 1e-3), "hot")
    stream.log.clear()
    assert timer.sample() == pytest.approx(1e-3)
    assert stream.log == ["call", "call"]


@pytest.mark.parametrize("launch", [5e-6, 40e-6, 500e-6, 2e-3])
def test_launching_is_not_timed_however_long_it_takes(launch):
    """The device is held until the host has queued the call."""
    stream = Stream()
    timer = chosen(stream, contender(stream, 1e-3, launch=launch))
    assert timer.name == "events" and timer.sample() == pytest.approx(1e-3)


def test_a_call_that_waits_for_the_device_is_timed_by_the_wall_clock():
    stream = Stream()
    timer = chosen(stream, contender(stream, 1e-3, waits=True))
    assert timer.name == "host"
    timer.now = lambda: stream.host
    assert timer.sample() == pytest.approx(1e-3 + 5e-6)


def test_a_short_call_is_replayed_over_copies_that_fill_l2():
    stream = Stream()
    timer = chosen(stream, contender(stream, 5e-6, touched=1 << 18))
    assert timer.name == "graph" and timer.calls == len(timer.kept) == 5 * 4 + 1
    assert timer.sample() == pytest.approx(5e-6) and timer.one.answer == "call"


def test_a_short_hot_call_is_replayed_on_its_own_operands():
    stream = Stream()
    timer = chosen(stream, contender(stream, 5e-6), "hot")
    assert timer.name == "graph" and timer.calls in (40, 41) and len(timer.kept) == 1
    assert timer.sample() == pytest.approx(5e-6)


@pytest.mark.parametrize(
    ("how", "touched", "why"),
    [
        ({"recordable": False}, 1 << 20, "it cannot be recorded"),
        ({"free": 1 << 20}, 1 << 20, "copies do not fit"),
        ({}, 1 << 10, "they would be too many"),
        ({}, 0, "nobody knows what it touches"),
    ],
)
def test_a_short_call_without_a_graph_is_timed_between_marks(how, touched, why):
    stream = Stream(**how)
    timer = chosen(stream, contender(stream, 5e-6, touched=touched))
    assert timer.name == "events", why
    assert timer.sample() == pytest.approx(5e-6)


def test_samples_of_a_slowed_device_do_not_count():
    stream = Stream()
    fits = iter([False, True])
    for seconds in (1e-3, 5e-6):
        timer = chosen(stream, contender(stream, seconds))
        timer.fit = iter([False, True]).__next__
        assert timer.sample() is None and timer.sample() == pytest.approx(seconds)
    assert next(fits) is False


def test_a_launch_that_was_late_does_not_count_and_the_next_is_given_longer():
    stream = Stream()
    one = contender(stream, 1e-3)
    timer = chosen(stream, one)
    one.call = stream.work("call", 1e-3, launch=60e-6)
    assert timer.sample() is None
    assert timer.sample() == pytest.approx(1e-3)


def test_a_window_is_filled_with_replays():
    stream = Stream()
    launch, count = timers.burst([stream.work("a", 1e-3), stream.work("b", 1e-3)], stream, 0.05)
    assert count == 50
    stream.log.clear()
    launch()
    assert stream.log == ["replay"] * 25


def test_a_window_of_calls_that_cannot_be_recorded_launches_them_in_turn():
    stream = Stream(recordable=False)
    launch, count = timers.burst([stream.work("a", 1e-3), stream.work("b", 1e-3)], stream, 0.004)
    stream.log.clear()
    launch()
    assert stream.log == ["a", "b"] * 2 and count == 4


def test_a_window_turns_over_two_copies_where_more_cannot_be_had():
    assert cuda(Stream(free=1 << 20)).rotation(contender(Stream(), 1e-3)) == 2
    assert cuda().rotation(contender(Stream(), 1e-3, touched=1 << 19)) == 11


AMPERE = [f"{dtype}{end}" for dtype in ("bfloat16", "float16", INT8) for end in ("", " 2:4")]


@pytest.mark.parametrize(
    ("isa", "eight_bits", "names"),
    [
        (architectures(7, 5), True, []),
        (architectures(8, 0), True, AMPERE),
        (architectures(8, 9), False, [*AMPERE, FLOAT8]),
        (architectures(9, 0), True, [*AMPERE, FLOAT8, f"{FLOAT8} 2:4"]),
    ],
    ids=["7.5", "8.0", "8.9 without 2:4 of 8 bits", "9.0"],
)
def test_ceilings_are_of_what_the_chip_and_its_library_multiply(isa, eight_bits, names, monkeypatch):
    def compress(dense):
        if dense.dtype == torch.float8_e4m3fn and not eight_bits:
            raise RuntimeError("operation not supported")
        assert ((dense.float().unflatten(1, (-1, 4)) != 0).sum(-1) <= 2).all()
        return dense

    def multiply(held, b, out_dtype=None, alg_id=None):
        assert alg_id == 3
        return (held.float() @ b.float()).to(out_dtype or b.dtype)

    monkeypatch.setattr(torch.backends.cusparselt, "is_available", lambda: True)
    monkeypatch.setattr(torch.ops.aten, "_cslt_compress", compress)
    monkeypatch.setattr(torch.ops.aten, "_cslt_sparse_mm_search", lambda *_, **__: 3)
    monkeypatch.setattr(torch.ops.aten, "_cslt_sparse_mm", multiply)
    found = dict(windows.products(32, "cpu", isa))
    assert [name for name in found if "float32" not in name] == names
    assert all(product().shape == (32, 32) for product in found.values())
