"""Experts, pages and neurons for GPUs without one: right in the interpreter, compiled as they should be."""

import re
from contextlib import nullcontext
from itertools import product

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from vendors import Gpu

from suite.case import from_id
from suite.conformance import cases_for, examine
from suite.kernel import KERNELS
from suite.op import discover_parts, make_operands
from suite.registry import discover

pytest.importorskip("triton", reason="needs triton: pip install triton")
from compiling import SHARED, TARGETS, compiler, resources
from interpreter import begun, ended
from interpreter_routed import CONTROL, DOWN, EVERY, EXPERTS, HEADS, NAMES, PAGES, STEP, UP

discover_parts()
discover(folders=("kernels",))

from suite.kernels.attention import attention_sdpa_cudnn as sdpa  # noqa: E402
from suite.kernels.moe import scatter_triton as scatter  # noqa: E402

SPILLED = 64  # bytes of a thread, beside the loop
LARGE = {
    EXPERTS: "moe/n=1024,e=8,d=256,f=512/unstructured@0.75/bfloat16/seed=0",
    STEP: "moe_step/n=1024,e=8,d=256,f=512/unstructured@0.75/bfloat16/seed=0",
    HEADS: "moa/n=1024,e=8,d=256,g=4,f=64/unstructured@0.75/bfloat16/seed=0",
    PAGES: "decode/n=2,h=32,g=8,t=1024,d=128,b=16/unstructured@0.75/bfloat16/seed=0",
    EVERY: "decode/n=2,h=32,g=8,t=1024,d=128,b=16/unstructured@0.75/bfloat16/seed=0",
    DOWN: "actmm/m=1024,k=2048,n=4/unstructured@0.75/bfloat16/seed=0",
    UP: "actmm_up/m=2048,k=1024,n=4/unstructured@0.75/bfloat16/seed=0",
}
MULTIPLY = {
    EXPERTS: "multiply",
    STEP: "multiply",
    HEADS: "attend",
    PAGES: "attend",
    EVERY: "attend",
    DOWN: "multiply_down",
    UP: "multiply_up",
}
ONE_TOKEN = {
    DOWN: "actmm/m=1024,k=2048,n=1/unstructured@0.75/bfloat16/seed=0",
    UP: "actmm_up/m=2048,k=1024,n=1/unstructured@0.75/bfloat16/seed=0",
}
MADE_OF_TORCH = (
    *(
        f"{op}_{name}"
        for op in ("moe", "moe_step", "moa")
        for name in ("dense_cublas", "loop_cublas", "grouped_torch_gpu")
    ),
    *("moe_padded_cublas", "moe_step_padded_cublas"),
)
RIVALS = (
    *MADE_OF_TORCH,
    *(
        f"{op}_{name}"
        for op in ("actmm", "actmm_up")
        for name in (
            *("dense_cublas", "dense_cublas_mv", "dense_cublas_tokens"),
            *("masked_cublas", "gather_torch_gpu"),
        )
    ),
    *("decode_sdpa_cudnn", "decode_sdpa_flash", "decode_sdpa_efficient"),
)


@pytest.fixture(scope="module")
def said():
    """Of each kernel, by what was asked: what is wrong."""
    found = {name: {} for name in NAMES}
    for name, asked, wrong in ended(begun("interpreter_routed.py")):
        found[name][asked] = wrong
    return found


@pytest.mark.paper("scattermoe", "teal", "cats")
@pytest.mark.parametrize("name", NAMES)
def test_it_is_right_in_the_interpreter(name, said):
    wrong = {asked: note for asked, note in said[name].items() if note and asked != CONTROL}
    assert not wrong
    assert len(said[name]) >= {EVERY: 3, STEP: 8, HEADS: 8}.get(name, 12)


@pytest.mark.parametrize("name", [EXPERTS, STEP, HEADS, PAGES, DOWN, UP])
def test_the_answer_to_another_question_is_wrong(name, said):
    assert "should be" in said[name][CONTROL]


# Compiling


