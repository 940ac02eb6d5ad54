"""Experts over devices: placements keep their promises, bytes their formulas, and a step stays the same."""

import os
import subprocess
import sys
from itertools import pairwise, product
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.distributed as dist
from test_batch_pages import experts as lines_of_experts
from test_batch_pages import page_of, words

from suite.case import case
from suite.formats import sharding
from suite.op import discover_parts, make_operands
from suite.ops import moe_step
from suite.patterns.routes import Bursts, Crowded, Idle, Zipf
from suite.reading.sharding import DEVICES, SPARE, placements
from suite.reading.units import amount, short

discover_parts()

pytestmark = pytest.mark.paper("hecate")

TRACES = {
    "even": Zipf(0.0, 0.75),
    "zipf": Zipf(1.5, 0.75),
    "crowded": Crowded(0.75),
    "idle": Idle(0.75),
    "bursts": Bursts(8, 0.75),
}
EXPERTS = (8, 16, 13)
WORKER = Path(__file__).parent / "sharded_step.py"

traces = pytest.mark.parametrize("trace", TRACES.values(), ids=TRACES)


def counted(trace, experts, n=96, devices=4):
    return sharding.asked_by(trace.positions(experts, n, 0), n, devices)


def owners(asked):
    devices, experts = asked.shape
    return {
        "in order": sharding.in_order(experts, devices),
        "at random": sharding.at_random(experts, devices, 3),
        "balanced": sharding.balanced(asked.sum(0), devices),
    }


@traces
@pytest.mark.parametrize("experts", EXPERTS)
def test_choices_are_counted_where_their_tokens_are(trace, experts):
    starts, tokens = trace.positions(experts, 96, 0)
    asked = counted(trace, experts)
    expected = [
        [sum(24 * d <= t < 24 * (d + 1) for t in tokens[a:b]) for a, b in pairwise(starts)] for d in range(4)
    ]
    assert asked.tolist() == expected


