"""Planted ticket: a sparse network hidden among other weights; who prunes well finds it.

Fischer and Burkholz, "Plant 'n' Seek: Can You Find the Winning Ticket?", ICLR 2022. There the tickets are
for designed functions; here one is drawn, and its own outputs are what is to be learned, so that it solves
the task by construction. Its weights are larger than the others only on the whole: the ranges overlap.
"""

import torch
from torch import nn

from suite.kernel import Refused
from suite.patterns.unstructured import Unstructured
from suite.studying.masks import best
from suite.task import task
from suite.workloads.accuracy.planted import Planted, at_density

SIDES = (32, 64, 64, 8)
DENSITY = 0.1
AMONG = 0.3  # size of the other weights, where the ticket's are between 0.5 and 1.5
EXAMPLES = 2000


@task(
    protocol="ticket-drawn-by-seed",
    metric="f1",
    patterns=at_density(DENSITY),
    toy=True,
    ids=("plant-n-seek",),
)
class planted_ticket(Planted):
    """A network of three layers that holds a tenth of its weights' worth of solution."""

    steps, rate, decay = 300, 5e-3, 1e-2

    def __init__(self, seed):
        drawn = torch.Generator().manual_seed(seed)
        places, self.hidden, ticket = {}, self.blank(), self.blank()
        with torch.no_grad():
            for (name, layer), (_, alone) in zip(
                self.layers(self.hidden).items(), self.layers(ticket).items(), strict=True
            ):
                shape = layer.weight.shape
                places[name] = best(Unstructured(1 - DENSITY), torch.rand(shape, generator=drawn))
                signs = torch.rand(shape, generator=drawn).sub(0.5).sign()
                planted = signs * (0.5 + torch.rand(shape, generator=drawn))
                others = AMONG * torch.randn(shape, generator=drawn)
                scale = (2 / (DENSITY * shape[1])) ** 0.5  # so that outputs are as large as inputs
                layer.weight.copy_(scale * torch.where(places[name], planted, others))
                alone.weight.copy_(layer.weight * places[name])
            x = torch.randn(2 * EXAMPLES, SIDES[0], generator=drawn)
            parts = zip(x.split(EXAMPLES), ticket(x).split(EXAMPLES), strict=True)
        super().__init__("ticket-drawn", *parts, places)

    @staticmethod
    def blank():
        first, second, third, last = SIDES
        return nn.Sequential(
            nn.Linear(first, second, bias=False),
            nn.ReLU(),
            nn.Linear(second, third, bias=False),
            nn.ReLU(),
            nn.Linear(third, last, bias=False),
        )

    def model(self, width=1.0):
        """With the ticket in it already."""
        if width != 1:
            raise Refused("a ticket is planted in a network of its own size")
        made = self.blank()
        made.load_state_dict(self.hidden.state_dict())
        return made
