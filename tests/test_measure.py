"""The measuring loop under a scripted clock: what counts, when it stops, what lies inside a window."""

import random
from time import sleep

import pytest

from suite.energy import integrate, meter_calls
from suite.measure import Contender, Effort, Host, half_interval, race


class Scripted:
    """A device whose timed calls take what the script says, and which logs what is done to it."""

    def __init__(self, seconds):
        self.script = iter(seconds)
        self.now = 0.0
        self.log = []
        self.running = False

    def flush(self, held):
        self.log.append("flush")

    def evict(self):
        self.log.append("evict")

    def clock(self):
        """Asked before and after each timed call."""
        self.running = not self.running
        if self.running:
            self.log.append("timed")
        else:
            self.now += next(self.script)
        return self.now


def contender(device, name="one", cache="cold"):
    one = Contender(name, lambda: device.log.append(f"call {name}"))
    one.timer = Host(one, device, cache == "cold", device.clock)
    return one


def run(device, *contenders, **effort):
    race(contenders, Effort(**effort), random.Random(0), now=lambda: device.now)


def test_the_untimed_call_comes_first_and_is_not_counted():
    device = Scripted([0.01, 0.02])
    one = contender(device)
    run(device, one, cap=0.0, least=2)
    assert one.seconds == pytest.approx([0.01, 0.02])
    assert device.log == ["call one", "flush", "timed", "call one"] * 2


def test_hot_is_straight_after_itself_without_a_flush():
    device = Scripted([0.01] * 2)
    one = contender(device, cache="hot")
    run(device, one, cap=0.0, least=2)
    assert device.log == ["call one", "timed", "call one"] * 2


def test_hot_calls_have_a_call_before_them_however_long_they_take():
    device = Scripted([0.5] * 2)
    one = contender(device, cache="hot")
    run(device, one, cap=0.0, least=2)
    assert device.log == ["call one", "timed", "call one"] * 2


def test_a_long_cold_call_needs_no_other_before_it():
    device = Scripted([0.5, 0.5])
    run(device, contender(device), cap=0.0, least=2)
    assert device.log == ["call one", "flush", "timed", "call one", "flush", "timed", "call one"]


def test_it_stops_when_the_median_is_known_within_one_percent():
    device = Scripted([0.01] * 100)
    one = contender(device)
    run(device, one, cap=10.0)
    assert one.stopped == "precise"
    assert len(one.seconds) == 6  # the fewest that have a 95 % interval


def test_it_stops_at_its_cap_when_it_is_not():
    device = Scripted([0.01, 0.02] * 100)
    one = contender(device)
    run(device, one, cap=0.3)
    assert one.stopped == "cap"
    assert 0.3 <= one.spent < 0.33


def test_a_slow_call_is_still_sampled_twice():
    """The best dense kernel is chosen on odd samples and reported on even ones."""
    device = Scripted([3.0, 3.1])
    one = contender(device)
    run(device, one, cap=0.1)
    assert one.seconds == pytest.approx([3.0, 3.1])


def test_the_answer_before_is_flushed_too():
    """A kernel that allocates its answer gets the memory of the one before."""
    device = Scripted([0.01] * 2)
    flushed = []
    device.flush = lambda held: flushed.append([*map(id, held)])
    answers = [object() for _ in range(4)]
    one = contender(device)
    one.call = iter(answers).__next__
    run(device, one, cap=0.0)
    assert flushed == [[id(None), id(answers[0])], [id(answers[1]), id(answers[2])]]


def test_what_a_kernel_cannot_show_is_evicted():
    device = Scripted([0.01] * 2)
    one = contender(device)
    one.hidden = True
    run(device, one, cap=0.0)
    assert device.log == ["call one", "evict", "flush", "timed", "call one"] * 2


class Noted:
    """A timer of a script, which logs whose turn it was."""

    name = "scripted"

    def __init__(self, device, who, seconds):
        self.device, self.who, self.seconds = device, who, iter(seconds)

    def sample(self):
        self.device.log.append(self.who)
        seconds = next(self.seconds)
        self.device.now += seconds or 0.01
        return seconds


def test_contenders_take_turns_to_the_end():
    """One that is precise goes on while another is not, so that both are measured at the same time."""
    device = Scripted([])
    steady, noisy = contender(device, "steady"), contender(device, "noisy")
    steady.timer = Noted(device, "steady", [0.01] * 1000)
    noisy.timer = Noted(device, "noisy", [0.01, 0.02] * 500)
    run(device, steady, noisy, cap=0.3)
    assert (steady.stopped, noisy.stopped) == ("precise", "cap")
    assert all(set(device.log[at : at + 2]) == {"steady", "noisy"} for at in range(0, 20, 2))


def test_samples_that_do_not_count_are_counted():
    device = Scripted([])
    one = contender(device)
    one.timer = Noted(device, "one", [None, 0.01, None] + [0.01] * 10)
    run(device, one, cap=10.0)
    assert one.seconds == [0.01] * 6 and one.discarded == 2 and one.failed is None


