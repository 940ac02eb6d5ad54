"""Structured weights: Monarch's factors and the nearest ones, sparse plus low rank, and what they cost."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from interpreter import begun, ended
from vendors import Gpu

from suite.case import case, from_id
from suite.check import Wrong, check, question
from suite.conformance import cases_for, examine
from suite.cpu.device import Cpu
from suite.formats import monarch
from suite.formats.factors import factors, product
from suite.formats.low_rank import added
from suite.kernel import KERNELS, Refused
from suite.op import OPS, discover_parts, faults, make_operands
from suite.patterns.butterfly import Butterfly
from suite.patterns.monarch import Monarch
from suite.patterns.unstructured import Unstructured
from suite.plan import on_matrices
from suite.registry import discover
from suite.sparse import from_positions
from suite.stated import ledger

discover_parts()
discover(folders=("kernels",))

monarchs = pytest.mark.paper("monarch")
pixelfly = pytest.mark.paper("pixelfly")
# Blocks, groups, hidden numbers of a slice, outputs of a group.
cuts = st.tuples(*(st.integers(2, 4),) * 2, st.integers(1, 3), st.integers(6, 9))
SEEDS = range(3)


def drawn(*shape, seed=0, dtype=torch.float64):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=dtype)


def factored(blocks, groups, rank, outputs, seed=0):
    """A case's operands, with so many hidden numbers a slice and outputs a group."""
    k = blocks * groups * rank
    of = case("factored", Monarch(blocks, groups), m=groups * outputs, k=k, n=3, seed=seed)
    return of, make_operands(of)


# The format


@monarchs
@given(cuts)
@settings(max_examples=20, deadline=None)
def test_blocks_hold_the_factors_and_give_them_back(cut):
    of, (a, x) = factored(*cut)
    held, (m, k) = monarch.blocks(a), (of["m"], of["k"])
    back = monarch.unblocks(held, a.pattern)
    assert all(torch.equal(getattr(back, one), getattr(a, one)) for one in ("starts", "columns", "values"))
    upper, lower = (one.rows_dense(0, one.shape[0], torch.float64) for one in factors(a))
    wide = monarch.Blocks(held.right.double(), held.left.double())
    assert held.shape == (m, k) and held.rank == cut[2]
    torch.testing.assert_close(wide.dense, lower @ upper)
    torch.testing.assert_close(wide.multiply(x.double()), lower @ (upper @ x.double()))
    assert product(a).equal((lower @ upper).float())


@monarchs
@given(cuts)
@settings(max_examples=20, deadline=None)
def test_parameters_and_flops_are_those_of_the_formula(cut):
    of, operands = factored(*cut)
    (blocks, groups, *_), m, k = cut, of["m"], of["k"]
    kept = k * k // blocks + m * k // groups
    assert monarch.blocks(operands[0]).parameters == operands[0].nonzeros == kept
    stated = ledger(of, operands)
    assert stated["flops_useful"] == 2 * kept * of["n"]
    assert stated["sparsity"] == pytest.approx(1 - k / m / blocks - 1 / groups)
    assert stated["flops_nominal"] == 2 * m * k * of["n"]


def test_the_square_with_as_many_blocks_as_each_has_rows_has_two_n_root_n():
    assert Monarch(64, 64).count(2 * 4096, 4096) == 2 * 4096 * 64


def test_nonzeros_elsewhere_are_no_monarch():
    _, (a, _) = factored(2, 2, 1, 3)
    columns = a.columns.numpy().copy()
    columns[-1] -= 1
    with pytest.raises(Refused, match="do not stand where monarch2x2 has them"):
        monarch.blocks(from_positions(a.starts.numpy(), columns, a.values, a.shape, a.pattern))


def test_factors_that_save_nothing_are_no_case():
    of = from_id("factored/m=8,k=64,n=1/unstructured@0.5/float32/seed=0")
    assert faults(of) == ["factors of unstructured@0.5 have 2304 nonzeros; their product has 512 numbers"]
    assert not faults(of.with_sizes(m=64))


