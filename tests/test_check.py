"""Checking: wrong answers are caught, however they are wrong, and right ones have room to spare."""

import numpy as np
import pytest
import torch

from suite.case import DTYPES, case
from suite.check import Wrong, check, poison, question
from suite.op import discover_parts, make_operands
from suite.ops.spmm import scaled
from suite.patterns.unstructured import Unstructured
from suite.sparse import Sparse, from_positions

discover_parts()

LARGE = {"m": 24, "k": 16384, "n": 8}


def asked(dtype="float32", sparsity=0.5, **sizes):
    one = case("spmm", Unstructured(sparsity), dtype, **(sizes or {"m": 16, "k": 32, "n": 8}))
    return question(one, make_operands(one))


def rounded(of):
    """The best answer there is: the reference, rounded once."""
    return of.expected.to(of.case.answer_dtype)


def product(of, a=None):
    """What a library computes, sums in float32."""
    own, b = of.operands
    return ((a or own).dense.float() @ scaled(b).float()).to(of.case.answer_dtype)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("sizes", [{"m": 64, "k": 1, "n": 64}, {"m": 64, "k": 64, "n": 64}, LARGE], ids=str)
def test_a_right_kernel_uses_less_than_the_tolerance(dtype, sizes):
    of = asked(dtype, 0.5 if sizes["k"] > 1 else 0.0, **sizes)
    assert check(rounded(of), of) < 1
    assert check(product(of), of) < 1
    assert check(product(of.twin), of.twin) < 1


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("sparsity", [0.0, 0.5, 0.99])
def test_an_answer_of_zeros_is_wrong_at_large_k(dtype, sparsity):
    of = asked(dtype, sparsity, **LARGE)
    with pytest.raises(Wrong, match=f"times the error {dtype} allows"):
        check(torch.zeros_like(rounded(of)), of)


@pytest.mark.parametrize("dtype", ["bfloat16", "float16"])
def test_sums_kept_in_sixteen_bits_are_wrong_at_large_k(dtype):
    of = asked(dtype, 0.0, m=4, k=4096, n=4)
    a, b = of.operands
    total = torch.zeros(4, 4, dtype=a.dtype)
    for at in range(a.shape[1]):
        total += torch.outer(a.dense[:, at], b[at])
    with pytest.raises(Wrong):
        check(total, of)


@pytest.mark.parametrize("dtype", DTYPES)
def test_a_nonzero_left_out_is_caught_at_small_k(dtype):
    of = asked(dtype)
    a, _ = of.operands
    largest = int(a.values.float().abs().argmax())
    values = a.values.clone()
    values[largest] = 0
    less = Sparse(a.starts, a.columns, values, a.shape, a.pattern)
    with pytest.raises(Wrong):
        check(product(of, less), of)


def test_the_answer_to_another_question_is_wrong():
    of = asked()
    with pytest.raises(Wrong):
        check(rounded(of), of.twin)


@pytest.mark.parametrize(
    ("spoil", "says"),
    [
        (lambda good: good.t(), "the answer is 8 x 16, should be 16 x 8"),
        (lambda good: good[:, 0], "the answer is 16, should be 16 x 8"),
        (lambda good: good.double(), r"the answer is torch\.float64, should be torch\.float32"),
        (lambda good: good.tolist(), "the answer is a list, should be a tensor"),
        (lambda good: None, "the answer is a NoneType, should be a tensor"),
        (
            lambda good: good.index_fill(0, torch.tensor(3), torch.nan),
            r"\[3, 0\] is nan, should be .* \(8 of 128",
        ),
        (lambda good: good + torch.inf, r"\[0, 0\] is inf"),
        (lambda good: -good, "times the error float32 allows"),
    ],
)
def test_what_is_wrong_is_said(spoil, says):
    of = asked()
    with pytest.raises(Wrong, match=says):
        check(spoil(rounded(of)), of)


def test_numpy_arrays_and_any_strides_will_do():
    of = asked()
    good = rounded(of)
    assert check(good.numpy(), of) == check(good.t().contiguous().t(), of) == check(good, of)


def test_poison_fills_what_it_is_given():
    for answer in (torch.ones(3), np.ones(3, np.float32), torch.ones(2, 2, dtype=torch.bfloat16)):
        poison(answer)
        assert np.isnan(np.asarray(answer if isinstance(answer, np.ndarray) else answer.float())).all()


def test_an_empty_row_may_only_be_zero():
    a = from_positions(np.array([0, 0, 1]), np.array([1]), torch.ones(1), (2, 3), Unstructured(0.8))
    of = question(case("spmm", a.pattern, m=2, k=3, n=2), (a, torch.ones(3, 2)))
    assert check(torch.tensor([[0.0, -0.0], [1, 1]]), of) == 0
    with pytest.raises(Wrong):
        check(torch.tensor([[1e-30, 0], [1, 1]]), of)
