"""actmm: the product of a dense weight with activations of which few count: those that reach their cut.

    actmm      y = w x           x (k x n, live) counts where |x| reaches the cut of its neuron
    actmm_up   y = g * (w x)     g (m x n, live) counts where |g| does: of the other outputs y is 0

In a gated feed-forward layer these are the projection down, which need not read the columns of w of silent
neurons, and the projection up, which need not compute what its gate drops. There are n tokens; w is m x k and
fixed. Which neurons count is known only from the live operand, so finding them is part of every call.

The pattern of a case says which activations reach their cut, one a neuron and fixed. Its rows are neurons and
its columns tokens: a neuron that no token uses is an empty row, and what is left is the union over the batch,
which a call has to read. A kernel's `values` are the bytes of w that a call reads.

Where activations are chosen at run time, the pattern is a budget of each token's, and what a selector found
takes the place of the cuts: an Active (`suite.activations`). The answer is then that over what was chosen and
what the selector adds.

Dense kernels answer for cuts of 0: everything counts. Quality is told against that answer:

    recall    the share of its energy that is there: 1 - |y - whole|^2 / |whole|^2, 0 where that is less
    error     sum of absolute differences over the sum of absolute values
    cosine    of the two answers, the mean over tokens
    reuse     with several tokens: of the neurons that count, the share that did so for the token before

and what an input that knows more says of the answers.
"""

from collections.abc import Callable
from dataclasses import replace
from functools import lru_cache

import torch
from torch import Tensor

from suite import rounding
from suite.activations import Active, cuts, least, reuse, taken
from suite.case import Case
from suite.inputs import INPUTS
from suite.op import OPS, Answered, Op, Operands, generator, register
from suite.patterns.given import Given
from suite.registry import pick
from suite.sparse import Sparse, from_positions

SHORT = 0.99  # of a cut: what an activation that does not reach it has at most
SCALES = 4  # cuts are 1, 1/2, ... of so many kinds
PANEL = 2**23  # numbers of a panel of w in float64: 64 MiB
SEED, TOKENS = 2**31, 256  # of the sample that rules learn from: a seed that no case is likely to have


def activations(case: Case, a: Sparse, salt: int) -> tuple[Tensor, Tensor]:
    """Cuts [rows], and activations [rows, n] that reach them where `a` has a nonzero, and nowhere else.

    Cuts are powers of two, by which all dtypes scale exactly.
    """
    source = generator(case, salt)
    cut = 0.5 ** torch.randint(SCALES, (a.shape[0],), generator=source)
    drawn = (torch.rand(a.shape, generator=source) * 2 - 1) * SHORT
    rows = torch.repeat_interleave(torch.arange(a.shape[0]), a.row_lengths)
    loud = a.values.float()
    drawn[rows, a.columns.long()] = loud + torch.ones(()).copysign(loud)
    return case.cast(cut), case.cast(drawn * cut[:, None])


def weight(case: Case) -> Tensor:
    """w standard normal: signed, and never constant."""
    return case.cast(torch.randn(case["m"], case["k"], generator=generator(case, 2)))


def around(case: Case, a: Sparse) -> Operands:
    """w, cuts and x."""
    if case.pattern.at_run_time:
        w, x = drawn(case)
        return w, own_cut(case, x), x
    return weight(case), *activations(case, a, 1)


def around_up(case: Case, a: Sparse) -> Operands:
    """w, cuts, x standard normal, and g."""
    if case.pattern.at_run_time:
        w, x, g = drawn(case)
        return w, own_cut(case, g), x, g
    cut, g = activations(case, a, 1)
    return weight(case), cut, case.cast(torch.randn(case["k"], case["n"], generator=generator(case, 3))), g


def drawn(case: Case) -> tuple[Tensor, ...]:
    """w, x and, up, g, as the case's data names them; else standard normal: no neuron is like no other."""
    source = generator(case, 1)
    if case.data:
        return tuple(case.cast(one) for one in pick("input", case.data, INPUTS).draw(case, source))
    m, k, n = (case[size] for size in "mkn")
    shapes = ((m, k), (k, n), (m, n))[: 2 if case.op == "actmm" else 3]
    return tuple(case.cast(torch.randn(shape, generator=source)) for shape in shapes)


