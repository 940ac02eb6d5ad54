"""Rules that choose neurons: their budgets, what they keep, and what keeping it is worth."""

from dataclasses import replace
from itertools import pairwise

import pandas as pd
import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st

from suite import activations, native
from suite.activations import Active, budget
from suite.case import case
from suite.check import question
from suite.conformance import cases_for, examine
from suite.cpu.device import Cpu
from suite.inputs import INPUTS
from suite.kernel import KERNELS
from suite.measure import Effort
from suite.op import OPS, discover_parts, make_operands
from suite.ops import actmm
from suite.ops.actmm import counting, learned, reaching
from suite.patterns.chosen import Chosen
from suite.reading.selected import afforded
from suite.registry import Unusable, discover
from suite.selector import SELECTORS, entries
from suite.visit import Visit

discover_parts()
discover(folders=("kernels", "workloads"))

from suite.workloads import inputs_text  # noqa: E402
from suite.workloads.selectors import r_sparse, scap  # noqa: E402  (whose parts are tested alone)
from suite.workloads.selectors import selective_heads as selective  # noqa: E402

BOTH = ("actmm", "actmm_up")
RULES = [(name, op) for op in BOTH for name, one in sorted(SELECTORS.items()) if op in one.ops]
ON_AVERAGE = ("teal", "cats", "chess", "scap")  # by cuts that a sample gave
BLIND = ("random_neurons", "popular")  # what they keep is settled before a call
ON = {"swiglu", "relus", "hidden", "laplace", "squares", "shifted"}
SHARES = (0.0, 0.25, 0.5, 0.9, 0.99, 1.0)
SEEDS = pytest.mark.parametrize("seed", range(3))

each = pytest.mark.parametrize(("name", "op"), RULES)


def point(op="actmm", sparsity=0.5, data="swiglu", n=1, dtype="float32", m=192, k=384, seed=0):
    sizes = (m, k) if op == "actmm" else (k, m)
    return case(op, Chosen(sparsity), dtype, seed, data, m=sizes[0], k=sizes[1], n=n)


def asked(of):
    return question(of, make_operands(of))


def over(name, of):
    """The question over what a rule chooses, and what that is worth."""
    whole = asked(of)
    one = whole.chosen(SELECTORS[name])
    told = actmm.quality(of, (one.operands, one.expected), (whole.operands, whole.whole.expected))
    return one, told


def kept(question):
    """Which activations count, [neurons, n]."""
    return reaching(question.operands[1], question.operands[-1])


