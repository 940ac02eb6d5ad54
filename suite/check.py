"""Checking: an answer is held against the float64 reference before any of its times count."""

from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import torch
from torch import Tensor

from suite.case import Case
from suite.op import OPS, Operands


class Wrong(Exception):
    """An answer that is not the op's; says where, by how much, and what it should be."""


@dataclass(frozen=True)
class Question:
    """Operands of a case, and what a kernel must answer: float64, with the error rounding explains."""

    case: Case
    operands: Operands
    expected: Tensor
    allowed: Tensor

    @cached_property
    def twin(self) -> "Question":
        """The same fixed operands with other live ones: an answer kept from before is wrong here."""
        return Question(self.case, *OPS[self.case.op].twin(self.operands, self.expected, self.allowed))


def question(case: Case, operands: Operands) -> Question:
    """Work the reference out, once for all kernels of a case."""
    op = OPS[case.op]
    expected = op.reference(*operands)
    return Question(case, operands, expected, op.allowed(case, operands, expected))


def check(answer: Any, question: Question) -> float:
    """The worst error, as a fraction of what rounding may cost. Raises Wrong above 1 or for a wrong shape."""
    answer = copied(answer, question.case)
    expected, allowed = question.expected, question.allowed
    if answer.shape != expected.shape:
        raise Wrong(f"the answer is {shape(answer)}, should be {shape(expected)}")
    if not answer.numel():
        return 0.0
    error = (answer.double() - expected).abs_().div_(allowed).nan_to_num_(nan=torch.inf)
    at = np.unravel_index(int(error.argmax()), tuple(error.shape))
    worst = float(error[at])
    if not worst <= 1:
        where = ", ".join(map(str, at))
        says = f"[{where}] is {float(answer[at]):.6g}, should be {float(expected[at]):.6g}"
        if np.isfinite(worst):
            says += f", {worst:.3g} times the error {question.case.dtype} allows"
        raise Wrong(f"{says} ({int((error > 1).sum())} of {error.numel()} elements are wrong)")
    return worst


def copied(answer: Any, case: Case) -> Tensor:
    """The answer as a tensor of its own on the host, so that nothing can change it afterwards."""
    if isinstance(answer, np.ndarray):
        answer = torch.from_numpy(answer)
    if not isinstance(answer, Tensor):
        raise Wrong(f"the answer is a {type(answer).__name__}, should be a tensor")
    if answer.dtype != case.torch_dtype:
        raise Wrong(f"the answer is {answer.dtype}, should be {case.torch_dtype}")
    return answer.detach().to("cpu", copy=True)


def poison(answer: Any) -> None:
    """Fill an answer with NaN, so that memory that is never written again gives itself away."""
    if isinstance(answer, np.ndarray):
        answer.fill(np.nan)
    elif isinstance(answer, Tensor):
        answer.detach().fill_(torch.nan)


def shape(tensor: Tensor) -> str:
    return " x ".join(map(str, tensor.shape)) or "a scalar"
