"""Mixtures of experts: routed as logits say, equal to a loop over tokens for every load, nothing padded."""

from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.nn.functional import silu
from torch.utils._python_dispatch import TorchDispatchMode

from suite import conformance, native
from suite.case import case
from suite.check import Wrong, check, question
from suite.conformance import cases_for, examine
from suite.cpu.device import Cpu
from suite.formats import routing
from suite.held import size
from suite.kernel import KERNELS, kernel
from suite.op import OPS, discover_parts, faults, make_operands
from suite.ops import moe
from suite.patterns.routers import ExpertChoice, Hashed, Prototypes, Relu, TopP
from suite.patterns.routes import Bursts, Crowded, Dirichlet, Idle, Zipf
from suite.patterns.unstructured import Unstructured
from suite.sparse import structure
from suite.stated import ledger

discover_parts()

grouped = pytest.importorskip("suite.kernels.moe.moe_grouped")
amx = pytest.importorskip("suite.kernels.moe.moe_grouped_amx")
for name in ("moe_loop_torch", "moe_padded_torch", "moe_grouped_torch", "moe_dense_mm"):
    pytest.importorskip(f"suite.kernels.moe.{name}")

HERE = Path(conformance.__file__).parent.parent / "kernels/moe"
TRACES = {
    "uniform": Zipf(0.0, 0.75),
    "zipf": Zipf(1.5, 0.75),
    "all to the same": Zipf(99.0, 0.75),
    "crowded": Crowded(0.75),
    "idle": Idle(0.75),
    "bursts": Bursts(5, 0.75),
    "dirichlet": Dirichlet(0.1, 0.75),
    "ragged": Unstructured(0.75),
    "nowhere": Unstructured(1.0),
    "everywhere": Unstructured(0.0),
    "rectified": Relu(0.75),
    "top p": TopP(0.75),
    "by experts": ExpertChoice(0.75),
    "prototypes": Prototypes(0.75),
    "hashed": Hashed(0.75),
}
traces = pytest.mark.parametrize("trace", TRACES.values(), ids=TRACES)

needs_compiler = pytest.mark.skipif(bool(native.missing()), reason="; ".join(native.missing()))
NO_PAIRS, NO_WIDE = ("-mno-avx512bf16",), ("-mno-avx512f",)
PLAIN = (*NO_WIDE, "-mno-avx2", "-mno-fma", "-mno-avx")
EMULATED = ("-DEMULATE_TILES",)
BUILDS = {
    "no pairs": ("moe_grouped.cpp", NO_PAIRS),
    "no AVX-512": ("moe_grouped.cpp", NO_WIDE),
    "no AVX": ("moe_grouped.cpp", PLAIN),
    "tiles": ("moe_grouped_amx.cpp", EMULATED),
    "tiles, no AVX-512": ("moe_grouped_amx.cpp", (*EMULATED, *NO_WIDE)),
}
ON_X86 = "avx2" in Cpu().isa


def point(trace, n=40, e=12, d=24, f=16, dtype="float32", seed=0):
    return case("moe", trace, dtype, seed, n=n, e=e, d=d, f=f)


def textbook(route, up, down, x, logits):
    """Token by token, expert by expert."""
    top, out = routing.most(route), torch.zeros_like(x)
    for token, (one, scores) in enumerate(zip(x, logits, strict=True)):
        chosen = [e for e in scores.argsort(descending=True)[:top].tolist() if scores[e] > -torch.inf]
        gates = scores[chosen].softmax(0)
        for gate, e in zip(gates, chosen, strict=True):
            enter, wide = (up[e] @ one).chunk(2)
            out[token] = out[token] + gate * (down[e] @ (silu(enter) * wide))
    return out


def doubled(operands):
    route, *others = operands
    return route, *(one.double() for one in others)


# The op.


@traces
def test_the_reference_is_the_textbooks(trace):
    operands = make_operands(point(trace))
    torch.testing.assert_close(OPS["moe"].reference(*operands), textbook(*doubled(operands)))


