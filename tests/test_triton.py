"""Triton kernels without a GPU: right in the interpreter, compiled for what is usual, and what they cost."""

import importlib
import re
import subprocess
import sys
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from interpreter import begun, ended, multiplies, written_in_triton

from suite.case import case
from suite.cuda import tuning
from suite.formats.bsr import bsr
from suite.formats.placed import WORD, placed
from suite.formats.segments import segments
from suite.kernel import KERNELS
from suite.op import discover_parts, make_operands
from suite.patterns.block import Block
from suite.patterns.unstructured import Unstructured
from suite.registry import discover
from suite.sparse import from_positions

pytest.importorskip("triton", reason="needs triton: pip install triton")
from compiling import SHARED, TARGETS, compiler, resources
from triton.runtime.errors import OutOfResources

discover_parts()
discover(folders=("kernels",))

OURS = [one for one in KERNELS.values() if one.on == "cuda" and written_in_triton(one)]
PRODUCTS = [one for one in OURS if multiplies(one)]
CHILDREN = ("float32,tfloat32", "float16")  # bfloat16 goes the ways of float16
SPILLED = 32  # bytes of a thread, while an answer is stored

WRONG = '''
import triton
import triton.language as tl

from sparsemark import kernel

@triton.jit
def multiply(dense, b, out, k, n, K: tl.constexpr, N: tl.constexpr):
    row, right, deep = tl.program_id(0), tl.arange(0, N), tl.arange(0, K)
    left = tl.load(dense + row * k + deep, mask=deep < k, other=0.0)
    there = (deep < k)[:, None] & (right < n)[None, :]
    slab = tl.load(b + deep[:, None] * n + right[None, :], mask=there, other=0.0)
    total = tl.sum(left[:, None].to(tl.float32) * slab.to(tl.float32), 0)
    tl.store(out + row * n + right, total.to(out.dtype.element_ty), mask=right < {upto})

@kernel(op="spmm", on="cuda", dtypes=("float16",))
def {name}(a, b):
    """{name}."""
    (m, k), n, out = a.shape, b.shape[1], b.new_empty(a.shape[0], b.shape[1])
    dense = a.dense

    def run(b):
        wide = triton.next_power_of_2
        multiply[(m,)](dense, b, out, k, n, K=wide(k), N=wide(n))
        return out

    return run
'''


@pytest.fixture(scope="module")
def verdicts(tmp_path_factory):
    """Of every kernel, and of two plug-ins: one is right, one leaves a column out."""
    folder = tmp_path_factory.mktemp("plugins")
    plugins = []
    for name, upto in (("sound", "n"), ("short_of_a_column", "n - 1")):
        plugins.append(folder / f"{name}.py")
        plugins[-1].write_text(WRONG.format(name=name, upto=upto))
    children = [begun("interpreter.py", dtypes, *plugins) for dtypes in CHILDREN]
    names = "kernel", "trial", "outcome", "note"
    return [SimpleNamespace(**dict(zip(names, said, strict=True))) for one in children for said in ended(one)]


@pytest.mark.paper("pixelfly", "lpvit")
@pytest.mark.parametrize("one", PRODUCTS, ids=str)
def test_a_kernel_is_right_in_the_interpreter(one, verdicts):
    said = [verdict for verdict in verdicts if verdict.kernel == one.name]
    wrong = [f"{x.trial}: {x.outcome}: {x.note}" for x in said if x.outcome in ("wrong", "broken")]
    assert not wrong, "\n".join(wrong)
    assert sum(verdict.outcome == "ok" for verdict in said) > 20


def test_a_wrong_kernel_is_found_in_the_interpreter(verdicts):
    of = {name: {x.outcome for x in verdicts if x.kernel == name} for name in ("sound", "short_of_a_column")}
    assert of == {"sound": {"ok"}, "short_of_a_column": {"wrong"}}


# Compiling


@pytest.fixture
def compiled(monkeypatch):
    return compiler(monkeypatch)


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("architecture", TARGETS, ids="sm_{}".format)
@pytest.mark.parametrize("one", PRODUCTS, ids=str)
def test_a_kernel_compiles_and_fits(one, architecture, compiled, tmp_path):
    for dtype in (dtype for dtype in one.dtypes if dtype != "float16"):
        for pattern, n in ((Block(128, 128, 0.5), 256), (Block(32, 32, 0.5), 1)):
            for made in compiled(one, case(one.op, pattern, dtype, m=256, k=384, n=n), architecture):
                registers, stack = resources(made.asm["cubin"], tmp_path)
                assert made.metadata.shared <= SHARED[architecture], made.name
                assert stack <= SPILLED, (made.name, dtype, n, registers)


