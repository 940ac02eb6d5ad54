"""Workloads: no case twice, every case makeable, the anchor first, and a default that fits its budget."""

import inspect
from collections import Counter

import pytest

from suite.case import FLOAT8, INT8, from_id
from suite.inputs import INPUTS
from suite.op import MODELS, OPS, discover_parts, faults, make_operands
from suite.pattern import Pattern
from suite.registry import discover
from suite.workload import EXTENTS, WORKLOADS, Workload

discover_parts()
discover(folders=("workloads",))

OURS = {name: one for name, one in WORKLOADS.items() if one.cases.__module__.startswith("suite.workloads.")}
SPMM = ("unstructured", "nm", "block")
BYTES = {"float32": 4, "bfloat16": 2, "float16": 2, FLOAT8: 2, INT8: 2}

every_workload = pytest.mark.parametrize("one", OURS.values(), ids=str)
every_extent = pytest.mark.parametrize("extent", EXTENTS)


@every_workload
@every_extent
def test_no_case_comes_twice_and_each_can_be_made(one: Workload, extent: str) -> None:
    cases = list(one.cases(extent))
    assert cases
    assert [str(case) for case, times in Counter(cases).items() if times > 1] == []
    for case in cases:
        known = case.data in MODELS or not case.data or case.op in INPUTS[case.data].ops
        assert case.op in OPS and known
        assert faults(case) == [], str(case)


@every_workload
@every_extent
def test_ids_parse_back(one: Workload, extent: str) -> None:
    for case in one.cases(extent):
        assert from_id(str(case)) == case


@every_workload
def test_a_workload_says_what_it_is_and_whom_it_serves(one: Workload) -> None:
    assert one.about.endswith(".") and one.version >= 1
    assert len(set(one.ids)) == len(one.ids)
    assert inspect.getmodule(one.cases).__doc__


@every_workload
def test_the_extents_grow(one: Workload) -> None:
    smoke, default, full = (len(list(one.cases(extent))) for extent in EXTENTS)
    assert smoke < default < full


def test_default_and_smoke_fit_their_budgets() -> None:
    cases = [case for name in SPMM for case in WORKLOADS[name].cases("default")]
    assert 36 <= sum(case.dtype not in (FLOAT8, INT8) for case in cases) <= 52  # 8 bits are a GPU's
    assert 6 <= sum(len(list(WORKLOADS[name].cases("smoke"))) for name in SPMM) <= 8


def line_of(pattern: Pattern) -> str:
    """A pattern without its sparsity."""
    spelling, at, _ = str(pattern).partition("@")
    return spelling if at else pattern.family


@pytest.mark.parametrize("name", SPMM)
def test_the_first_line_brackets_a_crossover(name: str) -> None:
    """Plans begin with the first line, and end it after two points if they must."""
    cases = list(WORKLOADS[name].cases("default"))
    line = [case for case in cases if (case.sizes, case.dtype) == (cases[0].sizes, cases[0].dtype)]
    line = [case for case in line if line_of(case.pattern) == line_of(cases[0].pattern)]
    assert cases[: len(line)] == line and len(line) >= 4
    sparsities = [case.pattern.sparsity_of(case["m"], case["k"]) for case in line]
    assert sparsities[0] == 0.5 and sparsities[1] > 0.85


def test_every_regime_and_family_has_a_default_case() -> None:
    cases = [case for name in SPMM for case in WORKLOADS[name].cases("default")]
    assert {case.regime for case in cases} == {"decode", "small batch", "prefill"}
    assert {case.dtype for case in cases} >= {"float32", "bfloat16"}
    families = {
        "unstructured",
        "N:M",
        "V:N:M",
        "block",
        "butterfly",
        "banded",
        "power-law",
        "planted blocks",
        "stencil",
    }
    assert {case.pattern.family for case in cases} >= families


@pytest.mark.parametrize("name", SPMM)
def test_default_cases_fit_a_laptop(name: str) -> None:
    for case in WORKLOADS[name].cases("default"):
        m, k, n = case["m"], case["k"], case["n"]
        dense = (m * k + k * n + m * n) * BYTES[case.dtype]
        reference = (k * n + 2 * m * n) * 8
        assert dense + reference < 2**30, str(case)


@pytest.mark.parametrize("name", SPMM)
def test_smoke_cases_are_made(name: str) -> None:
    for case in WORKLOADS[name].cases("smoke"):
        assert max(case["m"], case["k"]) <= 1024
        a, b = make_operands(case)
        assert a.nonzeros == case.pattern.count(case["m"], case["k"]) and b.shape == (case["k"], case["n"])
