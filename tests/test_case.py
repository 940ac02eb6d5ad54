"""Case: its id says everything, parses back, and is told apart from what is no id."""

import pickle

import pytest
from hypothesis import given
from hypothesis import strategies as st

from suite.case import DTYPES, Case, case, from_id
from suite.op import discover_parts, make_operands
from suite.patterns.banded import Banded
from suite.patterns.block import Block
from suite.patterns.given import Given
from suite.patterns.n_of_m import NofM
from suite.patterns.stencil import Stencil
from suite.patterns.unstructured import Unstructured
from suite.patterns.v_n_of_m import VNofM
from suite.registry import Unusable

discover_parts()

sizes = st.integers(1, 10**9)
patterns = st.one_of(
    st.builds(Unstructured, st.floats(0, 1)),
    st.builds(Banded, st.floats(0, 1, allow_subnormal=False)),
    st.builds(Block, sizes, sizes, st.floats(0, 1)),
    st.builds(NofM, sizes, sizes),
    st.builds(VNofM, sizes, sizes, sizes),
)
cases = st.builds(
    lambda pattern, dtype, seed, m, k, n: case("spmm", pattern, dtype, seed, m=m, k=k, n=n),
    patterns,
    st.sampled_from(sorted(DTYPES)),
    st.integers(0, 2**63),
    sizes,
    sizes,
    sizes,
)


@given(cases)
def test_an_id_parses_back(one: Case) -> None:
    assert from_id(str(one)) == one and str(from_id(str(one))) == str(one)
    assert hash(from_id(str(one))) == hash(one)
    assert pickle.loads(pickle.dumps(one)) == one


@given(cases, cases)
def test_different_cases_have_different_ids(one: Case, other: Case) -> None:
    assert (str(one) == str(other)) == (one == other)


def test_the_id_is_this() -> None:
    plain = case("spmm", Unstructured(0.9), m=4096, k=4096, n=64)
    assert str(plain) == "spmm/m=4096,k=4096,n=64/unstructured@0.9/float32/seed=0"
    file = case("spmm", Given(), "bfloat16", 3, "ca-CondMat.mtx-1f3a9c02", m=2, k=2, n=1)
    assert str(file) == "spmm/m=2,k=2,n=1/given/bfloat16/seed=3/data=ca-CondMat.mtx-1f3a9c02"
    assert from_id(str(file)) == file


@pytest.mark.parametrize(
    "text",
    [
        "",
        "spmm",
        "spmm/m=4/unstructured@0.9/float32",
        "spmm/m=four/unstructured@0.9/float32/seed=0",
        "spmm/m/unstructured@0.9/float32/seed=0",
        "spmm/m=4=4/unstructured@0.9/float32/seed=0",
        "spmm/m=4/unstructured@0.9/float32/seed=x",
    ],
)
def test_what_is_no_id(text: str) -> None:
    with pytest.raises(Unusable, match=r"is not an id\. One looks like spmm/"):
        from_id(text)


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("spmm/m=4,k=4,n=1/unstructered@0.9/float32/seed=0", "no pattern 'unstructered@0.9'"),
        ("spmm/m=4,k=4,n=1/unstructured@0.9.9/float32/seed=0", "'0.9.9' is not a number"),
        ("spmm/m=4,k=4,n=1/unstructured@0.9/float31/seed=0", "dtype 'float31' is not one of float32, "),
        ("spmm/m=4,k=4,n=1/unstructured@0.9/float32/seed=-1", "seed -1 is negative"),
    ],
)
def test_an_id_that_names_what_is_not_there(text: str, says: str) -> None:
    with pytest.raises(Unusable) as told:
        from_id(text)
    assert says in str(told.value)


@pytest.mark.parametrize(
    ("one", "says"),
    [
        (case("spm", Unstructured(0.5), m=4, k=4, n=4), "no op 'spm'. Did you mean 'spmm'?"),
        (case("spmm", Unstructured(0.5), m=4, k=4), "n is missing"),
        (case("spmm", Unstructured(0.5), m=0, k=4, n=4), "sizes are at least 1, got m=0"),
        (case("spmm", Unstructured(1.5), m=4, k=4, n=4), "sparsity 1.5 is not between 0 and 1"),
        (case("spmm", Stencil(5), m=4, k=5, n=4), "m = k, not 4 and 5"),
        (case("spmm", Given(), m=4, k=4, n=4), "name the file with --matrix FILE"),
        (case("spmm", Given(), data="gone.mtx-00000000", m=4, k=4, n=4), "no file is known for the data"),
    ],
)
def test_a_case_that_cannot_be_made_says_why(one: Case, says: str) -> None:
    with pytest.raises(Unusable) as told:
        make_operands(one)
    assert says in str(told.value)


@pytest.mark.parametrize(
    ("n", "regime"),
    [
        (1, "decode"),
        (16, "decode"),
        (17, "small batch"),
        (256, "small batch"),
        (257, "prefill"),
        (8192, "prefill"),
    ],
)
def test_regimes(n: int, regime: str) -> None:
    assert case("spmm", Unstructured(0.9), m=4, k=4, n=n).regime == regime


def test_a_case_at_other_sizes() -> None:
    one = case("spmm", Unstructured(0.9), m=4, k=5, n=6)
    assert one.with_sizes(n=1) == case("spmm", Unstructured(0.9), m=4, k=5, n=1)


def test_a_case_makes_the_same_operands_each_time() -> None:
    one = case("spmm", Unstructured(0.9), m=40, k=50, n=6)
    (a, b), (again_a, again_b) = make_operands(one), make_operands(one)
    assert (a.dense == again_a.dense).all() and (b == again_b).all()
    other, _ = make_operands(case("spmm", Unstructured(0.9), seed=1, m=40, k=50, n=6))
    assert not (a.dense == other.dense).all()
    assert (a.values < 0).any() and (a.values > 0).any() and (b < 0).any() and (b > 0).any()