@pytest.mark.filterwarnings("ignore")
def test_blocks_are_multiplied_by_tensor_cores_from_a_pipeline(compiled):
    of = {one.name: one for one in PRODUCTS if "block_triton" in one.name}
    assert len(of) == 4
    for one in of.values():
        dtype = "bfloat16" if "bfloat16" in one.dtypes else "tfloat32"
        large = case(one.op, Block(128, 128, 0.5), dtype, m=256, k=384, n=256)
        for architecture, product in ((80, "mma.sync"), (90, "wgmma.mma_async")):
            text = compiled(one, large, architecture)[0].asm["ptx"]
            assert product in text, one.name
            assert re.search(r"cp\.async\.cg\.shared\.global .*0x10", text), one.name


# How it is launched


def test_the_quickest_way_is_found_once_and_kept(monkeypatch):
    device = SimpleNamespace(is_cuda=True, device="cuda:0")
    asked, times = [], {"slow": 2.0, "quick": 1.0, "too large": float("inf")}
    monkeypatch.setattr(tuning, "_CHOSEN", {})
    monkeypatch.setattr(tuning, "took", lambda launch, way: asked.append(way) or times[way])
    for _ in range(2):
        assert tuning.quickest("key", tuple(times), print, device) == "quick"
    assert asked == list(times)
    times["slow"] = 0.5
    assert tuning.quickest("another", tuple(times), print, device) == "slow"
    assert tuning.quickest("any", tuple(times), print, torch.ones(1)) == "slow"


def test_a_way_that_does_not_fit_takes_for_ever():
    def launch(way):
        raise OutOfResources(2**18, 2**17, "shared memory")

    assert tuning.took(launch, "any") == float("inf")


@pytest.mark.parametrize("n", [1, 2, 3, 16, 17, 64, 100, 128, 129, 5000])
def test_there_is_a_way_for_any_width(n):
    module = importlib.import_module("suite.kernels.spmm.blocks_triton")
    blocks = [one.tile[0] for one in module.ways(module.TILES, n, 64)]
    rows = importlib.import_module("suite.kernels.spmm.rows_triton").ways(n)
    assert blocks and rows
    assert all(min(n, 64) <= columns < 2 * max(n, 16) for columns in blocks)
    assert all(one.tile[1] < 2 * n or n == 1 for one in rows)


ABSENT = """
import sys
from types import SimpleNamespace
sys.modules["triton"] = None
from suite.case import case
from suite.kernel import KERNELS
from suite.op import discover_parts
from suite.patterns.block import Block
from suite.registry import discover
discover_parts()
discover(folders=("kernels",))
device = SimpleNamespace(kind="cuda", isa={"sm_70"}, name="Made Up")
for name in sys.argv[1:]:
    one = KERNELS[name]
    sizes = dict(m=64, k=64, n=16, h=1, g=1, d=16, b=16, e=4, f=16, t=16)
    of = case(one.op, Block(16, 16, 0.5), one.dtypes[0], **sizes)
    print(one.refusals(of, device))
"""


def test_without_triton_the_kernels_are_there_and_say_what_they_want():
    names = [one.name for one in OURS]
    done = subprocess.run((sys.executable, "-c", ABSENT, *names), capture_output=True, text=True)
    said = [
        "needs sm_80, which Made Up lacks",
        "needs Triton, which comes with torch for CUDA on Linux: pip install triton",
    ]
    assert done.stdout.splitlines() == [str(said)] * len(names), done.stderr


# What it costs


