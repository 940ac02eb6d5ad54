"""Sparse times sparse: what the op asks, what each dataflow answers, and what it fetches and stores."""

from pathlib import Path

import numpy as np
import pytest
import scipy.io
import scipy.sparse
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from suite import conformance, native
from suite.case import case
from suite.check import Wrong, check, question
from suite.conformance import Trial, cases_for, examine
from suite.cpu.device import Cpu
from suite.kernel import KERNELS, Refused, kernel
from suite.op import OPS, discover_parts, make_operands
from suite.ops.spgemm import multiplications
from suite.patterns.given import Given
from suite.patterns.rmat import Rmat
from suite.patterns.stencil import Stencil
from suite.patterns.unstructured import Unstructured
from suite.plan import cases_of
from suite.registry import discover
from suite.sparse import Sparse, from_positions
from suite.workload import WORKLOADS

pytestmark = pytest.mark.paper("smash")

discover_parts()
discover(folders=("kernels", "workloads"))

OURS = ("spgemm_hash", "spgemm_inner", "spgemm_outer")
EVERY = [name for name, one in KERNELS.items() if one.op == "spgemm"]
HASH = Path(conformance.__file__).parent.parent / "kernels/spgemm/spgemm_hash.cpp"

compiled = pytest.mark.skipif(bool(native.missing()), reason="; ".join(native.missing()))
each_of_ours = pytest.mark.parametrize("name", OURS)

POWER_LAW = [case("spgemm", Rmat(sparsity), m=600, k=600, p=600) for sparsity in (0.9, 0.99, 0.999)]


@pytest.fixture(scope="module")
def device():
    return Cpu()


@pytest.fixture
def threads():
    """Set how many there are; they are as before afterwards."""
    before = torch.get_num_threads()
    yield torch.set_num_threads
    torch.set_num_threads(before)


def sparse(dense):
    """A matrix whose stored positions are where `dense` is not NaN."""
    rows, columns = np.nonzero(~np.isnan(dense))
    starts = np.searchsorted(rows, np.arange(len(dense) + 1))
    values = torch.from_numpy(dense[rows, columns].astype(np.float32))
    return from_positions(starts, columns, values, dense.shape, Given())