def test_a_matrix_of_ones_own_is_not_taken_for_two_factors(tmp_path):
    file = tmp_path / "own.mtx"
    file.write_text("%%MatrixMarket matrix coordinate real general\n3 3 1\n1 2 1.0\n")
    asked = [case("factored", Monarch(2, 2), m=4, k=4, n=1)]
    asked += [case("sparse_low_rank", Butterfly(4), m=4, k=4, r=2, n=1)]
    assert [one.op for one in on_matrices(asked, [str(file)])] == ["sparse_low_rank"]


# The projection


@monarchs
@pytest.mark.parametrize("rank", [1, 2, 3])
def test_what_a_projection_leaves_is_what_was_cut_of_the_slices(rank):
    dense = drawn(20, 24)
    near = monarch.project(dense, 4, 5, rank)
    cut = [torch.linalg.svdvals(dense[g::5, 6 * b : 6 * b + 6])[rank:] for g in range(5) for b in range(4)]
    left = torch.cat(cut).square().sum()
    torch.testing.assert_close((dense - near.dense).square().sum(), left)
    assert near.parameters == rank * (5 * 24 + 4 * 20)


@monarchs
@given(cuts, st.integers(0, 99))
@settings(max_examples=20, deadline=None)
def test_the_projection_of_a_monarch_matrix_is_itself(cut, seed):
    blocks, groups, rank, outputs = cut
    right = drawn(blocks, groups * rank, rank + 2, seed=seed)
    planted = monarch.Blocks(right, drawn(groups, outputs, blocks * rank, seed=seed + 1))
    found = monarch.project(planted.dense, blocks, groups, rank)
    torch.testing.assert_close(found.dense, planted.dense)


def test_nothing_is_cut_of_slices_of_full_rank():
    dense = drawn(20, 24)
    torch.testing.assert_close(monarch.project(dense, 4, 5, 99).dense, dense)


@monarchs
@pytest.mark.parametrize(("first", "second"), [(8, 8), (4, 6)])
def test_the_fourier_transform_is_one_but_for_the_order_of_its_inputs(first, second):
    n = first * second
    each = torch.arange(n)
    angle = -2 * torch.pi * (each[:, None] * each % n) / n
    transform = torch.complex(angle.cos(), angle.sin()).to(torch.complex128)
    dealt = transform[:, each.view(second, first).T.flatten()]
    left = lambda dense: (monarch.project(dense, first, second, 1).dense - dense).abs().max()  # noqa: E731
    assert left(dealt) < 1e-4 < 0.1 < left(transform)


@monarchs
@pytest.mark.parametrize("seed", SEEDS)
def test_no_descent_finds_a_nearer_one(seed):
    dense = drawn(12, 12, seed=seed)
    best = (monarch.project(dense, 3, 4, 1).dense - dense).square().sum()
    right = drawn(3, 4, 4, seed=seed + 10).requires_grad_()
    left = drawn(4, 3, 3, seed=seed + 20).requires_grad_()
    optimizer = torch.optim.LBFGS([right, left], max_iter=300, line_search_fn="strong_wolfe")

    def loss():
        optimizer.zero_grad()
        error = (monarch.Blocks(right, left).dense - dense).square().sum()
        error.backward()
        return error

    optimizer.step(loss)
    assert best <= loss() * (1 + 1e-9)
    assert loss() < 0.9 * dense.square().sum()  # it did descend


def hadamard(bits):
    made = torch.ones(1, 1, dtype=torch.float64)
    for _ in range(bits):
        made = torch.cat((torch.cat((made, made), 1), torch.cat((made, -made), 1)))
    return made


