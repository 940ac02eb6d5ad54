"""Attention for GPUs without one: right in the interpreter, compiled as it should be, torch asked rightly."""

import re
import sys
import warnings
from contextlib import nullcontext

import pytest
import torch
from vendors import Gpu

from suite.case import case
from suite.conformance import cases_for, examine
from suite.kernel import KERNELS, Refused
from suite.op import discover_parts, make_operands
from suite.patterns.unstructured import Unstructured
from suite.registry import discover
from suite.selection import from_map

pytest.importorskip("triton", reason="needs triton: pip install triton")
from compiling import SHARED, compiler, resources
from interpreter import begun, ended
from interpreter_attention import CONTROL, DENSE, NAMES

discover_parts()
discover(folders=("kernels",))

from suite.kernels.attention import attention_flex_gpu as flex  # noqa: E402
from suite.kernels.attention import attention_sdpa_cudnn as sdpa  # noqa: E402
from suite.kernels.attention import flash_triton as flash  # noqa: E402

ROUTINES = tuple(
    f"attention{causal}_sdpa_{name}" for causal in ("", "_causal") for name in ("cudnn", "flash", "efficient")
)
SPILLED = 64  # bytes of a thread, beside the loop


def point(op="attention", sparsity=0.5, dtype="bfloat16", h=2, g=1, n=256, d=64, b=64):
    return case(op, Unstructured(sparsity), dtype, h=h, g=g, n=n, d=d, b=b)


@pytest.fixture(scope="module")
def said():
    """Of each kernel, by what was asked: what is wrong."""
    found = {name: {} for name in (*NAMES, *DENSE)}
    for name, asked, wrong in ended(begun("interpreter_attention.py")):
        found[name][asked] = wrong
    return found


@pytest.mark.paper("sparse-frontier")
@pytest.mark.parametrize("name", [*NAMES, *DENSE])
def test_it_is_right_in_the_interpreter(name, said):
    wrong = {asked: note for asked, note in said[name].items() if note and asked != CONTROL}
    assert not wrong
    assert len(said[name]) >= (12 if name in NAMES else 4)


@pytest.mark.parametrize("name", NAMES)
def test_another_selections_answer_is_wrong(name, said):
    assert "should be" in said[name][CONTROL]


# Compiling


@pytest.fixture
def compiled(monkeypatch):
    return compiler(monkeypatch)


