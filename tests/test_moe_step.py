"""A training step of a mixture of experts: gradients of the loop over tokens, nothing padded or copied."""

from dataclasses import replace

import pytest
import torch
from test_moe import BUILDS, ON_X86, TRACES, Allocated, needs_compiler, point, textbook

from suite import native
from suite.check import Wrong, check, question
from suite.conformance import cases_for, examine
from suite.cpu.device import Cpu
from suite.formats import routing
from suite.held import size
from suite.kernel import KERNELS, kernel
from suite.op import OPS, make_operands
from suite.ops import moe_step
from suite.patterns.routes import Crowded, Idle, Zipf
from suite.stated import ledger

grouped = pytest.importorskip("suite.kernels.moe_step.moe_step_grouped")
NAMES = ("dense_mm", "loop_torch", "padded_torch", "grouped_torch", "grouped")
for name in NAMES:
    pytest.importorskip(f"suite.kernels.moe_step.moe_step_{name}")

pytestmark = pytest.mark.paper("scattermoe")

traces = pytest.mark.parametrize("trace", TRACES.values(), ids=TRACES)
LESSER = {build: flags for build, (source, flags) in BUILDS.items() if source == "moe_grouped.cpp"}


def step(trace, n=12, e=8, d=8, f=8, dtype="float32", seed=0):
    return replace(point(trace, n, e, d, f, dtype, seed), op="moe_step")


def by_autograd(route, *live):
    """y, and torch's gradients, of the loop over tokens and experts."""
    *learnt, dy = (one.double() for one in live)
    for one in learnt:
        one.requires_grad_()
    y = textbook(route, *learnt)
    up, down, x, logits = learnt
    given = torch.autograd.grad((y * dy).sum() + 0 * sum(one.sum() for one in learnt), (x, up, down, logits))
    return y.detach(), *given


@pytest.fixture(scope="module")
def asked():
    """Questions whose answers are autograd's, by trace."""
    made = {}

    def of(trace, dtype):
        if (trace, dtype) not in made:
            one = step(trace, dtype=dtype)
            operands = make_operands(one)
            right = by_autograd(operands[0], *(each.clone() for each in operands[1:]))
            made[trace, dtype] = replace(question(one, operands), expected=right)
        return made[trace, dtype]

    return of


@traces
def test_the_reference_has_the_gradients_of_the_loop(trace, asked):
    of = asked(trace, "float32")
    for mine, right in zip(OPS["moe_step"].reference(*of.operands), of.expected, strict=True):
        torch.testing.assert_close(mine, right)


@traces
@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
@pytest.mark.parametrize("name", NAMES)
def test_every_kernel_has_the_gradients_of_the_loop(name, trace, dtype, asked):
    one, of = KERNELS[f"moe_step_{name}"], asked(trace, dtype)
    if dtype not in one.dtypes:
        pytest.skip(f"{name} takes {', '.join(one.dtypes)}")
    if reasons := one.refusals(of.case, Cpu()):
        pytest.skip("; ".join(reasons))
    made = one.prepare(*of.operands)
    assert check(made.run(*of.operands[1:]), of) <= 1
    executed = made.executed() if callable(made.executed) else made.executed
    useful = OPS["moe_step"].useful(of.case, of.operands)
    if name in ("loop_torch", "grouped_torch"):
        assert executed == useful
    if name == "dense_mm":
        assert executed == OPS["moe_step"].nominal(of.case, of.operands)
    if name == "padded_torch":
        assert executed == 18 * 8 * int(of.operands[0].row_lengths.max()) * 8 * 8


def test_gradients_of_other_weights_tokens_or_errors_are_wrong(asked):
    of = asked(TRACES["zipf"], "float32")
    right = moe_step.answer(*of.operands)
    check(right, of)
    check(moe_step.answer(*of.twin.operands), of.twin)
    for at in OPS["moe_step"].live:
        mixed = list(of.twin.operands)
        mixed[at] = of.operands[at]  # what a kernel would answer that kept it from before
        with pytest.raises(Wrong):
            check(moe_step.answer(*mixed), of.twin)
    for at in range(len(right)):
        with pytest.raises(Wrong):
            check((*right[:at], right[at] * 1.01, *right[at + 1 :]), of)


def test_the_twins_answer_is_worked_out_at_no_cost(asked):
    of = asked(TRACES["bursts"], "float32").twin
    for mine, right in zip(OPS["moe_step"].reference(*of.operands), of.expected, strict=True):
        torch.testing.assert_close(mine, right)