def made(name, **of):
    """A kernel prepared, and its sparse operand."""
    one = KERNELS[name]
    operands = make_operands(case(one.op, **of))
    return one.prepare(*operands), operands[0]


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
@pytest.mark.parametrize("n", [1, 40, 200])
@pytest.mark.parametrize("name", ["spmm_block_triton", "spmm_t_block_triton"])
def test_blocks_cost_their_positions_times_whole_tiles(name, n, dtype):
    one, a = made(name, pattern=Block(32, 16, 0.6), dtype=dtype, m=200, k=250, n=n)
    held, size = bsr(a, 32, 16), a.dtype.itemsize
    blocks, tile = len(held.columns), one.note["way"].tile[0]
    assert one.note["algorithm"] == ("32x16" if name == "spmm_block_triton" else "16x32")
    assert one.executed == 2 * blocks * 32 * 16 * -(-n // tile) * tile
    assert one.values == blocks * 32 * 16 * size
    pieces = one.holds[0]
    index = 4 if name == "spmm_block_triton" else 8  # the transpose has places, too
    count, split = len(pieces.rows), len(pieces.split)
    assert one.metadata == index * blocks + 12 * count + 4 * (2 * split + 1)
    assert count - pieces.shared + split == -(-200 // 32) if index == 4 else -(-250 // 16)


@pytest.mark.parametrize("n", [8, 40, 200])
def test_sampled_blocks_cost_whole_blocks_and_whole_steps(n):
    one, mask = made("sddmm_block_triton", pattern=Block(64, 32, 0.6), dtype="bfloat16", m=300, k=200, n=n)
    blocks, step = len(bsr(mask, 64, 32).columns), one.note["way"].tile[0]
    assert one.executed == 2 * blocks * 64 * 32 * -(-n // step) * step
    assert (one.values, one.metadata) == (0, blocks * (8 + 64 * (4 + 4)))


@pytest.mark.parametrize(("k", "index"), [(300, 2), (70000, 4)])
def test_rows_cost_whole_steps_of_nonzeros(k, index):
    one, a = made("spmm_csr_triton", pattern=Unstructured(0.9), dtype="float32", m=9, k=k, n=40)
    step, pieces = one.note["way"].tile[2], one.holds[0]
    firsts, ends = pieces.firsts.long(), pieces.ends.long()
    steps = sum(-(-(int(end) - int(first) // 4 * 4) // step) for first, end in zip(firsts, ends, strict=True))
    assert one.executed == 2 * steps * step * 64
    entries = -(-a.nonzeros // 4) * 4
    assert one.values == 4 * entries
    assert one.metadata == index * entries + 12 * len(firsts) + 4 * (2 * len(pieces.split) + 1)
    assert (one.note["split"] > 0) == (k > 60000)


def test_a_vector_costs_as_much_as_the_longest_of_its_rows():
    one, _ = made("spmm_csr_triton", pattern=Unstructured(0.5), dtype="bfloat16", m=70, k=300, n=1)
    (rows, _, step), pieces = one.note["way"].tile, one.holds[0]
    spans = [int(end) - int(first) // 8 * 8 for first, end in zip(pieces.firsts, pieces.ends, strict=True)]
    longest = [max(spans[at : at + rows]) for at in range(0, len(spans), rows)]
    assert one.executed == 2 * sum(-(-each // step) for each in longest) * rows * step


# Formats


@given(st.lists(st.integers(0, 40), min_size=1, max_size=30), st.integers(1, 50))
def test_segments_are_all_entries_once_long_ones_first(lengths, longest):
    starts = torch.tensor(np.concatenate(([0], np.cumsum(lengths))), dtype=torch.int32)
    made = segments(starts, longest)
    covered = [
        (row, at)
        for row, first, end in zip(made.rows.tolist(), made.firsts.tolist(), made.ends.tolist(), strict=True)
        for at in range(first, end)
    ]
    assert sorted(covered) == [
        (row, at) for row in range(len(lengths)) for at in range(starts[row], starts[row + 1])
    ]
    assert int(made.lengths.max()) <= longest
    whole = made.lengths[made.shared :]
    assert bool((whole.diff() <= 0).all())
    assert set(made.rows.tolist()) == set(range(len(lengths)))
    for number, row in enumerate(made.split.tolist()):
        low, high = made.edges[number], made.edges[number + 1]
        assert made.rows[low:high].unique().tolist() == [row]
        assert high - low == -(-lengths[row] // longest) > 1


@given(
    st.integers(1, 60),
    st.integers(1, 90),
    st.integers(0, 2**16),
    st.sampled_from((16, 64)),
    st.integers(1, 3),
)
def test_placed_blocks_know_where_each_stored_position_stands(m, k, seed, width, band):
    rng = np.random.default_rng(seed)
    rows, columns = (rng.random((m, k)) < rng.choice((0.0, 0.1, 1.0))).nonzero()
    starts = np.searchsorted(rows, np.arange(m + 1))
    mask = from_positions(starts, columns, torch.ones(len(rows)), (m, k), Unstructured(0.5))
    held, found = placed(mask, 16, width, band), {}
    bits = held.bits.numpy().view(np.uint32)
    for block, (down, right) in enumerate(zip(held.rows.tolist(), held.columns.tolist(), strict=True)):
        for line in range(16):
            stored = [at for at in range(width) if bits[block, line, at // WORD] >> (at % WORD) & 1]
            for number, at in enumerate(stored):
                found[down * 16 + line, right * width + at] = int(held.firsts[block, line]) + number
    assert found == {place: at for at, place in enumerate(zip(rows.tolist(), columns.tolist(), strict=True))}
    assert bool((held.bits != 0).flatten(1).any(1).all())