def lost(dense):
    """What is left of 64 x 64 by the projection, and by low rank of as many numbers, as shares."""
    near, whole = monarch.project(dense, 8, 8, 1), dense.square().sum()
    low = torch.linalg.svdvals(dense)[near.parameters // 128 :].square().sum()
    return float((dense - near.dense).square().sum() / whole), float(low / whole)


@monarchs
@pytest.mark.parametrize("name", ["hadamard", "cosine", "shuffle"])
def test_transforms_and_permutations_are_nearer_to_monarch_than_to_low_rank(name):
    n = torch.arange(64, dtype=torch.float64)
    of = {
        "hadamard": hadamard(6),
        "cosine": torch.cos(torch.pi / 64 * (n[:, None] + 0.5) * n),
        "shuffle": torch.eye(64, dtype=torch.float64)[torch.arange(64).view(8, 8).T.flatten()],
    }
    projected, low = lost(of[name])
    assert projected <= low * (1 + 1e-9)


@monarchs
@pytest.mark.parametrize("seed", SEEDS)
def test_of_noise_neither_holds_more(seed):
    projected, low = lost(drawn(64, 64, seed=seed))
    assert projected == pytest.approx(low, rel=0.05)


def test_low_rank_is_nearer_where_it_was_planted():
    projected, low = lost(drawn(64, 8) @ drawn(8, 64, seed=1))
    assert projected > 0.1 > 1e-9 > low


# Sparse plus low rank


@pixelfly
@given(st.integers(1, 9), st.integers(0, 5))
@settings(max_examples=25, deadline=None)
def test_a_flat_butterfly_is_aligned_and_as_dense_as_the_formula(side, bits):
    n, pattern = side << bits, Butterfly(side)
    starts, columns = pattern.positions(n, n, 0)
    assert pattern.count(n, n) == n * side * (1 + bits) == len(columns)
    blocks = columns.reshape(n, -1, side) // side
    assert (blocks == blocks[:, :, :1]).all() and (np.diff(starts) == side * (1 + bits)).all()


@pixelfly
@pytest.mark.parametrize("bits", range(6))
def test_after_as_many_layers_as_bits_every_block_is_reached(bits):
    starts, columns = Butterfly(1).positions(1 << bits, 1 << bits, 0)
    meets = torch.zeros(1 << bits, 1 << bits).long()
    meets[np.repeat(np.arange(1 << bits), np.diff(starts)), columns] = 1
    reached = torch.eye(1 << bits).long()
    for layer in range(bits):
        assert not reached.all(), layer
        reached = (meets @ reached).clamp(max=1)
    assert reached.all()


@pixelfly
def test_without_its_thin_parts_it_is_the_product_of_the_blocks():
    of = case("sparse_low_rank", Butterfly(16), m=64, k=64, r=4, n=8)
    a, u, v, x = make_operands(of)
    alone = KERNELS["spmm_block_panels"].prepare(a, x)
    both = KERNELS["sparse_low_rank_block_panels"].prepare(a, u * 0, v, x)
    assert both.run(x).equal(alone.run(x))
    torch.testing.assert_close(alone.run(x), a.dense @ x)


@pixelfly
@pytest.mark.parametrize("name", ["sparse_low_rank_block_panels", "sparse_low_rank_csr_torch"])
def test_its_work_and_bytes_are_those_of_the_parts(name):
    of = case("sparse_low_rank", Butterfly(16), m=128, k=64, r=4, n=16)
    a, u, v, x = make_operands(of)
    made = KERNELS[name].prepare(a, u, v, x)
    numbers = Butterfly(16).count(128, 64) + 4 * (128 + 64)
    assert made.executed == OPS[of.op].useful(of, (a, u, v, x)) == 2 * numbers * 16
    assert made.values == OPS[of.op].least_values(of, (a, u, v, x)) == 4 * numbers


def test_the_sum_is_rounded_once():
    a, u, v, _ = make_operands(case("sparse_low_rank", Unstructured(0.5), "bfloat16", m=9, k=7, r=2, n=1))
    assert added(a, u, v).equal((a.dense.double() + u.double() @ v.double()).bfloat16())


# Kernels


@monarchs
@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
@pytest.mark.parametrize("cut", [(8, 8), (4, 2), (16, 4)])
@pytest.mark.parametrize("name", ["factored_bmm", "factored_block_panels"])
def test_blocks_of_any_cut_are_multiplied_and_nothing_beside(name, cut, dtype):
    of = case("factored", Monarch(*cut), dtype, m=192, k=128, n=48)
    operands, one = make_operands(of), KERNELS[name]
    if reasons := one.refusals(of, Cpu(1)):
        assert reasons == ["needs blocks whose rows are a multiple of 8, got 12"][: len(reasons)]
        return
    made = one.prepare(*operands)
    check(made.run(operands[1]), question(of, operands))
    kept = Monarch(*cut).count(192 + 128, 128)
    assert made.executed == 2 * kept * 48
    wide = name == "factored_block_panels" and dtype == "bfloat16" and made.values == 4 * kept
    assert wide or made.values == operands[0].values.element_size() * kept


def test_other_factors_have_another_answer():
    of, (a, x) = factored(4, 4, 1, 8)
    _, (other, _) = factored(4, 4, 1, 8, seed=1)
    with pytest.raises(Wrong):
        check(KERNELS["factored_bmm"].prepare(other, x).run(x), question(of, (a, x)))


def test_blocks_that_no_register_fits_are_refused():
    (reason,) = KERNELS["factored_block_panels"].refusals(
        from_id("factored/m=60,k=60,n=9/monarch2x2/float32/seed=0"), Cpu(1)
    )
    assert reason == "needs blocks whose rows are a multiple of 8, got 30"


@pytest.mark.parametrize(
    "name",
    [
        "factored_bmm_gpu",
        *(f"{op}_dense_cublas{order}" for op in ("factored", "sparse_low_rank") for order in ("", "_tokens")),
    ],
)
def test_products_of_torch_are_right_on_the_hosts_memory(name):
    verdicts = [examine(KERNELS[name], trial, Gpu()) for trial in list(cases_for(KERNELS[name]))[::7]]
    assert not [one for one in verdicts if one.outcome in ("wrong", "broken")]
    assert any(one.outcome == "ok" for one in verdicts)


# Triton


@pytest.fixture(scope="module")
def said():
    """Of each kernel, by what was asked: what is wrong."""
    pytest.importorskip("triton", reason="needs triton: pip install triton")
    found = {}
    for name, asked, wrong in ended(begun("interpreter_structured.py")):
        found.setdefault(name, {})[asked] = wrong
    return found


@pytest.mark.paper("monarch", "pixelfly", "patch")
@pytest.mark.parametrize(
    ("name", "questions"),
    [("factored_triton", 6), ("sparse_low_rank_block_triton", 3), ("spmm_patch_triton", 5)],
)
def test_it_is_right_in_the_interpreter(name, questions, said):
    control = said[name].pop("another weight than was given")
    assert "should be" in control
    assert len(said[name]) == questions and not any(said[name].values()), said[name]


@monarchs
@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("architecture", [80, 89, 90], ids="sm_{}".format)
def test_tensor_cores_are_fed_by_a_pipeline(architecture, monkeypatch, tmp_path):
    compiling = pytest.importorskip("compiling", reason="needs triton: pip install triton")
    of = case("factored", Monarch(8, 8), "bfloat16", m=1024, k=1024, n=256)
    (one, *_) = compiling.compiler(monkeypatch)(KERNELS["factored_triton"], of, architecture)
    registers, stack = compiling.resources(one.asm["cubin"], tmp_path)
    assert one.metadata.shared <= compiling.SHARED[architecture] and stack == 0, registers
    assert ("wgmma.mma_async" if architecture == 90 else "mma.sync") in one.asm["ptx"]
    assert "cp.async.cg.shared.global" in one.asm["ptx"]


@monarchs
@pytest.mark.parametrize("cut", [(8, 8), (4, 4), (32, 8)])
def test_tiles_that_blocks_do_not_fill_are_counted(cut):
    """Of 32 blocks each is 8 x 8 and fills a quarter of the least tile."""
    pytest.importorskip("triton", reason="needs triton: pip install triton")
    k = 256
    of = case("factored", Monarch(*cut), "float16", m=k, k=k, n=16)
    a, x = make_operands(of)
    made = KERNELS["factored_triton"].prepare(a, x)
    assert made.executed == 2 * sum(count * max(16, k // count) ** 2 for count in cut) * 16
    assert made.values == a.values.nbytes and made.metadata == 0