@pytest.fixture
def compiled(monkeypatch):
    return compiler(monkeypatch)


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("architecture", TARGETS, ids="sm_{}".format)
@pytest.mark.parametrize("name", LARGE)
def test_tensor_cores_are_fed_by_a_pipeline(name, architecture, compiled, tmp_path):
    of = from_id(LARGE[name])
    made = {one.name: one for one in compiled(KERNELS[name], of, architecture)}
    for one in made.values():
        registers, stack = resources(one.asm["cubin"], tmp_path)
        assert one.metadata.shared <= SHARED[architecture], one.name
        assert stack <= SPILLED, (one.name, registers)
    text = made[MULTIPLY[name]].asm["ptx"]
    tall = name in (EXPERTS, STEP, HEADS) and architecture == 90
    assert ("wgmma.mma_async" if tall else "mma.sync") in text
    assert re.search(r"cp\.async\.cg\.shared\.global .*0x10", text)


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("name", ONE_TOKEN)
def test_weights_of_one_token_are_loaded_sixteen_bytes_at_a_time(name, compiled, tmp_path):
    one = compiled(KERNELS[name], from_id(ONE_TOKEN[name]), 80)[0]
    text = one.asm["ptx"]
    assert not resources(one.asm["cubin"], tmp_path)[1]
    assert re.search(r"@%p\d+ ld\.global[.\w]*\.v4\.b32", text)


# How it is launched, and what it costs


@given(st.lists(st.integers(0, 70), min_size=1, max_size=12), st.sampled_from([16, 32, 128]))
def test_however_choices_fall_there_are_tiles_for_them(loads, rows):
    tiles = sum(-(-load // rows) for load in loads)
    assert tiles <= scatter.most_tiles(sum(loads), len(loads), rows)


@pytest.mark.parametrize("size", [2, 4])
@pytest.mark.parametrize("choices", [1, 8, 64, 1000, 70000])
def test_tiles_are_as_tall_as_an_experts_load(choices, size):
    there = scatter.ways(choices, 8, size)
    assert there and all(one.tile[0] <= max(16, 4 * choices / 8) for one in there)
    assert all(one.tile[0] >= min(choices / 16, 64) for one in there)


@pytest.mark.parametrize(
    ("name", "id", "says"),
    [
        (EXPERTS, "moe/n=1,e=1024,d=8,f=8/zipf1@0.5/float16", "needs at most 512 experts, got e=1024"),
        (HEADS, "moa/n=24,e=4,d=8,g=1,f=16/zipf1@0.5/float16", "needs n divisible by 16, got 24"),
        (HEADS, "moa/n=16,e=4,d=8,g=1,f=24/zipf1@0.5/float16", "needs f to be one of 16, 32, 64, 128"),
        (PAGES, "decode/n=1,h=64,g=1,t=16,d=16,b=1/unstructured@0.5/float16", "at most 32 heads"),
        (EVERY, "decode/n=1,h=1,g=1,t=16,d=512,b=1/unstructured@0.5/float16", "at most 256 numbers"),
    ],
)
def test_what_it_cannot_take_is_refused(name, id, says):
    (reason,) = KERNELS[name].refusals(from_id(id + "/seed=0"), Gpu())
    assert says in reason


# torch's own


@pytest.mark.parametrize("name", RIVALS)
def test_a_rival_is_right_on_the_hosts_memory(name, monkeypatch):
    monkeypatch.setattr(sdpa, "sdpa_kernel", lambda routine: nullcontext())
    for ask in sdpa.ASKED.values():
        monkeypatch.setattr(torch.backends.cuda, ask, lambda params, debug: True)
    verdicts = [examine(KERNELS[name], trial, Gpu()) for trial in list(cases_for(KERNELS[name]))[::29]]
    assert not [one for one in verdicts if one.outcome in ("wrong", "broken")]
    assert any(one.outcome == "ok" for one in verdicts)


@pytest.mark.parametrize("op", ["moe", "moe_step"])
@pytest.mark.parametrize("name", ["dense_mm", "loop_torch", "grouped_torch", "padded_torch"])
def test_buffers_are_made_where_the_operands_are(name, op):
    route, *rest = make_operands(from_id(f"{op}/n=8,e=4,d=16,f=16/zipf1@0.5/bfloat16/seed=0"))
    made = KERNELS[f"{op}_{name}"].prepare(route, *(one.to("meta") for one in rest))
    assert {one.device.type for one in made.holds} == {"meta"}


def test_a_wide_tile_is_not_the_first_choice_where_sums_have_no_room():
    """Two sums of 128 x 128 spill without wgmma; the tuner finds out, what is compiled unseen must not."""
    firsts = [scatter.ways(choices, 8, size)[0] for choices, size in product((8, 512, 9000), (2, 4))]
    assert all(2 * one.tile[0] * one.tile[1] <= 32 * one.warps * 64 for one in firsts)
