"""Crossover: every wording, and that a planted crossing is found."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from suite.reading.crossover import Point, crossover
from suite.reading.units import interval, percent, times

SPARSITIES = (0.5, 0.7, 0.8, 0.9, 0.95, 0.99)


def curve(speed_ups, noise: float | None = 0.01, sparsities=SPARSITIES) -> list[Point]:
    """Points with a band of that relative width; None: one visit."""
    if noise is None:
        return [Point(s, value) for s, value in zip(sparsities, speed_ups, strict=True)]
    band = math.exp(noise)
    return [
        Point(s, value, value / band, value * band) for s, value in zip(sparsities, speed_ups, strict=True)
    ]


def planted(at: float, slope: float = 1.0, noise: float | None = 0.01) -> list[Point]:
    return curve([((1 - at) / (1 - s)) ** slope for s in SPARSITIES], noise)


@given(st.floats(0.52, 0.985), st.floats(0.4, 1.5), st.floats(1e-4, 0.01))
def test_a_planted_crossover_is_found(at: float, slope: float, noise: float) -> None:
    found = crossover(planted(at, slope, noise))
    assert found.at == pytest.approx(at, abs=1e-9)
    assert found.kind in ("from", "between")
    if found.kind == "from":
        assert found.low and found.high and found.low <= at <= found.high
        assert found.text == f"from {interval(at, found.low, found.high)}"


@given(st.floats(0.55, 0.97), st.floats(1e-3, 0.02))
def test_less_noise_is_a_narrower_interval(at: float, noise: float) -> None:
    wide, narrow = crossover(planted(at, noise=noise)), crossover(planted(at, noise=noise / 2))
    assert wide.kind == narrow.kind == "from"
    assert wide.low is not None and wide.high is not None and narrow.low and narrow.high
    assert narrow.high - narrow.low < wide.high - wide.low


def test_from_says_its_interval() -> None:
    assert crossover(planted(0.83, noise=0.1)).text == "from 83 % (81-85)"


def test_always() -> None:
    assert crossover(curve([1.1, 1.3, 2, 3, 4, 9])).text == "always, 50 to 99 %"
    doubtful = crossover(curve([1.005, 1.3, 2, 3, 4, 9]))
    assert (doubtful.kind, doubtful.doubt) == ("always", "not clear at 50 %")


def test_none() -> None:
    assert crossover(curve([0.1, 0.2, 0.3, 0.4, 0.5, 0.9])).text == "none up to 99 %"
    assert crossover(curve([0.1, 0.2, 0.3, 0.4, 0.5, 0.999])).doubt == "not clear at 99 %"


def test_one_visit_can_only_say_between() -> None:
    found = crossover(planted(0.83, noise=None))
    assert (found.text, found.doubt) == ("between 80 and 90 %", "one visit: no interval")


def test_a_band_that_leaves_the_range_says_between_and_why() -> None:
    found = crossover(curve([0.97, 1.2, 2, 3, 4, 9], noise=0.1))
    assert found.text == "between 50 and 70 %"
    assert "clearly slower nowhere" in found.doubt and "50 %" in found.doubt
    found = crossover(curve([0.1, 0.2, 0.3, 0.4, 0.5, 1.05], noise=0.1))
    assert found.text == "between 95 and 99 %" and "clearly faster nowhere" in found.doubt


def test_noise_around_one_is_not_a_second_crossing() -> None:
    assert crossover(curve([0.5, 0.99, 1.01, 0.99, 1.5, 3], noise=0.05)).text == "between 50 and 95 %"


bands = st.tuples(st.floats(0.2, 5), st.floats(0, 1.5), st.floats(0, 1.5))


@given(st.lists(st.tuples(st.integers(0, 9999), bands), min_size=1, max_size=6, unique_by=lambda one: one[0]))
def test_an_interval_has_two_ends_and_lies_in_what_was_measured(drawn) -> None:
    points = [
        Point(at / 10_000, value, value / math.exp(below), value * math.exp(above))
        for at, (value, below, above) in sorted(drawn)
    ]
    found = crossover(points)
    if found.kind == "between":
        assert found.low is not None and found.high is not None
        assert points[0].sparsity <= found.low < found.high <= points[-1].sparsity
        low, high = found.text.removeprefix("between ").removesuffix(" %").split(" and ")
        assert float(low) < float(high)
    if found.kind == "from":
        assert found.at and found.low is not None and found.high is not None
        assert points[0].sparsity - 1e-9 <= found.low <= found.at + 1e-9
        assert found.at - 1e-9 <= found.high <= points[-1].sparsity + 1e-9
    if found.kind == "noisy":
        assert found.doubt.startswith("not clear at ")


@pytest.mark.parametrize(
    ("points", "doubt"),
    [
        ([Point(0.5, 1.5, 1.4, 1.6), Point(0.9, 0.98, 0.9, 1.1), Point(0.95, 2, 1.9, 2.1)], "90 %"),
        ([Point(0.5, 1.05, 0.9, 1.2), Point(0.9, 0.8, 0.7, 0.9)], "50 %"),
        ([Point(0.5, 0.5, 0.4, 0.6), Point(0.7, 1.1, 0.9, 1.2), Point(0.9, 0.9, 0.8, 1.1)], "70 %, 90 %"),
    ],
)
def test_a_curve_that_is_not_seen_to_rise_is_too_noisy(points: list[Point], doubt: str) -> None:
    found = crossover(points)
    assert (found.kind, found.text) == ("noisy", "too noisy to say")
    assert found.doubt == f"not clear at {doubt}"


def test_neighbours_are_told_apart() -> None:
    found = crossover(curve([0.5, 2], sparsities=(0.5, 0.5003), noise=None))
    assert found.text == "between 50 and 50.03 %"


def test_more_than_once() -> None:
    assert crossover(curve([0.5, 1.5, 0.5, 1.5, 2, 3])).text == "crosses more than once"
    assert crossover(curve([1.5, 1.2, 1.1, 0.9, 0.8, 0.5])).text == "crosses more than once"


def test_too_noisy() -> None:
    assert crossover(curve([0.9, 1.1, 0.9, 1.1, 0.9, 1.1], noise=0.5)).text == "too noisy to say"


@pytest.mark.parametrize(
    ("value", "noise", "says"),
    [
        (1.3, 0.01, "at 50 %: 1.3x, faster"),
        (0.77, None, "at 50 %: 0.77x, slower"),
        (1.01, 0.1, "at 50 %: 1.0x, no clear difference"),
    ],
)
def test_a_single_point(value: float, noise: float | None, says: str) -> None:
    assert crossover(curve([value], noise, sparsities=(0.5,))).text == says


def test_a_matrix_without_nonzeros_has_a_place_on_the_axis() -> None:
    found = crossover(curve([0.5, 50], sparsities=(0.9, 1.0)))
    assert found.at and 0.9 < found.at < 1


def test_numbers_have_the_digits_they_deserve() -> None:
    assert [percent(share) for share in (0.5, 0.875, 0.99, 0.9975, 0.99999, 1.0)] == [
        *("50", "87.5", "99", "99.75", "99.999", "100"),
    ]
    assert interval(0.83, 0.81, 0.86) == "83 % (81-86)"
    assert interval(0.8304, 0.8296, 0.8312) == "83 % (83-83.1)"
    assert [times(ratio) for ratio in (0.0043, 0.77, 1.3, 12.3, 1234)] == [
        *("0.0043x", "0.77x", "1.3x", "12x", "1,234x"),
    ]