def own_keys(of):
    """Operands with a selection that brings keys of its own, and a bias."""
    _, q, k, v = make_operands(of)
    kept = torch.ones(of["h"], of["n"] // of["b"], of["n"] // of["b"], dtype=torch.bool).tril()
    return from_map(kept, of.pattern, k=k, v=v, bias=torch.zeros(k.shape[:2])), q, k, v


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("operands", [make_operands, own_keys], ids=["a mask", "own keys"])
@pytest.mark.parametrize(("architecture", "product"), [(80, "mma.sync"), (90, "wgmma.mma_async")])
def test_tensor_cores_are_fed_by_a_pipeline(architecture, product, operands, compiled, tmp_path):
    of = point("attention_causal", d=128, b=128)
    for made in compiled(KERNELS[NAMES[1]], of, architecture, operands(of)):
        text = made.asm["ptx"]
        assert product in text
        assert re.search(r"cp\.async\.cg\.shared\.global .*0x10", text)
        registers, stack = resources(made.asm["cubin"], tmp_path)
        assert made.metadata.shared <= SHARED[architecture]
        assert stack <= SPILLED, registers


@pytest.mark.parametrize("size", [2, 4])
@pytest.mark.parametrize("d", [16, 32, 64, 128])
@pytest.mark.parametrize("block", [16, 32, 64, 128])
def test_there_is_a_way_for_every_block(block, d, size):
    for way in flash.ways(block, d, size):
        assert all(block % side == 0 and side >= 16 for side in way.tile)
    assert flash.ways(block, d, size)


# Terms, and what it costs


@pytest.mark.parametrize(
    ("sizes", "says"),
    [
        ({"b": 48, "n": 96}, "needs b to be one of 16, 32, 64, 128, got 48"),
        ({"d": 48}, "needs d to be one of 16, 32, 64, 128, got 48"),
    ],
)
def test_sizes_it_cannot_take_are_refused(sizes, says):
    assert KERNELS[NAMES[0]].refusals(point(**sizes), Gpu()) == [says]


def test_a_full_one_takes_any_blocks_of_a_sequence_of_sixteens():
    assert not KERNELS[DENSE[0]].refusals(point(b=48, n=96), Gpu())
    assert KERNELS[DENSE[0]].refusals(point(b=10, n=40), Gpu()) == ["needs n divisible by 16, got 40"]
    for n, block in ((96, 32), (1280, 128), (48, 16)):
        a, q, *_ = make_operands(point(n=n, b=n))
        every = sys.modules["suite.kernels.attention.attention_flash_triton"].every(a, q, causal=True)
        assert every.shape == (2 * n // block, n // block)


@pytest.mark.parametrize("way", [flash.Way(one, 4, 1) for one in ((64, 64), (32, 64), (64, 32))])
def test_work_is_that_of_the_kept_blocks(way):
    """All of each; of a row's own block, the keys up to the last query of a tile, in whole tiles of keys."""
    of = point("attention_causal", b=128, n=512)
    a, *_ = make_operands(of)
    below = a.nonzeros - a.shape[0]
    rows, keys = way.tile
    looked = sum(rows * (-(-(first + rows) // keys) * keys) for first in range(0, 128, rows))
    pairs = below * 128**2 + a.shape[0] * looked
    assert flash.executed(a, way, 128, 64, 4, last=True) == 4 * 64 * pairs
    assert flash.executed(a, way, 128, 64, 4, last=False) == 4 * 64 * a.nonzeros * 128**2


# torch's own


@pytest.mark.parametrize("name", ROUTINES)
def test_a_routine_of_torch_is_asked_the_right_thing(name, monkeypatch):
    """By whichever routine the host has, in the same words."""
    asked = []
    monkeypatch.setattr(sdpa, "sdpa_kernel", lambda routine: nullcontext(asked.append(routine.name)))
    for ask in sdpa.ASKED.values():
        monkeypatch.setattr(torch.backends.cuda, ask, lambda params, debug: True)
    one = KERNELS[name]
    trials = [trial for trial in cases_for(one) if trial.case["n"] <= 128][::2]
    verdicts = [examine(one, trial, Gpu()) for trial in trials]
    assert {verdict.outcome for verdict in verdicts} == {"ok"}, [x for x in verdicts if x.outcome != "ok"][:3]
    assert set(asked) == {f"{name.rpartition('_')[2].upper()}_ATTENTION"}


def test_what_torch_says_against_a_routine_is_the_refusal(monkeypatch):
    def no(params, debug):
        for told in ("cuDNN attention not used because:", "Expected head_dim to be a multiple of 8."):
            warnings.warn(f"{told} (Triggered internally at sdp_utils.cpp:1.)", stacklevel=1)
        return False

    monkeypatch.setattr(torch.backends.cuda, "can_use_cudnn_attention", no)
    with pytest.raises(Refused, match=r"because: Expected head_dim to be a multiple of 8\.$"):
        KERNELS["attention_sdpa_cudnn"].prepare(*make_operands(point()))


@pytest.mark.parametrize("op", ["attention", "attention_causal"])
def test_flex_is_told_the_mask_and_where_single_keys_are_masked(op):
    of = point(op, h=3, g=3, n=320)
    a, *_ = make_operands(of)
    mask, (few, own, many, whole) = flex.block_mask(a, 3, 64, op == "attention_causal")
    kept = a.rows_dense(0, a.shape[0]).bool().view(3, 5, 5)
    found = torch.zeros(3, 5, 5, dtype=torch.int)
    for counts, numbers in ((few, own), (many, whole)):
        for head in range(3):
            for row in range(5):
                found[head, row, numbers[0, head, row, : counts[0, head, row]].long()] += 1
    assert found.equal(kept.int())
    assert mask.to_dense()[0].bool().equal(kept)
    assert few.unique().tolist() == [int(op == "attention_causal")]


def test_flex_refuses_what_its_tiles_do_not_divide():
    said = KERNELS["attention_flex_gpu"].refusals(point(b=32, d=8), Gpu())
    assert said[0] == "needs b divisible by 64, got 32" and said[-1] == "needs d of 16 at least, got 8"
