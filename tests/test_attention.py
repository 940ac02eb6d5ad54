"""Attention over blocks: the reference is the textbook's, full is dense, and left out is left out."""

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from suite.case import case
from suite.check import check, question
from suite.cpu.device import Cpu
from suite.kernel import kernel
from suite.measure import Effort
from suite.op import OPS, discover_parts, faults, make_operands
from suite.ops import attention
from suite.patterns.unstructured import Unstructured
from suite.visit import Visit

discover_parts()

OPS_OF_IT = ("attention", "attention_causal")


def point(op, sparsity=0.5, dtype="float32", h=4, g=2, n=96, d=16, b=16, seed=0):
    return case(op, Unstructured(sparsity), dtype, seed, h=h, g=g, n=n, d=d, b=b)


def textbook(a, q, k, v, causal):
    """Every score, then minus infinity where none may be."""
    heads, n, d = q.shape
    size, across = n // a.shape[1], a.shape[1]
    kept = torch.zeros(heads, across, across, dtype=torch.bool)
    for row in range(a.shape[0]):
        for at in range(int(a.starts[row]), int(a.starts[row + 1])):
            kept[row // across, row % across, int(a.columns[at])] = True
    seen = kept.repeat_interleave(size, 1).repeat_interleave(size, 2)
    if causal:
        seen &= torch.ones(n, n, dtype=torch.bool).tril()
    k, v = (one.double().repeat_interleave(heads // len(one), 0) for one in (k, v))
    scores = (q.double() @ k.transpose(1, 2) / math.sqrt(d)).masked_fill(~seen, -torch.inf)
    return scores.softmax(-1).nan_to_num(0.0) @ v


@pytest.mark.parametrize("op", OPS_OF_IT)
@settings(max_examples=20, deadline=None)
@given(
    sparsity=st.sampled_from([0.0, 0.3, 0.9, 1.0]), seed=st.integers(0, 99), shared=st.sampled_from([1, 2, 4])
)
def test_the_reference_is_the_textbooks(op, sparsity, seed, shared):
    operands = make_operands(point(op, sparsity, seed=seed, g=4 // shared))
    found = OPS[op].reference(*operands)
    torch.testing.assert_close(found, textbook(*operands, op == "attention_causal"))


@pytest.mark.parametrize("op", OPS_OF_IT)
def test_all_blocks_kept_is_dense_attention(op):
    point_of_all = point(op, 0.0)
    a, q, k, v = make_operands(point_of_all)
    dense = torch.nn.functional.scaled_dot_product_attention(
        q[None].double(),
        k[None].double(),
        v[None].double(),
        is_causal=op == "attention_causal",
        enable_gqa=True,
    )[0]
    torch.testing.assert_close(OPS[op].reference(a, q, k, v), dense)
    assert question(point_of_all, (a, q, k, v)).whole.expected.equal(OPS[op].reference(a, q, k, v))


def test_a_causal_mask_has_its_diagonal_and_nothing_after_it():
    one = point("attention_causal", 0.9)
    a, *_ = make_operands(one)
    rows = torch.repeat_interleave(torch.arange(a.shape[0]), a.row_lengths) % a.shape[1]
    assert bool((a.columns <= rows).all())
    assert int((a.columns == rows).sum()) == a.shape[0]


@pytest.mark.parametrize("op", OPS_OF_IT)
def test_what_is_left_out_is_no_part_of_the_answer(op):
    a, q, k, v = make_operands(point(op, 0.7))
    before = OPS[op].reference(a, q, k, v)
    size = q.shape[1] // a.shape[1]
    for head in range(len(q)):
        seen = {int(column) for row in range(a.shape[1]) for column in row_of(a, head * a.shape[1] + row)}
        for block in set(range(a.shape[1])) - seen:
            if len(k) == len(q):
                k[head, block * size : (block + 1) * size] = 1e6
    torch.testing.assert_close(OPS[op].reference(a, q, k, v), before)


def row_of(a, row):
    return a.columns[int(a.starts[row]) : int(a.starts[row + 1])]


def test_flops_are_those_of_the_blocks():
    one = point("attention", 0.5)
    operands = make_operands(one)
    op = OPS["attention"]
    assert op.nominal(one, operands) == 4 * 4 * 96 * 96 * 16
    assert op.useful(one, operands) == 4 * operands[0].nonzeros * 16 * 16 * 16
    full = make_operands(point("attention_causal", 0.0))
    causal = OPS["attention_causal"]
    assert causal.useful(one, full) == causal.nominal(one, full) == 4 * 4 * (96 * 97 // 2) * 16


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
@pytest.mark.parametrize("op", OPS_OF_IT)
def test_eager_code_is_right_and_a_block_too_many_is_not(op, dtype):
    one = point(op, 0.5, dtype)
    asked = question(one, make_operands(one))
    causal = op == "attention_causal"
    assert check(attention.answer(*asked.operands, causal), asked) <= 1
    assert check(attention.answer(*asked.twin.operands, causal), asked.twin) <= 1
    with pytest.raises(Exception, match="should be"):
        check(attention.answer(*asked.whole.operands, causal), asked)


@pytest.mark.parametrize(
    ("sizes", "says"), [({"n": 100}, "n=100 is not in whole blocks of b=16"), ({"g": 3}, "cannot share g=3")]
)
def test_sizes_that_do_not_go_together_are_no_case(sizes, says):
    assert says in faults(point("attention", **sizes))[0]


def test_a_dense_kernel_answers_for_all_blocks_and_a_sparse_one_for_those_kept():
    @kernel(op="attention_causal", dense=True, keep=False)
    def dense(a, q, k, v):
        """All of it."""
        return lambda q, k, v: attention.answer(a, q, k, v, causal=True)

    @kernel(op="attention_causal", keep=False)
    def sparse(a, q, k, v):
        """Some of it."""
        return lambda q, k, v: attention.answer(a, q, k, v, causal=True)

    one = point("attention_causal", 0.9)
    lines = {
        each.kernel: each
        for each in Visit(Cpu(1), 1, effort=Effort(cap=0.01)).results("", one, (dense, sparse))
    }
    assert {each.outcome for each in lines.values()} == {"ok"}
    kept = make_operands(one)[0].nonzeros
    assert lines["sparse"].sparsity == pytest.approx(1 - kept / (4 * 6 * 7 / 2))
    assert lines["sparse"].flops_useful < lines["dense"].flops_nominal
