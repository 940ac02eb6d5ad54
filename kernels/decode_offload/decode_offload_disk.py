"""Pages from a disk: those that heads look at are read, all at once, then attended to as decode_gather does.

A processor's slow tier, as a host's memory is a GPU's. Read past the system's cache (O_DIRECT), for what is
found there was not read from a disk; a virtual disk may still have it in its host's.

Bad at: pages of fewer bytes than a block of the disk, which cost one; heads of a group that keep different
pages, which are all brought; caches that memory can hold.
"""

from suite import native
from suite.kernel import kernel
from suite.kernels.decode import decode_gather
from suite.kernels.decode.decode_gather import DTYPES
from suite.kernels.decode_offload.far import Disk
from suite.kernels.decode_offload.fetching import fetched
from suite.kernels.stream.media import no_disk


def refuse(case, device):
    return [*decode_gather.refuse(case, device), *no_disk()]


@kernel(op="decode_offload", on="cpu", dtypes=DTYPES, refuse=refuse, chooses=True)
def decode_offload_disk(a, k, v, q):
    """The pages heads look at, read from a disk, and attention in C++ over those."""
    library = native.load(decode_gather.SOURCE)
    return fetched(a, k, v, q, Disk, lambda *operands: decode_gather.gather(library, *operands))
