"""Selection: what a selector found worth attending to, and how a budget of blocks is spent.

A selector scores pairs of (query block, key block); the case's sparsity says how many pairs may stay. Each
selector spends them in its own way: so many in each row (`by_row`), in each head, wherever in it (`by_head`),
or in all heads together (`by_layer`). All three keep exactly as many, and of every row one at least: where
causal, its own block.
"""

from dataclasses import dataclass, replace
from functools import lru_cache

import torch
from torch import Tensor

from suite.case import Case
from suite.pattern import Pattern, rounded
from suite.sparse import Sparse

PADDING = -1e30  # the bias of a key that is none: its weight is 0


@dataclass(frozen=True, eq=False)
class Selection(Sparse):
    """Blocks of keys that each block of queries sees: a mask of blocks, made at run time.

    Rows are query blocks, head after head; columns are blocks of k where it is given, else of the case's own.
    Where causal, a block of the row's own number is seen up to the query, any other whole.

    k, v: [h or g, n', d] in place of the case's keys and values: permuted, pooled or gathered ones.
    bias: float32 [h or g, n'], added to the scores of a key: ln(c) if it stands for c tokens; PADDING.
    tokens: int64 [h or g, n'], which token each key is, -1 if no single one. None: it is its own number.
    flops: what finding it took; read: bytes of what the selector keeps of a cache that were read for it.

    Of decode, rows are query heads, columns are pages, and n sequences come before all these sizes. Where the
    cache lies far, one with keys and no values has those of its tokens, which are whole pages; and near is
    how many bytes of the cache the selector keeps at hand between calls.
    """

    k: Tensor | None = None
    v: Tensor | None = None
    bias: Tensor | None = None
    tokens: Tensor | None = None
    flops: int = 0
    read: int = 0
    near: int = 0

    def to(self, device: str | torch.device) -> "Selection":
        """On a device; itself, if it is there."""
        return self if self.values.device == torch.device(device) else self._each(lambda one: one.to(device))

    def clone(self) -> "Selection":
        """A copy in memory of its own."""
        return self._each(torch.clone)

    def _each(self, change) -> "Selection":
        parts = {name: vars(self)[name] for name in PARTS}
        return replace(self, **{name: change(one) for name, one in parts.items() if one is not None})

    def thinned(self, every: int) -> tuple["Selection", Tensor]:
        """The same with some rows alone, one of so many, the others empty; and which rows stay: truths."""
        stays = torch.arange(self.shape[0], device=self.starts.device) % every == 0
        lengths = self.starts.diff()
        starts = torch.cat((self.starts[:1], (lengths * stays).cumsum(0).int()))
        columns = self.columns[stays.repeat_interleave(lengths.long())]
        ones = self.values[:1].expand(len(columns))
        return replace(self, starts=starts, columns=columns, values=ones), stays


PARTS = ("starts", "columns", "values", "k", "v", "bias", "tokens")


def from_map(kept: Tensor, pattern: Pattern, count: int | None = None, **beside) -> Selection:
    """The selection of a map of truths: [heads, query blocks, key blocks].

    count: how many are true; a GPU that need not ask does not keep its host waiting.
    """
    rows = kept.flatten(0, 1)
    starts = torch.zeros(len(rows) + 1, dtype=torch.int32, device=kept.device)
    torch.cumsum(rows.sum(1), 0, out=starts[1:])
    found = rows.nonzero() if count is None else rows.nonzero_static(size=count)
    columns = found[:, 1].int()
    ones = torch.ones(1, device=kept.device).expand(len(columns))
    return Selection(starts, columns, ones, (rows.shape[0], rows.shape[1]), pattern, **beside)


def is_causal(case: Case) -> bool:
    """Whether a query sees no key after it."""
    return case.op.endswith("_causal")


def room(case: Case, device: str | torch.device = "cpu") -> Tensor:
    """How many key blocks each query block of a head may see at all, int64."""
    across = case["n"] // case["b"]
    every = torch.full((across,), across, device=device)
    return torch.arange(1, across + 1, device=device) if is_causal(case) else every


def of_layer(case: Case) -> int:
    """Pairs that may stay in all heads together; one of each row at least."""
    cells = case["h"] * int(room(case).sum())
    return max(rounded(case.pattern.sparsity_of(*shape(case)), cells), case["h"] * len(room(case)))


def shape(case: Case) -> tuple[int, int]:
    """Of the mask."""
    across = case["n"] // case["b"]
    return case["h"] * across, across