@traces
@pytest.mark.parametrize("experts", EXPERTS)
def test_every_expert_has_one_owner_and_devices_have_their_share(trace, experts):
    for owned in owners(counted(trace, experts)).values():
        assert (owned.sum(0) == 1).all() and owned.sum(1).max() == -(-experts // 4)


@traces
@pytest.mark.parametrize("experts", EXPERTS)
def test_copies_keep_the_memory_and_never_load_a_device_more(trace, experts):
    asked = counted(trace, experts)
    for owned, spare in product(owners(asked).values(), (0, 1, 3)):
        slots = -(-experts // 4) + spare
        held = sharding.materialised(owned, asked, slots)
        assert (held >= owned).all() and held.sum(1).max() <= slots
        assert not (held & ~owned)[:, asked.sum(0) == 0].any()  # what nobody asks is not sent
        assert sharding.copies(owned, held) <= 3 * experts  # never more than to gather all
        assert sharding.unevenness(held, asked) <= sharding.unevenness(owned, asked)
        done = sharding.work(held, asked)
        assert (done.sum(0) == asked.sum(0)).all() and not done[~held].any()
        if not spare and experts % 4 == 0:
            assert held.tolist() == owned.tolist()


def test_gathering_all_leaves_tokens_at_home_and_loads_as_they_are():
    asked = counted(TRACES["crowded"], 16)
    whole = np.ones((4, 16), bool)
    assert sharding.away(whole, asked) == 0 and sharding.straggler(whole, asked) == 1
    assert sharding.work(whole, asked).tolist() == asked.tolist()
    assert sharding.copies(sharding.in_order(16, 4), whole) == 3 * 16


def test_one_expert_that_all_ask_is_copied_until_loads_are_even():
    asked = np.zeros((4, 8), np.int64)
    asked[:, 5] = 30
    owned = sharding.in_order(8, 4)
    assert sharding.straggler(owned, asked) == 4 and sharding.away(owned, asked) == 90
    one, three = (sharding.materialised(owned, asked, 2 + spare) for spare in (0, 1))
    assert sharding.copies(owned, one) == 0 and sharding.copies(owned, three) == 3
    assert sharding.straggler(three, asked) == 1 and sharding.away(three, asked) == 0
    assert three[:, 5].all()


def test_others_choices_are_shared_among_the_holders():
    held = np.array([[True, False], [True, False], [False, True]])
    asked = np.array([[4, 1], [0, 2], [5, 3]])
    assert sharding.work(held, asked).tolist() == [[7, 0], [2, 0], [0, 6]]


def test_a_balanced_placement_is_no_worse_for_the_loads_it_knows():
    for seed in range(5):
        asked = sharding.asked_by(Zipf(1.5, 0.75).positions(16, 400, seed), 400, 4)
        known = owners(asked)
        assert sharding.straggler(known["balanced"], asked) <= sharding.straggler(known["in order"], asked)


def test_random_placements_know_nothing_of_the_route():
    stragglers = []
    for seed in range(30):
        asked = sharding.asked_by(Zipf(1.5, 0.875).positions(32, 200, seed), 200, 4)
        random, in_order = sharding.at_random(32, 4, seed), sharding.in_order(32, 4)
        stragglers.append([sharding.straggler(one, asked) for one in (random, in_order)])
    random, in_order = np.mean(stragglers, 0)
    assert random == pytest.approx(in_order, rel=0.15)  # the experts in order are drawn as well


# What the page says.


@pytest.mark.parametrize("op", ["moe", "moe_step"])
def test_bytes_are_those_of_the_formulas(op):
    n, e, d, f = 512, 32, 24, 16
    id = f"{op}/n={n},e={e},d={d},f={f}/zipf1.5@0.875/bfloat16/seed=0"
    told = {one.name: one for one in placements(id)}
    order, random, rearranged, some, whole = told.values()
    starts, tokens = Zipf(1.5, 0.875).positions(e, n, 0)
    experts = np.repeat(np.arange(e), np.diff(starts))
    late = tokens >= n // 2
    homes = (tokens[late] - n // 2) // (n // 2 // DEVICES)
    moved = int((homes != experts[late] * DEVICES // e).sum())
    passes = 2 if op == "moe_step" else 1
    assert order.tokens == passes * moved * 2 * d * 2 and whole.tokens == 0
    assert whole.weights == passes * (DEVICES - 1) * e * 3 * d * f * 2 and whole.straggler == 1
    assert order.weights == random.weights == rearranged.weights == 0
    assert 0 < some.weights < whole.weights and some.weights % (passes * 3 * d * f * 2) == 0
    assert order.held == rearranged.held == 4 and whole.held == e and some.held <= 4 + 4 // SPARE
    assert some.straggler < order.straggler and some.tokens < order.tokens


@pytest.mark.parametrize(
    "id",
    [
        "no case",
        "moe/n=64/zipf1@0.5/float32/seed=0",
        "moe/n=64,e=64,d=8,f=8/unheard@0.5/float32/seed=0",
        "moe/n=64,e=4,d=8,f=8/zipf1@0.5/float32/seed=0",  # fewer experts than devices
        "moe/n=8,e=64,d=8,f=8/zipf1@0.5/float32/seed=0",  # and fewer tokens
        "moe/n=64,e=64,d=8,f=8/zipf1@1/float32/seed=0",  # which go nowhere
        "moe/n=64,e=64,d=8,f=8/given/float32/seed=0/data=some.npz-1f3a9c02",
        f"moe/n=64,e=64,d={10**400},f=8/zipf1@0.5/float32/seed=0",
        "spmm/m=64,k=64,n=64/unstructured@0.5/float32/seed=0",
        "moe/n=999999999999,e=999999999,d=8,f=8/zipf1@0.5/float32/seed=0",
        "spam/n=64,e=64,d=8,f=8/zipf1@0.5/float32/seed=0",
    ],
    ids=lambda id: id[:40],
)
def test_what_cannot_be_counted_is_left_out(id):
    assert placements(id) == ()


def test_the_page_says_what_was_counted_and_that_nothing_was_timed(tmp_path):
    text = words(page_of("routing", tmp_path, *lines_of_experts(visits=1)))
    assert "Over 8 logical devices counted, not timed" in text
    for one in placements("moe/n=64,e=64,d=128,f=64/crowded@0.875/bfloat16/seed=0"):
        numbers = short(one.straggler), amount(one.tokens), amount(one.weights), str(one.held)
        assert " ".join(("crowded", one.name, *numbers)) in text
    few = words(page_of("routing", tmp_path, *lines_of_experts(n=8, visits=1)))
    assert "logical devices counted" not in few


# Processes for devices.


@pytest.mark.skipif(not (dist.is_available() and dist.is_gloo_available()), reason="torch has no gloo")
def test_a_step_over_processes_is_the_step_of_one(tmp_path):
    processes, rate, trials = 3, 0.1, []
    for trace in TRACES.values():
        route, *live = make_operands(case("moe_step", trace, n=27, e=8, d=8, f=8))
        asked = sharding.asked_by((route.starts.numpy(), route.columns.numpy()), 27, processes)
        live = [one.double() for one in live]
        for owned in owners(asked).values():
            for held in (owned, sharding.materialised(owned, asked, 4), np.ones_like(owned)):
                about = {"rate": rate, "asked": asked, "owned": owned, "held": held}
                trials.append(about | {"operands": (route, *live)})
    gathered = {sharding.copies(one["owned"], one["held"]) for one in trials}
    assert {0, 16} < gathered  # none, all, and some
    torch.save(trials, tmp_path / "trials.pt")
    around = os.environ | {"GLOO_SOCKET_IFNAME": "lo", "OMP_NUM_THREADS": "1"}
    running = [
        subprocess.Popen(
            (sys.executable, "-P", WORKER, str(tmp_path), str(rank), str(processes)),
            env=around,
            stderr=subprocess.PIPE,
            text=True,
        )
        for rank in range(processes)
    ]
    try:
        for one in running:
            _, said = one.communicate(timeout=120)
            assert one.returncode == 0, said
    finally:
        for one in running:
            one.kill()
    told = [torch.load(tmp_path / f"{rank}.pt", weights_only=False) for rank in range(processes)]

    for trial, *devices in zip(trials, *told, strict=True):
        _, up, down, *_ = trial["operands"]
        y, dx, dup, ddown, dlogits = moe_step.answer(*trial["operands"])
        gradients = torch.cat((dup.flatten(1), ddown.flatten(1)), 1)
        stepped = torch.cat((up.flatten(1), down.flatten(1)), 1) - rate * gradients
        owned, held = trial["owned"], trial["held"]
        for rank, device in enumerate(devices):
            for mine, right in zip(device["parts"], (y, dx, dlogits), strict=True):
                torch.testing.assert_close(mine, right, rtol=1e-10, atol=1e-12)
            torch.testing.assert_close(device["weights"], stepped[owned[rank]], rtol=1e-10, atol=1e-12)
            assert device["computed"] == sharding.work(held, trial["asked"])[rank].sum()
        expected = sharding.copies(owned, held) * stepped[0].nbytes
        assert [sum(each) for each in zip(*(one["sent"] for one in devices), strict=True)] == [expected] * 2
