"""Ceilings: windows that take turns, and the best that was ever seen, kept."""

import pytest

from suite import ceilings
from suite.cpu import windows
from suite.cpu.info import Cache
from suite.cpu.probes import SOURCE as PROBES
from suite.device import Ceiling


def test_working_sets_lie_inside_their_level():
    caches = {
        "L1d": Cache(48 << 10, 1, 96 << 10),
        "L2": Cache(1 << 20, 1, 2 << 20),
        "L3": Cache(32 << 20, 2, 32 << 20),
    }
    sets = windows.working_sets(caches, 2, 24 << 30)
    most = {"L1": 48 << 10, "L2": 1 << 20, "L3": 16 << 20}
    least = {"L1": 0, "L2": 48 << 10, "L3": 1 << 20}
    for name, each in sets[:-1]:
        assert least[name] < each <= most[name] * 3 // 4
    assert sets[-1] == ("memory", 64 << 20)
    assert windows.working_sets({}, 3, 1 << 30)[0][0] == "memory"


def test_ceilings_keep_the_best_of_all_runs(tmp_path):
    file = tmp_path / "deep/x.json"
    assert ceilings.recall(file) == Ceiling()
    ceilings.keep_best(file, Ceiling({"float32": 2.0}, {"L1": 5.0}))
    best = ceilings.keep_best(file, Ceiling({"float32": 1.0, "int8": 4.0}, {"L1": 6.0}))
    assert best == Ceiling({"float32": 2.0, "int8": 4.0}, {"L1": 6.0}) == ceilings.recall(file)
    assert [one.name for one in file.parent.iterdir()] == ["x.json"]


@pytest.mark.parametrize(
    "said", ["", "{", "[]", '{"flops": 3, "bandwidth": {}}', '{"flops": {"a": "b"}, "bandwidth": {}}']
)
def test_a_damaged_cache_is_no_ceiling(tmp_path, said):
    (tmp_path / "x").write_text(said)
    assert ceilings.recall(tmp_path / "x") == Ceiling()


def test_windows_take_turns_until_time_is_over():
    rates = iter([3.0, 5.0, 9.0, 4.0, 99.0])
    clock = iter([0.0, 1.0, 3.0])  # looked at once enough rounds are done
    seen = ceilings.measure(
        2.5, [("flops", "a", lambda: next(rates)), ("flops", "b", lambda: 0.0)], lambda: next(clock)
    )
    assert seen == Ceiling({"a": 9.0}, {})


def test_a_window_held_up_stays_long():
    length = windows.Length(1000)
    length.took(0.0001)
    assert length.count == 16_000
    length.took(1.0)
    assert length.count == 20_000


def test_cache_file_follows_the_users_wish(monkeypatch, tmp_path):
    monkeypatch.setenv("SPARSEMARK_CACHE", str(tmp_path))
    one = ceilings.cache_file({"model": "a"}, 1, PROBES)
    assert one.parent == tmp_path / "ceilings"
    assert (
        one
        != ceilings.cache_file({"model": "a"}, 2, PROBES)
        != ceilings.cache_file({"model": "b"}, 2, PROBES)
    )
