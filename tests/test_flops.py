"""What a model's pass costs: counted through fused attention as if it were spelled out."""

import pytest
import torch
from torch import nn
from torch.nn.attention import SDPBackend, sdpa_kernel

from suite.registry import discover
from suite.studying.layers import Work, counting
from suite.task import TASKS

discover()


@pytest.mark.parametrize("task", ["digits_vit", "byte_lm"])
def test_fused_attention_costs_what_its_products_cost(task):
    problem = TASKS[task].problem(0)
    model = problem.dense() or problem.model()
    fused = Work(problem, model)
    with sdpa_kernel(SDPBackend.MATH):
        spelled = Work(problem, model)
    assert fused.total == spelled.total and fused.layers == spelled.layers
    assert fused.total > sum(fused.layers.values()), "attention is no layer, and costs"


def test_heads_that_share_their_keys_cost_as_many_products():
    """Two heads of queries for each of keys; and all of a causal product is counted."""
    q, k = torch.randn(3, 4, 7, 8), torch.randn(3, 2, 11, 8)
    for options in ({}, {"is_causal": True}):
        with counting() as counter:
            nn.functional.scaled_dot_product_attention(q, k, k, enable_gqa=True, **options)
        assert counter.get_total_flops() == 2 * 3 * 4 * 7 * 11 * (8 + 8)


def test_eager_and_fused_models_of_others_cost_the_same():
    transformers = pytest.importorskip("transformers")
    sizes = {"vocab_size": 64, "hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 2}
    config = transformers.LlamaConfig(**sizes, num_attention_heads=4, num_key_value_heads=2)
    found = []
    for how in ("eager", "sdpa"):
        model = transformers.LlamaForCausalLM._from_config(config, attn_implementation=how)
        with torch.no_grad(), counting() as counter:
            model(torch.arange(20)[None])
        found.append(counter.get_total_flops())
    assert found[0] == found[1] > 0
