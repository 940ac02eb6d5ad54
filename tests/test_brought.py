"""Operands that somebody brings: the case they are of, and what is said of those that are of none."""

import warnings

import numpy as np
import pytest
import scipy.sparse
import torch

from suite.brought import brought
from suite.case import from_id
from suite.op import OPS, discover_parts, make_operands
from suite.registry import Unusable
from suite.sparse import Sparse

discover_parts()

CASES = (
    "spmm/m=12,k=8,n=3/unstructured@0.5/float32/seed=0",
    "spmm_t/m=12,k=8,n=3/unstructured@0.5/bfloat16/seed=0",
    "sddmm/m=12,k=8,n=3/unstructured@0.5/float32/seed=0",
    "spgemm/m=12,k=8,p=5/unstructured@0.5/float32/seed=0",
    "sparse_step/m=12,k=8,n=3/unstructured@0.5/float32/seed=0",
    "mlp_epoch/m=16,k=8,n=3,steps=2/unstructured@0.5/float32/seed=0",
    "attention/h=4,g=2,n=32,d=8,b=8/unstructured@0.5/float32/seed=0",
    "attention_causal/h=2,g=2,n=32,d=8,b=8/unstructured@0.5/float32/seed=0",
    "decode/n=2,h=4,g=2,t=32,d=8,b=8/unstructured@0.5/float16/seed=0",
    "moe/n=6,e=4,d=8,f=5/unstructured@0.5/float32/seed=0",
    "actmm/m=12,k=8,n=3/unstructured@0.5/float32/seed=0",
    "actmm_up/m=12,k=8,n=3/unstructured@0.5/float32/seed=0",
    "moe_step/n=6,e=4,d=8,f=5/unstructured@0.5/float32/seed=0",
    "moa/n=6,e=4,d=8,g=2,f=5/unstructured@0.5/float32/seed=0",
    "sparse_low_rank/m=12,k=8,r=2,n=3/unstructured@0.5/float32/seed=0",
    "factored/m=16,k=16,n=3/unstructured@0.8/float32/seed=0",
)


@pytest.mark.parametrize("text", CASES)
def test_an_ops_own_operands_are_of_their_case(text):
    case = from_id(text)
    own = make_operands(case)
    there = [one.scipy() if case.dtype == "float32" and isinstance(one, Sparse) else one for one in own]
    made, operands = brought(case.op, there)
    assert (made.op, made.sizes, made.dtype) == (case.op, case.sizes, case.dtype)
    assert made.data.startswith("operand-") and made == brought(case.op, own)[0]
    for mine, drawn in zip(operands, own, strict=True):
        assert type(mine) is type(drawn)
        parts = ("starts", "columns", "values") if isinstance(drawn, Sparse) else ("data",)
        assert all(torch.equal(getattr(mine, part), getattr(drawn, part)) for part in parts)
    right = zip(*(parts_of(OPS[case.op].reference(*some)) for some in (operands, own)), strict=True)
    assert all(torch.equal(one, other) for one, other in right)


def parts_of(answer):
    return answer if isinstance(answer, tuple) else (answer,)


def csr(dense):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # torch calls its own layout young
        return dense.to_sparse_csr()


def test_a_matrix_may_come_in_any_form():
    dense = torch.eye(4) + torch.eye(4).roll(1, 0)
    b = torch.randn(4, 2)
    doubled = scipy.sparse.coo_array((np.ones(10), (np.r_[:4, 1, 2, 3, 0, 2, 2], np.r_[:4, :4, 3, 3])))
    forms = (
        dense,
        dense.numpy(),
        dense.to_sparse(),
        csr(dense),
        dense.bool(),
        scipy.sparse.csc_array(dense.numpy()),
    )
    cases = [brought("spmm", (form, b.requires_grad_()))[0] for form in forms]
    assert len(set(cases)) == 1
    assert brought("spmm", (doubled, b))[1][0].nonzeros == 9
    unsorted = scipy.sparse.csr_array(([1.0, 2.0], [1, 0], [0, 2]), shape=(1, 2))
    assert brought("spmm", (unsorted, b[:2]))[1][0].columns.tolist() == [0, 1]
    assert unsorted.indices.tolist() == [1, 0]  # it is the user's


