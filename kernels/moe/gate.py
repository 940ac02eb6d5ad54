"""Gate: what stands between the two products of an expert, forward and back, in memory that is there."""

import torch
from torch.nn.functional import silu

ATEN = torch.ops.aten


def gated(wide):
    """silu(gate) * up of [..., 2 f], in the place of gate."""
    gate, up = wide.chunk(2, -1)
    return silu(gate, inplace=True).mul_(up)


class Gate:
    """The same for a training step, which keeps what entered: three buffers of `numbers` each."""

    def __init__(self, x, numbers):
        self.holds = tuple(x.new_empty(numbers) for _ in range(3))

    def rows(self, like):
        """As many numbers of each buffer as there are."""
        return (one[: like.numel()].view(like.shape) for one in self.holds)

    def forward(self, wide):
        """hidden = silu(gate) * up."""
        gate, up = wide.chunk(2, -1)
        opened, hidden, _ = self.rows(gate)
        return torch.mul(ATEN.silu.out(gate, out=opened), up, out=hidden)

    def backward(self, wide, asked, shares):
        """hidden weighed by the shares, and the shares' gradients; `asked` is what comes back, unweighed.

        `wide` becomes its own gradient.
        """
        gate, up = wide.chunk(2, -1)
        opened, hidden, spare = self.rows(gate)
        torch.mul(ATEN.silu.out(gate, out=opened), up, out=hidden)
        dshares = torch.mul(asked, hidden, out=spare).sum(-1)
        asked.mul_(shares[..., None])
        ATEN.silu_backward.grad_input(up.mul_(asked), gate, grad_input=spare)
        gate.copy_(spare)
        torch.mul(asked, opened, out=up)
        return hidden.mul_(shares[..., None]), dshares
