"""Stand-ins for a GPU, cuSPARSE and cuSPARSELt: they hold what they are told against the libraries' rules.

What was asked for is computed on the host, from the memory that was named: so a wrong order, size or address
is a wrong answer here too.
"""

from ctypes import c_uint8
from dataclasses import dataclass, field

import numpy as np
import torch

from suite.cuda import cusparse
from suite.cuda.device import architectures
from suite.formats.bell import NONE


@dataclass
class Gpu:
    """A chip by script, whose memory is the host's."""

    isa: frozenset = architectures(9, 0)
    name: str = "Made Up G100"
    kind: str = "cuda"
    memory: int = 2**37
    threads: int = 1

    def place(self, operands):
        return tuple(operands)


OLD = Gpu(architectures(7, 5), "Made Up G75")

ALGORITHMS = {  # of cusparse.h, by the format they are for
    "csr": (cusparse.CSR_ALG1, cusparse.CSR_ALG2, cusparse.CSR_ALG3),
    "bell": (cusparse.BLOCKED_ELL_ALG1,),
    "bsr": (cusparse.BSR_ALG1,),
}
NUMBERS = {  # of library_types.h
    0: torch.float32,
    2: torch.float16,
    3: torch.int8,
    14: torch.bfloat16,
    28: torch.float8_e4m3fn,
}
WORKSPACE = 96


