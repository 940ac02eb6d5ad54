"""Claims: numbers of any library settle into ints, and what cannot be is said."""

import numpy as np
import pytest
import torch

from suite.case import case
from suite.check import question
from suite.claims import claims, faults
from suite.kernel import Prepared
from suite.op import discover_parts, make_operands
from suite.patterns.unstructured import Unstructured

discover_parts()


@pytest.fixture(scope="module")
def asked():
    made = case("spmm", Unstructured(0.5), m=16, k=8, n=4)
    return question(made, make_operands(made))  # 64 nonzeros: 512 useful FLOPs, 256 bytes


@pytest.mark.parametrize("stated", [7, np.int64(7), 7.0, np.float32(7), torch.tensor(7), lambda: np.int32(7)])
def test_a_number_becomes_an_int(stated):
    settled = claims(Prepared(print, executed=stated, note={"tile": 4, "lanes": 8}))
    assert type(settled.executed) is int and settled.executed == 7
    assert (settled.values, settled.metadata, settled.algorithm) == (None, None, "tile=4 lanes=8")


@pytest.mark.parametrize("stated", [7.5, "7", float("inf"), [7]])
def test_a_number_that_is_not_whole_is_told_so(stated):
    with pytest.raises(TypeError, match=r"it states values=.*; give a whole number, or None"):
        claims(Prepared(print, values=stated))


def test_a_negative_number_is_told_so():
    with pytest.raises(ValueError, match="it states metadata=-1; give a number that is not negative"):
        claims(Prepared(print, metadata=-1))


def test_nothing_stated_is_nothing_claimed(asked):
    made = Prepared(print)
    settled = claims(made)
    assert (settled.executed, settled.algorithm) == (None, None)
    assert faults(settled, made, asked) == []


HELD = torch.zeros(64)


@pytest.mark.parametrize(
    ("made", "says"),
    [
        (Prepared(print, 512, 256, 0, (HELD,)), []),
        (Prepared(print, 511), ["it states 511 FLOPs executed; the nonzeros alone are 512"]),
        (
            Prepared(print, None, 200, 55, (HELD,)),
            ["it states 255 bytes of values and metadata; the nonzeros alone are 256"],
        ),
        (
            Prepared(print, None, 256, 8, (HELD,)),
            [
                "it states 264 bytes of values and metadata, yet holds 256; "
                "name each buffer in holds, or state hidden=True"
            ],
        ),
        (Prepared(print, None, 256, 8, (HELD,), hidden=True), []),
    ],
)
def test_what_cannot_be_is_said(made, says, asked):
    assert faults(claims(made), made, asked) == says


def test_what_cannot_be_flushed_is_said(asked):
    made = Prepared(print, holds=(object(),))
    assert faults(claims(made), made, asked)[0].startswith("it holds what cannot be flushed: a object")
