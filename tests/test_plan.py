"""The plan: what is measured, in which order, and how axes are replaced."""

import pytest

from suite import plan as planning
from suite.case import case
from suite.kernel import KERNELS
from suite.op import discover_parts
from suite.patterns.n_of_m import NofM
from suite.patterns.unstructured import Unstructured
from suite.plan import coarse_to_fine, parse_axes, plan, spread, without
from suite.registry import Unusable, discover
from suite.workload import WORKLOADS

discover_parts()
discover()


def at(sparsity, n=64, dtype="float32"):
    return case("spmm", Unstructured(sparsity), dtype, m=128, k=128, n=n)


def order(*cases):
    return [one for _, one in coarse_to_fine([("made up", one) for one in cases])]


def test_the_anchor_comes_whole_and_its_first_points_first():
    anchor = [at(s) for s in (0.3, 0.5, 0.7, 0.9, 0.95, 0.99)]
    assert order(*anchor) == [at(s) for s in (0.5, 0.9, 0.7, 0.95, 0.3, 0.99)]


def test_other_lines_follow_with_their_first_points_and_the_rest_comes_last():
    cases = [at(s, n) for n in (64, 1, 512) for s in (0.3, 0.5, 0.9)]
    found = order(*cases)
    assert found[:3] == [at(0.5), at(0.9), at(0.3)]
    assert found[3:7] == [at(0.5, 1), at(0.9, 1), at(0.5, 512), at(0.9, 512)]
    assert found[7:] == [at(0.3, 1), at(0.3, 512)]


def test_a_line_of_groups_is_ranked_by_the_sparsity_they_have():
    patterns = [NofM(1, 16), NofM(1, 4), NofM(2, 4), NofM(1, 8)]
    cases = [case("spmm", one, m=128, k=128, n=64) for one in patterns]
    assert [str(one.pattern) for one in order(*cases)] == ["2:4", "1:16", "1:4", "1:8"]


def test_workloads_take_turns_so_that_a_cut_leaves_some_of_each():
    items, some = plan([], "default"), len(WORKLOADS)
    assert [item.workload for item in items[:some]] == list(WORKLOADS)
    assert {item.workload for item in items[some : 2 * some]} == set(WORKLOADS)
    named = {item.workload: item.case for item in items[:some]}
    weights = [named[name] for name in ("unstructured", "nm", "block")]
    assert [case.pattern.sparsity_of(case["m"], case["k"]) for case in weights] == [0.5, 0.5, 0.5]


@pytest.mark.parametrize("extent", ["smoke", "default"])
def test_every_case_is_planned_once_and_has_a_baseline(extent):
    items = plan([], extent)
    assert len({item.case for item in items}) == len(items)
    assert all(any(KERNELS[name].dense for name in item.kernels) for item in items)


def test_kernels_of_the_full_extent_stay_out_of_others_unless_named():
    assert not any("spmm_dense_compiled" in item.kernels for item in plan([], "smoke"))
    assert all(item.kernels == ("spmm_dense_compiled",) for item in plan([], "smoke", kernels="*_compiled"))


@pytest.mark.parametrize(
    ("axis", "values", "expected"),
    [
        ("n", ["1", "8"], [at(0.5, 1), at(0.5, 8)]),
        ("sparsity", ["0.1"], [at(0.1)]),
        ("dtype", ["bfloat16"], [at(0.5, dtype="bfloat16")]),
        ("pattern", ["2:4"], [case("spmm", NofM(2, 4), m=128, k=128, n=64)]),
        ("heads", ["3"], [at(0.5)]),
    ],
)
def test_an_axis_is_replaced_where_there_is_one(axis, values, expected):
    assert spread(at(0.5), axis, values) == expected


def test_workloads_without_the_axis_are_named():
    items = [planning.Item("a", at(0.5), ()), planning.Item("b", case("spmm", NofM(2, 4), m=4, k=4, n=4), ())]
    assert without(items, ["sparsity", "n"]) == {"sparsity": ["b"], "n": []}


@pytest.mark.parametrize("text", ["n", "n=", "=4", "n=1,,2"])
def test_an_axis_without_values_is_a_mistake(text):
    with pytest.raises(Unusable, match="write an axis and its values"):
        parse_axes([text])
