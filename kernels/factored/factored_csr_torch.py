"""Factors as compressed rows in torch, one product after the other, as `spmm_csr_torch`.

For factors of any pattern. Bad at: Monarch's, whose blocks it does not know of.
"""

from suite.formats.factors import factors
from suite.kernel import Prepared, kernel
from suite.kernels.spmm.spmm_csr_torch import spmm_csr_torch


@kernel(op="factored", on="cpu", dtypes=("float32",), ids=("monarch",))
def factored_csr_torch(a, x):
    """torch CSR on MKL, factor after factor."""
    first, second = (spmm_csr_torch.prepare(one, x) for one in factors(a))

    def run(x):
        return second.run(first.run(x))

    return Prepared(
        run,
        executed=first.executed + second.executed,
        values=first.values + second.values,
        metadata=first.metadata + second.metadata,
        holds=(first.holds, second.holds),
        note={"algorithm": first.note["algorithm"]},
    )