def test_a_zero_that_is_stored_is_a_nonzero():
    stored = scipy.sparse.csr_array(([0.0, 2.0], [0, 1], [0, 2]), shape=(1, 2))
    assert brought("spmm", (stored, torch.ones(2, 1)))[1][0].nonzeros == 2


def test_an_array_may_run_backwards_or_be_read_only():
    given = np.arange(8, dtype=np.float32).reshape(4, 2)
    given.setflags(write=False)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        _, (_, b) = brought("spmm", (np.eye(4), given[::-1]))
    assert b.tolist() == given[::-1].tolist()
    b.zero_()
    assert given[1, 1] == 3


MASK, DY, X = torch.eye(6, 4), torch.ones(6, 2), torch.ones(4, 2)
ROUTE = torch.tensor([[1.0, 1, 0], [0, 0, 1]])
EXPERTS = (torch.ones(2, 8, 5), torch.ones(2, 5, 4), torch.ones(3, 5))
BLOCKS, Q = torch.ones(8, 4), torch.ones(2, 16, 8)

STRANGE = {
    "no op 'sddm'. Did you mean 'sddmm'": ("sddm", MASK, DY, X),
    "sddmm takes mask, dy, x; 2 operands were given": ("sddmm", MASK, DY),
    "x is 2 x 4; sddmm of m=6, k=4, n=2 takes it as 4 x 2": ("sddmm", MASK, DY, X.T),
    "dy is of dtype float64": ("sddmm", MASK, DY.double(), X),
    "x is torch.float16, the others are torch.float32": ("sddmm", MASK, DY, X.half()),
    "mask must be a matrix of torch, SciPy or NumPy, not ndarray of 4": ("sddmm", MASK[0], DY, X),
    "mask must be a matrix of torch, SciPy or NumPy, not str": ("sddmm", "mask", DY, X),
    "x must be a dense tensor, not csr_array of 6 x 4": ("sddmm", MASK, DY, scipy.sparse.csr_array(MASK)),
    "a is of dtype <U1; its numbers must be real": ("spmm", np.array([["a"]]), X),
    "a is of dtype complex64; its numbers must be real": ("spmm", MASK.cfloat(), X),
    "b is of dtype none": ("spmm", MASK, [[1.0]]),
    "these are no operands of spmm: a 6 x 4, b 4": ("spmm", MASK, X[:, 0]),
    "sizes are at least 1, got m=0": ("spmm", MASK[:0], X),
    "the route is not where the highest logits": ("moe", ROUTE, *EXPERTS, -ROUTE.T),
    "up is 2 x 7 x 5; moe of n=3": ("moe", ROUTE, EXPERTS[0][:, 1:], *EXPERTS[1:], ROUTE.T.contiguous()),
    "a is 7 x 4; attention of h=2, g=2, n=16, d=8, b=4 takes it as 8 x 4": ("attention", BLOCKS[:7], Q, Q, Q),
    "these are no operands of attention: a 8 x 0": ("attention", BLOCKS[:, :0], Q, Q, Q),
    "n=16 is not in whole blocks of b=5": ("attention", BLOCKS[:6, :3], Q, Q, Q),
    "h=2 heads cannot share g=3 alike": ("attention", BLOCKS, Q, torch.ones(3, 16, 8), torch.ones(3, 16, 8)),
    "attention_causal wants nonzeros of a elsewhere": ("attention_causal", BLOCKS, Q, Q, Q),
    "the pattern has values other than ones": ("sparse_step", 2 * MASK, torch.ones(4), X, DY),
    "values is 5; sparse_step of m=6": ("sparse_step", MASK, torch.ones(5), X, DY),
    "two whole layers": ("mlp_epoch", MASK, torch.ones(4), torch.ones(2, 4, 3)),
    "the operands of decode_pruned do not say": ("decode_pruned", MASK, X, X, X),
}


@pytest.mark.parametrize("says", STRANGE)
def test_what_is_of_no_case_is_refused_in_a_sentence(says):
    op, *given = STRANGE[says]
    with pytest.raises(Unusable) as refused:
        brought(op, given)
    assert says in str(refused.value) and str(refused.value).endswith(".")
