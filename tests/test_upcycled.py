"""Upcycled: a dense layer beside its mixture of experts on the page, and routes that were recorded."""

import numpy as np
import pytest
import scipy.sparse
import torch
from test_batch_pages import experts, page_of, table, words

from suite.formats import routing
from suite.op import OPS, discover_parts, make_operands
from suite.patterns.given import Given
from suite.plan import cases_of
from suite.reading.routing import alone, routed
from suite.registry import Unusable, discover
from suite.workload import WORKLOADS

discover_parts()
discover(folders=("workloads",))

pytestmark = pytest.mark.paper("upcycling-inference")


def test_every_mixture_is_beside_the_layer_it_is_made_of():
    for extent in ("smoke", "default", "full"):
        cases = list(WORKLOADS["upcycled"].cases(extent))
        layers = {(one["n"], one["d"], one["f"]) for one in cases if one["e"] == 1}
        assert layers == {(one["n"], one["d"], one["f"]) for one in cases if one["e"] > 1}


def test_the_page_says_how_much_slower_a_mixture_is_than_its_layer(tmp_path):
    """The layer by whatever kernel is fastest: moe_padded, in 1 / 1.2 of the time of the mixture."""
    lines = [one for n in (16, 64) for one in experts(n, asked=2, held=8, traces={"zipf0": 1.2})]
    lines += [one for n in (16, 64) for one in experts(n, asked=1, held=1, traces={"zipf0": 1.0}, scale=0.6)]
    rows = routed(*table(tmp_path, *lines))
    found = alone(rows, rows[rows["experts"] == 8])
    assert list(found["n"]) == [16, 64] and set(found["kernel"]) == {"moe_padded"}
    text = words(page_of("routing", tmp_path, *lines))
    assert "one expert alone, a dense layer" in text
    assert "the fastest here / one expert alone 1.2x 1.2x" in text


def recorded(folder, e=16, n=60, top=3):
    """A file of routes as a model may have made them."""
    rng = np.random.default_rng(0)
    rows = np.concatenate([rng.choice(e, top, replace=False) for _ in range(n)])
    route = scipy.sparse.coo_array(
        (rng.random(len(rows)), (rows, np.repeat(np.arange(n), top))), shape=(e, n)
    )
    scipy.sparse.save_npz(folder / "routes.npz", route)
    return folder / "routes.npz", torch.from_numpy(route.toarray() > 0)


def test_recorded_routes_stand_in_for_those_that_are_drawn(tmp_path):
    file, route = recorded(tmp_path)
    cases = cases_of(WORKLOADS["moe"], "default", {}, (), [str(file)])
    assert {one.op for one in cases} == {"moe", "moe_step"} and len(set(cases)) == len(cases)
    for one in cases:
        assert (one["e"], one["n"]) == route.shape and isinstance(one.pattern, Given)
    small = min(cases, key=lambda one: one["d"]).with_sizes(d=8, f=4)
    operands = make_operands(small)
    gates = routing.dense(operands[4], routing.most(operands[0]))
    assert torch.equal(gates.t() > 0, route)
    assert not OPS[small.op].objections(operands)


def test_a_workload_without_experts_takes_no_routes(tmp_path):
    file, _ = recorded(tmp_path)
    assert not cases_of(WORKLOADS["nm"], "default", {}, (), [str(file)])
    with pytest.raises(Unusable, match="there is no file"):
        cases_of(WORKLOADS["moe"], "default", {}, (), [str(tmp_path / "none.npz")])