@traces
@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_logits_make_the_route_of_the_pattern(trace, dtype):
    route, *_, logits = make_operands(point(trace, dtype=dtype))
    gates = routing.dense(logits, routing.most(route))
    assert torch.equal(gates.t() > 0, placed(route))
    going = (gates > 0).any(1)
    torch.testing.assert_close(
        gates.float().sum(1), going.float(), rtol=0, atol=2**-7 if dtype == "bfloat16" else 1e-6
    )


def placed(route):
    """Where a route has its nonzeros."""
    made = torch.zeros(route.shape, dtype=torch.bool)
    made[torch.repeat_interleave(torch.arange(len(made)), route.row_lengths), route.columns.long()] = True
    return made


@traces
def test_an_answer_or_a_route_kept_from_before_is_wrong(trace):
    for n in (1, 40):
        asked = question(one := point(trace, n=n), make_operands(point(trace, n=n)))
        *fixed, x, _ = asked.twin.operands
        check(moe.answer(*asked.twin.operands), asked.twin)
        if not asked.operands[0].nonzeros:
            continue
        with pytest.raises(Wrong):
            check(moe.answer(*asked.operands), asked.twin)
        if one["e"] * n > asked.operands[0].nonzeros:  # where all ask all, no route is another
            with pytest.raises(Wrong):
                check(moe.answer(*fixed, x, asked.operands[-1]), asked.twin)


def test_the_ledger_counts_what_is_asked():
    one = point(Crowded(0.75))
    operands = make_operands(one)
    stated = ledger(one, operands)
    assert stated["flops_nominal"] == 40 * 12 * 6 * 24 * 16
    assert stated["flops_useful"] == 40 * 3 * 6 * 24 * 16
    assert stated["sparsity"] == 0.75
    assert stated["structure"]["row_max_over_mean"] == pytest.approx(4)  # all tokens, a quarter on average
    touched = {int(e) for e in operands[-1].topk(3).indices.flatten()}
    assert OPS["moe"].least_values(one, operands) == len(touched) * 3 * 24 * 16 * 4


def test_the_order_of_experts_does_not_matter():
    route, up, down, x, logits = doubled(make_operands(point(Zipf(1.0, 0.75))))
    order = torch.randperm(len(up), generator=torch.Generator().manual_seed(0))
    turned = moe.answer(route, up[order], down[order], x, logits[:, order])
    torch.testing.assert_close(turned, moe.answer(route, up, down, x, logits))


def layer(up, down, x):
    """A dense feed-forward layer."""
    enter, wide = (x @ up.t()).chunk(2, -1)
    return (silu(enter) * wide) @ down.t()


@pytest.mark.paper("sparse-upcycling", "upcycling-inference")
def test_experts_that_are_copies_of_a_layer_are_that_layer():
    route, up, down, x, logits = doubled(make_operands(point(Zipf(1.0, 0.75))))
    copies = up[:1].expand_as(up), down[:1].expand_as(down)
    torch.testing.assert_close(moe.answer(route, *copies, x, logits), layer(up[0], down[0], x))


@pytest.mark.paper("sparse-upcycling")
def test_a_mixture_has_the_numbers_of_its_experts_and_the_flops_of_those_asked():
    one, made = point(Zipf(0.0, 0.0), e=1), point(Zipf(0.0, 0.75))
    alone, mixed = make_operands(one), make_operands(made)
    assert sum(each.numel() for each in mixed[1:3]) == 12 * sum(each.numel() for each in alone[1:3])
    assert OPS["moe"].useful(made, mixed) == 3 * OPS["moe"].useful(one, alone) == 3 * 40 * 6 * 24 * 16
    assert OPS["moe"].nominal(made, mixed) == 12 * OPS["moe"].nominal(one, alone)


