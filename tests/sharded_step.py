"""One device of several: a training step of experts that are sharded over processes. FOLDER RANK PROCESSES

Tokens and logits are known to all; of the weights a process has those of its own experts, and NaN for others.
"""

import sys
from pathlib import Path

import torch
import torch.distributed as dist
from torch.nn.functional import silu

from suite.formats.routing import dense, most


def transfers(owned, held):
    """(expert, owner, holder) of each copy."""
    return [(e, int(owned[:, e].argmax()), d) for d, e in zip(*(held & ~owned).nonzero(), strict=True)]


def sparse_all_gather(weights, owned, held, rank):
    """Experts from their owners to those that hold a copy; bytes sent from here."""
    sent = [e for e, owner, _ in transfers(owned, held) if owner == rank]
    asked = [
        dist.isend(weights[e], int(holder), tag=int(e))
        if owner == rank
        else dist.irecv(weights[e], owner, tag=int(e))
        for e, owner, holder in transfers(owned, held)
        if rank in (owner, holder)
    ]
    for one in filter(None, asked):
        one.wait()
    return sum(weights[e].nbytes for e in sent)


def sparse_reduce_scatter(gradients, owned, held, rank):
    """Gradients from copies to the expert's owner, which adds them; bytes sent from here."""
    sent = 0
    for e, owner, holder in transfers(owned, held):
        if rank == holder:
            dist.send(gradients[e], owner, tag=int(e))
            sent += gradients[e].nbytes
        elif rank == owner:
            dist.recv(other := torch.empty_like(gradients[e]), int(holder), tag=int(e))
            gradients[e] += other
    return sent


def mine(tokens, expert, held, homes, rank):
    """Tokens of an expert that this process computes: its own, and its part of those without it at home."""
    holders = held[:, expert].nonzero()[0]
    away, found = 0, []
    for token in tokens.tolist():
        home = homes[token]
        by = home if held[home, expert] else holders[away % len(holders)]
        away += not held[home, expert]
        found += [token] if by == rank else []
    return torch.tensor(found, dtype=torch.long)


def step(given, rank):
    """The answer and gradients of all devices, the weights this one has after a step, and what it counted."""
    route, up, down, x, logits, dy = given["operands"]
    owned, held = given["owned"], given["held"]
    weights = torch.cat((up.flatten(1), down.flatten(1)), 1)
    weights[~torch.from_numpy(owned[rank])] = torch.nan
    gathered = sparse_all_gather(weights, owned, held, rank)

    for one in (learnt := (x, logits, weights)):
        one.requires_grad_()
    gates, y = dense(logits, most(route)), torch.zeros_like(x)
    homes = (torch.arange(len(x)) * dist.get_world_size() // len(x)).tolist()
    computed = 0
    for e in held[rank].nonzero()[0]:
        asking = route.columns[route.starts[e] : route.starts[e + 1]].long()
        tokens = mine(asking, e, held, homes, rank)
        inner, outer = weights[e].split((up[e].numel(), down[e].numel()))
        gate, wide = (x[tokens] @ inner.view(up[e].shape).t()).chunk(2, -1)
        said = (silu(gate) * wide) @ outer.view(down[e].shape).t()
        y = y.index_add(0, tokens, said * gates[tokens, e, None])
        computed += len(tokens)
    given_back = torch.autograd.grad((dy * y).sum(), learnt, materialize_grads=True)
    y, dx, dlogits, gradients = (one.detach().clone() for one in (y, *given_back))

    scattered = sparse_reduce_scatter(gradients, owned, held, rank)
    for one in (y, dx, dlogits):
        dist.all_reduce(one)
    stepped = (weights.detach() - given["rate"] * gradients)[torch.from_numpy(owned[rank])]
    return {
        "parts": (y, dx, dlogits),
        "weights": stepped,
        "sent": (gathered, scattered),
        "computed": computed,
    }


def main(folder, rank, processes):
    torch.set_num_threads(1)
    dist.init_process_group("gloo", init_method=f"file://{folder / 'meet'}", rank=rank, world_size=processes)
    trials = torch.load(folder / "trials.pt", weights_only=False)
    torch.save([step(one, rank) for one in trials], folder / f"{rank}.pt")
    dist.destroy_process_group()


if __name__ == "__main__":
    main(Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3]))
