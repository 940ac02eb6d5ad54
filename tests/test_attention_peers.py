"""Other people's attention on GPUs, without one: what it is told is what its documentation asks for.

Stand-ins take the libraries' places: they hold what they are told against the documented shapes and types,
and compute what was asked for on the host, from that alone.
"""

import sys
from dataclasses import replace
from math import sqrt
from types import SimpleNamespace

import pytest
import torch
from vendors import OLD, Gpu

from suite.case import case
from suite.commands import load
from suite.conformance import cases_for, examine
from suite.kernel import KERNELS, Refused
from suite.op import make_operands
from suite.patterns.chosen import Chosen
from suite.patterns.unstructured import Unstructured
from suite.selector import SELECTORS, entries

load()

flashinfer = pytest.importorskip("suite.kernels.decode.by_flashinfer")
blocks = pytest.importorskip("suite.kernels.attention_causal.attention_causal_block_minference")
parallel = pytest.importorskip("suite.kernels.attention_causal.attention_causal_dense_fla")

PEERS = {
    "decode_pages_flashinfer": "flashinfer-python",
    "decode_dense_flashinfer": "flashinfer-python",
    "attention_block_flashinfer": "flashinfer-python",
    "attention_causal_block_minference": "minference",
    "attention_causal_dense_fla": "flash-linear-attention[cuda]",
}
CHOOSING = [name for name in PEERS if KERNELS[name].chooses]
HALVES = (torch.bfloat16, torch.float16)


def attended(q, k, v, seen=None):
    """Softmax attention of [..., rows, d] in float64."""
    scores = q.double() @ k.double().mT / sqrt(q.shape[-1])
    if seen is not None:
        scores = scores.masked_fill(~seen, -torch.inf)
    return (scores.softmax(-1) @ v.double()).to(q.dtype)


class Workspace:
    """What both of FlashInfer's wrappers are made of."""

    def __init__(self, workspace):
        assert workspace.dtype == torch.uint8 and workspace.dim() == 1
        self.told = None