@pytest.mark.paper("sparse-upcycling", "upcycling-inference")
@pytest.mark.parametrize("name", ["moe_loop_torch", "moe_padded_torch", "moe_dense_mm", "moe_grouped"])
@pytest.mark.parametrize("trace", [Zipf(0.0, 0.75), Crowded(0.75)], ids=str)
def test_kernels_answer_for_an_upcycled_layer_as_the_layer_does(trace, name):
    if name == "moe_grouped" and native.missing():
        pytest.skip("; ".join(native.missing()))
    route, up, down, x, logits = make_operands(point(trace))
    copies = up[:1].repeat(len(up), 1, 1), down[:1].repeat(len(up), 1, 1)
    found = KERNELS[name].prepare(route, *copies, x, logits).run(x, logits)
    torch.testing.assert_close(found, layer(up[0], down[0], x), rtol=1e-4, atol=1e-4)


@pytest.mark.paper("expert-pruning")
def test_experts_that_are_left_answer_as_before_the_others_were_dropped():
    """The least used first: those left stay as they are, and tokens go to the best of them."""
    route, up, down, x, logits = doubled(make_operands(point(Zipf(1.0, 0.75))))
    asked = torch.bincount(logits.topk(3).indices.flatten(), minlength=12)
    assert asked.equal(route.row_lengths)
    for left in (12, 6, 3):
        kept = asked.argsort(descending=True, stable=True)[:left]
        gone = torch.ones(12, dtype=torch.bool).index_fill(0, kept, False)
        masked = moe.answer(route, up, down, x, logits.masked_fill(gone, -torch.inf))
        smaller = moe.answer(route, up[kept], down[kept], x, logits[:, kept])
        torch.testing.assert_close(smaller, masked)


@pytest.mark.paper("expert-pruning")
def test_one_expert_is_a_dense_layer():
    route, up, down, x, logits = doubled(make_operands(point(Zipf(0.0, 0.0), e=1)))
    torch.testing.assert_close(moe.answer(route, up, down, x, logits), layer(up[0], down[0], x))


def test_all_experts_with_equal_gates_are_their_mean():
    route, up, down, x, logits = doubled(make_operands(point(Zipf(0.0, 0.0), e=4)))
    expected = sum(layer(up[e], down[e], x) for e in range(4)) / 4
    torch.testing.assert_close(moe.answer(route, up, down, x, torch.zeros_like(logits)), expected)


# Kernels, beside what tests/test_kernels.py asks of all.


def scattered(up, down, x, logits, top):
    """Choices sorted by expert, products of what they gather, and sums of what they scatter."""
    going = routing.dispatch(logits, top)
    pieces = x[going.tokens].split(going.counts.tolist())
    said = torch.cat([layer(up[e], down[e], piece) for e, piece in enumerate(pieces)])
    return torch.zeros_like(x).index_add(0, going.tokens, said * going.gates[:, None])


@traces
@pytest.mark.paper("scattermoe")
def test_scattered_experts_and_their_gradients_equal_the_loop(trace):
    route, *operands = doubled(make_operands(point(trace, n=12, e=8, d=6, f=4)))
    ours, loops = ([one.clone().requires_grad_() for one in operands] for _ in range(2))
    found, expected = scattered(*ours, routing.most(route)), textbook(route, *loops)
    torch.testing.assert_close(found, expected)
    if route.nonzeros:
        for each in (found, expected):
            (each * torch.arange(each.numel()).view_as(each).cos()).sum().backward()
        for mine, loop in zip(ours, loops, strict=True):
            torch.testing.assert_close(mine.grad, loop.grad)


