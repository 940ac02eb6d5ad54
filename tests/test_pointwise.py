"""Pointwise: 1x1 convolutions are what the workload says they are, and its kernels compute them."""

from collections.abc import Iterator
from math import isqrt

import pytest
import torch.nn.functional as F

from suite import native
from suite.case import case
from suite.kernels.spmm.spmm_group_rows import spmm_group_rows
from suite.op import OPS, discover_parts, make_operands
from suite.patterns.block import Block
from suite.patterns.unstructured import Unstructured
from suite.workloads.pointwise import LAYERS, pointwise
from suite.workloads.shapes import EFFICIENTNET_B0, MOBILENET_V1, MOBILENET_V2

pytestmark = pytest.mark.paper("fast-sparse-convnets")

discover_parts()

IMAGE = 224
# Expansion, channels, layers and stride of each stage, from the papers' tables.
HEAD, TAIL = (1, 16, 1, 1), (6, 320, 1, 1)
V2 = (HEAD, (6, 24, 2, 2), (6, 32, 3, 2), (6, 64, 4, 2), (6, 96, 3, 1), (6, 160, 3, 2), TAIL)
B0 = (HEAD, (6, 24, 2, 2), (6, 40, 2, 2), (6, 80, 3, 2), (6, 112, 3, 1), (6, 192, 4, 2), TAIL)


def inverted_residuals(stages) -> Iterator[tuple[int, int, int]]:
    """The 1x1 layers of a network of inverted residuals, behind a stem of 32 channels and a stride of two."""
    channels, side = 32, IMAGE // 2
    for expansion, wanted, layers, stride in stages:
        for layer in range(layers):
            wide = expansion * channels
            if expansion > 1:
                yield wide, channels, side**2
            side //= stride if layer == 0 else 1
            yield wanted, wide, side**2
            channels = wanted
    yield 1280, channels, side**2


def separable(doublings=(1, 2, 1, 2, 1, 2, 1, 1, 1, 1, 1, 2, 1)) -> Iterator[tuple[int, int, int]]:
    """Those of MobileNet v1: channels double in the first layer and at each stride of two."""
    channels, side = 32, IMAGE // 2
    for layer, stride in enumerate(doublings):
        side //= stride
        wider = channels * (2 if stride == 2 or layer == 0 else 1)
        yield wider, channels, side**2
        channels = wider


@pytest.mark.parametrize(
    ("table", "network"),
    [
        (MOBILENET_V1, separable()),
        (MOBILENET_V2, inverted_residuals(V2)),
        (EFFICIENTNET_B0, inverted_residuals(B0)),
    ],
    ids=["MobileNet v1", "MobileNet v2", "EfficientNet-B0"],
)
def test_the_shapes_are_those_of_the_networks(table, network):
    assert list(table.values()) == list(dict.fromkeys(network))


def test_the_workload_keeps_what_was_asked_for():
    for one in pointwise.cases("full"):
        m, k = one["m"], one["k"]
        unit = one.pattern.rows * one.pattern.columns if isinstance(one.pattern, Block) else 1
        assert one.pattern.count(m, k) == unit * round((1 - one.pattern.sparsity) * m * k / unit)
    assert {(one["m"], one["k"], one["n"]) for one in pointwise.cases("full")} == set(LAYERS)
    kinds = {str(one.pattern).partition("@")[0] for one in pointwise.cases("default")}
    assert kinds == {"block4x1", "unstructured"}


@pytest.mark.parametrize("layer", LAYERS, ids=lambda layer: "x".join(map(str, layer)))
@pytest.mark.parametrize("stride", [1, 2])
def test_the_product_is_the_masked_convolution(layer, stride):
    """A stride leaves pixels out, before the product as well as after it."""
    m, k, n = layer
    side = isqrt(n)
    assert side**2 == n
    for pattern in (Unstructured(0.7), Block(4, 1, 0.7), Block(1, 4, 0.7)):
        a, b = make_operands(case("spmm", pattern, m=m, k=k, n=n))
        assert a.nonzeros == pattern.count(m, k)
        image = b.view(1, k, side, side)
        expected = F.conv2d(image.double(), a.dense.double().view(m, k, 1, 1), stride=stride).reshape(m, -1)
        met = image[0, :, ::stride, ::stride].reshape(k, -1)
        of = case("spmm", pattern, m=m, k=k, n=met.shape[1])
        allowed = OPS["spmm"].allowed(of, (a, met), expected)
        assert ((OPS["spmm"].reference(a, met) - expected).abs() <= 1e-12 * (1 + expected.abs())).all()
        if not native.missing() and pattern == Block(4, 1, 0.7):
            made = spmm_group_rows.prepare(a, met)
            assert ((made.run(met).double() - expected).abs() <= allowed).all()