@lru_cache(maxsize=2)
def sample(case: Case) -> Tensor:
    """Activations of other tokens of the same kind, float32 [tokens, neurons]: what a rule may learn from."""
    return drawn(replace(case, seed=SEED).with_sizes(n=TOKENS))[-1].float().t().contiguous()


def norms(case: Case, w: Tensor) -> Tensor:
    """Of the weights of each neuron: float32 [neurons]."""
    return w.float().square().sum(0 if case.op == "actmm" else 1).sqrt()


def learned(case: Case, sample: Tensor, norms: Tensor) -> Tensor:
    """Cuts that leave of a sample, weighed by norms, what the budget of the case is. A 0 never counts."""
    found = case.cast(cuts(sample, norms, case.pattern.sparsity_of(*OPS[case.op].shape(case))))
    return torch.maximum(found, least(found))


def own_cut(case: Case, activations: Tensor) -> Tensor:
    """The one cut for all neurons that leaves so many of these very activations: what the budget means."""
    return learned(case, activations.float().t(), torch.ones(len(activations)))


def reaching(cut: Tensor | Active, own: Tensor) -> Tensor:
    """Which activations count."""
    values, cut, _ = taken(cut, own)
    return values.abs() >= cut[:, None]


def counting(cut: Tensor | Active, own: Tensor) -> Tensor:
    """Those that count, the others 0."""
    return taken(cut, own)[0].where(reaching(cut, own), 0)


def added(cut: Tensor | Active) -> Tensor | float:
    """What a selector adds to the answer, in float64."""
    return cut.beside.double().cpu() if isinstance(cut, Active) and cut.beside is not None else 0.0


def rounded_again(cut: Tensor | Active, expected: Tensor, dtype: torch.dtype) -> Tensor | float:
    """What adding that may cost: a rounding of what it is added to."""
    return rounding.ROUNDING[dtype] * (expected - added(cut)).abs()


def of_use(w: Tensor, x: Tensor) -> tuple[Tensor, Tensor]:
    """Both without the neurons that are 0 for all tokens, on the host."""
    w, x = w.cpu(), x.cpu()
    live = x.any(1)
    return (w, x) if live.all() else (w[:, live], x[live])