@needs_compiler
@pytest.mark.paper("scattermoe")
@pytest.mark.parametrize("build", BUILDS)
def test_grouped_experts_are_right_on_other_processors(build):
    source, flags = BUILDS[build]
    if not ON_X86 and any(flag.startswith("-m") for flag in flags):
        pytest.skip("these are flags for x86")
    library = native.load(HERE / source, *flags)
    dtypes = ("bfloat16",) if "amx" in source else ("float32", "bfloat16")

    @kernel(op="moe", dtypes=dtypes, keep=False)
    def lesser(route, up, down, x, logits):
        return grouped.prepare(library, route, up, down, x)

    device = Cpu()
    verdicts = [examine(lesser, trial, device) for trial in cases_for(lesser)]
    assert {one.outcome for one in verdicts} == {"ok"}, [one for one in verdicts if one.outcome != "ok"][:3]


@needs_compiler
def test_tiles_of_the_processor_compile():
    if not ON_X86:
        pytest.skip("AMX is x86's")
    assert native.load(amx.SOURCE, *amx.FLAGS).moe_bfloat16


@needs_compiler
@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_threads_do_not_change_the_answer(dtype):
    operands = make_operands(point(Zipf(1.5, 0.75), n=300, e=8, d=200, f=100, dtype=dtype))
    before, found = torch.get_num_threads(), []
    try:
        for threads in (1, 2, 5):
            torch.set_num_threads(threads)
            found.append(grouped.moe_grouped.prepare(*operands).run(*operands[3:]).clone())
    finally:
        torch.set_num_threads(before)
    assert found[0].equal(found[1]) and found[0].equal(found[2])


