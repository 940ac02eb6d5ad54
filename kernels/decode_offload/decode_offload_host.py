"""Pages from a GPU's host: those that heads look at are copied to the device, then attended to in Triton.

The cache lies in the host's memory, pinned. A call waits until the host knows which pages are wanted, puts
them side by side and sends them, so it is timed by the wall clock.

Bad at: short contexts, of which waiting and two copies are most; caches that the device can hold.
"""

from suite.kernel import kernel
from suite.kernels.decode.decode_gather_triton import DTYPES, ISA, pages, refuse
from suite.kernels.decode_offload.far import Host
from suite.kernels.decode_offload.fetching import fetched


@kernel(op="decode_offload", on="cuda", dtypes=DTYPES, isa=ISA, refuse=refuse, chooses=True)
def decode_offload_host(a, k, v, q):
    """The pages heads look at, brought from pinned memory, and flash decoding over those."""
    return fetched(a, k, v, q, Host, pages.prepare)
