"""The measuring loop under a scripted clock: what counts, when it stops, what lies inside a window."""

import random

import pytest

from suite.energy import meter_calls
from suite.measure import Contender, Effort, half_interval, race


class Scripted:
    """A device whose calls take what the script says, and which logs what is done to it."""

    def __init__(self, seconds):
        self.script = iter(seconds)
        self.now = 0.0
        self.log = []

    def flush(self, held):
        self.log.append("flush")

    def evict(self):
        self.log.append("evict")

    def time(self, call):
        self.log.append("timed")
        answer = call()
        seconds = next(self.script)
        self.now += seconds
        return seconds, answer


def contender(device, name="one"):
    return Contender(name, lambda: device.log.append(f"call {name}"))


def run(device, *contenders, cache="cold", **effort):
    race(contenders, device, Effort(**effort), cache, random.Random(0), now=lambda: device.now)


def test_the_untimed_call_comes_first_and_is_not_counted():
    device = Scripted([0.01, 0.02])
    one = contender(device)
    run(device, one, cap=0.0, least=2)
    assert one.seconds == [0.01, 0.02]
    assert device.log == ["call one", "flush", "timed", "call one"] * 2


def test_hot_is_straight_after_itself_without_a_flush():
    device = Scripted([0.01] * 2)
    one = contender(device)
    run(device, one, cache="hot", cap=0.0, least=2)
    assert device.log == ["call one", "timed", "call one"] * 2


def test_hot_calls_have_a_call_before_them_however_long_they_take():
    device = Scripted([0.5] * 2)
    one = contender(device)
    run(device, one, cache="hot", cap=0.0, least=2)
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
    assert one.seconds == [3.0, 3.1]


def test_the_answer_before_is_flushed_too():
    """A kernel that allocates its answer gets the memory of the one before."""
    device = Scripted([0.01] * 2)
    flushed = []
    device.flush = lambda held: flushed.append([*map(id, held)])
    answers = [object() for _ in range(4)]
    one = Contender("one", iter(answers).__next__)
    run(device, one, cap=0.0)
    assert flushed == [[id(None), id(answers[0])], [id(answers[1]), id(answers[2])]]


def test_what_a_kernel_cannot_show_is_evicted():
    device = Scripted([0.01] * 2)
    one = contender(device)
    one.hidden = True
    run(device, one, cap=0.0)
    assert device.log == ["call one", "evict", "flush", "timed", "call one"] * 2


def test_contenders_take_turns_to_the_end():
    """One that is precise goes on while another is not, so that both are measured at the same time."""
    device = Scripted([0.01] * 1000)
    steady, noisy = contender(device, "steady"), contender(device, "noisy")
    noisy.seconds = [0.01, 0.02, 0.03]
    noisy_call = iter([0.01, 0.02] * 500).__next__

    def time(call):
        device.log.append("timed")
        call()
        seconds = noisy_call() if device.log[-1] == "call noisy" else 0.01
        device.now += seconds
        return seconds, None

    device.time = time
    run(device, steady, noisy, cap=0.3)
    assert (steady.stopped, noisy.stopped) == ("precise", "cap")
    rounds = [set(device.log[at : at + 8]) for at in range(0, 8 * 10, 8)]
    assert all({"call steady", "call noisy"} <= each for each in rounds)


def test_all_stop_as_soon_as_all_are_precise():
    device = Scripted([0.01] * 1000)
    one, other = contender(device, "one"), contender(device, "other")
    run(device, one, other, cap=100.0)
    assert len(one.seconds) == len(other.seconds) == 6


def test_a_kernel_that_fails_leaves_the_race_and_the_others_go_on():
    device = Scripted([0.01] * 100)

    def leave():
        raise SystemExit(3)

    bad, good = Contender("bad", leave), contender(device, "good")
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
    """An energy meter that counts watts times scripted time."""

    source = "scripted"

    def __init__(self, clock, watts):
        self.clock, self.watts, self.reads = clock, watts, 0

    def joules(self):
        self.reads += 1
        return self.watts * self.clock.now


def test_a_window_counts_calls_and_nothing_else():
    clock = Scripted([])
    calls = []

    def call(name):
        def run():
            calls.append(name)
            clock.now += 0.5

        return run

    def rest(seconds):
        clock.now += seconds

    energy = meter_calls(
        [call("a"), call("b")], Counter(clock, 20.0), window=5.0, now=lambda: clock.now, rest=rest
    )
    assert calls == ["a", "b"] * 5  # rotating live operands, and no call outside the window
    assert clock.log == []  # no flush in it
    assert energy.calls == 10
    assert energy.seconds == pytest.approx(0.5)
    assert energy.joules == pytest.approx(10.0)
    assert energy.idle_watts == pytest.approx(20.0)


def test_a_meter_that_stands_still_measures_nothing():
    clock = Scripted([])

    def call():
        clock.now += 1.0

    with pytest.raises(OSError, match="did not move"):
        meter_calls([call], Counter(clock, 0.0), now=lambda: clock.now, rest=lambda s: None or call())