@dataclass
class Library:
    """cuSPARSE as its documentation has it, on the host's memory. It keeps what it was asked."""

    made: dict = field(default_factory=dict)
    asked: list = field(default_factory=list)
    gone: list = field(default_factory=list)
    status: int = 0

    def __getattr__(self, name):
        if not name.startswith("cusparse"):
            raise AttributeError(name)

        def call(*arguments):
            self.asked.append((name, arguments))
            return self.status or getattr(self, name.removeprefix("cusparse"))(*arguments) or 0

        return call

    @property
    def names(self):
        return [name for name, _ in self.asked]

    def keep(self, out, *what):
        out._obj.value = len(self.made) + 1
        self.made[out._obj.value] = what

    def cusparseGetErrorString(self, status):
        return b"operation not supported" if status == 10 else b"invalid value"

    def SetStream(self, state, stream):
        assert stream == 7

    def CreateCsr(self, out, m, k, nonzeros, starts, columns, values, *numbers):
        assert numbers[:3] == (2, 2, 0)
        starts, columns = read(starts, m + 1), read(columns, nonzeros)
        values = read(values, nonzeros, NUMBERS[numbers[3]])
        rows = torch.repeat_interleave(torch.arange(m), starts.long().diff())
        self.keep(out, "csr", dense_of((m, k), rows, columns, values), values.dtype)

    def CreateBsr(self, out, down, across, blocks, height, width, starts, columns, values, *numbers):
        assert numbers[:3] == (2, 2, 0) and numbers[4] == 2 and height == width
        starts, columns = read(starts, down + 1), read(columns, blocks)
        values = read(values, blocks * height * width, NUMBERS[numbers[3]]).view(blocks, height, width)
        made = torch.zeros(down, across, height, width, dtype=torch.float64)
        made[torch.repeat_interleave(torch.arange(down), starts.long().diff()), columns.long()] = (
            values.double()
        )
        self.keep(out, "bsr", made.transpose(1, 2).reshape(down * height, across * width), values.dtype)

    def CreateBlockedEll(self, out, m, k, size, wide, columns, values, *numbers):
        assert numbers[:2] == (2, 0) and m % size == k % size == wide % size == 0
        columns = read(columns, m // size * (wide // size)).view(m // size, wide // size)
        values = read(values, m * wide, NUMBERS[numbers[2]]).view(m, wide)
        made = torch.zeros(m, k, dtype=torch.float64)
        for row, along in np.ndindex(*columns.shape):
            if (column := int(columns[row, along])) != NONE:
                at = slice(row * size, (row + 1) * size)
                block = values[at, along * size : (along + 1) * size]
                made[at, column * size : (column + 1) * size] = block.double()
        self.keep(out, "bell", made, values.dtype)

    def CreateDnMat(self, out, rows, columns, leading, values, dtype, order):
        assert leading >= (columns if order == 2 else rows)
        self.keep(out, [rows, columns, leading, values, NUMBERS[dtype], order])

    def DnMatSetValues(self, matrix, values):
        self.made[matrix.value][0][3] = values

    def DestroySpMat(self, matrix):
        self.gone.append(matrix.value)

    DestroyDnMat = DestroySpMat

    def SpMM_bufferSize(self, *arguments):
        arguments[-1]._obj.value = WORKSPACE
        self.terms(*arguments)

    def SpMM_preprocess(self, *arguments):
        assert arguments[-2] in (cusparse.CSR_ALG1, cusparse.CSR_ALG3) and arguments[-1] % 16 == 0
        self.terms(*arguments)

    def SpMM(self, *arguments):
        left, right, answer = self.terms(*arguments)
        answer.copy_(left @ right.double())

    def terms(self, state, how_left, how_right, one, left, right, zero, answer, computed, algorithm, _):
        assert (how_left, how_right, one._obj.value, zero._obj.value, computed) == (0, 0, 1.0, 0.0, 0)
        form, matrix, dtype = self.made[left.value]
        assert algorithm in ALGORITHMS[form]
        # What the documentation says of mixed precision: CSR falls back to the third algorithm.
        assert dtype == torch.float32 or algorithm not in (cusparse.CSR_ALG1, cusparse.CSR_ALG2)
        assert self.made[right.value][0][5] == self.made[answer.value][0][5]
        return matrix, self.seen(right), self.seen(answer)

    def seen(self, matrix):
        rows, columns, leading, values, dtype, order = self.made[matrix.value][0]
        outer = rows if order == 2 else columns
        found = read(values, outer * leading, dtype).view(outer, leading)
        return found[:, :columns] if order == 2 else found[:, :rows].t()


TAKEN = {  # numbers of a product -> those of its answer; multiples of the 2:4 side, of the others; computing
    torch.float16: (torch.float16, 16, 8, 2),
    torch.bfloat16: (torch.bfloat16, 16, 8, 2),
    torch.float8_e4m3fn: (torch.bfloat16, 32, 16, 2),
    torch.int8: (torch.bfloat16, 32, 16, 0),
}
BEST = {0: 7, 3: 2, 4: 1}  # attributes of an algorithm, as a search finds them


@dataclass
class SparseLt:
    """cuSPARSELt, the same way. Its structures are the caller's: what they stand for, where they are tells.

    A compressed matrix is its dense form's number, for its bytes are nobody's business.
    """

    made: dict = field(default_factory=dict)
    held: list = field(default_factory=list)
    asked: list = field(default_factory=list)
    failing: dict = field(default_factory=dict)  # function -> status

    def __getattr__(self, name):
        if not name.startswith("cusparseLt"):
            raise AttributeError(name)

        def call(*arguments):
            self.asked.append((name, arguments))
            return (
                self.failing.get(name, 0) or getattr(self, name.removeprefix("cusparseLt"))(*arguments) or 0
            )

        return call

    @property
    def names(self):
        return [name.removeprefix("cusparseLt") for name, _ in self.asked]

    def cusparseLtGetErrorString(self, status):
        return {4: b"architecture mismatch", 10: b"operation not supported"}.get(status, b"invalid value")

    def Init(self, state):
        self.made[state] = "state"

    def GetVersion(self, state, out):
        assert self.made[state] == "state"
        out._obj.value = 800

    def StructuredDescriptorInit(self, state, out, m, k, leading, aligned, kind, order, sparsity):
        dtype = NUMBERS[kind]
        assert m % TAKEN[dtype][1] == k % TAKEN[dtype][1] == 0
        assert (leading, aligned, order, sparsity) == (k, 16, 2, 0)
        self.made[out] = m, k, dtype

    def DenseDescriptorInit(self, state, out, rows, columns, leading, aligned, kind, order):
        assert aligned == 16 and leading == (columns if order == 2 else rows)
        self.made[out] = rows, columns, NUMBERS[kind], order

    def MatmulDescriptorInit(self, state, out, how_left, how_right, left, right, c, d, computed):
        assert (how_left, how_right) == (0, 1) and c == d
        (m, k, dtype), (n, depth, same, rows), (down, across, answer, columns) = map(
            self.made.get, (left, right, d)
        )
        assert (down, across, depth, same, rows, columns) == (m, n, k, dtype, 2, 1)
        assert (answer, computed) == TAKEN[dtype][::3] and n % TAKEN[dtype][2] == 0
        self.made[out] = m, n, k, dtype, answer

    def MatmulAlgSelectionInit(self, state, out, matmul, algorithm):
        assert algorithm == 0
        self.made[out] = {"of": self.made[matmul], 0: 0, 3: 1, 4: 1}

    def MatmulPlanInit(self, state, out, matmul, selection):
        assert self.made[selection]["of"] == self.made[matmul]
        self.made[out] = self.made[selection]

    def MatmulAlgGetAttribute(self, state, selection, attribute, out, size):
        assert size == 4
        out._obj.value = self.made[selection][attribute]

    def MatmulGetWorkspace(self, state, plan, out):
        out._obj.value = WORKSPACE * self.made[plan][3]  # more where k is split

    def SpMMACompressedSize2(self, state, left, size, spare):
        m, k, dtype = self.made[left]
        size._obj.value, spare._obj.value = m * k // 2 * dtype.itemsize + m * k // 8, 0

    def SpMMACompress2(self, state, left, is_left, how, dense, out, spare, stream):
        m, k, dtype = self.made[left]
        assert (is_left, how, stream) == (1, 0, 7) and spare
        matrix = read(dense, m * k, dtype).view(m, k).double()
        assert (matrix.unflatten(1, (-1, 4)) != 0).sum(-1).max() <= 2
        read(out, 2)[:] = torch.tensor([-1, len(self.held)], dtype=torch.int32)
        self.held.append(matrix)

    def MatmulSearch(self, state, plan, *matrices):
        self.Matmul(state, plan, *matrices)
        self.made[plan] |= BEST  # the selection's too

    def Matmul(self, state, plan, one, packed, b, zero, c, d, workspace, streams, count):
        m, n, k, dtype, answer = self.made[plan]["of"]
        assert self.made[state] == "state" and workspace and (list(streams), count) == ([7], 1)
        assert zero._obj.value == 0 and c == d
        mark, at = read(packed, 2).tolist()
        assert mark == -1
        tokens = read(b, n * k, dtype).view(n, k).double()
        read(d, n * m, answer).view(n, m).copy_(one._obj.value * tokens @ self.held[at].T)


def read(address, count, dtype=torch.int32):
    """What lies there, shared and not copied."""
    if not count:
        return torch.empty(0, dtype=dtype)
    return torch.frombuffer((c_uint8 * (count * dtype.itemsize)).from_address(address), dtype=dtype)


def dense_of(shape, rows, columns, values):
    made = torch.zeros(shape, dtype=torch.float64)
    made[rows, columns.long()] = values.double()
    return made