def product(w: Tensor, x: Tensor) -> Tensor:
    """In float64, by panels of w."""
    w, x = of_use(w, x)
    wide = x.double()
    return torch.cat([panel.double() @ wide for panel in w.split(max(1, PANEL // max(1, w.shape[1])))])


def magnitudes(w: Tensor, x: Tensor) -> Tensor:
    """|w| |x|, near enough for a tolerance."""
    w, x = of_use(w, x)
    return (w.abs().float() @ x.abs().float()).double()


def gated(multiply: Callable[[Tensor, Tensor], Tensor], w: Tensor, x: Tensor, g: Tensor) -> Tensor:
    """g times a product of w and x, of which the rows are worked out that some token's g is not 0 for."""
    w, g = w.cpu(), g.cpu()
    live, answer = g.any(1), torch.zeros(g.shape, dtype=torch.float64)
    answer[live] = g[live].double() * multiply(w[live], x)
    return answer


def reference(w: Tensor, cut: Tensor | Active, x: Tensor) -> Tensor:
    """In float64."""
    return product(w, counting(cut, x)) + added(cut)


def reference_up(w: Tensor, cut: Tensor | Active, x: Tensor, g: Tensor) -> Tensor:
    """In float64."""
    return gated(product, w, x, counting(cut, g)) + added(cut)


def tolerance(operands: Operands, expected: Tensor) -> Tensor:
    """One rounding of the answer, and those of a sum of what counts for the token."""
    w, cut, x = operands
    x = counting(cut, x).cpu()
    once = rounding.of_sums(expected, (x != 0).sum(0), magnitudes(w, x), w.dtype)
    return once + rounded_again(cut, expected, w.dtype)


def tolerance_up(operands: Operands, expected: Tensor) -> Tensor:
    """A rounding of the product, one of its multiple, and those of the sums."""
    w, cut, x, g = operands
    sums = gated(magnitudes, w, x, counting(cut, g).abs())
    once = rounding.of_sums(expected, len(x), sums, w.dtype) + rounding.ROUNDING[w.dtype] * expected.abs()
    return once + rounded_again(cut, expected, w.dtype)


def turned(operands: Operands) -> Operands:
    """x upside down and back to front, negated: beside other cuts, other neurons count, and not as many."""
    w, cut, x = operands
    return w, cut, -x.flip(0, 1)


def turned_up(operands: Operands) -> Operands:
    """x and g upside down and back to front, g negated."""
    w, cut, x, g = operands
    return w, cut, x.flip(0, 1), -g.flip(0, 1)


def twin(operands: Operands, expected: Tensor, allowed: Tensor) -> tuple[Operands, Tensor, Tensor]:
    """Other neurons count."""
    other = turned(operands)
    expected = reference(*other)
    return other, expected, tolerance(other, expected)


def twin_up(operands: Operands, expected: Tensor, allowed: Tensor) -> tuple[Operands, Tensor, Tensor]:
    """Other neurons count, and for other x."""
    other = turned_up(operands)
    expected = reference_up(*other)
    return other, expected, tolerance_up(other, expected)


def whole(case: Case, operands: Operands) -> Operands:
    """Cuts that everything reaches."""
    w, _, *live = operands
    return w, live[-1].new_zeros(len(live[-1])), *live


def sparse(operands: Operands) -> Sparse:
    """The activations that count as compressed rows: neurons by tokens."""
    _, cut, *_, own = operands
    kept = counting(cut, own).cpu()
    rows, columns = reaching(cut, own).cpu().nonzero(as_tuple=True)
    starts = torch.searchsorted(rows, torch.arange(len(kept) + 1))
    shape = (kept.shape[0], kept.shape[1])
    return from_positions(starts.numpy(), columns.numpy(), kept[rows, columns], shape, Given())


def useful(case: Case, operands: Operands) -> int:
    """A multiply-add for each weight of a neuron and each token for which it counts."""
    w, cut, *_, own = operands
    return 2 * (w.numel() // len(own)) * int(reaching(cut, own).sum())


def least_values(case: Case, operands: Operands) -> int:
    """The weights of the neurons that count for some token."""
    w, cut, *_, own = operands
    return w.nbytes // len(own) * int(reaching(cut, own).any(1).sum())


def quality(case: Case, chosen: Answered, whole: Answered) -> dict[str, float]:
    """What was lost by choosing, and what tokens have in common."""
    (_, cut, *_, own), answer = chosen
    _, full = whole
    lost, energy = answer - full, full.square().sum()
    found = {
        "recall": float((1 - lost.square().sum() / energy).clamp(min=0)) if energy else 1.0,
        "error": float(lost.abs().sum() / full.abs().sum()) if energy else 0.0,
        "cosine": float(torch.nn.functional.cosine_similarity(answer, full, dim=0).mean()),
    }
    if case["n"] > 1:
        found["reuse"] = reuse(reaching(cut, own))
    judge = INPUTS[case.data].judge if case.data else None
    return found | (judge(case, chosen, whole) if judge else {})


ACTMM = register(
    Op(
        name="actmm",
        operands=("w", "cut", "x"),
        live=(2,),
        sizes=("m", "k", "n"),
        shape=lambda case: (case["k"], case["n"]),
        around=around,
        whole=whole,
        sparse=sparse,
        reference=reference,
        allowed=lambda case, operands, expected: tolerance(operands, expected),
        twin=twin,
        nominal=lambda case, _: 2 * case["m"] * case["k"] * case["n"],
        useful=useful,
        least_values=least_values,
        live_bytes=lambda case, _: (case["m"] + case["k"]) * case["n"] * case.torch_dtype.itemsize,
        quality=quality,
        chosen=1,
        turned=turned,
        sized=lambda w, cut, x, *_: (*w.shape, x.shape[1]),
        stored=(),
        about="sparse activations, down",
    )
)

ACTMM_UP = register(
    replace(
        ACTMM,
        name="actmm_up",
        operands=("w", "cut", "x", "g"),
        live=(2, 3),
        shape=lambda case: (case["m"], case["n"]),
        around=around_up,
        reference=reference_up,
        allowed=lambda case, operands, expected: tolerance_up(operands, expected),
        twin=twin_up,
        turned=turned_up,
        live_bytes=lambda case, _: (2 * case["m"] + case["k"]) * case["n"] * case.torch_dtype.itemsize,
        about="sparse activations, up",
    )
)