def test_a_device_that_is_never_itself_measures_nothing():
    device = Scripted([])
    one = contender(device)
    one.timer = Noted(device, "one", [None] * 1000)
    run(device, one, cap=10.0)
    assert "do not count" in str(one.failed) and not one.seconds


def test_all_stop_as_soon_as_all_are_precise():
    device = Scripted([0.01] * 1000)
    one, other = contender(device, "one"), contender(device, "other")
    run(device, one, other, cap=100.0)
    assert len(one.seconds) == len(other.seconds) == 6


def test_a_kernel_that_fails_leaves_the_race_and_the_others_go_on():
    device = Scripted([0.01] * 100)

    def leave():
        raise SystemExit(3)

    bad, good = contender(device, "bad"), contender(device, "good")
    bad.call = leave
    run(device, bad, good, cap=10.0)
    assert isinstance(bad.failed, SystemExit) and bad.seconds == []
    assert good.stopped == "precise"


@pytest.mark.parametrize("count", [1, 5])
def test_few_samples_have_no_interval(count):
    assert half_interval([1.0] * count) == float("inf")


def test_the_interval_covers_the_median_as_often_as_it_says():
    draw = random.Random(1)
    hits = 0
    for _ in range(1000):
        seconds = sorted(draw.lognormvariate(0, 0.1) for _ in range(40))
        low, high = seconds[int(20 - 0.98 * 40**0.5)], seconds[int(20 + 0.98 * 40**0.5)]
        hits += low <= 1.0 <= high
    assert 0.93 <= hits / 1000 <= 0.99


class Counter:
    """A meter that counts so many watts over scripted time, and shows others; None: it does not."""

    source = "scripted"

    def __init__(self, clock, counted, shown=None):
        self.clock, self.counted, self.shown = clock, counted, shown

    def joules(self):
        return None if self.counted is None else self.counted * self.clock.now

    def watts(self):
        return self.shown


def window(clock, meter, *names, window=5.0):
    """The energy of calls of half a second each, and what was called."""
    calls = []

    def call(name):
        def run():
            calls.append(name)
            clock.now += 0.5
            sleep(0.002)  # time for a look at the power

        return run, 1

    def rest(seconds):
        clock.now += seconds
        sleep(0.002)

    bursts = [call(name) for name in names]
    return meter_calls(bursts, meter, window, now=lambda: clock.now, rest=rest), calls


@pytest.fixture(autouse=True)
def often(monkeypatch):
    """Looks at the power follow each other as fast as a scripted window goes by."""
    monkeypatch.setattr("suite.energy.LOOK", 0.0005)


def test_a_window_counts_calls_and_nothing_else():
    clock = Scripted([])
    energy, calls = window(clock, Counter(clock, 20.0), "a", "b")
    assert calls == ["a", "b"] * 5  # rotating operands, and no call outside the window
    assert clock.log == []  # no flush in it
    assert energy.calls == 10
    assert energy.seconds == pytest.approx(0.5)
    assert energy.counter == pytest.approx(10.0)
    assert energy.integral is None and not energy.note
    assert energy.idle_watts == pytest.approx(20.0)


def test_power_alone_is_integrated():
    clock = Scripted([])
    energy, _ = window(clock, Counter(clock, None, 30.0), "a")
    assert energy.counter is None
    assert energy.integral == pytest.approx(15.0)
    assert energy.idle_watts == pytest.approx(30.0)


@pytest.mark.parametrize(("shown", "says"), [(20.5, ""), (30.0, "33% apart")])
def test_a_counter_and_power_that_contradict_each_other_are_flagged(shown, says):
    clock = Scripted([])
    energy, _ = window(clock, Counter(clock, 20.0, shown), "a")
    assert energy.counter == pytest.approx(10.0) and energy.integral == pytest.approx(shown / 2)
    assert energy.note == "" if not says else says in energy.note


def test_bursts_are_waited_for_and_count_as_many_calls_as_they_make():
    clock, waits = Scripted([]), []

    def launch():
        clock.now += 1.0

    energy = meter_calls(
        [(launch, 100)],
        Counter(clock, 5.0),
        now=lambda: clock.now,
        rest=lambda seconds: None or launch(),
        wait=lambda: waits.append(clock.now),
    )
    assert energy.calls == 500 and energy.counter == pytest.approx(0.05)
    assert len(waits) == 6  # once before all, and after each burst


def test_power_is_integrated_by_trapezes_over_the_whole_window():
    assert integrate([(0.0, 10.0), (1.0, 20.0), (3.0, 20.0)], 4.0) == pytest.approx(4 * 55 / 3)
    assert integrate([(0.0, 10.0)], 4.0) is None


def test_a_meter_that_stands_still_measures_nothing():
    clock = Scripted([])
    with pytest.raises(OSError, match="did not move"):
        window(clock, Counter(clock, 0.0), "a")