class BatchDecodeWithPagedKVCacheWrapper(Workspace):
    """A request's tokens are those of its pages, of which the last may be short."""

    def __init__(self, workspace, kv_layout="NHD", *, use_tensor_cores=False):
        super().__init__(workspace)
        assert kv_layout == "NHD"
        self.tensor_cores = use_tensor_cores

    def plan(self, indptr, indices, last, queries, keys, d, page, *, q_data_type, kv_data_type):
        assert {one.dtype for one in (indptr, indices, last)} == {torch.int32}
        assert len(indptr) == len(last) + 1 and int(indptr[-1]) == len(indices)
        assert bool((indptr.diff() > 0).all()) and bool(((last >= 1) & (last <= page)).all())
        assert d in (64, 128, 256) and q_data_type == kv_data_type and q_data_type in HALVES
        assert self.tensor_cores or queries // keys in (1, 2, 3, 4, 6, 8)
        self.told = indptr.tolist(), indices.long(), last.tolist(), queries, keys, d, page, q_data_type

    def run(self, q, cache):
        indptr, indices, last, queries, keys, d, page, dtype = self.told
        k, v = cache
        assert q.shape == (len(last), queries, d) and q.dtype == dtype
        assert k.shape == v.shape == (len(k), page, keys, d) and k.dtype == v.dtype == dtype
        out = torch.empty_like(q)
        for request, short in enumerate(last):
            pages = indices[indptr[request] : indptr[request + 1]]
            own = (one[pages].flatten(0, 1) for one in (k, v))
            own = [one[: len(one) - page + short].transpose(0, 1) for one in own]
            grouped = q[request].view(keys, queries // keys, d)
            out[request] = attended(grouped, *own).flatten(0, 1)
        return out


class VariableBlockSparseAttentionWrapper(Workspace):
    """Blocks of any size, a mask for each head of keys."""

    def plan(self, mask, rows, columns, queries, keys, d, *, q_data_type):
        assert mask.dtype == torch.bool and rows.dtype == columns.dtype == torch.int32
        assert mask.shape == (keys, rows.shape[1], columns.shape[1]) and len(rows) == len(columns) == keys
        assert queries % keys == 0 and d in (64, 128, 256) and q_data_type in HALVES
        seen = [
            one.repeat_interleave(high, 0).repeat_interleave(wide, 1)
            for one, high, wide in zip(mask, rows.long(), columns.long(), strict=True)
        ]
        self.told = torch.stack(seen).repeat_interleave(queries // keys, 0), keys, q_data_type

    def run(self, q, k, v):
        seen, keys, dtype = self.told
        assert q.dtype == k.dtype == v.dtype == dtype and len(k) == len(v) == keys
        assert seen.shape == (len(q), q.shape[1], k.shape[1])
        return attended(q, k, v, seen)


def block_sparse(q, k, v, seqlens, block_index, sm_scale, block_size_M=64, block_size_N=64):
    """As MInference's kernel goes: of a row the first entries, as many as there are or its place allows."""
    assert q.dim() == 4 and q.dtype in HALVES and q.shape[-1] in (16, 32, 64, 128)
    assert k.shape == v.shape and k.shape[:2] == q.shape[:2] and sm_scale == 1 / sqrt(q.shape[-1])
    assert seqlens.dtype == block_index.dtype == torch.int32 and seqlens.tolist() == [q.shape[2]]
    batch, heads, n, _ = q.shape
    assert block_index.shape[:3] == (batch, heads, n // block_size_M)
    out, at, key = torch.zeros_like(q), torch.arange(n), torch.arange(block_size_N)
    for head in range(heads):
        for row, index in enumerate(block_index[0, head].long()):
            count = min((row + 1) * block_size_M // block_size_N, len(index))
            columns = (index[:count, None] * block_size_N + key).flatten()
            assert int(columns.max()) < k.shape[2], "it would read behind the keys"
            rows = slice(row * block_size_M, (row + 1) * block_size_M)
            seen = columns <= at[rows, None]
            assert bool(seen[:, :block_size_N].any(1).all()), "nothing is seen of the first block: 0 / 0"
            out[0, head, rows] = attended(q[0, head, rows], k[0, head, columns], v[0, head, columns], seen)
    return out


def parallel_attn(q, k, v, g=None, scale=None, window_size=None):
    """Tokens before heads, causal."""
    assert (g, scale, window_size) == (None, None, None)
    assert q.shape[:2] == k.shape[:2] and k.shape == v.shape and q.shape[2] % k.shape[2] == 0
    q, k, v = (one.transpose(1, 2) for one in (q, k, v))
    k, v = (one.repeat_interleave(q.shape[1] // k.shape[1], 1) for one in (k, v))
    seen = torch.ones(q.shape[2], q.shape[2], dtype=torch.bool).tril()
    return attended(q, k, v, seen).transpose(1, 2)


@pytest.fixture
def installed(monkeypatch):
    """All three libraries, by stand-ins; FlashInfer's memory is only as much as is looked at."""
    both = (BatchDecodeWithPagedKVCacheWrapper, VariableBlockSparseAttentionWrapper)
    modules = {
        "flashinfer": SimpleNamespace(**{one.__name__: one for one in both}),
        "minference": SimpleNamespace(),
        "minference.ops.block_sparse_flash_attention": SimpleNamespace(
            _triton_block_sparse_attention=block_sparse
        ),
        "fla.ops.attn": SimpleNamespace(parallel_attn=parallel_attn),
    }
    cached = (flashinfer.library, flashinfer.workspace, blocks.attend, parallel.attend)
    monkeypatch.setattr(flashinfer, "WORKSPACE", 64)
    for name in ("minference.ops", "fla", "fla.ops"):
        monkeypatch.setitem(sys.modules, name, SimpleNamespace())
    for name, module in modules.items():
        monkeypatch.setitem(sys.modules, name, module)
    for module in (flashinfer, blocks, parallel):
        monkeypatch.setattr(module, "find_spec", lambda name: name)
    for one in cached:
        one.cache_clear()
    yield modules
    for one in cached:
        one.cache_clear()


def point(name, sparsity=0.5, d=64):
    op = KERNELS[name].op
    sizes = {"n": 1, "h": 4, "g": 4, "t": 256, "d": d, "b": 16}
    if op != "decode":
        sizes = {"h": 2, "g": 2, "n": 256, "d": d, "b": 32}
    return case(op, Unstructured(sparsity), "bfloat16", **sizes)


@pytest.mark.parametrize(("name", "package"), PEERS.items())
def test_what_is_not_installed_is_refused_with_what_to_do(name, package, monkeypatch):
    for module in (flashinfer, blocks, parallel):
        monkeypatch.setattr(module, "find_spec", lambda name: None)
    (reason,) = KERNELS[name].refusals(point(name), Gpu())
    assert reason.startswith("needs ") and reason.endswith(f"is not installed here: pip install {package}")
    assert "needs sm_80, which Made Up G75 lacks" in KERNELS[name].refusals(point(name), OLD)


@pytest.mark.parametrize("name", PEERS)
def test_what_does_not_load_is_refused_with_why(name, installed, monkeypatch):
    for module in installed:
        monkeypatch.setitem(sys.modules, module, None)
    with pytest.raises(Refused, match=r"does not load here: import of .* halted"):
        KERNELS[name].prepare(*make_operands(point(name)))


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("name", PEERS)
def test_a_kernel_tells_its_library_what_it_means(name, installed):
    one = KERNELS[name]
    taken = [trial for trial in cases_for(one) if not one.refusals(trial.case, Gpu())]
    verdicts = [examine(one, trial, Gpu()) for trial in taken[:: 7 if one.dense else 3]]
    bad = [f"{one.trial}: {one.note}" for one in verdicts if one.outcome in ("wrong", "broken")]
    assert not bad, "\n".join(bad[:5])
    assert sum(one.outcome == "ok" for one in verdicts) > 8


PAIRS = [
    (name, selector.name)
    for name in CHOOSING
    for selector in SELECTORS.values()
    if KERNELS[name].op in selector.ops
]


@pytest.mark.parametrize(("name", "selector"), PAIRS)
def test_what_is_chosen_in_a_call_is_planned_in_it(name, selector, installed):
    """Or refused, where a selector brings what the library has no place for."""
    kernel = entries()[f"{name}+{selector}"]
    trials = [one for one in cases_for(replace(kernel, dtypes=("bfloat16",))) if one.case["d"] in (64, 128)]
    verdicts = [examine(kernel, trial, Gpu()) for trial in trials]
    assert {one.outcome for one in verdicts} <= {"ok", "refused"}, [one.note for one in verdicts]
    refused = {one.note for one in verdicts if one.outcome == "refused"}
    refused = {note for note in refused if not note.startswith("needs ")}
    if refused:
        assert selector in ("pbs", "pyramid", "stripes"), refused
        assert all("no biases" in one or "keys of a selector's own" in one for one in refused)
    else:
        assert any(one.outcome == "ok" for one in verdicts)


def test_work_is_that_of_the_longest_row_in_every_row(installed):
    one = KERNELS["attention_causal_block_minference"]
    of = case("attention_causal", Chosen(0.5), "bfloat16", h=2, g=1, n=256, d=64, b=32)
    operands = make_operands(of)
    made = one.prepare(*operands)
    made.run(*operands[1:])
    most = int(operands[0].row_lengths.max())
    assert made.executed() == 4 * 64 * 32 * 32 * 2 * sum(min(row + 1, most) for row in range(8))
    assert most < 8


@pytest.mark.parametrize(
    ("name", "sizes", "says"),
    [
        ("decode_pages_flashinfer", {"d": 48}, "needs d to be one of 64, 128, 256, got 48"),
        ("attention_block_flashinfer", {"g": 1}, "needs as many heads of keys as of queries, got h=2 by g=1"),
        ("attention_causal_block_minference", {"b": 8}, "needs b to be one of 16, 32, 64, 128, got 8"),
        ("attention_causal_dense_fla", {"d": 512}, "needs heads of at most 256 numbers, got d=512"),
    ],
)
def test_sizes_a_library_does_not_take_are_refused(name, sizes, says, installed):
    assert KERNELS[name].refusals(point(name).with_sizes(**sizes), Gpu()) == [says]
