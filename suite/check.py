"""Checking: an answer is held against the float64 reference before any of its times count."""

from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np
import scipy.sparse
import torch
from torch import Tensor

from suite.case import Case
from suite.op import OPS, Operands, fixed

if TYPE_CHECKING:
    from suite.kernel import Kernel
    from suite.selector import Select, Selector


SAMPLED = 8  # one row in so many, where a second answer would cost as much as the first


class Wrong(Exception):
    """An answer that is not the op's; says where, by how much, and what it should be."""


@dataclass(frozen=True)
class Question:
    """Operands of a case, and what a kernel must answer: float64, with the error rounding explains.

    An answer may have several parts; expected and allowed are then tuples. Whole numbers allow no error.
    select: what chose an operand from the live ones, where that is done at run time.
    """

    case: Case
    operands: Operands
    expected: Any
    allowed: Any
    select: "Select | None" = None
    _chosen: "dict[Selector, Question]" = field(default_factory=dict)

    @cached_property
    def whole(self) -> "Question":
        """What a dense kernel answers: the same, unless the op says otherwise."""
        op = OPS[self.case.op]
        return question(self.case, op.whole(self.case, self.operands)) if op.whole else self

    @cached_property
    def filled(self) -> "Question":
        """What a kernel answers that multiplies random numbers where the zeros are."""
        op = OPS[self.case.op]
        if not op.filled:
            raise Wrong(f"{op.name} does not say what stands where its zeros are")
        asked = question(self.case, op.filled(self.case, tuple(one.to("cpu") for one in self.operands)))
        back = zip(asked.operands, self.operands, strict=True)
        return replace(asked, operands=tuple(one.to(own.device) for one, own in back))

    def of(self, kernel: "Kernel") -> "Question":
        """What such a kernel is asked."""
        if kernel.filled:
            return self.filled
        if kernel.dense:
            return self.whole
        return self.chosen(kernel.selector) if kernel.selector else self

    def chosen(self, selector: "Selector") -> "Question":
        """The answer over what a selector keeps of these operands."""
        if selector not in self._chosen:
            select = selector.prepare(self.case, *fixed(self.case, self.operands))
            self._chosen[selector] = over(self.case, self.operands, select)
        return self._chosen[selector]

    @cached_property
    def twin(self) -> "Question":
        """The same fixed operands with other live ones: an answer kept from before is wrong here.

        Where something is chosen, other things are then worth choosing. Of that answer some rows are
        asked for: one that is kept from before is wrong in all of them.
        """
        op = OPS[self.case.op]
        if self.select is None:
            return Question(self.case, *op.twin(self.operands, self.expected, self.allowed))
        first = op.live[0]
        negated = (-one if at == first else one for at, one in enumerate(self.operands))
        turned = op.turned(self.operands) if op.turned else tuple(negated)
        return over(self.case, turned, self.select, every=SAMPLED)


def question(case: Case, operands: Operands) -> Question:
    """Work the reference out, once for all kernels of a case."""
    op = OPS[case.op]
    expected = op.reference(*operands)
    return Question(case, operands, expected, op.allowed(case, operands, expected))


def over(case: Case, operands: Operands, select: "Select", every: int = 1) -> Question:
    """The answer over what is chosen of these operands; of one row in so many, the others may be anything."""
    op = OPS[case.op]

    def over_it(found: Any) -> Operands:
        return *operands[: op.chosen], found, *operands[op.chosen + 1 :]

    found = select(*(operands[at] for at in op.live))
    if every == 1:
        return replace(question(case, over_it(found)), select=select)
    fewer, stays = found.thinned(every)
    asked = question(case, over_it(fewer))
    allowed = asked.allowed.clone()
    allowed.view(len(stays), -1)[~stays.cpu()] = torch.inf
    return Question(case, over_it(found), asked.expected, allowed, select)


def check(answer: Any, question: Question) -> float:
    """The worst error, as a fraction of what rounding may cost. Raises Wrong above 1 or for a wrong shape."""
    op, case = OPS[question.case.op], question.case
    given = op.settle(answer, question.expected)
    if not op.answers:
        return check_part(given, question.expected, question.allowed, "", case)
    if not isinstance(given, tuple | list) or len(given) != len(op.answers):
        raise Wrong(f"the answer is a {type(given).__name__}, should be a tuple: {', '.join(op.answers)}")
    parts = zip(given, question.expected, question.allowed, op.answers, strict=True)
    return max(check_part(*part, case) for part in parts)


def check_part(answer: Any, expected: Tensor, allowed: Tensor, name: str, case: Case) -> float:
    """The worst error of an answer, or of a part of it, which has a name."""
    whole = not expected.is_floating_point()
    answer = copied(answer, expected.dtype if whole else case.answer_dtype, name or "the answer")
    if answer.shape != expected.shape:
        raise Wrong(f"{name or 'the answer'} is {shape(answer)}, should be {shape(expected)}")
    if not answer.numel():
        return 0.0
    error = (answer.double() - expected).abs_().div_(allowed).nan_to_num_(nan=0.0 if whole else torch.inf)
    at = np.unravel_index(int(error.argmax()), tuple(error.shape))
    worst = float(error[at])
    if not worst <= 1:
        where = f"{name}[{', '.join(map(str, at))}]"
        says = f"{where} is {float(answer[at]):.6g}, should be {float(expected[at]):.6g}"
        if np.isfinite(worst):
            says += f", {worst:.3g} times the error {case.dtype} allows"
        raise Wrong(f"{says} ({int((error > 1).sum())} of {error.numel()} elements are wrong)")
    return worst


def copied(answer: Any, dtype: torch.dtype, name: str) -> Tensor:
    """The answer as a tensor of its own on the host, so that nothing can change it afterwards."""
    if isinstance(answer, np.ndarray):
        answer = torch.from_numpy(answer)
    if not isinstance(answer, Tensor):
        raise Wrong(f"{name} is a {type(answer).__name__}, should be a tensor")
    if dtype.is_floating_point and answer.dtype != dtype:
        raise Wrong(f"{name} is {answer.dtype}, should be {dtype}")
    if not dtype.is_floating_point and answer.dtype.is_floating_point:
        raise Wrong(f"{name} is {answer.dtype}, should be whole numbers")
    return answer.detach().to("cpu", copy=True)


def poison(answer: Any) -> None:
    """Fill an answer with NaN, so that memory that is never written again gives itself away."""
    if isinstance(answer, np.ndarray):
        answer.fill(np.nan if answer.dtype.kind == "f" else -1)
    elif isinstance(answer, Tensor):
        answer.detach().fill_(torch.nan if answer.is_floating_point() else -1)
    elif scipy.sparse.issparse(answer):
        poison(answer.data)
    elif isinstance(answer, tuple | list):
        for part in answer:
            poison(part)


def shape(tensor: Tensor) -> str:
    return " x ".join(map(str, tensor.shape)) or "a scalar"