def of_heads(case: Case) -> list[int]:
    """Pairs that may stay in each head."""
    total, heads = of_layer(case), case["h"]
    return [total * (at + 1) // heads - total * at // heads for at in range(heads)]


def of_rows(case: Case, device: str | torch.device = "cpu") -> Tensor:
    """Pairs that may stay in each row, int64 [heads, rows]: one, and of the rest as its room is."""
    spare = room(case, device) - 1
    upto, most = spare.cumsum(0), max(int(spare.sum()), 1)
    rows = []
    for kept in of_heads(case):
        shares = (kept - len(spare)) * upto // most
        rows.append(1 + shares.diff(prepend=shares.new_zeros(1)))
    return torch.stack(rows)


@lru_cache(maxsize=64)
def quota_of_rows(case: Case, device: torch.device) -> tuple[Tensor, int]:
    """Pairs of each row, there, and the most that one has."""
    rows = of_rows(case)
    return rows.to(device), int(rows.max())


@lru_cache(maxsize=64)
def quota_of_heads(case: Case, device: torch.device) -> tuple[Tensor, int]:
    """Pairs of each head, there, and the most that one has."""
    heads = of_heads(case)
    return torch.tensor(heads, device=device), max(heads)


def permitted(scores: Tensor, case: Case) -> Tensor:
    """Scores with what must stay above all, and what cannot be seen below: [heads, rows, columns] float32."""
    scores = scores.float().nan_to_num(-torch.finfo(torch.float32).max)
    if is_causal(case):
        across = scores.shape[-1]
        later = torch.ones(across, across, dtype=torch.bool, device=scores.device).triu(1)
        scores = scores.masked_fill(later, -torch.inf)
        scores.diagonal(dim1=-2, dim2=-1).fill_(torch.inf)
    else:
        best = scores.argmax(-1, keepdim=True)
        scores = scores.scatter(-1, best, torch.inf)
    return scores


def by_row(scores: Tensor, case: Case, **beside) -> Selection:
    """The best of each row."""
    quota, most = quota_of_rows(case, scores.device)
    best = permitted(scores, case).topk(most, -1).indices
    within = torch.arange(best.shape[-1], device=scores.device) < quota[..., None]
    kept = torch.zeros(scores.shape, dtype=torch.bool, device=scores.device)
    return from_map(kept.scatter_(-1, best, within), case.pattern, of_layer(case), **beside)


def by_head(scores: Tensor, case: Case, **beside) -> Selection:
    """The best of each head, wherever they are; a row may keep no more than what must stay."""
    flat = permitted(scores, case).flatten(1)
    quota, most = quota_of_heads(case, scores.device)
    best = flat.topk(most, -1).indices
    within = torch.arange(best.shape[-1], device=scores.device) < quota[:, None]
    kept = torch.zeros(flat.shape, dtype=torch.bool, device=scores.device)
    kept = kept.scatter_(-1, best, within).view(scores.shape)
    return from_map(kept, case.pattern, of_layer(case), **beside)


def by_layer(scores: Tensor, case: Case, **beside) -> Selection:
    """The best of all heads together, whose scores must then mean the same."""
    flat = permitted(scores, case).flatten()
    kept = torch.zeros(flat.shape, dtype=torch.bool, device=scores.device)
    kept[flat.topk(of_layer(case)).indices] = True
    return from_map(kept.view(scores.shape), case.pattern, of_layer(case), **beside)


def pages_kept(case: Case) -> int:
    """How many pages of the cache each query of decode may look at: one at least."""
    pages = case["t"] // case["b"]
    return max(1, rounded(case.pattern.sparsity_of(case["n"] * case["h"], pages), pages))


def by_query(scores: Tensor, case: Case, **beside) -> Selection:
    """The best pages of each query of decode, by scores [n, h or g, pages]: a group's serve all its heads."""
    rows, pages = case["n"] * case["h"], scores.shape[-1]
    kept = pages_kept(case)
    best = scores.topk(kept, -1, sorted=False).indices.sort(-1).values.int()
    columns = best.repeat_interleave(case["h"] // best.shape[1], 1).flatten()
    return of_queries(columns, (rows, pages), case, **beside)


def of_queries(columns: Tensor, shape: tuple[int, int], case: Case, **beside) -> Selection:
    """The selection of pages of which each query keeps equally many: int32, row after row."""
    kept = len(columns) // shape[0]
    starts = torch.arange(0, len(columns) + 1, kept, dtype=torch.int32, device=columns.device)
    ones = torch.ones(1, device=columns.device).expand(len(columns))
    return Selection(starts, columns, ones, shape, case.pattern, **beside)


def before(weights: Tensor) -> Tensor:
    """Of each block, the weight of its row that better ones hold: negated, a score.

    Keeping blocks until p of a row's weight is reached, with the p that meets a budget, keeps the lowest.
    """
    ordered, order = weights.float().sort(-1, descending=True)
    held = ordered.cumsum(-1) - ordered
    return -torch.empty_like(held).scatter_(-1, order, held)