@needs_compiler
@traces
@pytest.mark.paper("scattermoe")
def test_no_row_is_padded_but_within_a_tile(trace):
    operands = make_operands(point(trace, d=64, f=32, dtype="bfloat16"))
    route, *_, x, logits = operands
    made = grouped.moe_grouped.prepare(*operands)
    made.run(x, logits)
    assert made.executed() == OPS["moe"].useful(point(trace, d=64, f=32), operands)
    tiles = grouped.prepare(native.load(HERE / "moe_grouped_amx.cpp", *EMULATED), *operands[:4])
    tiles.run(x, logits)
    filled = sum(-(-int(load) // 16) * 16 for load in route.row_lengths)
    assert tiles.executed() == filled * 6 * 64 * 32


class Allocated(TorchDispatchMode):
    """The largest tensor that torch makes, in numbers."""

    def __init__(self):
        super().__init__()
        self.most = 0

    def __torch_dispatch__(self, function, types, arguments=(), named=None):
        made = function(*arguments, **(named or {}))
        for one in made if isinstance(made, tuple | list) else (made,):
            if isinstance(one, torch.Tensor) and not function.is_view and "out" not in (named or {}):
                self.most = max(self.most, one.numel())
        return made


@needs_compiler
@traces
@pytest.mark.paper("scattermoe")
def test_no_choice_has_a_copy_of_its_token(trace):
    """Neither made in a call nor held beside the weights, however long tokens are."""
    one = point(trace, n=64, e=16, d=2048, f=32, dtype="bfloat16")
    operands = make_operands(one)
    route, up, down, x, logits = operands
    copied = max(route.nonzeros, 3 * 64) * one["d"]
    found = {}
    for name in ("moe_grouped", "moe_grouped_torch"):
        made = KERNELS[name].prepare(*operands)
        with Allocated() as found[name]:
            made.run(x, logits)
        if name == "moe_grouped":
            sums = x.numel() * 4
            assert size(made.holds) - up.nbytes - down.nbytes - sums - x.nbytes < copied * x.element_size()
    assert found["moe_grouped"].most == 0
    if route.nonzeros > len(x):
        assert found["moe_grouped_torch"].most >= route.nonzeros * one["d"]


@needs_compiler
def test_an_expert_that_all_ask_is_no_more_work():
    """The same number of choices, wherever they go."""
    for trace in (Zipf(0.0, 0.75), Crowded(0.75), Zipf(99.0, 0.75)):
        operands = make_operands(point(trace, d=64, f=32, dtype="bfloat16"))
        made = grouped.moe_grouped.prepare(*operands)
        made.run(*operands[3:])
        assert made.executed() == 40 * 3 * 6 * 64 * 32
    padded = KERNELS["moe_padded_torch"].prepare(*operands)
    padded.run(*operands[3:])
    assert padded.executed() == 12 * 40 * 6 * 64 * 32  # as dense


# Routers and their statistics.


def chunk_sparsity(gates, tokens):
    """CLS: the share of experts that consecutive tokens leave alone, the mean of whole chunks; TLS of one."""
    whole = gates[: len(gates) // tokens * tokens] != 0
    return 1 - float(whole.view(-1, tokens, gates.shape[1]).any(1).double().mean())


LOGITS = torch.randn(64, 12, generator=torch.Generator().manual_seed(3))


@pytest.mark.parametrize("top", [1, 3, 12])
def test_top_k_gates_are_the_highest_and_sum_to_one(top):
    gates = routing.dense(LOGITS, top)
    assert (gates > 0).sum(1).eq(top).all()
    torch.testing.assert_close(gates.sum(1), torch.ones(64))
    lowest = LOGITS.where(gates > 0, torch.inf).amin(1)
    highest = LOGITS.where(gates == 0, -torch.inf).amax(1)
    assert (lowest > highest).all()


def test_top_p_holds_its_share_with_no_expert_to_spare():
    gates, likely = routing.top_p(LOGITS, 0.7), LOGITS.softmax(1)
    held = (likely * (gates > 0)).sum(1)
    least = likely.where(gates > 0, torch.inf).amin(1)
    assert (held >= 0.7).all() and (held - least < 0.7).all()
    torch.testing.assert_close(gates.sum(1), torch.ones(64))


def test_expert_choice_takes_as_many_tokens_of_each():
    gates = routing.expert_choice(LOGITS, 10)
    assert (gates > 0).sum(0).eq(10).all()
    assert gates[gates > 0].equal(LOGITS.softmax(1)[gates > 0])


@pytest.mark.paper("comet")
def test_hashed_routes_ask_so_many_experts():
    ids = torch.arange(1000).remainder(300)
    gates = routing.hashed(ids, 12, 3)
    assert (gates > 0).sum(1).eq(3).all() and gates[:300].equal(gates[300:600])
    assert gates.sum(0).min() > 0.5 * gates.sum(0).mean()


@pytest.mark.paper("m6-t")
@pytest.mark.parametrize("groups", [1, 2, 3, 4, 6])
def test_prototypes_ask_one_expert_of_each_group(groups):
    gates = routing.prototypes(LOGITS, groups)
    asked = (gates > 0).view(64, groups, -1)
    assert asked.sum(2).eq(1).all()
    assert int(asked.sum()) == int((routing.dense(LOGITS, groups) > 0).sum())  # as many FLOPs as top-k
    if groups == 1:
        assert (gates > 0).equal(routing.dense(LOGITS, 1) > 0)


@pytest.mark.paper("blockffn")
def test_a_rectified_route_has_gradients_and_no_negative_gate():
    logits = LOGITS[:5].double().requires_grad_()
    weight = torch.linspace(0.5, 2, 12, dtype=torch.float64).requires_grad_()
    assert torch.autograd.gradcheck(routing.relu_norm, (logits, weight))
    gates = routing.relu_norm(logits, weight)
    assert (gates > 0).equal(logits > 0)


@pytest.mark.paper("blockffn")
@settings(deadline=None, max_examples=25)
@given(
    n=st.integers(1, 40), e=st.integers(1, 9), seed=st.integers(0, 99), density=st.sampled_from((0, 0.2, 1))
)
def test_sparsity_of_tokens_and_chunks_is_counted(n, e, seed, density):
    gates = (torch.rand(n, e, generator=torch.Generator().manual_seed(seed)) < density).float()
    alone = [int(gates[token, expert] == 0) for token in range(n) for expert in range(e)]
    assert chunk_sparsity(gates, 1) == pytest.approx(sum(alone) / len(alone))
    for tokens in (2, 3, 8):
        if n < tokens:
            continue
        unused = [
            all(gates[first + at, expert] == 0 for at in range(tokens))
            for first in range(0, n - tokens + 1, tokens)
            for expert in range(e)
        ]
        assert chunk_sparsity(gates, tokens) == pytest.approx(sum(unused) / len(unused))


@pytest.mark.paper("blockffn")
def test_larger_chunks_leave_fewer_experts_alone():
    gates = routing.dense(LOGITS, 2)
    nested = [chunk_sparsity(gates, 2**power) for power in range(7)]
    assert nested == sorted(nested, reverse=True) and nested[0] > nested[-1]


@pytest.mark.paper("upcycling-inference")
def test_coverage_is_that_of_a_count_and_tends_to_all():
    for n in (1, 4, 16, 64):
        counted = []
        for seed in range(40):
            route, *_, logits = make_operands(point(Zipf(0.0, 0.75), n=n, e=16, d=1, f=1, seed=seed))
            asked = set(logits.topk(4).indices.flatten().tolist())
            assert routing.touched(route) == len(asked)
            counted.append(len(asked))
        assert sum(counted) / 40 == pytest.approx(routing.coverage(16, 4, n), abs=0.6)
    assert routing.coverage(16, 4, 1) == 4 and routing.coverage(16, 4, 1000) == pytest.approx(16)


def unevenness(trace, n=40, e=8):
    """What a line says of loads."""
    told = structure(make_operands(point(trace, n=n, e=e, d=1, f=1))[0])
    names = ("row_max_over_mean", "row_cv", "row_entropy", "row_beyond_mean", "empty_rows")
    return [told[name] for name in names]


def test_unevenness_of_known_loads():
    assert unevenness(ExpertChoice(0.75)) == pytest.approx([1, 0, 1, 0, 0])
    assert unevenness(Zipf(99.0, 0.875)) == pytest.approx([8, 7**0.5, 0, 7 / 8, 7 / 8])


# Routers as traces.

EVERY_ROUTER = (Relu, TopP, ExpertChoice, Prototypes, Hashed)


@pytest.mark.parametrize("router", EVERY_ROUTER)
@pytest.mark.parametrize(("e", "n"), [(8, 40), (12, 7), (16, 256)])
def test_a_router_asks_as_many_as_it_says(router, e, n):
    for sparsity in (0.75, 0.5):
        one = router(sparsity)
        starts, _ = one.positions(e, n, 3)
        assert starts[-1] == one.count(e, n)
        assert (
            abs(starts[-1] - (1 - sparsity) * e * n) <= max(e, n) / 2
        )  # a half of a token's, or an expert's


@pytest.mark.paper("blockffn", "m6-t")
def test_what_is_left_to_a_token_is_what_the_router_leaves_to_it():
    by = {one: placed(make_operands(point(one(0.75), n=256, e=16, d=1, f=1))[0]).t() for one in EVERY_ROUTER}
    asked = {one: mask.sum(1) for one, mask in by.items()}
    assert asked[Relu].min() < 3 and asked[Relu].max() > 6
    assert asked[TopP].min() >= 1 and asked[TopP].max() > asked[TopP].min()
    assert by[ExpertChoice].sum(0).eq(64).all() and asked[ExpertChoice].unique().numel() > 2
    assert by[Prototypes].view(256, 4, 4).sum(2).eq(1).all()
    assert asked[Hashed].eq(4).all()


@pytest.mark.paper("m6-t")
def test_prototypes_cost_as_many_flops_as_the_best_of_all():
    useful = OPS["moe"].useful
    made = [point(trace) for trace in (Prototypes(0.75), Zipf(0.0, 0.75))]
    assert len({useful(one, make_operands(one)) for one in made}) == 1


@pytest.mark.parametrize(
    ("trace", "says"),
    [
        (Prototypes(0.375), "8 experts are not 5 equal groups"),
        (TopP(0.95), "less than one expert a token, of 8"),
        (Relu(1.5), "sparsity 1.5 is not between 0 and 1"),
    ],
)
def test_routers_that_do_not_exist_say_why(trace, says):
    assert faults(point(trace, e=8)) == [says]


@pytest.mark.paper("blockffn")
@pytest.mark.parametrize("name", ["moe_loop_torch", "moe_grouped"])
@pytest.mark.parametrize("tokens", [1, 8])
def test_a_chunk_reads_the_union_of_its_experts_and_answers_token_by_token(tokens, name):
    """With gates that a rectified router gives, which are not shares of 1."""
    if name == "moe_grouped" and native.missing():
        pytest.skip("; ".join(native.missing()))
    one = point(Relu(0.75), n=tokens, e=16, d=32, f=16)
    route, up, down, x, logits = make_operands(one)
    reached = logits.where(placed(route).t(), -1).contiguous()
    gates = routing.relu_norm(reached, torch.linspace(0.5, 2, 16))
    made = KERNELS[name].prepare(route, up, down, x, gates.log())
    found = made.run(x, gates.log()) * gates.sum(1, keepdim=True)
    loop = [
        sum(gates[token, e] * layer(up[e], down[e], x[token : token + 1])[0] for e in range(16))
        for token in range(tokens)
    ]
    torch.testing.assert_close(found, torch.stack(loop), rtol=1e-4, atol=1e-4)
    union = int((gates > 0).any(0).sum())
    assert made.values == union * 3 * 32 * 16 * 4
    told = ledger(one, (route, up, down, x, logits))
    assert told["structure"]["empty_rows"] == pytest.approx(chunk_sparsity(gates, tokens), abs=1e-4)
    assert told["sparsity"] == pytest.approx(chunk_sparsity(gates, 1))


# Traces.


def loads(trace, n=256, e=16):
    starts, _ = trace.positions(e, n, 0)
    return torch.from_numpy(starts).diff()


def cv(counts):
    return float(counts.double().std(correction=0) / counts.double().mean())


def test_traces_are_as_uneven_as_they_say():
    uneven = [cv(loads(Zipf(exponent, 0.75))) for exponent in (0.0, 0.5, 1.0, 99.0)]
    assert uneven == sorted(uneven) and uneven[0] < 0.15
    assert sorted(loads(Zipf(99.0, 0.75)))[-4:] == [256] * 4
    assert int(loads(Crowded(0.75)).max()) == 256 > sorted(loads(Crowded(0.75)))[-2]
    assert int((loads(Idle(0.75)) == 0).sum()) == 8
    wild, tame = (cv(loads(Dirichlet(c, 0.75))) for c in (0.05, 50.0))
    assert wild > 2 * tame


@pytest.mark.parametrize(
    ("trace", "says"),
    [
        (Zipf(1.0, 1.5), "sparsity 1.5 is not between 0 and 1"),
        (Dirichlet(0.0, 0.5), "concentration 0 is not positive"),
        (Bursts(0, 0.5), "bursts of no tokens"),
    ],
)
def test_traces_that_do_not_exist_say_why(trace, says):
    assert faults(point(trace)) == [says]


def test_a_trace_is_no_mask_of_a_weight():
    mask = case("spmm", Idle(0.5), m=4, k=4, n=1)
    assert faults(mask) == ["idle@0.5 is a pattern of moe, moe_step, moa, not of spmm"]


def test_bursts_are_alike_within_and_not_between():
    together = placed(make_operands(point(Bursts(8, 0.75), n=64, e=32))[0]).t().float()
    alike = together @ together.t() / 8
    same = torch.arange(64)[:, None] // 8 == torch.arange(64) // 8
    off = ~torch.eye(64, dtype=torch.bool)
    assert alike[same & off].mean() > 1.5 * alike[~same].mean()