def test_what_nobody_asks_learns_nothing():
    of = step(Idle(0.75), n=40)
    route, *live = make_operands(of)
    _, _, dup, ddown, dlogits = moe_step.answer(route, *live)
    idle = route.row_lengths == 0
    assert idle.sum() == 4 and not dup[idle].any() and not ddown[idle].any()
    asks = routing.dense(live[3], 2) > 0
    assert not dlogits[~asks].any() and dlogits[asks].all()
    torch.testing.assert_close(dlogits.sum(1), torch.zeros(40), rtol=0, atol=1e-4)  # of a softmax


def test_the_ledger_counts_three_passes():
    of = step(Crowded(0.75), n=40, e=12, d=24, f=16)
    stated = ledger(of, make_operands(of))
    assert stated["flops_nominal"] == 3 * 40 * 12 * 6 * 24 * 16
    assert stated["flops_useful"] == 3 * 40 * 3 * 6 * 24 * 16


@needs_compiler
@pytest.mark.parametrize("build", LESSER)
def test_steps_are_right_on_other_processors(build):
    if not ON_X86:
        pytest.skip("these are flags for x86")
    library = native.load(grouped.SOURCE, *LESSER[build])

    @kernel(op="moe_step", dtypes=("float32", "bfloat16"), keep=False)
    def lesser(route, up, down, x, logits, dy):
        return grouped.prepare(library, route, up, down, x, logits)

    device = Cpu()
    verdicts = [examine(lesser, trial, device) for trial in list(cases_for(lesser))[::5]]
    assert {one.outcome for one in verdicts} == {"ok"}, [one for one in verdicts if one.outcome != "ok"][:3]


@needs_compiler
@pytest.mark.parametrize("n", [1, 5, 40])
@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_gradients_are_whole_where_panels_are_not(dtype, n):
    """Rows and columns that end within a pair of panels; one choice of an expert, an odd number, and many."""
    of = step(Zipf(1.0, 0.75), n=n, e=4, d=70, f=110, dtype=dtype)
    operands = make_operands(of)
    answered = grouped.moe_step_grouped.prepare(*operands).run(*operands[1:])
    expected = moe_step.reference(*operands)
    for mine, right, bound in zip(answered, expected, moe_step.allowed(of, operands, expected), strict=True):
        assert bool(((mine.double() - right).abs() <= bound).all())


@needs_compiler
@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_threads_do_not_change_the_gradients(dtype):
    operands = make_operands(step(Zipf(1.5, 0.75), n=300, e=8, d=200, f=100, dtype=dtype))
    before, found = torch.get_num_threads(), []
    try:
        for threads in (1, 2, 5):
            torch.set_num_threads(threads)
            one = grouped.moe_step_grouped.prepare(*operands)
            found.append([part.clone() for part in one.run(*operands[1:])])
    finally:
        torch.set_num_threads(before)
    for other in found[1:]:
        assert all(mine.equal(first) for mine, first in zip(other, found[0], strict=True))


@needs_compiler
@traces
def test_no_choice_has_a_copy_of_its_token_nor_of_its_gradient(trace):
    """Nothing is made in a call, and what is held for choices is of f numbers, however long tokens are."""
    of = step(trace, n=64, e=16, d=2048, f=32, dtype="bfloat16")
    operands = make_operands(of)
    made = grouped.moe_step_grouped.prepare(*operands)
    with Allocated() as found:
        answer = made.run(*operands[1:])
    assert found.most == 0
    sums = operands[3].numel() * 4
    turned = torch.get_num_threads() * (96 + 32) * 64 * 4  # of a gradient's rows, and panels: by thread
    near = torch.get_num_threads() * 2**20  # panels of weights, within the caches
    choices = max(operands[0].nonzeros, 3 * 64)
    others = size(made.holds) - sum(part.nbytes for part in answer) - sums - turned - near
    assert others < choices * 2048 * 2 / 4


@needs_compiler
def test_an_expert_that_all_ask_is_no_more_work():
    """The same number of choices, wherever they go."""
    found = set()
    for trace in (Zipf(0.0, 0.75), Crowded(0.75), Zipf(99.0, 0.75)):
        of = step(trace, n=64, e=16, d=64, f=32)
        operands = make_operands(of)
        made = grouped.moe_step_grouped.prepare(*operands)
        made.run(*operands[1:])
        found.add(made.executed())
    assert found == {OPS["moe_step"].useful(of, operands)}