def scattered(m, k, nonzeros, seed, values=(-1.0, 1.0, 2.0)):
    """So many draws of a position, wherever; values such that sums cancel."""
    rng = np.random.default_rng(seed)
    flat = np.unique(rng.integers(0, m * k, nonzeros))
    starts = np.searchsorted(flat // k, np.arange(m + 1))
    drawn = torch.from_numpy(rng.choice(values, len(flat)).astype(np.float32))
    return from_positions(starts, flat % k, drawn, (m, k), Given())


def asked(a, b):
    sizes = {"m": a.shape[0], "k": a.shape[1], "p": b.shape[1]}
    return question(case("spgemm", Given(), data="made up", **sizes), (a, b))


def answered(name, a, b):
    """The answer in SciPy's rows, columns in order, and what the kernel notes."""
    made = KERNELS[name].prepare(a, b)
    starts, columns, values = (part.numpy().copy() for part in made.run(a, b))
    shape = a.shape[0], b.shape[1]
    return scipy.sparse.csr_array((values, columns, starts), shape=shape).tocsc().tocsr(), made.note


# The op.


def test_the_sizes_say_what_the_other_operand_is():
    a, b = make_operands(case("spgemm", Rmat(0.9), m=40, k=40, p=40))
    assert torch.equal(a.dense, b.dense) and a.values.data_ptr() != b.values.data_ptr()
    a, b = make_operands(case("spgemm", Rmat(0.9), m=40, k=30, p=40))
    assert torch.equal(a.dense.T, b.dense)
    a, b = make_operands(case("spgemm", Stencil(5), m=40, k=40, p=300))
    assert b.shape == (40, 300) and b.sparsity == pytest.approx(a.sparsity, abs=1e-3)
    assert make_operands(case("spgemm", Stencil(5), m=40, k=40, p=300))[1].values.equal(b.values)


@pytest.mark.parametrize("sizes", [(17, 17, 17), (17, 40, 17), (17, 40, 23)], ids=str)
def test_the_twin_is_another_product_with_its_answer(sizes):
    one = case("spgemm", Rmat(0.8), **dict(zip("mkp", sizes, strict=True)))
    posed = question(one, make_operands(one))
    twin = posed.twin
    a, b = (operand.dense.double() for operand in twin.operands)
    found = OPS["spgemm"].settle(a @ b, twin.expected)
    assert torch.equal(found[0], twin.expected[0]) and torch.equal(found[1], twin.expected[1].long())
    assert torch.allclose(found[2], twin.expected[2], atol=1e-12)
    assert not torch.equal(twin.expected[0], posed.expected[0])


def test_a_position_is_stored_where_products_cancel():
    nothing = np.nan
    a, b = sparse(np.array([[1.0, 1.0], [nothing, 0.0]])), sparse(np.array([[2.0, nothing], [-2.0, 3.0]]))
    starts, columns, values = asked(a, b).expected
    assert starts.tolist() == [0, 2, 4] and columns.tolist() == [0, 1, 0, 1]
    assert values.tolist() == [0.0, 3.0, 0.0, 0.0]


def test_answers_come_in_the_forms_that_libraries_have():
    posed = asked(a := scattered(20, 30, 200, 0), b := scattered(30, 25, 200, 1))
    starts, columns, values = posed.expected
    at, order = int(starts.diff().argmax()), torch.arange(len(columns))
    order[starts[at] : starts[at + 1]] = order[starts[at] : starts[at + 1]].flip(0)
    numbers = values.float()
    for form in (
        (starts, columns, numbers),
        (starts.int(), columns[order].long(), numbers[order]),
        (starts.numpy(), columns.numpy(), numbers.numpy()),
        a.scipy() @ b.scipy(),
        (a.scipy() @ b.scipy()).tocoo(),
        a.dense @ b.dense,
        torch.sparse_csr_tensor(starts, columns.long(), numbers, size=(20, 25), check_invariants=True),
    ):
        assert check(form, posed) <= 1


@pytest.mark.parametrize("form", ["rows", "scipy", "dense"])
def test_an_answer_with_too_much_or_too_little_is_wrong(form):
    a = sparse(np.array([[1.0, np.nan], [np.nan, 1.0]]))
    posed = asked(a, a.clone())
    more, less = np.array([[1.0, 0.5], [0, 1.0]], np.float32), np.array([[1.0, 0], [0, 0]], np.float32)
    for dense in (more, less):
        kept = scipy.sparse.csr_array(dense)
        wrong = {
            "rows": (kept.indptr, kept.indices, kept.data),
            "scipy": kept,
            "dense": torch.from_numpy(dense),
        }
        with pytest.raises(Wrong, match=r"(starts|columns|values)\["):
            check(wrong[form], posed)


@pytest.mark.parametrize(
    "broken", [None, (1, 2), ([0, 5, 2], [0, 1], [1.0, 1.0]), ([0, 1, 2], [-1, 1], [1.0, 1.0])]
)
def test_what_is_no_matrix_is_wrong(broken):
    a = sparse(np.array([[1.0, np.nan], [np.nan, 1.0]]))
    parts = tuple(map(torch.tensor, broken)) if broken and len(broken) == 3 else broken
    with pytest.raises(Wrong):
        check(parts, asked(a, a.clone()))


def test_a_row_that_is_left_out_is_seen_among_long_ones():
    """The tolerance of a sum follows its own terms, not those of the longest row."""
    a, b = make_operands(case("spgemm", Rmat(0.9), m=300, k=300, p=300))
    posed = question(case("spgemm", Rmat(0.9), m=300, k=300, p=300), (a, b))
    starts, columns, values = posed.expected
    single = (b.dense != 0).float()
    lone = int(((a.dense != 0).float() @ single)[rows_of(starts), columns.long()].eq(1).nonzero()[0])
    values = values.float()
    values[lone] *= 1.0001
    with pytest.raises(Wrong):
        check((starts, columns, values), posed)


def rows_of(starts):
    return torch.arange(len(starts) - 1).repeat_interleave(starts.diff())


def keeping_where(a, b):
    """Symbolic once, numeric each time: right until something else is stored."""
    kept = a.scipy().astype(bool) @ b.scipy().astype(bool)
    rows = np.repeat(np.arange(a.shape[0]), np.diff(kept.indptr))
    return lambda a, b: (kept.indptr, kept.indices, (a.dense @ b.dense).numpy()[rows, kept.indices])


@pytest.mark.parametrize("pattern", [Rmat(0.9), Stencil(9)], ids=str)
def test_a_symbolic_phase_that_is_kept_is_found_out(pattern, device):
    one = kernel(op="spgemm", keep=False)(keeping_where)
    assert examine(one, Trial(case("spgemm", pattern, m=60, k=60, p=60)), device).outcome == "wrong"


def test_a_file_meets_itself_if_it_is_square_and_else_its_transpose(tmp_path):
    for name, shape in (("square", (5, 5)), ("oblong", (5, 7))):
        scipy.io.mmwrite(tmp_path / f"{name}.mtx", scipy.sparse.random_array(shape, density=0.5))
    files = [str(tmp_path / f"{name}.mtx") for name in ("square", "oblong")]
    found = cases_of(WORKLOADS["spgemm"], "default", {}, files)
    assert [dict(one.sizes) for one in found] == [{"m": 5, "k": 5, "p": 5}, {"m": 5, "k": 7, "p": 5}]
    a, b = make_operands(found[1])
    assert torch.equal(a.dense.T, b.dense)


# The kernels.


@pytest.mark.parametrize("name", EVERY)
@pytest.mark.parametrize("one", POWER_LAW, ids=str)
def test_pattern_and_values_are_those_of_scipy(one, name, device):
    if reasons := KERNELS[name].refusals(one, device):
        pytest.skip("; ".join(reasons))
    a, b = make_operands(one)
    for operand in (a, b):
        operand.values.abs_().add_(0.1)  # nothing cancels, so SciPy leaves nothing out
    expected = (a.scipy(float) @ b.scipy(float)).tocsc().tocsr()
    posed = question(one, (a, b))
    assert np.array_equal(posed.expected[0], expected.indptr)
    assert np.array_equal(posed.expected[1], expected.indices)
    assert np.allclose(posed.expected[2], expected.data, rtol=1e-12)
    check(KERNELS[name].prepare(a, b).run(a, b), posed)


@compiled
@each_of_ours
@settings(deadline=None, max_examples=60)
@given(
    sizes=st.tuples(*[st.integers(1, 40)] * 2, st.sampled_from((1, 7, 30, 64, 500, 3000))),
    nonzeros=st.tuples(*[st.integers(0, 150)] * 2),
    seed=st.integers(0, 2**16),
)
def test_any_two_matrices(name, sizes, nonzeros, seed):
    """Few and many nonzeros, empty rows, and sums that cancel to nothing, which are stored all the same."""
    m, k, p = sizes
    a, b = scattered(m, k, nonzeros[0], seed), scattered(k, p, nonzeros[1], seed + 1)
    check(KERNELS[name].prepare(a, b).run(a, b), asked(a, b))


@compiled
@each_of_ours
def test_other_matrices_of_the_same_sizes_may_be_larger(name):
    """Memory is kept between calls, and grows with what there is."""
    made = KERNELS[name].prepare(a := scattered(50, 60, 100, 0), b := scattered(60, 70, 100, 1))
    for seed, nonzeros in enumerate((100, 3000, 10, 2000, 0)):
        a, b = scattered(50, 60, nonzeros, seed), scattered(60, 70, nonzeros, seed + 100)
        check(made.run(a, b), asked(a, b))


@compiled
@each_of_ours
@pytest.mark.parametrize(
    "one", [*POWER_LAW, case("spgemm", Unstructured(0.99), m=2000, k=300, p=2000)], ids=str
)
def test_rows_in_another_order_and_threads_change_nothing(one, name, threads):
    a, b = make_operands(one)
    threads(1)
    alone, _ = answered(name, a, b)
    order = np.random.default_rng(0).permutation(a.shape[0])
    threads(3)
    shuffled = a.scipy()[order]
    moved = Sparse(
        *(torch.from_numpy(x) for x in (shuffled.indptr, shuffled.indices, shuffled.data)), a.shape, a.pattern
    )
    together, _ = answered(name, moved, b)
    expected = alone[order]
    assert np.array_equal(together.indptr, expected.indptr)
    assert np.array_equal(together.indices, expected.indices)
    bound = (abs(a.scipy(float)) @ abs(b.scipy(float))).max()
    assert np.abs(together.data - expected.data).max() < 1e-5 * bound


@compiled
@pytest.mark.parametrize("one", POWER_LAW, ids=str)
def test_what_each_dataflow_fetches_and_stores(one):
    a, b = make_operands(one)
    notes = {name: answered(name, a, b)[1] for name in OURS}
    rowwise, inner, outer = (notes[name] for name in OURS)
    products = multiplications(a, b)
    assert rowwise["fetched"] == 8 * (a.nonzeros + products)
    assert outer["fetched"] == 8 * (a.nonzeros + b.nonzeros)
    assert outer["intermediate"] == 8 * products
    assert rowwise["intermediate"] == inner["intermediate"] == 0
    assert rowwise["fetched"] < inner["fetched"]
    assert rowwise["intermediate"] < outer["intermediate"]
    assert KERNELS["spgemm_hash"].prepare(a, b).run(a, b)[0][-1] * float(
        rowwise["compression"]
    ) == pytest.approx(products, rel=0.01)


@compiled
def test_rows_meet_in_a_table_where_columns_are_far_apart_and_collisions_are_counted():
    a, b = scattered(100, 100, 500, 0), scattered(100, 100_000, 2000, 1)
    _, note = answered("spgemm_hash", a, b)
    assert note["hashed"] == "100%" and note["collisions"] > 0
    a, b = make_operands(case("spgemm", Stencil(9), m=400, k=400, p=400))
    _, note = answered("spgemm_hash", a, b)
    assert note["hashed"] == "0%" and note["collisions"] == 0


@compiled
def test_a_product_that_underflows_is_stored():
    """-0.0 marks a sum that no product has reached."""
    row = np.full((1, 40), -1e-30)
    a, b = sparse(np.array([[1e-30]])), sparse(row)
    starts, columns, values = KERNELS["spgemm_hash"].prepare(a, b).run(a, b)
    assert starts.tolist() == [0, 40] and columns.tolist() == list(range(40)) and not values.any()
    a, b = sparse(np.array([[-0.0]])), sparse(np.full((1, 5), 3.0))
    assert KERNELS["spgemm_hash"].prepare(a, b).run(a, b)[0].tolist() == [0, 5]


@compiled
@pytest.mark.parametrize(
    "flags", [("-mno-avx512f",), ("-mno-avx512f", "-mno-avx2", "-mno-fma", "-mno-avx")], ids=" ".join
)
def test_hashing_is_right_for_lesser_processors(flags, device):
    if device.isa and "avx2" not in device.isa:
        pytest.skip("these are flags for x86 with AVX2")
    module = pytest.importorskip("suite.kernels.spgemm.spgemm_hash")
    library = native.load(HASH, "-ffp-contract=off", *flags)
    assert library.lanes() == 1

    @kernel(op="spgemm", keep=False)
    def lesser(a, b):
        return module.prepare(a, b, library)

    verdicts = [examine(lesser, trial, device) for trial in cases_for(lesser)]
    assert {one.outcome for one in verdicts} == {"ok"}, [one for one in verdicts if one.outcome != "ok"][:3]
    check(lesser.prepare(*(pair := make_operands(POWER_LAW[2]))).run(*pair), question(POWER_LAW[2], pair))


def test_dataflows_are_refused_where_their_cost_is_absurd(device):
    graph = case("spgemm", Rmat(0.9999), m=50_000, k=50_000, p=50_000)
    assert "billion pairs of blocks; the limit is 2.1" in KERNELS["spgemm_inner"].refusals(graph, device)[-1]
    assert "needs the dense form" in KERNELS["spgemm_dense_mm"].refusals(graph, device)[0]
    many = case("spgemm", Rmat(0.9999), m=9000, k=9000, p=9000)
    assert "1,458 GFLOP; the limit is 275" in KERNELS["spgemm_dense_mm"].refusals(many, device)[0]
    a = scattered(20_000, 20, 300_000, 0)
    if native.missing():
        pytest.skip("; ".join(native.missing()))
    b = scattered(20, 20_000, 300_000, 1)
    with pytest.raises(Refused, match=r"stores every product, which takes .* GiB; the limit is 1 GiB"):
        KERNELS["spgemm_outer"].prepare(a, b)


def test_the_dense_form_is_that_of_the_operands_at_hand():
    made = KERNELS["spgemm_dense_mm"].prepare(*make_operands(POWER_LAW[0]))
    a, b = make_operands(POWER_LAW[1])
    assert torch.equal(made.run(a, b), a.dense @ b.dense)
    assert a.dense.data_ptr() in [one.data_ptr() for one in made.holds[0]]