def drawn(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


# Budgets.


@pytest.mark.paper("cats")
@pytest.mark.paper("teal")
@pytest.mark.paper("wina")
@pytest.mark.paper("lazy-neuron")
@each
@pytest.mark.parametrize("sparsity", [0.5, 0.9])
def test_a_budget_is_met_to_one_activation_or_on_other_tokens_on_average(name, op, sparsity):
    of = point(op, sparsity, n=24)
    one, _ = over(name, of)
    counts = kept(one).sum(0)
    if name in ON_AVERAGE:
        assert float(counts.double().mean()) == pytest.approx(budget(of), rel=0.12)
    elif name == "r_sparse":
        channels, rank = r_sparse.divided(of)
        assert (counts == channels).all()
        assert channels * 192 + rank * (192 + 384) <= budget(of) * 192 < (channels + 2) * 192 + rank * 576
    else:
        assert (counts == budget(of)).all()


@pytest.mark.paper("cats")
@pytest.mark.paper("polar-sparsity")
@pytest.mark.paper("r-sparse")
@pytest.mark.paper("scap")
@each
def test_with_nothing_left_out_the_answer_is_the_dense_one(name, op):
    one, told = over(name, point(op, 0.0, n=3))
    torch.testing.assert_close(one.expected, asked(point(op, 0.0, n=3)).whole.expected, rtol=1e-4, atol=1e-4)
    assert told["recall"] == pytest.approx(1) and told["error"] == pytest.approx(0, abs=1e-5)


@each
def test_with_everything_left_out_nothing_counts(name, op):
    one, told = over(name, point(op, 1.0, data="hidden"))
    assert not kept(one).any() and 0 <= told["recall"] < 0.2


@each
def test_it_chooses_anew_and_alike(name, op):
    whole = asked(point(op, n=4))
    first = whole.chosen(SELECTORS[name])
    again = first.select(*(whole.operands[at] for at in OPS[op].live))
    assert torch.equal(again.values, first.operands[1].values)
    if name not in BLIND:
        assert not torch.equal(kept(first.twin), kept(first))
    assert not torch.equal(first.twin.expected, first.expected)


@each
@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_it_conforms_with_a_kernel_of_its_op(name, op, dtype):
    """Odd sizes, one neuron, signed zeros: the answer is that over what was chosen, whatever that is."""
    of = point(op, dtype=dtype)
    pair = next(
        one
        for one in entries().values()
        if one.selector is SELECTORS[name] and one.on == "cpu" and one.fits(of)
    )
    verdicts = [examine(pair, trial, Cpu(1)) for trial in cases_for(replace(pair, dtypes=(dtype,)))]
    assert [one for one in verdicts if one.outcome not in ("ok", "refused")] == []
    assert sum(one.outcome == "ok" for one in verdicts) > 3


@pytest.mark.parametrize(("op", "n"), [("actmm", 1), ("actmm_up", 5)])
def test_a_visit_checks_times_and_judges_each_of_them(op, n):
    of = point(op, 0.75, n=n, dtype="bfloat16")
    pairs = [one for one in entries().values() if one.on == "cpu" and one.fits(of) and one.selector]
    lines = list(Visit(Cpu(1), 1, effort=Effort(cap=0.001)).results("w", of, pairs))
    assert {line.selector for line in lines} == {name for name, mine in RULES if mine == op}
    for line in lines:
        assert line.outcome == "ok", (line.selector, line.note)
        assert line.select_seconds > 0
        assert set(line.quality) == {"recall", "error", "cosine"} | ({"reuse"} if n > 1 else set())
        assert line.flops_executed >= line.flops_useful
        assert line.structure["empty_rows"] >= 1 - n * (1 - line.sparsity) - 1e-3


@pytest.mark.parametrize("name", sorted(ON))
@pytest.mark.parametrize("op", BOTH)
def test_an_input_is_drawn_alike_and_its_neurons_are_those_of_other_tokens(name, op):
    assert op in INPUTS[name].ops
    of = point(op, data=name, n=400)
    first, second, other = make_operands(of), make_operands(of), actmm.sample(of)
    for mine, its in zip(first, second, strict=True):
        assert torch.equal(mine, its) and mine.is_contiguous() and bool(mine.isfinite().all())
    size, others = first[-1].abs().mean(1), other.abs().mean(0)
    if name != "laplace" and (name, op) != ("shifted", op):  # of which all neurons are alike
        assert float(torch.corrcoef(torch.stack((size, others)))[0, 1]) > 0.8
    zeros = float((first[-1] == 0).double().mean())
    assert zeros == pytest.approx(0.89, abs=0.04) if name in ("relus", "squares") else zeros == 0


# What each is.


@pytest.mark.paper("teal")
@given(
    st.sampled_from((0.0, 0.25, 0.5, 0.9, 0.99, 1.0)),
    st.integers(1, 40),
    st.integers(1, 40),
    st.integers(0, 9),
)
@settings(max_examples=40, deadline=None)
def test_a_cut_leaves_what_was_asked_for_to_one_activation(share, tokens, neurons, seed):
    sample = drawn(tokens, neurons, seed=seed)
    found = reaching(activations.cuts(sample, torch.ones(neurons), share), sample.t())
    assert abs(int(found.sum()) - (1 - share) * sample.numel()) <= 1


@pytest.mark.paper("chess")
def test_equal_weights_make_all_cuts_equal():
    sample = drawn(50, 40)
    even = activations.cuts(sample, torch.ones(40), 0.6)
    assert len(even.unique()) == 1
    torch.testing.assert_close(activations.cuts(sample, torch.full((40,), 2.0), 0.6), even)
    assert not torch.equal(activations.cuts(sample, drawn(40, seed=1).abs(), 0.6), even)


@pytest.mark.paper("wina")
def test_with_orthogonal_weights_the_weighed_choice_is_the_best_there_is():
    """200 of 200, against every set of three; with equal norms it is what magnitude alone chooses."""
    sets = torch.combinations(torch.arange(8), 3)
    every = torch.zeros(len(sets), 8).scatter_(1, sets, 1.0)
    of = case("actmm", Chosen(5 / 8), m=8, k=8, n=1)
    for seed in range(200):
        w = torch.linalg.qr(drawn(8, 8, seed=seed))[0]
        x = drawn(8, 1, seed=seed + 999)
        assert torch.equal(
            SELECTORS["wina"].prepare(of, w)(x).values != 0, SELECTORS["lazy"].prepare(of, w)(x).values != 0
        )
        w = w * drawn(8, seed=seed + 500).exp()
        left = (((1 - every) * x[:, 0]) @ w.t()).norm(dim=1)
        chosen = SELECTORS["wina"].prepare(of, w)(x).values[:, 0] != 0
        assert int(chosen.sum()) == 3 and torch.equal(every[left.argmin()].bool(), chosen)


@pytest.mark.paper("lazy-neuron")
def test_enough_of_the_largest_is_all_of_a_relu_layer():
    of = point(data="relus", n=6)
    w, _, x = make_operands(of)
    enough = int((x > 0).sum(0).max())
    answer = counting(activations.best(x, x.abs(), enough), x)
    torch.testing.assert_close(w @ answer, w @ x)


@pytest.mark.paper("scap")
@SEEDS
def test_a_planted_mode_is_found(seed):
    tail = drawn(300, seed=seed).abs() * 5
    sample = torch.cat((drawn(1700, seed=seed + 10) * 0.1 - 0.28, tail))
    assert float(scap.mode(sample)) == pytest.approx(-0.28, abs=0.06)


@pytest.mark.paper("r-sparse")
def test_factors_of_full_rank_are_the_weight_and_the_bytes_are_counted():
    w = drawn(30, 50)
    left, right = r_sparse.factors(w, 30)
    torch.testing.assert_close(left @ right, w, rtol=1e-4, atol=1e-4)
    of = point("actmm", 0.5, n=2, dtype="bfloat16")
    one, _ = over("r_sparse", of)
    _, rank = r_sparse.divided(of)
    assert one.operands[1].read == rank * (192 + 384) * 2
    assert OPS["actmm"].least_values(of, one.operands) == int(kept(one).any(1).sum()) * 192 * 2


@pytest.mark.paper("polar-sparsity")
@pytest.mark.parametrize("op", BOTH)
def test_a_batch_that_shares_its_neurons_reads_its_budget(op):
    of = point(op, 0.9, n=16)
    shared, own = (kept(over(name, of)[0]).any(1).sum() for name in ("polar", "wina"))
    assert int(shared) == budget(of) < int(own)


# What that is worth.


@pytest.mark.paper("teal")
@pytest.mark.paper("cats")
@pytest.mark.paper("chess")
@pytest.mark.paper("wina")
@pytest.mark.paper("scap")
@pytest.mark.paper("lazy-neuron")
@pytest.mark.paper("polar-sparsity")
@SEEDS
@pytest.mark.parametrize("data", ["swiglu", "hidden", "relus"])
@pytest.mark.parametrize("op", BOTH)
def test_every_rule_beats_luck_and_none_knows_as_much_as_the_oracle(op, data, seed):
    """At 50 % and 40 %, on tokens that no rule has seen."""
    for sparsity in (0.5, 0.4):
        of = point(op, sparsity, data, seed=seed, n=4)
        found = {name: over(name, of)[1] for name, mine in RULES if mine == op}
        luck, most = found["random_neurons"], found["oracle_neurons"]["recall"]
        for name, told in found.items():
            if not SELECTORS[name].control:
                assert told["recall"] > luck["recall"] and told["error"] < luck["error"], name
                assert told["recall"] <= most + 2e-3 or name in ("scap", "r_sparse", *ON_AVERAGE), name


@pytest.mark.paper("chess")
@pytest.mark.paper("wina")
@SEEDS
@pytest.mark.parametrize("op", BOTH)
def test_weighing_errs_less_than_magnitude(op, seed):
    """Of neurons of unlike weights; by cuts as by choice."""
    found = {
        name: over(name, point(op, 0.5, n=16, seed=seed))[1]["error"]
        for name in ("chess", "wina", "lazy", "teal" if op == "actmm" else "cats")
    }
    assert found["chess"] < found["teal" if op == "actmm" else "cats"]
    assert found["wina"] < found["lazy"]


@pytest.mark.paper("teal")
@pytest.mark.parametrize(("name", "op"), [("teal", "actmm"), ("cats", "actmm_up"), ("wina", "actmm")])
def test_leaving_out_more_errs_more(name, op):
    shares = (0.0, 0.2, 0.4, 0.6, 0.8, 1.0)
    found = [over(name, point(op, sparsity, n=16))[1]["error"] for sparsity in shares]
    assert found[0] < 1e-6 and all(one < other for one, other in pairwise(found))


@pytest.mark.paper("scap")
@SEEDS
def test_centring_pays_where_activations_crowd_elsewhere_and_changes_nothing_where_they_do_not(seed):
    shifted, even = (
        {name: over(name, point(data=data, n=16, seed=seed))[1]["error"] for name in ("scap", "teal")}
        for data in ("shifted", "swiglu")
    )
    assert shifted["scap"] < 0.3 * shifted["teal"]
    assert even["scap"] == pytest.approx(even["teal"], rel=0.05)


@pytest.mark.paper("r-sparse")
@SEEDS
def test_channels_and_directions_err_less_than_either_alone_at_equal_bytes(seed):
    of = point(data="hidden", sparsity=0.8, n=16, seed=seed, m=384)
    whole = asked(of)
    w, _, x = whole.operands
    both = over("r_sparse", of)[1]["error"]
    left, right = r_sparse.factors(w, budget(of) * 384 // (384 + 384))
    alone = (left @ (right @ x)).double()
    directions = float((alone - whole.whole.expected).abs().sum() / whole.whole.expected.abs().sum())
    assert both < over("lazy", of)[1]["error"] and both < directions


@pytest.mark.paper("relu2")
@SEEDS
def test_a_predictor_finds_more_of_the_active_set_than_the_gate_alone(seed):
    """Of gates that say little, and weights half of which are in few directions."""
    of = point("actmm_up", 0.8, n=8, seed=seed)
    w, _, x, g = make_operands(of)
    g = 0.9 + 0.2 * torch.rand_like(g)
    best = SELECTORS["oracle_neurons"].prepare(of, w)(x, g).values != 0
    found = {name: SELECTORS[name].prepare(of, w)(x, g).values != 0 for name in ("predictor", "lazy")}
    recall = {name: float((one & best).sum() / best.sum()) for name, one in found.items()}
    assert recall["predictor"] > 0.5 > recall["lazy"]


@pytest.mark.paper("teal")
@pytest.mark.paper("cats")
@pytest.mark.paper("chess")
@pytest.mark.paper("wina")
@pytest.mark.paper("lazy-neuron")
@SEEDS
@pytest.mark.parametrize("op", BOTH)
def test_in_a_language_model_every_rule_loses_less_than_luck(op, seed):
    """Half of what a layer's neurons say left out, on held-out text.

    But for `polar`, whose one choice has to do for 128 tokens: by perplexity it may be no better than luck.
    """
    sizes = {"m": 128, "k": 352} if op == "actmm" else {"m": 352, "k": 128}
    of = case(op, Chosen(0.5), "float32", seed, "text", n=128, **sizes)
    found = {name: over(name, of)[1] for name, mine in RULES if mine == op}
    luck = found["random_neurons"]
    for name, told in found.items():
        if not SELECTORS[name].control and name != "polar":
            assert told["error"] < luck["error"] and told["perplexity"] < luck["perplexity"], name
            assert told["agreement"] > luck["agreement"] or told["agreement"] == 1, name
    everything = over("lazy", replace(of, pattern=Chosen(0.0)))[1]
    assert everything["perplexity"] == pytest.approx(1, abs=1e-4) and everything["agreement"] == 1


def test_text_has_the_sizes_of_its_model():
    with pytest.raises(Unusable, match="is m=128,k=352, the byte model's own layer"):
        make_operands(point(data="text"))


def test_the_weight_of_text_is_not_the_models_own():
    w, *_ = make_operands(case("actmm", Chosen(0.5), "float32", 0, "text", m=128, k=352, n=4))
    w.zero_()
    assert bool(inputs_text.trained().blocks[inputs_text.BLOCK].down.weight.any())


@pytest.mark.paper("sparsing-law")
def test_the_sparsity_at_an_error_is_where_the_error_is_that():
    found = [afforded(curve({one / 10: one / 20 for one in (1, 3, 5, 7, 9)}), at) for at in (0.0, 0.05, 0.12)]
    assert found == pytest.approx([0.0, 0.1, 0.24])
    assert afforded(curve({0.5: 0.1}), 0.2) is None


def curve(errors):
    """Rows of a selector's errors by budget."""
    return pd.DataFrame({"pattern": [f"chosen@{one:g}" for one in errors], "error": errors.values()})


@pytest.mark.paper("sparsing-law")
@SEEDS
def test_a_relu_layer_may_leave_out_its_zeros_and_more(seed):
    """At the sparsity that is found the error is what was asked for; ReLU affords more than SwiGLU."""
    found = {}
    for data in ("relus", "swiglu"):

        def error(sparsity, data=data):
            return over("chess", point("actmm", sparsity, data, n=32, seed=seed))[1]["error"]

        errors = curve({step / 50: error(step / 50) for step in range(20, 50)})
        found[data] = [afforded(errors, one) for one in (0.01, 0.05, 0.1)]
        assert found[data] == sorted(found[data])
        assert error(round(found[data][2], 4)) == pytest.approx(0.1, rel=0.1)
    zeros = float((make_operands(point(data="relus", n=32, seed=seed))[-1] == 0).double().mean())
    assert found["relus"][0] > zeros - 0.03 and found["relus"][0] > found["swiglu"][0] + 0.2


def test_a_zero_never_counts():
    of = point(data="relus", sparsity=0.3)
    tokens = actmm.sample(of)
    cut = learned(of, tokens, torch.ones(tokens.shape[1]))
    assert (cut > 0).all() and torch.equal(reaching(cut, tokens.t()), tokens.t() != 0)


def test_what_is_chosen_moves_and_is_copied_whole():
    one = Active(drawn(4, 2), torch.ones(4), drawn(3, 1), flops=5, read=7)
    copy = one.clone().to("cpu")
    assert torch.equal(copy.values, one.values) and copy.values is not one.values
    assert (copy.flops, copy.read) == (5, 7) and torch.equal(copy.beside, one.beside)
    assert F.cosine_similarity(copy.cut, one.cut, dim=0) == pytest.approx(1)


# Heads, which do not unite.


def heads_kept(of, sizes=None):
    """The question over whole heads: those that the rule finds, or the largest of these sizes [n, g]."""
    whole = asked(of)
    if sizes is None:
        return whole.chosen(SELECTORS["selective_heads"]), whole.whole
    found = selective.spent(sizes, torch.rand(of["n"], of["g"], of["t"] // of["b"]), of)
    return question(of, (found, *whole.operands[1:])), whole.whole


def cache(sparsity, seed=0, n=3):
    return case("decode", Chosen(sparsity), "float32", seed, "blend", n=n, h=12, g=6, t=256, d=64, b=16)


@pytest.mark.paper("polar-sparsity")
@pytest.mark.skipif(bool(native.missing()), reason="; ".join(native.missing()))
def test_whole_heads_are_dense_attention_with_the_others_put_to_nothing():
    one, whole = heads_kept(cache(0.5))
    found, *rest = one.operands
    counts = found.row_lengths.view(3, 12)
    assert ((counts == 0) | (counts == 16)).all() and (counts.sum(1) == 6 * 16).all()
    assert torch.equal(counts[:, ::2], counts[:, 1::2]), "heads that share keys go together"
    alone = whole.expected * (counts > 0)[..., None]
    torch.testing.assert_close(one.expected, alone)
    answer = KERNELS["decode_gather"].prepare(found, *rest).run(rest[-1])
    torch.testing.assert_close(answer.double(), alone, rtol=1e-4, atol=1e-5)


@pytest.mark.paper("polar-sparsity")
@SEEDS
def test_heads_that_are_chosen_err_less_than_heads_drawn_at_random(seed):
    of = cache(0.5, seed)
    (one, whole), drawn_at = heads_kept(of), torch.Generator().manual_seed(seed)
    at_random = [heads_kept(of, torch.rand(3, 6, generator=drawn_at))[0] for _ in range(8)]
    error, *others = (float((each.expected - whole.expected).norm()) for each in (one, *at_random))
    assert error < 0.9 * sum(others) / len(others)
