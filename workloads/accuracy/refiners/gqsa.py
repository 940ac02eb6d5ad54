"""GQSA: groups along a row are kept or dropped whole, and those kept are rounded to 4 bits, a scale for each.

Zeng et al., "GQSA: Group Quantization and Sparsity for Accelerating Large Language Model Inference", 2024. In
two stages, each by the error of the layer's output: the weights that stay make up for those that go
(`compensate`) and are rounded at the scale that costs their group least; then, the codes fixed, all scales of
a row are solved for at once. There the second stage trains scales through the whole model.

Codes and scales are those that kernels of few bits read (suite/quantized.py), so that what is lost here is
lost at the speed measured there.

What a layer takes is 4 bits for each weight that is kept, 16 for each group's scale and one bit for the place
of each group, in bytes: 2 bits a weight at half, and what describes them on top.
"""

import torch

from suite.method import refiner
from suite.patterns.block import Block
from suite.quantized import few_digits
from suite.studying.masks import padded
from suite.workloads.accuracy.curvature import damped
from suite.workloads.accuracy.refiners.compensate import compensate

BITS, SCALE_BITS = 4, 16
CLIPS = (1.0, 0.95, 0.9, 0.85, 0.8, 0.7, 0.6)  # scales, as parts of that which reaches the largest weight


def packed(pattern, mask):
    """Bytes of a layer: codes, scales and a bitmap of groups."""
    groups = padded(mask, 1, pattern.columns, False).unflatten(1, (-1, pattern.columns)).any(2)
    bits = BITS * int(mask.sum()) + SCALE_BITS * int(groups.sum()) + groups.numel()
    return -(-bits // 8)


@refiner(
    after=("magnitude-uniform", "obs-uniform", "random-uniform"),
    patterns=(Block,),
    extents=("full",),
    stored=packed,
    ids=("gqsa",),
)
def gqsa(layer, mask, pattern):
    """Weights that stay adjusted, then rounded to 4 bits in groups along each row."""
    mask, weight = compensate(layer, mask, pattern)
    return mask, rounded(weight, layer.weight, layer.moments, pattern.columns, BITS)


def rounded(weight, meant, moments, width, bits):
    """Weights of so many bits in groups of this width, the scales solved for what was meant."""
    codes, _ = coded(weight, moments.diagonal(), width, bits)
    return solved(codes, meant, moments, width)


def coded(weight, sizes, width, bits):
    """Whole numbers [m, k] and a scale for each group [m, groups], each group by itself.

    sizes: the mean square of each input, by which errors count.
    """
    k = weight.shape[1]
    groups = padded(weight.double(), 1, width, 0.0).unflatten(1, (-1, width))
    matter = padded(sizes[None].double(), 1, width, 0.0).unflatten(1, (-1, width))
    low, high = -(2 ** (bits - 1)), 2 ** (bits - 1) - 1
    reach = groups.abs().amax(2, keepdim=True) / high
    best = torch.full_like(reach, torch.inf)
    codes, scales = torch.zeros_like(groups), torch.zeros_like(reach)
    for clip in CLIPS:
        scale = clip * reach
        code = (groups / scale.where(scale > 0, 1.0)).round().clamp(low, high)
        error = (matter * (groups - scale * code).square()).sum(2, keepdim=True)
        better = error < best
        best, scales, codes = (
            error.where(better, best),
            scale.where(better, scales),
            code.where(better, codes),
        )
    return codes.flatten(1)[:, :k], scales[..., 0]


def solved(codes, meant, moments, width):
    """The weights, their scales those at which each row's output errs least, in the bits kernels read."""
    h, made = damped(moments), torch.empty_like(meant)
    for row, (code, dense) in enumerate(zip(codes, meant.double(), strict=True)):
        felt = by_group(code[:, None] * h, width)
        both = by_group((felt * code).mT, width)
        alone = both.diagonal()
        alone += (alone == 0).double()  # of groups that hold nothing
        found = torch.linalg.solve(both, felt @ dense)
        scales = few_digits(found, torch.round).repeat_interleave(width)
        made[row] = (scales[: len(code)] * code).float()
    return made


def by_group(values, width):
    """The sums of each group of rows."""
    return padded(values, 0, width, 0.0).unflatten(0, (-1, width)).sum(1)
